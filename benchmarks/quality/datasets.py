"""Scenarios: a data set, how it is made unbalanced, who holds which rows, and the budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.preprocessing import StandardScaler

from skfedfocal import dirichlet_partition, iid_partition

TEST_SHARE = 0.25  # of each client's rows, where a set has no split of its own
VALIDATION_SHARE = 0.25  # of each client's training rows, for everything that is tuned


@dataclass(frozen=True)
class Rows:
    """A data set as it is stored."""

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    clients: NDArray[np.int64] | None = None
    is_test: NDArray[np.bool_] | None = None
    standardise: bool = True


@dataclass(frozen=True)
class Task:
    """Training rows with their clients, and rows to measure on."""

    X: NDArray[np.float32]
    y: NDArray[np.int64]
    clients: NDArray[np.int64]
    X_test: NDArray[np.float32]
    y_test: NDArray[np.int64]

    @property
    def prior(self) -> NDArray[np.float64]:
        """Share of each class in the training rows."""
        counts = np.bincount(self.y, minlength=self.n_classes)
        return counts / counts.sum()

    @property
    def n_classes(self) -> int:
        return int(max(self.y.max(), self.y_test.max())) + 1


@dataclass(frozen=True)
class Budget:
    """What every method may spend: the same module, rounds, epochs and batches."""

    hidden_layer_sizes: tuple[int, ...]
    n_rounds: int
    n_local_epochs: int
    batch_size: int
    clients_per_round: int | float = 1.0

    def passes(self, n_clients: int) -> int:
        """How often the federation goes over each row on average."""
        share = self.clients_per_round
        if isinstance(share, int):
            share = share / n_clients
        return max(1, round(self.n_rounds * self.n_local_epochs * share))


@dataclass(frozen=True)
class Scenario:
    """A set, made unbalanced and dealt to clients.

    Attributes
    ----------
    name, title : str
        Key in the results, and what the tables say.
    source : callable
        Reads the rows, given the folder of the data sets.
    budget : Budget
    keep : mapping of class to share
        Classes cut: the share of their training rows that is kept. Test rows are never cut.
    n_train : int or None
        Training rows drawn before the cut; None takes all.
    partition : callable or None
        ``(y, seed) -> clients``; None keeps the natural clients.
    resplit : bool
        Whether every seed has a test split of its own, which small sets need; the others have one
        test set for all seeds. What is tuned is tuned apart for each test split.
    repeats : int
        How many times as many seeds it gets as the others: sets of a few hundred rows need them.
    """

    name: str
    title: str
    source: Callable[[Path], Rows]
    budget: Budget
    keep: Mapping[int, float] = field(default_factory=dict)
    n_train: int | None = None
    partition: Callable[[NDArray[np.int64], int], NDArray[np.int64]] | None = None
    resplit: bool = False
    repeats: int = 1

    def task(self, data: Path, seed: int, fold: int | None = None) -> Task:
        """Training and test rows of a seed, or training and validation rows of a fold of it.

        A validation fold is drawn from the training rows alone, per client and class; the test
        rows are then out of sight.
        """
        rows = _read(self.source, data)
        is_test = rows.is_test
        clients = np.zeros(len(rows.y), np.int64) if rows.clients is None else rows.clients
        if is_test is None:
            rng = np.random.default_rng([_SPLIT, seed if self.resplit else 0])
            is_test = systematic(rows.y, clients, TEST_SHARE, rng)
        train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        rng = np.random.default_rng([_CUT, seed])
        if self.n_train is not None and self.n_train < len(train):
            train = np.sort(rng.choice(train, self.n_train, replace=False))
        train = self._cut(rows.y, clients, train, rng)
        clients, y = clients[train], rows.y[train]
        if self.partition is not None:
            clients = self.partition(y, seed)
        if fold is not None:
            rng = np.random.default_rng([_FOLD, seed, fold])
            held_out = systematic(y, clients, VALIDATION_SHARE, rng)
            train, test = train[~held_out], train[held_out]
            clients = clients[~held_out]
        X, X_test = rows.X[train], rows.X[test]
        if rows.standardise:
            X, X_test = _standardised(X, X_test)
        return Task(X, rows.y[train], clients, X_test, rows.y[test])

    def _cut(
        self,
        y: NDArray[np.int64],
        clients: NDArray[np.int64],
        train: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Keep the given share of the rows of each class that is cut, and two rows at the least."""
        kept = np.ones(len(train), bool)
        for label, share in self.keep.items():
            mine = np.flatnonzero(y[train] == label)
            share = min(1.0, max(share, 2.5 / max(len(mine), 1)))
            kept[mine] = systematic(y[train][mine], clients[train][mine], share, rng)
        return train[kept]


