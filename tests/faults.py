"""Faults: what may be wrong with data, parameters, clients and files, and the named end of each.

`tests/test_faults.py` lets every one happen; `python tools/faults.py` writes them, with the words
that they end in, into docs/faults.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from oracles import federation
from scipy import sparse
from sklearn.base import clone
from torch import nn

from skfedfocal import (
    FederatedTrainingError,
    FedFocalClassifier,
    load_model,
    save_model,
)
from skfedfocal.aggregation import TrimmedMean
from skfedfocal.strategies import FedAdam

WORKS, WARNS, ERROR, STOPS = "works", "warning", "error", "error, last good model kept"

X, y, CLIENTS = federation([9, 4, 14, 6, 8])
MODEL = FedFocalClassifier((4,), n_rounds=2, batch_size=8, random_state=0)


@dataclass(frozen=True)
class Fault:
    """What is wrong, what is done with it, and how that must end.

    Attributes
    ----------
    group, case : str
        For the page.
    do : callable
        Takes an estimator and a folder; raises, warns or returns.
    ends : str
        WORKS, WARNS, ERROR or STOPS.
    words : tuple of str
        That the message must hold.
    params : dict
        Of the estimator.
    """

    group: str
    case: str
    do: Callable[[Any, Path], Any]
    ends: str
    words: tuple[str, ...] = ()
    params: dict[str, Any] | None = None

    def estimator(self) -> FedFocalClassifier:
        return clone(MODEL).set_params(**(self.params or {}))


def outcome(fault: Fault, estimator: Any, folder: Path) -> tuple[str, str]:
    """How a fault ends, and in which words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fault.do(estimator, folder)
        except FederatedTrainingError as error:
            kept = hasattr(estimator, "theta_") and bool(np.isfinite(estimator.theta_).all())
            return (STOPS if kept else ERROR), str(error)
        except (ValueError, TypeError) as error:
            return ERROR, str(error)
    said = [str(w.message) for w in caught if "first round's loss" not in str(w.message)]
    if said:
        return WARNS, said[0]
    return WORKS, ""


def fit(X: Any = X, y: Any = y, clients: Any = CLIENTS, **more: Any) -> Callable[[Any, Path], Any]:
    return lambda model, folder: model.fit(X, y, clients=clients, **more)


def changed(values: Any, place: Any, value: Any) -> Any:
    copy = np.array(values, dtype=object if isinstance(value, str | type(None)) else None)
    copy[place] = value
    return copy


def predict_with(other: Any, given: Any = X) -> Callable[[Any, Path], Any]:
    return lambda model, folder: model.fit(given, y, clients=CLIENTS).predict(other)


def weights(value: float, rows: Any) -> np.ndarray:
    found = np.ones(len(y))
    found[rows] = value
    return found


def damaged(change: Callable[[bytes], bytes]) -> Callable[[Any, Path], Any]:
    def do(model: Any, folder: Path) -> Any:
        path = folder / "model.skf"
        save_model(clone(model).fit(X, y, clients=CLIENTS), path)
        path.write_bytes(change(path.read_bytes()))
        return load_model(path)

    return do


def resumed(
    X_then: Any = X, change: Callable[[bytes], bytes] | None = None, **then: Any
) -> Callable[[Any, Path], Any]:
    def do(model: Any, folder: Path) -> Any:
        file = folder / "training"
        clone(model).fit(X, y, clients=CLIENTS, checkpoint=file)
        if change is not None:
            file.write_bytes(change(file.read_bytes()))
        return model.set_params(**then).fit(X_then, y, clients=CLIENTS, checkpoint=file)

    return do


class Raises(nn.Module):
    """A module that cannot take large values, which some clients' rows have."""

    def __init__(self, n_features: int, n_classes: int):
        super().__init__()
        self.layer = nn.Linear(n_features, n_classes)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if bool((rows > 50).any()):
            raise RuntimeError("rows beyond 50 are none of mine")
        return self.layer(rows)


class Normed(nn.Module):
    def __init__(self, n_features: int, n_classes: int):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(n_features), nn.Linear(n_features, n_classes))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layers(rows)


def diverged(model: Any) -> Any:
    """A model whose parameters are finite, and what it gives is not."""
    model.theta_ = np.where(model.theta_ > 0, 3e38, -3e38).astype(np.float32)
    model._module = None
    return model


def wide(n_features: int, n_classes: int) -> nn.Module:
    return nn.Linear(n_features, n_classes + 1)


def infinite(n_features: int, n_classes: int) -> nn.Module:
    layer = nn.Linear(n_features, n_classes)
    nn.init.constant_(layer.weight, float("inf"))
    return layer


FIRST = np.asarray(CLIENTS)[0]
ONE = np.asarray(CLIENTS) == FIRST
FRAME = pd.DataFrame(X, columns=list("abcde"))
PARTS = {str(c): (X[np.asarray(CLIENTS) == c], y[np.asarray(CLIENTS) == c]) for c in set(CLIENTS)}
SOME = next(iter(PARTS))
EMPTY = {**PARTS, "empty": (X[:0], y[:0])}
NARROW = {**PARTS, "narrow": (X[:3, :2], y[:3])}
LATER = np.asarray(CLIENTS) == next(c for c in CLIENTS if c not in CLIENTS[:2])
LARGE = np.where(LATER[:, None], X + 100, X)

