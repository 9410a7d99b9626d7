"""The workloads: how many clients, rows and features, which model, and the data for it.

W1 is cross-silo, W2 cross-device, W3 images. ``W2x10000`` and the like are W2 with 20 rows on each
of so many clients: stored as int8 in a memory-mapped file, or (``-csr``) as a sparse matrix in
memory. All rows come from `sklearn.datasets.make_classification` with fixed seeds.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

_SCALE_BASE = 1000  # distinct clients of the W2x… data; client i has the rows of client i % 1000
_CSR_NONZEROS = 20  # features kept of a row of the sparse form


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

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Workload:
        return cls(**{**values, "rows": tuple(values["rows"])})

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (1, 28, 28) if self.kind == "cnn" else (self.n_features,)

    @property
    def key(self) -> str:
        """Name of the data files: the same for all workloads with the same generated rows."""
        base = replace(self, n_clients=min(self.n_clients, _SCALE_BASE)) if self.scaled else self
        parts = asdict(base)
        names = ("n_clients", "rows", "n_features", "n_classes", "n_test", "generator")
        made = json.dumps([parts[name] for name in names])
        return hashlib.sha256(made.encode()).hexdigest()[:12]

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

    def products(self) -> list[tuple[str, int, int, int]]:
        """The matrix products (m, k) @ (k, n) of one step on one client's full batch.

        Forward, derivative by weights and, but for the first layer, by inputs; convolutions as
        products with the unfolded image.
        """
        b, h, c = self.batch_size, self.hidden, self.n_classes
        if self.kind == "mlp":
            return _dense("1", b, self.n_features, h, inputs=False) + _dense("2", b, h, c)
        first, second = b * 28 * 28, b * 14 * 14
        return [
            ("conv 1 forward", 32, 25, first),
            ("conv 1 weights", 32, first, 25),
            ("conv 2 forward", 64, 800, second),
            ("conv 2 weights", 64, second, 800),
            ("conv 2 inputs", 800, 64, second),
            *_dense("1", b, 3136, h),
            *_dense("2", b, h, c),
        ]

    def flops_per_round(self) -> float:
        """Floating-point operations of the matrix products of a round."""
        per_row = sum(2 * m * k * n for _, m, k, n in self.products()) / self.batch_size
        return per_row * self.rows_per_round


def _dense(
    name: str, b: int, n_in: int, n_out: int, *, inputs: bool = True
) -> list[tuple[str, int, int, int]]:
    products = [
        (f"dense {name} forward", b, n_in, n_out),
        (f"dense {name} weights", n_out, b, n_in),
        (f"dense {name} inputs", b, n_out, n_in),
    ]
    return products if inputs else products[:2]


# -- the list --------------------------------------------------------------------------------

_W2_GENERATOR = {
    "n_informative": 40,
    "n_redundant": 60,
    "flip_y": 0.01,
    "class_sep": 1.5,
    "n_clusters_per_class": 2,
}

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
    generator=_W2_GENERATOR,
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
    suffix = "-csr" if storage == "csr" else ""
    return replace(
        W2, name=f"W2x{n_clients}{suffix}", n_clients=n_clients, rows=(20, 20), storage=storage
    )


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


# -- the data --------------------------------------------------------------------------------


@dataclass
class Data:
    """Rows of a workload, client by client, and test rows."""

    X: Any
    y: np.ndarray
    offsets: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    def features(self, start: int, stop: int) -> np.ndarray:
        """Rows as a dense float32 array of their own."""
        rows = self.X[start:stop]
        return (rows.toarray() if hasattr(rows, "toarray") else rows).astype(np.float32)

    def clients(self) -> np.ndarray:
        """Client id of each row."""
        sizes = np.diff(self.offsets)
        return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)

    @property
    def n_bytes(self) -> int:
        """Bytes of features, labels and client ids."""
        X = self.X
        parts = (X.data, X.indices, X.indptr) if hasattr(X, "indptr") else (X,)
        return sum(part.nbytes for part in parts) + self.y.nbytes + 4 * len(self.y)

    @property
    def n_bytes_mapped(self) -> int:
        """Bytes of them that lie in a mapped file."""
        return self.X.nbytes if isinstance(self.X, np.memmap) else 0


def prepare(workload: Workload, folder: Path) -> None:
    """Write the files that `load` reads, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not _file(workload, folder, "y_test").exists():
        _generate(workload, folder)
    if workload.storage == "int8":
        _write_repeated(workload, folder)


