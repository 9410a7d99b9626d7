"""From an estimator's parameters to checked parts that go together, before anyone is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from skfedfocal._class_weight import CLASS_WEIGHTS, ClassWeight, resolve_class_weight
from skfedfocal._component import resolve
from skfedfocal._data.queries import ColumnSums
from skfedfocal._disclosure import RECALLS, VALIDATION_LOSS, WEIGHTS, check_compatible
from skfedfocal._focus import Focus
from skfedfocal.aggregation import AGGREGATORS, Aggregator
from skfedfocal.engines import Hits
from skfedfocal.losses import LOSSES, Loss
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
    """

    loss: Loss
    class_weight: ClassWeight
    strategy: Strategy
    selection: Selection
    aggregation: Aggregator
    focus: Focus | None
    early_stopping: bool

    @property
    def discloses(self) -> Mapping[str, frozenset[str]]:
        """What each part tells the server beyond updates and losses, by parameter."""
        return {
            "loss": self.loss.discloses,
            "class_weight": self.class_weight.discloses,
            "selection": self.selection.discloses,
            "aggregation": self.aggregation.discloses,
            "client_gamma": _FOCUSED if self.focus else _UNFOCUSED,
            "early_stopping": _VALIDATED if self.early_stopping else frozenset(),
        }


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
    focus, gamma = aggregation.focus, float(settings.client_gamma)
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
    return Parts(
        loss=loss,
        class_weight=resolve_class_weight(class_weight),
        strategy=resolve(settings.strategy, STRATEGIES, Strategy, "strategy"),
        selection=resolve(settings.selection, SELECTIONS, Selection, "selection"),
        aggregation=aggregation,
        focus=replace(focus, client_gamma=gamma) if focus is not None and gamma > 0 else None,
        early_stopping=settings.early_stopping,
    )


def disclosure_table() -> str:
    """What each option tells the server beyond updates and losses, as a table in Markdown."""
    rows: list[tuple[str, frozenset[str]]] = []
    registries: dict[str, Mapping[str, Any]] = {
        "loss": LOSSES,
        "class_weight": CLASS_WEIGHTS,
        "selection": SELECTIONS,
        "aggregation": AGGREGATORS,
    }
    for param, known in registries.items():
        rows += [(f'{param}="{name}"', part().discloses) for name, part in known.items()]
        if param == "class_weight":
            rows += [(f"{param}={v}", resolve_class_weight(v).discloses) for v in ({0: 1.0}, None)]
    rows += [
        ("client_gamma=0", _UNFOCUSED),
        ("client_gamma > 0", _FOCUSED),
        ("early_stopping=True", _VALIDATED),
        ("FedFocalClassifierCV", Hits.discloses),
        ("FederatedStandardScaler", ColumnSums.discloses),
    ]
    lines = ["| option | the server also sees |", "|---|---|"]
    lines += [f"| `{option}` | {'; '.join(sorted(facts)) or 'nothing'} |" for option, facts in rows]
    return "\n".join(lines) + "\n"