DATA, PARAMETERS, ROUNDS, FILES = "Data", "Parameters", "Clients and rounds", "Files"

FAULTS = [
    Fault(DATA, "labels are fewer than rows", fit(y=y[:-1]), ERROR, ("inconsistent numbers",)),
    Fault(
        DATA, "client ids are fewer than rows", fit(clients=CLIENTS[:-1]), ERROR, ("one client id",)
    ),
    Fault(
        DATA,
        "weights are fewer than rows",
        fit(sample_weight=np.ones(len(y) - 1)),
        ERROR,
        ("sample_weight",),
    ),
    Fault(DATA, "offsets instead of ids", fit(clients=[0, 9, 13]), ERROR, ("not offsets",)),
    Fault(DATA, "NaN in X", fit(X=changed(X, (3, 1), np.nan)), ERROR, ("NaN", "column 1")),
    Fault(DATA, "infinity in X", fit(X=changed(X, (3, 1), np.inf)), ERROR, ("column 1",)),
    Fault(
        DATA,
        "a value beyond single precision",
        fit(X=changed(X, (3, 1), 1e300)),
        ERROR,
        ("too large", "column 1"),
    ),
    Fault(DATA, "a cell of 1e12", fit(X=changed(X, (3, 1), 1e12)), WARNS, ("1e+12", "column 1")),
    Fault(
        DATA,
        "a date column",
        fit(X=FRAME.assign(seen=pd.Timestamp("2026-01-01"))),
        ERROR,
        ("'seen'",),
    ),
    Fault(DATA, "a column of words", fit(X=FRAME.assign(job="nurse")), ERROR, ("'job'", "'nurse'")),
    Fault(DATA, "labels with NaN", fit(y=changed(y * 1.0, 2, np.nan)), ERROR, ("NaN",)),
    Fault(DATA, "labels are measurements", fit(y=X[:, 0]), ERROR, ("continuous",)),
    Fault(DATA, "labels of several columns", fit(y=np.eye(3)[y]), ERROR, ("1d array",)),
    Fault(DATA, "a missing client id", fit(clients=changed(CLIENTS, 2, None)), ERROR, ("missing",)),
    Fault(DATA, "one class in all rows", fit(y=np.zeros(len(y))), ERROR, ("class",)),
    Fault(DATA, "one class on a client", fit(y=np.where(ONE, 0, y)), WORKS),
    Fault(
        DATA,
        "a client of one row",
        fit(clients=np.where(np.arange(len(y)) == 5, -1, CLIENTS)),
        WORKS,
    ),
    Fault(DATA, "a client without rows", lambda m, _: m.fit(EMPTY), ERROR, ("empty",)),
    Fault(DATA, "clients of different columns", lambda m, _: m.fit(NARROW), ERROR, ("narrow",)),
    Fault(
        DATA,
        "columns in another order at predict",
        predict_with(FRAME[list("edcba")], FRAME),
        ERROR,
        ("order",),
    ),
    Fault(DATA, "fewer columns at predict", predict_with(X[:, :3]), ERROR, ("3 features",)),
    Fault(
        DATA, "a negative weight", fit(sample_weight=weights(-1.0, 0)), ERROR, ("sample_weight",)
    ),
    Fault(DATA, "a client whose weights are all 0", fit(sample_weight=weights(0.0, ONE)), WORKS),
    Fault(
        DATA,
        "weights that are all 0",
        fit(sample_weight=weights(0.0, slice(None))),
        ERROR,
        ("zero",),
    ),
    Fault(DATA, "a constant column", fit(X=changed(X, (slice(None), 1), 7.0)), WORKS),
    Fault(DATA, "a sparse matrix", fit(X=sparse.csr_matrix(X)), WORKS),
    Fault(PARAMETERS, "gamma below 0", fit(), ERROR, ("gamma",), {"gamma": -1.0}),
    Fault(PARAMETERS, "gamma that is NaN", fit(), ERROR, ("gamma",), {"gamma": float("nan")}),
    Fault(PARAMETERS, "a gamma too few", fit(), ERROR, ("gamma", "3"), {"gamma": [1.0, 2.0]}),
    Fault(
        PARAMETERS,
        "class weights of a label that is misspelt",
        fit(),
        ERROR,
        ("'sick'",),
        {"class_weight": {0: 1.0, "sick": 2.0}},
    ),
    Fault(
        PARAMETERS,
        "a class weight below 0",
        fit(),
        ERROR,
        ("class_weight",),
        {"class_weight": {0: -1}},
    ),
    Fault(
        PARAMETERS,
        "class weights that leave one class",
        fit(),
        ERROR,
        ("every class but one",),
        {"class_weight": {0: 0, 1: 0}},
    ),
    Fault(
        PARAMETERS,
        "no client in a round",
        fit(),
        ERROR,
        ("clients_per_round",),
        {"clients_per_round": 0},
    ),
    Fault(
        PARAMETERS,
        "more clients in a round than there are",
        fit(),
        ERROR,
        ("99", "5 clients"),
        {"clients_per_round": 99},
    ),
    Fault(PARAMETERS, "an unknown strategy", fit(), ERROR, ("'fedavg'",), {"strategy": "fedsgd"}),
    Fault(PARAMETERS, "an unknown selection", fit(), ERROR, ("'uniform'",), {"selection": "best"}),
    Fault(
        PARAMETERS,
        "a part whose parameter is out of range",
        fit(),
        ERROR,
        ("trim",),
        {"aggregation": TrimmedMean(0.9), "client_gamma": 0.0},
    ),
    Fault(
        PARAMETERS,
        "parts that cannot go together",
        fit(),
        ERROR,
        ("client_gamma", "median"),
        {"aggregation": "median"},
    ),
    Fault(
        PARAMETERS,
        "secure sums with an aggregation of single updates",
        fit(),
        ERROR,
        ("secure_aggregation", "edian"),
        {"aggregation": "median", "client_gamma": 0.0, "secure_aggregation": True},
    ),
    Fault(PARAMETERS, "a module that is none", fit(), ERROR, ("module",), {"module": "mlp"}),
    Fault(PARAMETERS, "a module of other outputs", fit(), ERROR, ("3 classes",), {"module": wide}),
    Fault(
        PARAMETERS,
        "a module with batch normalisation",
        fit(),
        ERROR,
        ("batch normalisation",),
        {"module": Normed},
    ),
    Fault(
        PARAMETERS,
        "a module that is infinite from the start",
        fit(),
        ERROR,
        ("finite",),
        {"module": infinite},
    ),
    Fault(
        PARAMETERS,
        "a learning rate that ends in NaN",
        fit(),
        ERROR,
        ("Round 2", "not finite"),
        {"learning_rate": 1e30, "n_rounds": 3},
    ),
    Fault(
        PARAMETERS,
        "predictions of a model that has diverged, though it is finite",
        lambda m, _: diverged(m.fit(X, y, clients=CLIENTS)).predict(X),
        ERROR,
        ("not finite", "learning_rate"),
    ),
    Fault(
        PARAMETERS,
        "a server's step into infinity",
        fit(),
        ERROR,
        ("server",),
        {"strategy": FedAdam(server_learning_rate=1e38), "n_rounds": 1},
    ),
    Fault(
        PARAMETERS,
        "going on with other columns",
        lambda m, _: m.fit(X, y, clients=CLIENTS).fit(X[:, :3], y, clients=CLIENTS),
        ERROR,
        ("3 features",),
        {"warm_start": True},
    ),
    Fault(
        PARAMETERS,
        "going on with a new class",
        lambda m, _: m.fit(X, y, clients=CLIENTS).partial_fit(X, y + 1, clients=CLIENTS),
        ERROR,
        ("not among",),
    ),
    Fault(
        PARAMETERS,
        "early stopping of one round",
        lambda m, _: m.partial_fit(X, y, clients=CLIENTS),
        ERROR,
        ("partial_fit", "early_stopping"),
        {"early_stopping": True},
    ),
    Fault(
        ROUNDS,
        "a module that raises on one client",
        fit(X=LARGE),
        WARNS,
        ("beyond 50",),
        {"module": Raises},
    ),
    Fault(
        ROUNDS,
        "a module that raises on all clients",
        fit(X=X + 1000),
        ERROR,
        ("beyond 50",),
        {"module": Raises},
    ),
    Fault(
        ROUNDS,
        "fewer good replies than min_clients",
        fit(X=LARGE),
        ERROR,
        ("5 are needed",),
        {"module": Raises, "min_clients": 5},
    ),
    Fault(FILES, "a model file cut short", damaged(lambda b: b[:-7]), ERROR, ("truncated",)),
    Fault(
        FILES,
        "a flipped bit in it",
        damaged(lambda b: b[:-7] + bytes([b[-7] ^ 1]) + b[-6:]),
        ERROR,
        ("checksum",),
    ),
    Fault(
        FILES,
        "a file of something else",
        damaged(lambda b: b"PK" + b),
        ERROR,
        ("not a file of skfedfocal",),
    ),
    Fault(
        FILES,
        "a file of a later format",
        damaged(lambda b: b.replace(b"skfedfocal 1", b"skfedfocal 9", 1)),
        ERROR,
        ("format",),
    ),
    Fault(FILES, "going on from a checkpoint", resumed(), WORKS),
    Fault(
        FILES,
        "a checkpoint of other parameters",
        resumed(gamma=3.0),
        ERROR,
        ("gamma", "another file"),
    ),
    Fault(FILES, "a checkpoint of other rows", resumed(X + 1), ERROR, ("rows",)),
    Fault(FILES, "a checkpoint cut short", resumed(change=lambda b: b[:-9]), ERROR, ("truncated",)),
]
