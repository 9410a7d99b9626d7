"""From a mechanism and what is spent already to noise, and to the rounds that a budget allows.

Imported only where a training is private.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sklearn.base import clone

from skfedfocal.engines import Engine
from skfedfocal.privacy._accounting import Event, epsilon_curve
from skfedfocal.privacy._ledger import Ledger
from skfedfocal.privacy._mechanism import Mechanism
from skfedfocal.privacy._plan import PrivacyPlan

_ROUNDING = 1e-6  # of an epsilon that was calibrated to be the target


def account_of(before: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The account of the training to go on from; None where none was begun."""
    if before is None:
        return None
    if before.get("privacy") is None:
        raise ValueError(
            "The model to go on from was trained without privacy, and none can be added to what "
            "it has learned; fit anew, without warm_start."
        )
    return before["privacy"]


def settled(
    mechanism: Mechanism,
    settings: Any,
    engine: Engine,
    ledger: Ledger,
    account: Mapping[str, Any] | None,
    *,
    counted: bool,
    adds_rows: bool,
) -> PrivacyPlan:
    """The plan for all of the rounds that the estimator speaks of.

    A training that goes on keeps the noise that it began with: what is left of its budget would
    else be spread over ever more rounds of ever more noise.
    """
    one = clone(mechanism)
    if account is not None:
        one.delta = account["delta"] if mechanism.delta is None else mechanism.delta
        one.counts_noise = _counts_noise(ledger, mechanism)
        if mechanism.target_epsilon is not None:
            one.set_params(target_epsilon=None, noise_multiplier=account["noise_multiplier"])
    n_rounds = int(settings.n_rounds)
    options: dict[str, Any] = {"n_clients": len(engine.n_rows), "previous": ledger}
    # New rows in each round are counted in each.
    n_counts = n_rounds if adds_rows and account is None else 1
    asks = counted or (mechanism.unit == "example" and mechanism.expected_batch is None)
    options["label_counts"] = n_counts if asks else 0
    if mechanism.unit == "example":
        if one.delta is None or engine.tells_rows:  # else each site looks at its own rows
            options["n_rows"] = int(engine.n_rows.sum())
        options["steps_per_round"] = int(settings.n_local_epochs)
    return one.plan(n_rounds, **options)


def _counts_noise(ledger: Ledger, mechanism: Mechanism) -> float | str | None:
    """Noise of label counts in a training that goes on: where left to us, that of the first."""
    if mechanism.counts_noise != "auto":
        return mechanism.counts_noise
    before = (event.noise_multiplier for event in ledger.events if event.of == "label_counts")
    return next(before, "auto")


def rounds_within(
    target: float | None,
    fixed: list[Event],
    plan: PrivacyPlan,
    n_rounds: int,
    accountant: str,
) -> tuple[int, list[float]]:
    """How many of the wanted rounds the target allows, and epsilon after each of them."""

    def curve(n: int) -> list[float]:
        return epsilon_curve(fixed, plan.round_event, n, plan.delta, accountant)

    found = curve(n_rounds)
    if not found or target is None or found[-1] <= target * (1 + _ROUNDING):
        return n_rounds, found
    allowed = sum(epsilon <= target * (1 + _ROUNDING) for epsilon in found)
    while allowed < n_rounds:  # between the computed ones stand bounds, which may say too much
        more = curve(allowed + 1)
        if more[-1] > target * (1 + _ROUNDING):
            break
        allowed += 1
    return allowed, curve(allowed)
