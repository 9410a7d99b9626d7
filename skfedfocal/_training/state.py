"""Where a training stands: all that its later rounds depend on, in one value.

`warm_start`, `partial_fit` and checkpoints all go through `packed` and `unpacked`; so a training in
stages, however it was cut, is the same to the last bit as one without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._training.federation import Round, ServerState

Counts = NDArray[np.float64]


@dataclass(frozen=True)
class TrainingState:
    """Where a training stands after a round.

    Attributes
    ----------
    server : ServerState
        The global model, the server's optimiser, what is known of the clients, and the number of
        rounds.
    history : tuple of Round
        What each round came to.
    recent : tuple of Tensor
        Global models before it, with which the fitted one may be the mean.
    best : Tensor or None
        The model of least validation loss.
    best_loss : float
        That loss.
    n_waited : int
        Rounds since.
    failures : tuple of dict
        Round, client and reason of each reply that was missing.
    label_counts : ndarray of shape (n_classes,) or None
        Rows by class, the mean over the calls of `partial_fit`; None where they were not asked for.
    n_calls : int
        How many calls that were.
    privacy : mapping or None
        What private training has released, as plain values; None where nothing is private.
    """

    server: ServerState
    history: tuple[Round, ...] = ()
    recent: tuple[Tensor, ...] = ()
    best: Tensor | None = None
    best_loss: float = np.inf
    n_waited: int = 0
    failures: tuple[dict[str, Any], ...] = ()
    label_counts: Counts | None = None
    n_calls: int = 1
    privacy: Mapping[str, Any] | None = None


def packed(state: TrainingState, client_ids: NDArray[Any], data: str | None) -> dict[str, Any]:
    """The state as plain values and arrays.

    Parameters
    ----------
    state : TrainingState
        Where the training stands.
    client_ids : ndarray of shape (n_clients,)
        To whom what is known of the clients belongs.
    data : str or None
        Digest of the rows, by which validation losses are comparable.
    """
    server = state.server
    return {
        "theta": _array(server.theta),
        "optimizer": {name: _array(value) for name, value in server.optimizer.items()},
        "clients": client_ids,
        "recall": server.stats.recall,
        "n_rounds": server.n_rounds,
        "history": columns(state.history),
        "recent": [_array(theta) for theta in state.recent],
        "best": None if state.best is None else _array(state.best),
        "best_loss": float(state.best_loss),
        "n_waited": state.n_waited,
        "failures": list(state.failures),
        "label_counts": state.label_counts,
        "n_calls": state.n_calls,
        "data": data,
        "privacy": state.privacy,
    }


def check_packed(values: Mapping[str, Any], theta: Tensor) -> None:
    """Raise ValueError where values that a file had are not those of `packed` for such a model."""
    n_rounds, history, best = values["n_rounds"], values["history"], values["best"]
    names = [f.name for f in fields(Round) if f.name != "failures"]
    models = [values["theta"], *values["optimizer"].values(), *values["recent"]]
    shape = tuple(theta.shape)
    sound = {
        "models": all(_is_finite(m, shape) for m in [*models, *([] if best is None else [best])]),
        "n_rounds": type(n_rounds) is int and n_rounds >= 0,
        "recall": values["recall"].shape == values["clients"].shape
        and values["recall"].dtype == np.float32,
        "history": list(history) == names
        and all(c.shape == (n_rounds,) and c.dtype.kind in "if" for c in history.values()),
        "best_loss": type(values["best_loss"]) is float,
        "n_waited": type(values["n_waited"]) is int,
        "failures": all(set(f) == {"round", "client", "reason"} for f in values["failures"]),
        "label_counts": values["label_counts"] is None or _is_finite(values["label_counts"]),
        "n_calls": type(values["n_calls"]) is int and values["n_calls"] >= 1,
        "privacy": isinstance(values["privacy"], Mapping | None),
    }
    if not all(sound.values()):
        raise ValueError(f"{[name for name in sound if not sound[name]]} are of another form")


def _is_finite(value: Any, shape: tuple[int, ...] | None = None) -> bool:
    array = np.asarray(value)
    right = array.dtype.kind == "f" and (shape is None or array.shape == shape)
    return right and bool(np.isfinite(array).all())


def unpacked(
    values: Mapping[str, Any],
    start: ServerState,
    client_ids: NDArray[Any],
    data: str | None,
) -> TrainingState:
    """The state of `packed`, to go on from with the present clients.

    Parameters
    ----------
    values : mapping
        Of `packed`.
    start : ServerState
        As the present parts would begin.
    client_ids : ndarray of shape (n_clients,)
        The present clients; what was known of them is kept, by id.
    data : str or None
        Digest of the present rows.

    Raises
    ------
    ValueError
        If the state is that of other parts.
    """
    if set(values["optimizer"]) != set(start.optimizer):
        raise ValueError(
            "The model to go on from was trained with another strategy; use the same one, or fit "
            "anew, without warm_start."
        )
    if values["theta"].shape != tuple(start.theta.shape):
        raise ValueError(
            f"module has {len(start.theta)} parameters to train, but the model to go on from has "
            f"{len(values['theta'])}; fit anew, without warm_start."
        )

    def tensor(value: NDArray[Any]) -> Tensor:
        return torch.as_tensor(value).to(start.theta)

    server = replace(
        start,
        theta=tensor(values["theta"]),
        optimizer={name: tensor(value) for name, value in values["optimizer"].items()},
        stats=replace(start.stats, recall=_by_id(values, client_ids)),
        n_rounds=int(values["n_rounds"]),
    )
    state = TrainingState(
        server,
        history=_rounds(values["history"]),
        recent=tuple(map(tensor, values["recent"])),
        failures=tuple(values["failures"]),
        label_counts=values["label_counts"],
        n_calls=int(values["n_calls"]),
        privacy=values.get("privacy"),
    )
    if values["best"] is None or values["data"] != data:
        return state  # a loss on other validation rows is no yardstick
    return replace(
        state,
        best=tensor(values["best"]),
        best_loss=float(values["best_loss"]),
        n_waited=int(values["n_waited"]),
    )


def columns(history: tuple[Round, ...]) -> dict[str, NDArray[Any]]:
    """History by column."""
    return {
        f.name: np.array([getattr(r, f.name) for r in history])
        for f in fields(Round)
        if f.name != "failures"
    }


def _rounds(history: Mapping[str, NDArray[Any]]) -> tuple[Round, ...]:
    """History of `columns`."""
    rows = zip(*(column.tolist() for column in history.values()), strict=True)
    return tuple(Round(**dict(zip(history, row, strict=True))) for row in rows)


def _array(value: Tensor) -> NDArray[Any]:
    return value.detach().cpu().numpy()


def _by_id(values: Mapping[str, Any], client_ids: NDArray[Any]) -> NDArray[np.float32]:
    """Recalls of the present clients; NaN of those that are new."""
    if np.array_equal(values["clients"], client_ids):
        return values["recall"]
    known = dict(zip(values["clients"].tolist(), values["recall"].tolist(), strict=True))
    return np.array([known.get(client, np.nan) for client in client_ids.tolist()], np.float32)
