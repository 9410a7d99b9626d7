"""Clients that a round has to do without: who, why, and when they are too many."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal.engines import Failure

NOT_FINITE = "its update is not finite"
_NAMED = 5  # clients named in a message


class FederatedTrainingError(ValueError):
    """Raised where a round cannot end with a usable model; an earlier good one is kept.

    Parameters
    ----------
    message : str
        What happened.
    failures : sequence of Failure, default=()
        The clients that the round had to do without.
    diverged : bool, default=True
        Whether the models before it are of no use either, though they are finite.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skfedfocal import FederatedTrainingError, FedFocalClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> try:
    ...     FedFocalClassifier(learning_rate=1e30, random_state=0).fit(X, y, clients=y)
    ... except FederatedTrainingError as error:
    ...     print("diverged" in str(error))
    True
    """

    def __init__(self, message: str, failures: Sequence[Failure] = (), diverged: bool = True):
        super().__init__(message)
        self.failures = tuple(failures)
        self.diverged = diverged


def check_enough(
    failures: Sequence[Failure], n_good: int, n_asked: int, needed: int, round_: int, ids: Any
) -> None:
    """Raise where fewer clients replied well than are needed, or than the cohort has."""
    needed = min(needed, n_asked)
    if n_good >= needed:
        return
    errors = [failure.error for failure in failures if failure.error is not None]
    if n_good == 0 and len(errors) == n_asked:  # not the clients are to blame
        errors[0].add_note(f"Raised in round {round_} by all of the {n_asked} client(s) asked.")
        raise errors[0]
    diverged = any(NOT_FINITE in failure.reason for failure in failures)
    hint = ""
    if diverged:
        hint = (
            " The training diverged; lower learning_rate, or scale the columns of X "
            "(StandardScaler)."
        )
    without = f"; not {in_words(failures, ids)}" if failures else ""
    raise FederatedTrainingError(
        f"Round {round_}: {n_good} of {n_asked} clients replied well, but {needed} "
        f"{'is' if needed == 1 else 'are'} needed{without}.{hint}",
        failures,
        diverged,
    ) from (errors[0] if errors else None)


def warn_without(
    failures: Sequence[Failure], round_: int, ids: NDArray[Any], before: Collection[Any]
) -> None:
    """Warn of clients that a round goes on without: of each but once in a training."""
    new = [failure for failure in failures if id_of(failure, ids) not in before]
    if new:
        warnings.warn(
            f"Round {round_} goes on without {in_words(new, ids)}. Later failures of the same "
            "clients are in failures_ alone.",
            RuntimeWarning,
            stacklevel=4,
        )


def records(failures: Sequence[Failure], round_: int, ids: NDArray[Any]) -> list[dict[str, Any]]:
    """Failures as the attribute `failures_` has them."""
    return [
        {"round": round_, "client": id_of(failure, ids), "reason": failure.reason}
        for failure in sorted(failures, key=lambda failure: failure.client)
    ]


def in_words(failures: Sequence[Failure], ids: NDArray[Any]) -> str:
    """Who fails and why."""
    ordered = sorted(failures, key=lambda failure: failure.client)
    named = [
        f"{id_of(failure, ids)!r} (number {failure.client} of clients_: {failure.reason})"
        for failure in ordered[:_NAMED]
    ]
    if len(ordered) > _NAMED:
        named.append(f"{len(ordered) - _NAMED} more")
    return "; ".join(named)


def id_of(failure: Failure, ids: NDArray[Any]) -> Any:
    """The client's id, as it was given."""
    value = ids[failure.client]
    plain = isinstance(value, np.generic) and value.dtype.kind in "biufUS"
    return value.item() if plain else value
