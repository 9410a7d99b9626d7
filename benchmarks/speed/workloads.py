"""The workloads: how many clients, rows and features, and which model.

W1 is cross-silo, W2 cross-device, W3 images. ``W2x10000`` and the like are W2 with 20 rows on each
of so many clients: stored as int8 in a memory-mapped file, or (``-csr``) as a sparse matrix in
memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A federation, a model and how it is trained.

    Attributes
    ----------
    kind : {"mlp", "cnn"}
        One hidden layer of width `hidden`; or two convolutions (McMahan et al.) and a dense layer
        of that width.
    rows : (int, int)
        Fewest and most rows of a client; drawn uniformly.
    generator : dict
        Arguments of `sklearn.datasets.make_classification`, which makes all rows.
    storage : {"memory", "int8", "csr"}
        How the rows lie: float32 in memory, an int8 file mapped into memory, or sparse.
    """

    name: str
    n_clients: int
    per_round: int
    rows: tuple[int, int]
    n_features: int
    n_classes: int
    hidden: int
    batch_size: int
    learning_rate: float
    n_rounds: int
    n_test: int
    generator: dict[str, Any] = field(default_factory=dict)
    kind: str = "mlp"
    storage: str = "memory"

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (1, 28, 28) if self.kind == "cnn" else (self.n_features,)

    @property
    def scaled(self) -> bool:
        return self.storage != "memory"

    def client_sizes(self) -> np.ndarray:
        low, high = self.rows
        return np.random.default_rng(0).integers(low, high + 1, size=self.n_clients)

    @property
    def rows_per_round(self) -> float:
        """Rows that a round trains on, on average."""
        return self.per_round * float(self.client_sizes().mean())

    def products(self) -> list[tuple[int, int, int]]:
        """The matrix products (m, k) @ (k, n) of one step on one client's full batch.

        Forward, derivative by weights and, but for the first layer, by inputs; convolutions as
        products with the unfolded image.
        """
        b, h, c = self.batch_size, self.hidden, self.n_classes
        if self.kind == "mlp":
            return _dense(b, self.n_features, h)[:2] + _dense(b, h, c)
        first, second = b * 28 * 28, b * 14 * 14
        convolutions = [
            (32, 25, first),
            (32, first, 25),
            (64, 800, second),
            (64, second, 800),
            (800, 64, second),
        ]
        return convolutions + _dense(b, 3136, h) + _dense(b, h, c)

    def flops_per_round(self) -> float:
        """Floating-point operations of the matrix products of a round."""
        per_row = sum(2 * m * k * n for m, k, n in self.products()) / self.batch_size
        return per_row * self.rows_per_round


def _dense(b: int, n_in: int, n_out: int) -> list[tuple[int, int, int]]:
    """Forward, by weights, by inputs."""
    return [(b, n_in, n_out), (n_out, b, n_in), (b, n_out, n_in)]


W1 = Workload(
    name="W1",
    n_clients=20,
    per_round=20,
    rows=(1000, 1000),
    n_features=64,
    n_classes=2,
    hidden=128,
    batch_size=32,
    learning_rate=0.05,
    n_rounds=10,
    n_test=4000,
    generator={
        "n_informative": 16,
        "n_redundant": 16,
        "weights": [0.99, 0.01],
        "flip_y": 0.0,
        "class_sep": 1.0,
        "n_clusters_per_class": 2,
    },
)
W2 = Workload(
    name="W2",
    n_clients=1000,
    per_round=100,
    rows=(20, 80),
    n_features=561,
    n_classes=6,
    hidden=100,
    batch_size=20,
    learning_rate=0.05,
    n_rounds=20,
    n_test=3000,
    generator={
        "n_informative": 40,
        "n_redundant": 60,
        "flip_y": 0.01,
        "class_sep": 1.5,
        "n_clusters_per_class": 2,
    },
)
W3 = Workload(
    name="W3",
    kind="cnn",
    n_clients=100,
    per_round=10,
    rows=(600, 600),
    n_features=784,
    n_classes=10,
    hidden=512,
    batch_size=10,
    learning_rate=0.02,
    n_rounds=3,
    n_test=2000,
    generator={
        "n_informative": 60,
        "n_redundant": 100,
        "flip_y": 0.01,
        "class_sep": 2.0,
        "n_clusters_per_class": 1,
    },
)


def scaled(n_clients: int, storage: str = "int8") -> Workload:
    """W2 with 20 rows on each of so many clients."""
    name = f"W2x{n_clients}{'-csr' if storage == 'csr' else ''}"
    return replace(W2, name=name, n_clients=n_clients, rows=(20, 20), storage=storage)


FULL = [
    W1,
    W2,
    W3,
    *(scaled(n) for n in (1_000, 10_000, 100_000, 1_000_000)),
    *(scaled(n, "csr") for n in (1_000, 1_000_000)),
]

# The same code paths in seconds; the figures are no measure of anything.
QUICK = [
    replace(W1, n_rounds=4),
    replace(W2, n_rounds=4),
    replace(W3, n_clients=10, per_round=1, n_rounds=2, n_test=500),
    replace(scaled(1_000), n_rounds=4),
    replace(scaled(1_000, "csr"), n_rounds=4),
]
