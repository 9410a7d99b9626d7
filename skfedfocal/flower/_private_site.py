"""A site's side of a private training: what it says of its rows, its noise, and its budget."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import RecordDict
from torch import Tensor

from skfedfocal._local import LocalPlan
from skfedfocal.engines import Failure, Task, Updates
from skfedfocal.engines._noisy_sum import to_be_masked
from skfedfocal.flower import _site
from skfedfocal.flower._messages import read_step
from skfedfocal.flower._rows import SiteRows, check_finite
from skfedfocal.privacy import SecureAggregation
from skfedfocal.privacy._accounting import Event, check_delta
from skfedfocal.privacy._budget import PrivacyBudget, PrivacyRefusal
from skfedfocal.privacy._counts import NoisyLabelCounts
from skfedfocal.privacy._plan import PrivateStep

_log = logging.getLogger("skfedfocal")


def statistics(rows: SiteRows, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer round 0 of a server that is not trusted with the rows.

    Names of the columns and, where rows are protected and no delta is given, the power of ten above
    their number. That all values are numbers, and all labels among those there may be, is checked
    here.

    Parameters
    ----------
    rows : SiteRows
        The site's own.
    request : mapping
        With the classes, and delta if it is known already.
    """
    wanted = request["private"]
    check_finite(rows.X)
    if not np.isin(rows.y, wanted["classes"]).all():
        raise ValueError(f"There are labels that are not among {wanted['classes'].tolist()}.")
    at_most = 1  # what nobody needs to know
    if wanted["unit"] == "example":
        if wanted["delta"] is None:  # which is made from it
            at_most = 10 ** len(str(len(rows.y)))
        else:
            check_delta(wanted["delta"], len(rows.y))
    found = _site.statistics(rows, {**request, "digest": False})
    number = np.dtype(np.float64).str
    types = [number] * len(found["types"])
    found |= {"size": float(at_most), "n_rows": at_most, "types": types}
    return found | {"classes": wanted["classes"]}


def train(
    load: Callable[[], SiteRows],
    task: Mapping[str, Any],
    theta: Tensor,
    plan: LocalPlan,
    module: Any = None,
) -> Updates:
    """Answer a round whose sum gets its noise from the sites' shares.

    Where the site as a whole is protected, whatever goes wrong with its rows shows to nobody: it
    sends its share alone.

    Parameters
    ----------
    load : callable
        Gives the site's rows.
    task : mapping
        As for `_site.train`, and the step whose noise is shared.
    theta : Tensor of shape (p,)
        The global model.
    plan : LocalPlan
        How to train.
    module : callable, torch.nn.Module or None
        The site's own `module` parameter.
    """
    step, number = read_step(task["step"]), int(task["number"])
    reply: Updates | Failure
    try:
        reply = _site.train(load(), task, theta, plan, module)
    except Exception as error:
        if step.unit == "example":
            raise
        _log.exception("skfedfocal: the site's training failed; it sends noise alone")
        reply = Failure.of(number, error)
    asked = Task(theta, plan, np.array([number]), int(task["round"]))
    return to_be_masked(reply, step, asked, plan.seed)


class Guard:
    """What a site with a budget answers: private releases, each charged before it is made.

    Parameters
    ----------
    budget : PrivacyBudget
        The site's.
    secure : SecureAggregation or None
        The site's own terms of secure sums, without which it relies on no others' noise.
    """

    def __init__(self, budget: PrivacyBudget, secure: SecureAggregation | None):
        budget.check_params()
        self.budget = budget
        self.secure = secure

    def at_statistics(self, request: Mapping[str, Any], n_rows: int) -> None:
        """Before round 0."""
        if request.get("private") is None:
            raise PrivacyRefusal(
                "This site takes part in trainings alone that are private from the server."
            )
        self._check_unit(request["private"]["unit"])
        self.budget.check_rows(n_rows)

    def at_question(self, task: Mapping[str, Any], state: RecordDict, path: Any) -> None:
        """Before the answer to a question: label counts with noise are the only one."""
        query = task["query"]
        if not isinstance(query, NoisyLabelCounts) or task.get("plan") is not None:
            raise PrivacyRefusal(f"This site's budget does not cover {type(query).__name__}.")
        by_client = query.client_bound is not None
        self._check_unit("client" if by_client else "example")
        if query.seed is not None:
            raise PrivacyRefusal("Noise from a seed that others know protects from nobody.")
        bound = float(query.client_bound) if by_client else 1.0  # type: ignore[arg-type]
        noise = float(query.noise) * self._shares(task, state) ** 0.5
        self.budget.charge(Event(noise / bound, of="label_counts"), path)

    def at_round(
        self, task: Mapping[str, Any], plan: LocalPlan, state: RecordDict, path: Any
    ) -> None:
        """Before a round's training."""
        step: PrivateStep | None = plan.private
        if task.get("step") is not None:
            step = read_step(task["step"])
            of_rows = step if step.unit == "example" else None
            if plan.private != of_rows or task.get("secure") is None:
                raise PrivacyRefusal("The shares of the noise are not those of the plan.")
        if step is None:
            raise PrivacyRefusal("This site's budget does not cover updates without noise.")
        self._check_unit(step.unit)
        if not step.secure:
            raise PrivacyRefusal("Noise from a seed that others know protects from nobody.")
        if plan.needs_own_counts:
            raise PrivacyRefusal("Weights from the site's own label counts have no noise.")
        n_steps = 1 if step.unit == "client" else int(plan.n_epochs)
        if step.unit == "example" and task.get("step") is not None and n_steps != 1:
            raise PrivacyRefusal("Shares of noise cover one step between two sums.")
        z = step.noise_multiplier * self._shares(task, state) ** 0.5
        z = float(f"{z * (1 - 1e-8):.9g}")  # alike in all rounds, though the clip norm is not
        rate = 1.0 if step.unit == "client" else step.sampling_rate
        self.budget.charge(Event(z, rate, n_steps), path)

    def _check_unit(self, unit: str) -> None:
        if unit != self.budget.unit:
            raise PrivacyRefusal(
                f"This site's budget is of unit {self.budget.unit!r}, the training's {unit!r}."
            )

    def _shares(self, task: Mapping[str, Any], state: RecordDict) -> float:
        """How many shares of noise are certain to be in what is seen: one's own, or more."""
        if task.get("secure") is None:
            return 1.0
        if self.secure is None:
            raise PrivacyRefusal(
                "Under secure sums a budget counts on terms of the site's own: give the app "
                "secure_aggregation=."
            )
        from skfedfocal.flower import _secure_site  # and with it the protocol, where there is one

        return float(self.secure.least_honest(_secure_site.cohort_size(state, task["secure"])))
