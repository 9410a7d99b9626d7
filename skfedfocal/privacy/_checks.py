"""What does not go together with differential privacy, refused by name before data are read."""

from __future__ import annotations

from typing import Any

from sklearn.utils._param_validation import InvalidParameterError

_COUNTED = ("balanced", "effective")  # class weights from label counts summed over clients
_FEW_CLIENTS = 30
_SMALL_EPSILON = 8.0


def check_training(
    mechanism: Any,
    *,
    aggregation: Any,
    selection: Any,
    class_weight: Any = None,
    clients_per_round: Any = None,
    early_stopping: bool = False,
) -> None:
    """Refuse a training whose releases the mechanism does not cover.

    Parameters
    ----------
    mechanism : ExampleLevelDP or ClientLevelDP
        The parameter `privacy`.
    aggregation, selection : Aggregator, Selection
        Of the training.
    class_weight, clients_per_round, early_stopping : object
        Parameters of the estimator.

    Raises
    ------
    InvalidParameterError
        Naming both options.
    """
    name = type(mechanism).__name__
    client_level = mechanism.unit == "client"
    for part in (aggregation, selection):
        if part.needs_recall:
            raise InvalidParameterError(
                f"{type(part).__name__} tells the server each client's recall, every round, which "
                f"{name} does not cover. Set client_gamma=0, aggregation='mean' and "
                "selection='uniform'."
            )
    if getattr(selection, "needs_label_counts", False):
        raise InvalidParameterError(
            f"{type(selection).__name__} tells the server each client's label counts, which {name} "
            "does not cover. Set selection='uniform'."
        )
    if early_stopping:
        raise InvalidParameterError(
            f"early_stopping tells the server a validation loss each round, which {name} does not "
            "cover. Set early_stopping=False and n_rounds to what the budget allows."
        )
    if isinstance(class_weight, str) and class_weight == "estimated":
        raise InvalidParameterError(
            f"class_weight='estimated' sends an update of each client without noise, which {name} "
            "does not cover. Set class_weight='balanced', which takes noisy label counts."
        )
    if isinstance(class_weight, str) and class_weight in _COUNTED and not mechanism.counts_noise:
        raise InvalidParameterError(
            f"class_weight={class_weight!r} needs label counts, and {name} releases none with "
            "counts_noise=None. Set counts_noise, or class_weight=None or a dict."
        )
    if client_level and clients_per_round is not None:
        raise InvalidParameterError(
            "clients_per_round draws cohorts of a fixed size, while ClientLevelDP accounts for "
            "clients that are drawn independently. Set its sampling_rate, and "
            "clients_per_round=None."
        )
    if not aggregation.linear and (client_level or mechanism.trust != "local"):
        raise InvalidParameterError(
            f"{type(aggregation).__name__} needs single updates, while the noise of {name} is on "
            "their sum. Set aggregation='mean'."
            + ("" if client_level else " Or set trust='local', where each client has its own.")
        )


def check_enough_clients(n_clients: int, epsilon: float) -> None:
    """Refuse a client level that few clients cannot bear.

    Parameters
    ----------
    n_clients : int
        Clients of the federation.
    epsilon : float
        That the training would spend.

    Raises
    ------
    ValueError
        Where the noise that hides one of so few clients hides what they have in common as well.
    """
    if n_clients < _FEW_CLIENTS and epsilon < _SMALL_EPSILON:
        raise ValueError(
            f"ClientLevelDP with {n_clients} clients at epsilon={epsilon:.3g} would add more noise "
            f"than so few clients have signal: below {_FEW_CLIENTS} clients it takes epsilon >= "
            f"{_SMALL_EPSILON:g}. Where clients are sites with many rows each, "
            "privacy=ExampleLevelDP(...) protects their rows instead."
        )
