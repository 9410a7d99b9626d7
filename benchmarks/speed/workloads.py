"""The workloads: how many clients, rows and features, and which model (workloads.toml).

``W2x10000`` and the like are W2 with 20 rows on each of so many clients: stored as int8 in a
memory-mapped file, or (``-csr``) as a sparse matrix in memory.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A federation, a model and how it is trained; `storage` is "memory", "int8" or "csr"."""

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
        one, two = b * 28 * 28, b * 14 * 14
        convolutions = [
            (32, 25, one),
            (32, one, 25),
            (64, 800, two),
            (64, two, 800),
            (800, 64, two),
        ]
        return convolutions + _dense(b, 3136, h) + _dense(b, h, c)

    def flops_per_round(self) -> float:
        """Floating-point operations of the matrix products of a round."""
        per_row = sum(2 * m * k * n for m, k, n in self.products()) / self.batch_size
        return per_row * self.rows_per_round


def _dense(b: int, n_in: int, n_out: int) -> list[tuple[int, int, int]]:
    """Forward, by weights, by inputs."""
    return [(b, n_in, n_out), (n_out, b, n_in), (b, n_out, n_in)]


def scaled(n_clients: int, storage: str = "int8") -> Workload:
    """W2 with 20 rows on each of so many clients."""
    name = f"W2x{n_clients}{'-csr' if storage == 'csr' else ''}"
    return replace(W2, name=name, n_clients=n_clients, rows=(20, 20), storage=storage)


_TABLES = tomllib.loads(Path(__file__).with_name("workloads.toml").read_text())
W1, W2, W3 = (Workload(name, **table) for name, table in _TABLES.items())
_SCALED = [scaled(n) for n in (1_000, 10_000, 100_000, 1_000_000)]
FULL = [W1, W2, W3, *_SCALED, scaled(1_000, "csr"), scaled(1_000_000, "csr")]

# The same code paths in seconds; the figures are no measure of anything.
_TINY_W3 = replace(W3, n_clients=10, per_round=1, n_test=500)
_TINY = (W1, W2, scaled(1_000), scaled(1_000, "csr"))
QUICK = [*(replace(w, n_rounds=4) for w in _TINY), replace(_TINY_W3, n_rounds=2)]
