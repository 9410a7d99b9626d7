"""From an estimator's parameters to checked parts that go together, before anyone is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from skfedfocal._class_weight import ClassWeight, resolve_class_weight
from skfedfocal._component import Component, resolve
from skfedfocal._disclosure import RECALLS, VALIDATION_LOSS, WEIGHTS, check_compatible
from skfedfocal._focus import Focus
from skfedfocal.aggregation import AGGREGATORS, Aggregator
from skfedfocal.losses import Loss
from skfedfocal.selection import SELECTIONS, Selection
from skfedfocal.strategies import STRATEGIES, Strategy


@dataclass(frozen=True)
class Parts:
    """The parts of a training, each a copy of the estimator's own.

    Attributes
    ----------
    loss : Loss
    class_weight : ClassWeight
    strategy : Strategy
    selection : Selection
    aggregation : Aggregator
    focus : Focus or None
        How clients weigh themselves by their recall; None where they do not.
    early_stopping : bool
        Whether rows are held out to validate on.
    learning_rate : float
        Of local SGD.
    privacy : Component or None
        The mechanism of a private training.
    """

    loss: Loss
    class_weight: ClassWeight
    strategy: Strategy
    selection: Selection
    aggregation: Aggregator
    focus: Focus | None
    early_stopping: bool
    learning_rate: float
    privacy: Component | None = None

    @property
    def discloses(self) -> Mapping[str, frozenset[str]]:
        """What each part tells the server beyond updates and losses, by parameter."""
        return {
            "loss": self.loss.discloses,
            "class_weight": self.class_weight.discloses,
            "selection": self.selection.discloses,
            "aggregation": self.aggregation.discloses,
            # A client's weight tells its recall, since its number of rows is known.
            "client_gamma": frozenset({WEIGHTS, RECALLS} if self.focus else {WEIGHTS}),
            "early_stopping": frozenset({VALIDATION_LOSS} if self.early_stopping else {}),
        }


def resolve_parts(settings: Any, loss: Loss, class_weight: Any) -> Parts:
    """The parts that an estimator's parameters mean.

    Parameters
    ----------
    settings : estimator
        Whose parameters say what is wanted.
    loss : Loss
        Of each row.
    class_weight : dict, str or None
        As the estimators take it.

    Raises
    ------
    InvalidParameterError
        If a part is unknown, or two cannot go together.
    """
    aggregation = resolve(settings.aggregation, AGGREGATORS, Aggregator, "aggregation")
    focus, gamma = aggregation.focus, _client_gamma(settings)
    refused: dict[str, dict[str, str]] = {}
    if gamma > 0 and focus is None:
        refused[f"client_gamma={settings.client_gamma!r}"] = {
            f"aggregation={settings.aggregation!r}": (
                "it does not weigh clients by what they say of themselves, as client focusing "
                "needs; set client_gamma=0, or aggregation='mean'"
            )
        }
    if settings.early_stopping and settings.average_rounds > 1:
        refused["early_stopping=True"] = {
            f"average_rounds={settings.average_rounds!r}": (
                "the one returns to the best round and the other takes the mean of the last ones; "
                "use one of them"
            )
        }
    check_compatible(refused)
    parts = Parts(
        loss=loss,
        class_weight=resolve_class_weight(class_weight),
        strategy=resolve(settings.strategy, STRATEGIES, Strategy, "strategy"),
        selection=resolve(settings.selection, SELECTIONS, Selection, "selection"),
        aggregation=aggregation,
        focus=replace(focus, client_gamma=gamma) if focus is not None and gamma > 0 else None,
        early_stopping=settings.early_stopping,
        learning_rate=_learning_rate(settings),
    )
    return parts if settings.privacy is None else _privately(parts, settings, class_weight)


def _client_gamma(settings: Any) -> float:
    """Client focusing as a number: "auto" is 1, and 0 where recalls must not be told."""
    if settings.client_gamma == "auto":
        return 1.0 if settings.privacy is None else 0.0
    return float(settings.client_gamma)


def _learning_rate(settings: Any) -> float:
    """Length of a step: "auto" is long where each is a mean of clipped gradients of many rows."""
    if settings.learning_rate == "auto":
        return 2.0 if getattr(settings.privacy, "unit", None) == "example" else 0.1
    return float(settings.learning_rate)


def _privately(parts: Parts, settings: Any, class_weight: Any) -> Parts:
    """The parts with a mechanism that covers what they tell the server, or a refusal."""
    from skfedfocal.privacy._checks import refusals  # imported where it is asked for
    from skfedfocal.privacy._mechanism import Mechanism

    mechanism = resolve(settings.privacy, {}, Mechanism, "privacy")
    found = refusals(
        mechanism,
        settings,
        discloses=parts.discloses,
        class_weight=class_weight,
        counts=(parts.class_weight.counts, parts.loss.counts),
    )
    check_compatible({f"privacy={type(mechanism).__name__}(...)": found})
    return replace(parts, privacy=mechanism)