def load(workload: Workload, folder: Path) -> Data:
    """Read what `prepare` wrote."""
    X, y, X_test, y_test = (
        np.load(_file(workload, folder, name)) for name in ("X", "y", "X_test", "y_test")
    )
    if workload.kind == "cnn":
        X, X_test = X.reshape(-1, 1, 28, 28), X_test.reshape(-1, 1, 28, 28)
    offsets = np.concatenate([[0], np.cumsum(workload.client_sizes())])
    if workload.scaled:
        copies = workload.n_clients // _n_base(workload)
        shape = (int(offsets[-1]), workload.n_features)
        if workload.storage == "int8":
            X = np.memmap(_file(workload, folder, "int8"), np.int8, "r", shape=shape)
            X_test = np.rint(X_test)
        else:
            X = _sparse_copies(X, copies)
            X_test = _sparse_copies(X_test, 1).toarray()
        y = np.tile(y.astype(np.int8), copies)
    return Data(X, y, offsets, X_test, y_test)


def cool(workload: Workload, folder: Path) -> None:
    """Drop a mapped file from the page cache, so that rounds find their rows on the disk.

    As where data are larger than memory; and figures do not depend on how much of it is free.
    """
    if workload.storage == "int8" and hasattr(os, "posix_fadvise"):
        with open(_file(workload, folder, "int8"), "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _file(workload: Workload, folder: Path, part: str) -> Path:
    suffix = "dat" if part == "int8" else "npy"
    return folder / f"{workload.name.partition('x')[0]}-{workload.key}-{part}.{suffix}"


def _n_base(workload: Workload) -> int:
    """Clients with rows of their own; the others repeat them."""
    n_base = min(workload.n_clients, _SCALE_BASE) if workload.scaled else workload.n_clients
    if workload.n_clients % n_base:
        raise ValueError(f"{workload.n_clients} clients are not a multiple of {n_base}.")
    return n_base


def _generate(workload: Workload, folder: Path) -> None:
    from sklearn.datasets import make_classification

    base = replace(workload, n_clients=_n_base(workload))
    n = int(base.client_sizes().sum())
    X, y = make_classification(
        n + base.n_test,
        n_features=base.n_features,
        n_classes=base.n_classes,
        random_state=0,
        **base.generator,
    )
    X = X.astype(np.float32)
    X -= X[:n].mean(0)
    X /= X[:n].std(0) + 1e-8
    y = y.astype(np.int64)
    # y_test last: its presence says that the others are complete.
    for part, values in (("X", X[:n]), ("y", y[:n]), ("X_test", X[n:]), ("y_test", y[n:])):
        np.save(_file(workload, folder, part), values)


def _write_repeated(workload: Workload, folder: Path) -> None:
    """Make the int8 file long enough: the base rows, rounded, over and over."""
    path = _file(workload, folder, "int8")
    # Values have mean 0 and deviation 1 and stay so: only whole numbers are kept of them.
    block = np.rint(np.load(_file(workload, folder, "X"))).clip(-127, 127).astype(np.int8)
    copies = workload.n_clients // _n_base(workload)
    have = path.stat().st_size // block.nbytes if path.exists() else 0
    missing = (copies - have) * block.nbytes
    free = shutil.disk_usage(folder).free
    if missing > 0.9 * free:
        raise OSError(
            f"{workload.name} needs {missing / 1e9:.1f} GB more in {folder}, which has "
            f"{free / 1e9:.1f} GB free; name another folder with --data-dir."
        )
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.seek(have * block.nbytes)
        for _ in range(copies - have):
            file.write(block.tobytes())


def _sparse_copies(X: np.ndarray, copies: int) -> Any:
    """CSR matrix of the base rows' largest values, repeated."""
    from scipy import sparse

    kept = np.sort(np.argpartition(-np.abs(X), _CSR_NONZEROS, axis=1)[:, :_CSR_NONZEROS], axis=1)
    values = np.take_along_axis(X, kept, axis=1)
    n_rows = len(X) * copies
    starts = np.arange(0, (n_rows + 1) * _CSR_NONZEROS, _CSR_NONZEROS, dtype=np.int32)
    parts = (np.tile(values.ravel(), copies), np.tile(kept.ravel().astype(np.int32), copies))
    return sparse.csr_matrix((*parts, starts), shape=(n_rows, X.shape[1]))