_SPLIT, _CUT, _FOLD = 1, 2, 3  # streams of random numbers


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


def _standardised(
    X: NDArray[np.float32], X_test: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """By the training rows' mean and deviation, which a federation has from sums."""
    scaler = StandardScaler().fit(X)
    # A feature that hardly varies in training would otherwise be blown up in the test rows.
    X, X_test = (np.clip(scaler.transform(rows), -10, 10) for rows in (X, X_test))
    return X.astype(np.float32), X_test.astype(np.float32)


# -- sources ---------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _read(source: Callable[[Path], Rows], data: Path) -> Rows:
    return source(data)


def _load(data: Path, name: str) -> dict[str, NDArray]:
    path = data / f"{name}.npz"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is missing; pass the folder of the data sets as --data, or in the "
            "environment variable SKFEDFOCAL_DATA. --quick needs none."
        )
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["X"] = arrays["X"].reshape(len(arrays["y"]), -1).astype(np.float32)
    if "client" in arrays:
        arrays["client"] = np.unique(arrays["client"], return_inverse=True)[1]
    return arrays


def har(data: Path) -> Rows:
    d = _load(data, "uci_har")
    return Rows(d["X"], d["y"], d["client"])


def heart(data: Path) -> Rows:
    d = _load(data, "heart_disease")
    return Rows(d["X"], d["y"], d["client"])


def heart_severity(data: Path) -> Rows:
    d = _load(data, "heart_disease")
    return Rows(d["X"], d["y_severity"], d["client"])


def fraud(data: Path) -> Rows:
    d = _load(data, "creditcard_fraud")
    # Most legitimate rows are of the first hours, so Time would tell the classes apart.
    columns = d["feature_names"] != "Time"
    return Rows(d["X"][:, columns], d["y"])


def fraud_truncated(data: Path) -> Rows:
    d = _load(data, "creditcard_fraud_trunc")
    return Rows(d["X"], d["y"])


def mnist(data: Path) -> Rows:
    d = _load(data, "mnist")
    return Rows(d["X"] / 255, d["y"], is_test=d["split"] == 1, standardise=False)


def femnist(data: Path) -> Rows:
    d = _load(data, "femnist")
    return Rows(d["X"] / 255, d["y"], d["client"], standardise=False)


def femnist_digits(data: Path) -> Rows:
    rows = femnist(data)
    digit = rows.y < 10
    assert rows.clients is not None
    return replace(rows, X=rows.X[digit], y=rows.y[digit], clients=rows.clients[digit])


def vehicle(data: Path) -> Rows:
    d = _load(data, "vehicle_sensor")
    return Rows(d["X"], d["y"], d["client"])


def digits(data: Path) -> Rows:
    X, y = load_digits(return_X_y=True)
    return Rows(X.astype(np.float32), y)


def breast_cancer(data: Path) -> Rows:
    X, y = load_breast_cancer(return_X_y=True)
    return Rows(X.astype(np.float32), y)


# -- partitions ------------------------------------------------------------------------------


def iid(n_clients: int) -> Callable[[NDArray[np.int64], int], NDArray[np.int64]]:
    return lambda y, seed: iid_partition(y, n_clients, random_state=seed)


def dirichlet(n_clients: int, alpha: float, min_rows: int):
    return lambda y, seed: dirichlet_partition(
        y, n_clients, alpha=alpha, min_rows=min_rows, random_state=seed
    )


# -- the list --------------------------------------------------------------------------------

ODD = (1, 3, 5, 7, 9)
LONG_TAIL = {label: 1 - 0.99 * label / 9 for label in range(1, 10)}

HAR = Budget((64,), n_rounds=100, n_local_epochs=2, batch_size=20, clients_per_round=10)
HEART = Budget((64,), n_rounds=30, n_local_epochs=1, batch_size=20)
FRAUD = Budget((64,), n_rounds=30, n_local_epochs=1, batch_size=32)
FRAUD_TRUNCATED = Budget((64,), n_rounds=15, n_local_epochs=1, batch_size=64)
MNIST = Budget((100,), n_rounds=100, n_local_epochs=2, batch_size=20, clients_per_round=10)
FEMNIST = Budget((100,), n_rounds=200, n_local_epochs=2, batch_size=20, clients_per_round=10)
FEMNIST_DIGITS = Budget((100,), n_rounds=150, n_local_epochs=2, batch_size=20, clients_per_round=10)
VEHICLE = Budget((64,), n_rounds=30, n_local_epochs=2, batch_size=20, clients_per_round=10)

