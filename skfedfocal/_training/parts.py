"""From an estimator's parameters to checked parts that go together, before anyone is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._class_weight import CLASS_WEIGHTS, ClassWeight, resolve_class_weight
from skfedfocal._component import Component, resolve
from skfedfocal._data.queries import ColumnSums
from skfedfocal._disclosure import (
    CATEGORIES,
    COLUMN_SUMS,
    COUNTS_BELOW,
    LABEL_COUNTS,
    OWN_FIGURES,
    OWN_ROWS,
    PREDICTIONS,
    RECALLS,
    SINGLE,
    VALIDATION_LOSS,
    VALUE_COUNTS,
    WEIGHTS,
    check_compatible,
)
from skfedfocal._focus import Focus
from skfedfocal.aggregation import AGGREGATORS, Aggregator
from skfedfocal.encodings import ENCODINGS, NumericEncoding, StandardIfUnscaled, resolve_encoding
from skfedfocal.engines import HitsBeside
from skfedfocal.losses import LOSSES, Loss
from skfedfocal.privacy import SecureAggregation
from skfedfocal.privacy._aggregation import resolve_secure
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
    secure : SecureAggregation or None
        The terms of secure sums; None where the server sees each client's update.
    learning_rate : float
        Of local SGD.
    privacy : Component or None
        The mechanism of a private training.
    encoding : NumericEncoding or None
        What columns go through before the module.
    """

    loss: Loss
    class_weight: ClassWeight
    strategy: Strategy
    selection: Selection
    aggregation: Aggregator
    focus: Focus | None
    early_stopping: bool
    learning_rate: float
    secure: SecureAggregation | None = None
    privacy: Component | None = None
    encoding: NumericEncoding | None = None

    @property
    def bad_share(self) -> float:
        """Share of the clients whose label counts are not believed, where they are asked for."""
        asked = "federated" in (self.class_weight.counts, self.loss.counts)
        return self.aggregation.bad_share if asked and self.privacy is None else 0.0

    @property
    def discloses(self) -> Mapping[str, frozenset[str]]:
        """What each part tells the server beyond updates and losses, by parameter."""
        unasked = frozenset() if self.bad_share else frozenset({LABEL_COUNTS})
        told = {
            "loss": self.loss.discloses,
            "class_weight": self.class_weight.discloses,
            "selection": self.selection.discloses,
            "aggregation": self.aggregation.discloses - unasked,
            "client_gamma": _FOCUSED if self.focus else _UNFOCUSED,
            "early_stopping": _VALIDATED if self.early_stopping else frozenset(),
            "numeric_encoding": self.encoding.discloses if self.encoding else frozenset(),
        }
        if self.secure is None:
            return told
        return {part: facts - SINGLE for part, facts in told.items()}


# A client's weight tells its recall, since its number of rows is known.
_UNFOCUSED, _FOCUSED = frozenset({WEIGHTS}), frozenset({WEIGHTS, RECALLS})
_VALIDATED = frozenset({VALIDATION_LOSS})


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
    selection = resolve(settings.selection, SELECTIONS, Selection, "selection")
    secure = resolve_secure(settings.secure_aggregation)
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
    if secure is not None:
        refused["secure_aggregation"] = _needing_single(settings, aggregation, selection)
    check_compatible(refused)
    parts = Parts(
        loss=loss,
        class_weight=resolve_class_weight(class_weight),
        strategy=resolve(settings.strategy, STRATEGIES, Strategy, "strategy"),
        selection=selection,
        aggregation=aggregation,
        focus=replace(focus, client_gamma=gamma) if focus is not None and gamma > 0 else None,
        early_stopping=settings.early_stopping,
        learning_rate=learning_rate_of(settings),
        secure=secure,
        encoding=encoding_wanted(settings),
    )
    return parts if settings.privacy is None else _privately(parts, settings, class_weight)


def encoding_wanted(settings: Any) -> NumericEncoding | None:
    """How columns are to be encoded: "auto" is not at all where sums of them must not be told."""
    encoding = resolve_encoding(settings.numeric_encoding)
    if type(encoding) is StandardIfUnscaled and settings.privacy is not None:
        return None
    return encoding


def _client_gamma(settings: Any) -> float:
    """Client focusing as a number: "auto" is 1, and 0 where recalls must not be told."""
    if settings.client_gamma == "auto":
        return 1.0 if settings.privacy is None else 0.0
    return float(settings.client_gamma)


def learning_rate_of(settings: Any) -> float:
    """Length of a step: "auto" is long where each is a mean of clipped gradients of many rows.

    Such a one is the longest; how much noise there is says how much shorter it must be.
    """
    if settings.learning_rate == "auto":
        return 4.0 if getattr(settings.privacy, "unit", None) == "example" else 0.1
    return float(settings.learning_rate)


