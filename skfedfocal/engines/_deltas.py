"""The updates of several clients, stored as they came about; written out only where asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PIECE = 1 << 14  # values that are summed in the type of the updates


class Deltas(ABC):
    """Local model minus global model, for m clients and p parameters."""

    @abstractmethod
    def add_to(self, total: Tensor, weights: NDArray[np.float64]) -> None:
        """Add the sum over clients, with weights of shape (m,), to a total of shape (p,)."""

    @abstractmethod
    def finite(self) -> NDArray[np.bool_]:
        """Which updates are finite throughout, of shape (m,)."""

    @abstractmethod
    def norms(self) -> NDArray[np.float64]:
        """Euclidean norm of each update, of shape (m,), summed in double precision."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """The updates written out, of shape (m, p)."""


class DenseDeltas(Deltas):
    """Updates as one matrix of shape (m, p)."""

    def __init__(self, matrix: Tensor):
        self._matrix = matrix

    def add_to(self, total: Tensor, weights: NDArray[np.float64]) -> None:
        # Not a product of matrices: sums come out the same however clients arrive in blocks.
        for row, weight in zip(self._matrix, weights, strict=True):
            total += float(weight) * row.double()

    def finite(self) -> NDArray[np.bool_]:
        return torch.isfinite(self._matrix).all(1).cpu().numpy()

    def norms(self) -> NDArray[np.float64]:
        return norm_of_rows(self._matrix).cpu().numpy()

    def matrix(self) -> Tensor:
        return self._matrix


class StackedDeltas(Deltas):
    """Local models stacked by parameter, each (m, *shape), beside the start, each (*shape)."""

    def __init__(self, stacks: list[Tensor], start: list[Tensor]):
        self._stacks = [s.flatten(1) for s in stacks]
        self._start = [s.reshape(-1) for s in start]

    def add_to(self, total: Tensor, weights: NDArray[np.float64]) -> None:
        share, whole = torch.as_tensor(weights).to(self._stacks[0]), float(np.sum(weights))
        places = total.split([len(p) for p in self._start])
        for place, s, p in zip(places, self._stacks, self._start, strict=True):
            place += (share @ s).sub_(p, alpha=whole)

    def finite(self) -> NDArray[np.bool_]:
        # A sum is finite only if all its terms are, and reads each of them once.
        sums = torch.stack([s.sum(1) for s in self._stacks]).sum(0)
        return torch.isfinite(sums).cpu().numpy()

    def norms(self) -> NDArray[np.float64]:
        parts = [norm_of_rows(s - p) for s, p in zip(self._stacks, self._start, strict=True)]
        return torch.stack(parts).norm(dim=0).cpu().numpy()

    def matrix(self) -> Tensor:
        return torch.cat([s - p for s, p in zip(self._stacks, self._start, strict=True)], dim=1)


def norm_of_rows(rows: Tensor) -> Tensor:
    """Euclidean norm of each row of a matrix; pieces of it are summed in double precision."""
    if rows.dtype == torch.float16:  # whose squares soon overflow
        rows = rows.float()
    # Not torch's own norm, whose sum in single precision loses half of its digits.
    pieces = [torch.linalg.vecdot(part, part) for part in rows.split(_PIECE, dim=1)]
    return torch.stack(pieces).double().sum(0).sqrt()
