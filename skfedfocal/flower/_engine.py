"""The engine over Flower's Grid: each client is a site, a node of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from flwr.app import RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._data.queries import Query
from skfedfocal.engines import (
    Engine,
    Failure,
    Model,
    Task,
    TooFewClients,
    Unanswered,
    Updates,
)
from skfedfocal.flower._exchange import NoReply, ask, exchange
from skfedfocal.flower._messages import (
    ASK,
    TRAIN,
    BadReply,
    read_delta,
    read_report,
    write_facts,
    write_plan,
    write_theta,
)
from skfedfocal.flower._sites import Site


@dataclass
class GridEngine(Engine):
    """Trains sites over a Grid; the numbers are those of the in-process engine that sites use.

    Attributes
    ----------
    grid : Grid
        Flower's, or `SimulatedSites`.
    sites : list of Site
        Sorted by name; the position is the client's number.
    extent : ndarray of shape (n_sites, 2)
        Weight of the rows that each trains on, and their number.
    task : dict
        What sites need to know besides model and plan: classes, module, scaling.
    timeout : float
        Seconds within which a site has to reply.
    recognise : callable or None
        Asks new nodes which site they are; finds sites that came back as another node.
    clips_rows : bool
        Whether sites can bound the influence of single rows.
    tells_rows : bool
        Whether `extent` is exact, as `Engine.tells_rows` has it.
    own : mapping
        What a site is told in the place of what all are told, by its name.
    """

    way = "at their sites"

    grid: Grid
    sites: list[Site]
    extent: NDArray[np.float64]
    task: dict[str, Any]
    timeout: float
    recognise: Callable[[set[int]], None] | None = None
    clips_rows: bool = False
    tells_rows: bool = True
    own: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Weight of the rows that each site trains on, of shape (n_sites,)."""
        return self.extent[:, 0]

    @property
    def n_rows(self) -> NDArray[np.float64]:
        """Their number, of shape (n_sites,)."""
        return self.extent[:, 1]

    def _answers(
        self, query: Query, clients: NDArray[np.int64], model: Model | None
    ) -> NDArray[np.float64]:
        common = {**self.task, "query": query, "plan": None}
        more = {}
        if model is not None:
            common["plan"] = write_plan(model.plan)
            more["theta"] = write_theta(model.theta)
        nodes = {int(k): self.sites[k].node for k in clients}
        tasks = {node: self._told(k, common) for k, node in nodes.items()}
        answers, failures = ask(self.grid, tasks, ASK, self.timeout, more)
        reasons = {k: failures[node].reason for k, node in nodes.items() if node in failures}
        if reasons:
            raise Unanswered(f"there is no answer from {self._in_words(reasons)}")
        found = [_numbers(answers[node][1].get("answer")) for node in nodes.values()]
        for k, one in zip(nodes, found, strict=True):
            if one.shape != found[0].shape or not np.isfinite(one).all():
                raise Unanswered(f"the answer of {self.sites[k].name!r} is of no use")
        return np.stack(found)

    def train(self, task: Task) -> Iterator[Updates | Failure]:
        """Train the sites of the cohort, as `Engine.train` has it; replies come by number."""
        common = {
            **self.task,
            "round": task.round,
            "wants_recall": task.wants_recall,
            "plan": write_plan(task.plan),
        }
        requests, reasons = self._requests(task.theta, task.cohort, common)
        replies, failures = exchange(self.grid, requests, TRAIN, self.timeout)
        if task.plan.private is not None:
            self._check_none_raised(failures)
        for k in map(int, task.cohort):
            node = self.sites[k].node
            if node not in replies:
                reason = failures[node].reason if node in failures else reasons[k]
                yield Failure(k, reason)
                continue
            try:
                yield self._read(replies[node], k, task)
            except BadReply as bad:
                yield Failure(k, str(bad))

    def _requests(
        self, theta: Tensor, cohort: NDArray[np.int64], common: dict[str, Any]
    ) -> tuple[dict[int, RecordDict], dict[int, str]]:
        """What to send to which node, and of the sites that cannot be asked, by number, why not."""
        model = write_theta(theta)
        online = set(self.grid.get_node_ids())
        if self.recognise is not None and not {self.sites[k].node for k in cohort} <= online:
            self.recognise(online)
        requests, reasons = {}, {}
        for k in cohort:
            site = self.sites[k]
            if site.node in online:
                task = write_facts(self._told(int(k), common))
                requests[site.node] = RecordDict({"theta": model, "task": task})
            else:
                reasons[int(k)] = "it is not connected"
        return requests, reasons

    def _told(self, k: int, common: dict[str, Any]) -> dict[str, Any]:
        """What a site is told of a task."""
        name = self.sites[k].name
        return {**common, **self.own.get(name, {}), "number": k, "site": name}

    def _read(self, content: RecordDict, number: int, task: Task) -> Updates:
        """Check a reply and take it apart."""
        try:
            delta = read_delta(content, task.theta.cpu().numpy())
            if task.plan.private is not None:  # what it weighs is known, and no loss is told
                assert task.plan.denominators is not None
                weight, recall = float(task.plan.denominators[number]), None
                objective = [np.nan, weight]
            else:
                weight, objective, recall = read_report(
                    content, float(self.sizes[number]), task.plan, task.wants_recall
                )
        except BadReply:
            raise
        except Exception as error:
            raise BadReply(f"its reply cannot be read ({type(error).__name__})") from error
        return Updates(
            clients=np.array([number]),
            weights=np.array([weight]),
            objective=np.array([objective]),
            deltas=torch.from_numpy(delta.copy()).to(task.theta)[None],
            recalls=None if recall is None else np.array([recall]),
        )

    def _check_none_raised(self, failures: Mapping[int, NoReply]) -> None:
        """End a training that protects rows where a site's work raised.

        One row can do that to all others of its site, which no clipping bounds. A site that is
        away, or whose budget is spent, is so whatever its rows are.
        """
        names = {site.node: site.name for site in self.sites}
        raised = [
            f"{names[node]!r} ({failure.reason})"
            for node, failure in failures.items()
            if failure.raised not in (None, "PrivacyRefusal")
        ]
        if raised:
            raise TooFewClients(
                f"The work of {'; '.join(sorted(raised))} failed; one row may have done that to "
                "all others there, which no noise hides. The training ends."
            )

    def _in_words(self, reasons: Mapping[int, str]) -> str:
        return "; ".join(f"{self.sites[k].name!r} ({reasons[k]})" for k in sorted(reasons))


def _numbers(answer: Any) -> NDArray[np.float64]:
    """An answer as an array; NaN for one that is none."""
    try:
        return np.array(answer, np.float64)
    except (TypeError, ValueError):
        return np.array(np.nan)