def _privately(parts: Parts, settings: Any, class_weight: Any) -> Parts:
    """The parts with a mechanism that covers what they tell the server, or a refusal."""
    from skfedfocal.privacy._checks import refusals  # imported where it is asked for
    from skfedfocal.privacy._mechanism import Mechanism

    mechanism = resolve(settings.privacy, {}, Mechanism, "privacy")
    private = replace(parts, privacy=mechanism)
    found = refusals(
        mechanism,
        settings,
        discloses=private.discloses,
        class_weight=class_weight,
        counts=(parts.class_weight.counts, parts.loss.counts),
    )
    check_compatible({f"privacy={type(mechanism).__name__}(...)": found})
    return private


def _needing_single(settings: Any, aggregation: Aggregator, selection: Selection) -> dict[str, str]:
    """The parts that need what only single clients can tell, which secure sums never show."""
    refused = {}
    if not aggregation.linear:
        refused[f"aggregation={settings.aggregation!r}"] = (
            "it needs single updates, and the server has their sum alone; use aggregation='mean'"
        )
    if needs := sorted(selection.needs & SINGLE):
        refused[f"selection={settings.selection!r}"] = (
            f"it needs the {' and the '.join(needs)}, which is not told; use selection='uniform'"
        )
    return refused


def check_cohorts(
    secure: SecureAggregation | None, sizes: NDArray[np.float64], n_selected: int, wanted: Any
) -> None:
    """Raise InvalidParameterError where cohorts do not suit secure sums.

    Parameters
    ----------
    secure : SecureAggregation or None
        Their terms; None for no secure sums.
    sizes : ndarray of shape (n_clients,)
        Sum of sample weights of each client.
    n_selected : int
        Clients in each round.
    wanted : float or int
        The parameter that says so.
    """
    if secure is None:
        return
    least, n_clients = secure.min_clients, len(sizes)
    if n_selected >= least:
        secure.encoding(n_selected, sizes)
        return
    few = f"a sum over {n_selected} is not shown, the least number is min_clients={least}"
    if n_clients < least:
        other, remedy = f"{n_clients} client(s)", few
    else:
        other, remedy = f"clients_per_round={wanted!r}", f"{few}; select more"
    check_compatible({"secure_aggregation": {other: remedy}})


# What stands before a classifier is above this room; a test compares with what its fits ask.
_PREPROCESSING = {
    'FederatedSimpleImputer(strategy="mean")': {COLUMN_SUMS},
    'FederatedSimpleImputer(strategy="median")': {COUNTS_BELOW},
    'FederatedSimpleImputer(strategy="most_frequent")': {CATEGORIES},
    'FederatedSimpleImputer(strategy="constant")': {VALUE_COUNTS},
    "FederatedSimpleImputer(add_indicator=True)": {COLUMN_SUMS, VALUE_COUNTS},
    "FederatedRobustScaler": {COUNTS_BELOW},
    "FederatedQuantileTransformer": {COUNTS_BELOW},
    "FederatedMinMaxScaler": {COUNTS_BELOW},
    "FederatedMaxAbsScaler": {COUNTS_BELOW},
    "FederatedOneHotEncoder": {CATEGORIES},
    "FederatedOneHotEncoder(categories=[...])": {VALUE_COUNTS},
    "FederatedOrdinalEncoder": {CATEGORIES},
    "FederatedOrdinalEncoder(categories=[...])": {VALUE_COUNTS},
}


def disclosure_table() -> str:
    """What each option tells the server beyond updates and losses, as a table in Markdown."""
    rows: list[tuple[str, frozenset[str]]] = []
    registries: dict[str, Mapping[str, Any]] = {
        "loss": LOSSES,
        "class_weight": CLASS_WEIGHTS,
        "selection": SELECTIONS,
        "aggregation": AGGREGATORS,
        "numeric_encoding": ENCODINGS,
    }
    for param, known in registries.items():
        rows += [(f'{param}="{name}"', part().discloses) for name, part in known.items()]
        if param == "class_weight":
            rows += [(f"{param}={v}", resolve_class_weight(v).discloses) for v in ({0: 1.0}, None)]
    rows += [
        ("client_gamma=0", _UNFOCUSED),
        ("client_gamma > 0", _FOCUSED),
        ("early_stopping=True", _VALIDATED),
        ("FedFocalClassifierCV", HitsBeside.discloses),
        ("FederatedStandardScaler", ColumnSums.discloses),
        *((name, frozenset(facts)) for name, facts in _PREPROCESSING.items()),
        ("flower.describe_sites", frozenset({COUNTS_BELOW, OWN_ROWS})),
        ("flower.evaluate", frozenset({PREDICTIONS})),
        ("flower.evaluate(by_site=True)", frozenset({PREDICTIONS, OWN_FIGURES})),
    ]
    lines = ["| option | the server also sees |", "|---|---|"]
    lines += [f"| `{option}` | {'; '.join(sorted(facts)) or 'nothing'} |" for option, facts in rows]
    return "\n".join(lines) + "\n"