# A third of the rows. Measured with all 60,000 (5 classes cut to 2 %, Dirichlet 0.5, 50 rounds):
# the same order of FedAvg, logit adjustment and class weights; FedAvg gains most from more rows or
# more rounds, so the lead over it shrinks (from 23 points to 11); see `full_scale`.
_MNIST_ROWS = 20_000

SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario("har", "HAR", har, HAR),
        Scenario(
            "har_cut", "HAR, 3 of 6 classes cut to 3 %", har, HAR, dict.fromkeys((1, 3, 5), 0.03)
        ),
        Scenario("heart", "heart disease", heart, HEART, resplit=True, repeats=12),
        Scenario(
            "heart_severity", "heart disease, 5 severities", heart_severity, HEART, resplit=True,
            repeats=12,
        ),
        Scenario("fraud", "fraud, 4.3 %", fraud, FRAUD, partition=iid(10)),
        Scenario(
            "fraud_truncated",
            "fraud, truncated values, 0.16 %",
            fraud_truncated,
            FRAUD_TRUNCATED,
            partition=iid(10),
        ),
        Scenario(
            "mnist_half_dirichlet",
            "MNIST, 5 of 10 classes cut to 2 %, Dirichlet 0.5",
            mnist,
            MNIST,
            keep=dict.fromkeys(ODD, 0.02),
            n_train=_MNIST_ROWS,
            partition=dirichlet(100, 0.5, 10),
        ),
        Scenario(
            "mnist_half_iid",
            "MNIST, 5 of 10 classes cut to 2 %, IID",
            mnist,
            MNIST,
            keep=dict.fromkeys(ODD, 0.02),
            n_train=_MNIST_ROWS,
            partition=iid(100),
        ),
        Scenario(
            "mnist_one_dirichlet",
            "MNIST, 1 of 10 classes cut to 1 %, Dirichlet 0.5",
            mnist,
            MNIST,
            keep={8: 0.01},
            n_train=_MNIST_ROWS,
            partition=dirichlet(100, 0.5, 10),
        ),
        Scenario(
            "mnist_tail_dirichlet",
            "MNIST, linear tail 100:1, Dirichlet 0.5",
            mnist,
            MNIST,
            keep=LONG_TAIL,
            n_train=_MNIST_ROWS,
            partition=dirichlet(100, 0.5, 10),
        ),
        Scenario("femnist", "FEMNIST, 62 classes", femnist, FEMNIST),
        Scenario(
            "femnist_digits_cut",
            "FEMNIST digits, 5 of 10 classes cut to 3 %",
            femnist_digits,
            FEMNIST_DIGITS,
            keep=dict.fromkeys(ODD, 0.03),
        ),
        Scenario("vehicle", "vehicle sensors", vehicle, VEHICLE, resplit=True),
        Scenario(
            "vehicle_10", "vehicle sensors, one class cut to 10 %", vehicle, VEHICLE, {0: 0.1},
            resplit=True,
        ),
        Scenario(
            "vehicle_3", "vehicle sensors, one class cut to 3 %", vehicle, VEHICLE, {0: 0.03},
            resplit=True,
        ),
    )
}  # fmt: skip

QUICK: dict[str, Scenario] = {
    s.name: s
    for s in (
        Scenario(
            "digits_half",
            "scikit-learn's digits, 5 of 10 classes cut to 5 %",
            digits,
            Budget((32,), n_rounds=10, n_local_epochs=2, batch_size=20),
            keep=dict.fromkeys(ODD, 0.05),
            partition=dirichlet(10, 0.5, 5),
        ),
        Scenario(
            "breast_cancer",
            "scikit-learn's breast cancer, one class cut to 5 %",
            breast_cancer,
            Budget((16,), n_rounds=10, n_local_epochs=1, batch_size=20),
            keep={0: 0.05},
            partition=iid(5),
            resplit=True,
        ),
    )
}


def full_scale(scenario: Scenario) -> Scenario:
    """All rows, and twice the rounds: for machines with hours to spare."""
    budget = replace(scenario.budget, n_rounds=2 * scenario.budget.n_rounds)
    return replace(scenario, n_train=None, budget=budget)
