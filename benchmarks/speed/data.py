"""The rows of a workload: generated once with fixed seeds, kept in files, and read."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.workloads import Workload

SCALE_BASE = 1000  # distinct clients of the W2x… data; client i has the rows of client i % 1000
_CSR_NONZEROS = 20  # features kept of a row of the sparse form


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
        if workload.storage == "int8":
            path = _file(workload, folder, "int8")
            _cool(path)
            shape = (int(offsets[-1]), workload.n_features)
            X, X_test = np.memmap(path, np.int8, "r", shape=shape), np.rint(X_test)
        else:
            X, X_test = _sparse_copies(X, copies), _sparse_copies(X_test, 1).toarray()
        y = np.tile(y.astype(np.int8), copies)
    return Data(X, y, offsets, X_test, y_test)


def _cool(path: Path) -> None:
    """Drop a file from the page cache, so that rounds find their rows on the disk.

    As where data are larger than memory; and figures do not depend on how much of it is free.
    """
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _file(workload: Workload, folder: Path, part: str) -> Path:
    """The same for all workloads with the same generated rows."""
    w = workload
    made = (
        _n_base(w),
        tuple(w.rows),
        w.n_features,
        w.n_classes,
        w.n_test,
        sorted(w.generator.items()),
    )
    key = hashlib.sha256(repr(made).encode()).hexdigest()[:12]
    suffix = "dat" if part == "int8" else "npy"
    return folder / f"{w.name.partition('x')[0]}-{key}-{part}.{suffix}"


def _n_base(workload: Workload) -> int:
    """Clients with rows of their own; the others repeat them."""
    n_base = min(workload.n_clients, SCALE_BASE) if workload.scaled else workload.n_clients
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
    have = path.stat().st_size // block.nbytes if path.exists() else 0
    missing = workload.n_clients // _n_base(workload) - have
    free = shutil.disk_usage(folder).free
    if missing * block.nbytes > 0.9 * free:
        raise OSError(
            f"{workload.name} needs {missing * block.nbytes / 1e9:.1f} GB more in {folder}, which "
            f"has {free / 1e9:.1f} GB free; name another folder with --data-dir."
        )
    with open(path, "ab") as file:
        file.truncate(have * block.nbytes)
        for _ in range(missing):
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
