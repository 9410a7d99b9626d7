"""The rows of all clients of one process, fetched by number as tensors."""

from __future__ import annotations

import contextlib
import math
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.mapped import MappedRows
from skfedfocal._data.memory import Memory
from skfedfocal._data.queries import in_rows


class Encoder(Protocol):
    """What rows of numbers go through before a module takes them."""

    @property
    def n_outputs(self) -> int: ...
    def encode(self, x: Tensor) -> Tensor: ...


class FederatedRows:
    """Features, labels and weights of a federation in memory, never copied as a whole.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...) or CSR matrix
        Features as given; a memory map stays on disk. Rows become dense tensors of `dtype` as they
        are fetched.
    y : ndarray of shape (n_samples,)
        Labels as numbers ``0..n_classes-1``.
    sample_weight : ndarray of shape (n_samples,) or None
        Positive weights.
    layout : ClientLayout
        Which rows are whose.
    n_classes : int
        Number of classes.
    dtype : torch.dtype
        What the module computes in; int64 for modules that look rows up in an embedding.
    device : torch.device
        Where fetched rows go.
    encoder : Encoder or None, default=None
        What fetched rows go through; None for rows as they are.
    resident : Tensor of shape (n_samples, ...) or None
        X on an accelerator, put there once so that rounds move no rows.

    Attributes
    ----------
    row_values : int
        Numbers in a fetched row.
    """

    def __init__(
        self,
        X: Any,
        y: NDArray[Any],
        sample_weight: NDArray[np.float64] | None,
        layout: ClientLayout,
        n_classes: int,
        dtype: torch.dtype,
        device: torch.device,
        encoder: Encoder | None = None,
        resident: Tensor | None = None,
    ):
        self.X = X
        self.y = y
        self.sample_weight = sample_weight
        self.layout = layout
        self.n_classes = n_classes
        self.dtype = dtype
        self.device = device
        self.encoder = encoder
        self.row_values = max(1, math.prod(X.shape[1:]) if encoder is None else encoder.n_outputs)
        self.sizes = layout.sizes.astype(np.float64)
        if sample_weight is not None:
            self.sizes = layout.sum_by_client(sample_weight, np.zeros(len(y), np.int8), 1)[:, 0]
        self._mapped = MappedRows.of(X)
        self._resident = resident
        if resident is None and device.type != "cpu" and not sparse.issparse(X):
            self._resident = torch.as_tensor(np.ascontiguousarray(X), device=device)
        self._relative_weight: NDArray[np.float64] | None = None
        if sample_weight is not None:  # mean 1 on each client, so that steps keep their length
            mean = self.sizes / np.maximum(layout.sizes, 1)
            rows = slice(None) if layout.order is None else layout.order
            self._relative_weight = sample_weight[rows] / mean[layout.owners()]

    def regroup(
        self, layout: ClientLayout, sample_weight: NDArray[np.float64] | None = None
    ) -> FederatedRows:
        """The same rows with other owners, and with other weights if there are any."""
        return FederatedRows(
            self.X,
            self.y,
            self.sample_weight if sample_weight is None else sample_weight,
            layout,
            self.n_classes,
            self.dtype,
            self.device,
            self.encoder,
            self._resident,
        )

    def label_counts(self, members: NDArray[np.int64]) -> NDArray[np.float64]:
        """Rows by class of the given clients, as if weights were 1 on average; (m, n_classes)."""
        some = self.layout.take(members)
        return in_rows(some.sum_by_client(self.sample_weight, self.y, self.n_classes), some.sizes)

    def features(self, places: NDArray[np.int64], memory: Memory | None = None) -> Tensor:
        """Rows at the given places of the client-by-client order, encoded, of shape (n, ...)."""
        rows = self.layout.rows(places)
        if self._resident is not None:
            index = torch.from_numpy(rows).to(self.device)
            found = self._resident.index_select(0, index)
            return encoded(found, self.encoder, self.dtype)
        at_hand = contextlib.nullcontext() if self._mapped is None else self._mapped.at_hand(rows)
        with at_hand:
            return module_rows(self.X, rows, self.dtype, self.device, self.encoder, memory)

    def labels(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Class numbers at the given places."""
        return self.y[self.layout.rows(places)].astype(np.int64, copy=False)

    def sample_weights(self, places: NDArray[np.int64]) -> NDArray[np.float64] | float:
        """Sample weights at the given places."""
        return 1.0 if self.sample_weight is None else self.sample_weight[self.layout.rows(places)]

    def weights(self, places: NDArray[np.int64]) -> NDArray[np.float64] | float:
        """Sample weights at the given places, 1 on average over each client."""
        return 1.0 if self._relative_weight is None else self._relative_weight[places]


def module_rows(
    X: Any,
    rows: NDArray[np.int64] | slice,
    dtype: torch.dtype,
    device: torch.device,
    encoder: Encoder | None = None,
    memory: Memory | None = None,
) -> Tensor:
    """Rows of an array or CSR matrix as a module takes them."""
    if encoder is None:
        return dense_rows(X, rows, dtype, device, memory)
    kind = torch.float64 if device.type != "mps" else torch.float32  # which has no other
    return encoded(dense_rows(X, rows, kind, device, memory), encoder, dtype)


def encoded(x: Tensor, encoder: Encoder | None, dtype: torch.dtype) -> Tensor:
    """Rows after an encoder, if there is one, which computes in double precision where it can.

    Bounds that lie close together would fall into one in single precision.
    """
    if encoder is None:
        return x.to(dtype)
    return encoder.encode(x.to(torch.float64) if x.device.type != "mps" else x.float()).to(dtype)


def dense_rows(
    X: Any,
    rows: NDArray[np.int64] | slice,
    dtype: torch.dtype,
    device: torch.device,
    memory: Memory | None = None,
) -> Tensor:
    """Rows of an array or CSR matrix as a dense tensor, in the given memory where there is one.

    Row by row, so that results do not depend on how the caller's memory was laid out; and never a
    view of it, which a module might write to.
    """
    memory = Memory() if memory is None else memory
    if sparse.issparse(X):
        taken = torch.from_numpy(_known_to_torch(X[rows].toarray()))
    elif not _is_known(X.dtype):
        taken = torch.from_numpy(np.array(_known_to_torch(X[rows]), order="C"))
    else:
        n = len(range(*rows.indices(len(X)))) if isinstance(rows, slice) else len(rows)
        taken = memory.tensor("rows", (n, *X.shape[1:]), _torch_type(X.dtype))
        if isinstance(rows, slice):
            np.copyto(taken.numpy(), X[rows])
        else:
            np.take(X, rows, axis=0, out=taken.numpy(), mode="clip")
    if device.type == "cpu" and taken.dtype != dtype:
        return memory.tensor("converted", tuple(taken.shape), dtype).copy_(taken)
    return taken.to(device=device, dtype=dtype)


def _is_known(dtype: np.dtype[Any]) -> bool:
    """Whether torch knows numbers of this type."""
    return dtype.isnative and dtype.itemsize <= 8


def _known_to_torch(rows: NDArray[Any]) -> NDArray[Any]:
    if _is_known(rows.dtype):
        return rows
    return rows.astype(rows.dtype.newbyteorder("=") if rows.itemsize <= 8 else np.float64)


@cache
def _torch_type(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
