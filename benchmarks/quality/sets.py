"""Sets: which rows, how they are made unbalanced, who holds which, and the budget (sets.toml)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

import skfedfocal

TEST_SHARE = 0.25  # of each client's rows, where a set has no split of its own
VALIDATION_SHARE = 0.25  # of each client's training rows, for everything that is tuned
_SPLIT, _CUT, _FOLD = 1, 2, 3  # streams of random numbers


@dataclass(frozen=True)
class Task:
    """Training rows with their clients, and rows to measure on, with theirs if they are natural."""

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    clients: NDArray[np.int64]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    clients_test: NDArray[np.int64] | None = None

    @property
    def n_classes(self) -> int:
        return int(max(self.y.max(), self.y_test.max())) + 1

    @property
    def prior(self) -> NDArray[np.float64]:
        """Share of each class in the training rows."""
        return np.bincount(self.y, minlength=self.n_classes) / len(self.y)


@dataclass(frozen=True)
class Scenario:
    """A set, made unbalanced and dealt to clients; and what every method may spend on it.

    sets.toml says what the fields mean.
    """

    name: str
    title: str
    file: str
    hidden_layer_sizes: tuple[int, ...]
    n_rounds: int
    n_local_epochs: int
    batch_size: int
    clients_per_round: int | float = 1.0
    label: str = "y"
    drop: str = ""
    n_classes: int | None = None
    pixels: bool = False
    own_test: bool = False
    cut: dict[str, float] = field(default_factory=dict)
    n_train: int | None = None
    partition: dict[str, Any] | None = None
    resplit: bool = False
    learning_rates: tuple[float, ...] = (0.03, 0.1, 0.3)
    half: int = 0
    repeats: int = 1
    role: str = "standard"

    def task(self, data: Path, seed: int, fold: int | None = None) -> Task:
        """Training and test rows of a seed, or training and validation rows of a fold of it.

        A validation fold is drawn from the training rows alone, per client and class; the test
        rows are then out of sight.
        """
        X, y, clients, is_test = _read(data, self.file, self.label, self.drop, self.n_classes)
        if not self.own_test:
            rng = np.random.default_rng([_SPLIT, seed if self.resplit else 0])
            is_test = systematic(y, clients, TEST_SHARE, rng)
        train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        train = self._cut(y, clients, train, np.random.default_rng([_CUT, seed]))
        clients, natural = clients[train], clients
        if self.partition is not None:
            arguments = dict(self.partition)
            deal = getattr(skfedfocal, f"{arguments.pop('kind')}_partition")
            clients = deal(y[train], random_state=seed, **arguments)
        if fold is not None:
            rng = np.random.default_rng([_FOLD, seed, fold])
            held_out = systematic(y[train], clients, VALIDATION_SHARE, rng)
            train, test, clients = train[~held_out], train[held_out], clients[~held_out]
        X_train, X_test = self._scaled(X[train], X[test])
        clients_test = natural[test] if self.partition is None else None
        return Task(X_train, y[train], clients, X_test, y[test], clients_test)

    def _cut(
        self, y: NDArray, clients: NDArray, train: NDArray, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw the rows, and keep the share of each class that is cut, two rows at the least."""
        if self.n_train is not None and self.n_train < len(train):
            train = np.sort(rng.choice(train, self.n_train, replace=False))
        kept = np.ones(len(train), bool)
        for label, share in self.cut.items():
            mine = np.flatnonzero(y[train] == int(label))
            share = min(1.0, max(share, 2.5 / max(len(mine), 1)))
            kept[mine] = systematic(y[train][mine], clients[train][mine], share, rng)
        return train[kept]

    def _scaled(self, X: NDArray, X_test: NDArray) -> tuple[NDArray, NDArray]:
        """By the training rows' mean and deviation, which a federation has from sums."""
        if self.pixels:
            return X / np.float32(255), X_test / np.float32(255)
        scaler = StandardScaler().fit(X)
        # A feature that hardly varies in training would otherwise be blown up in the test rows.
        X, X_test = (np.clip(scaler.transform(rows), -10, 10) for rows in (X, X_test))
        return X.astype(np.float32), X_test.astype(np.float32)


def systematic(
    y: NDArray[np.int64], clients: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Mask of a share of the rows, the same share of every class and of every client in it.

    Systematic sampling of the rows in order of class, client and chance: every class, and every
    client's rows of a class, have their share up to one row.
    """
    order = np.lexsort((rng.random(len(y)), clients, y))
    ticks = np.floor(np.arange(len(y) + 1) * share + rng.random())
    mask = np.empty(len(y), bool)
    mask[order] = np.diff(ticks) > 0
    return mask


@lru_cache(maxsize=2)
def _read(data: Path, file: str, label: str, drop: str, n_classes: int | None) -> tuple:
    """Features, labels, clients (zeros where there are none) and the mask of test rows."""
    if file.startswith("sklearn:"):
        X, y = getattr(sklearn.datasets, file.removeprefix("sklearn:"))(return_X_y=True)
        stored = {"X": X, label: y}
    elif (path := data / f"{file}.npz").exists():
        with np.load(path, allow_pickle=False) as arrays:
            stored = dict(arrays)
    else:
        raise FileNotFoundError(
            f"{path} is missing; pass the folder of the data sets as --data, or in the "
            "environment variable SKFEDFOCAL_DATA. --quick needs none."
        )
    y = stored[label].astype(np.int64)
    X = stored["X"].reshape(len(y), -1).astype(np.float32)
    if drop:
        X = X[:, stored["feature_names"] != drop]
    clients = np.unique(stored.get("client", np.zeros(len(y))), return_inverse=True)[1]
    is_test = stored.get("split", np.zeros(len(y))) == 1
    kept = np.full(len(y), True) if n_classes is None else y < n_classes
    return X[kept], y[kept], clients[kept], is_test[kept]


def _listed() -> dict[str, Scenario]:
    tables = tomllib.loads(Path(__file__).with_name("sets.toml").read_text())
    found: dict[str, Scenario] = {}
    for name, table in tables.items():
        base = vars(found[table.pop("like")]) if "like" in table else {}
        found[name] = Scenario(**{**base, **table, "name": name})
    return found


SETS = _listed()
