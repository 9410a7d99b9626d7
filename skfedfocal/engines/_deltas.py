"""The updates of several clients, stored as they came about; written out only where asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Deltas(ABC):
    """Local model minus global model, for m clients and p parameters."""

    @abstractmethod
    def weighted_sum(self, weights: NDArray[np.float64]) -> Tensor:
        """Sum over clients with weights of shape (m,); in double precision, of shape (p,)."""

    @abstractmethod
    def finite(self) -> NDArray[np.bool_]:
        """Which updates are finite throughout, of shape (m,)."""

    @abstractmethod
    def matrix(self) -> Tensor:
        """The updates written out, of shape (m, p)."""


class DenseDeltas(Deltas):
    """Updates as one matrix of shape (m, p)."""

    def __init__(self, matrix: Tensor):
        self._matrix = matrix

    def weighted_sum(self, weights: NDArray[np.float64]) -> Tensor:
        # Not a product of matrices: sums come out the same however clients arrive in blocks.
        total = torch.zeros(self._matrix.shape[1], dtype=torch.float64, device=self._matrix.device)
        for row, weight in zip(self._matrix, weights, strict=True):
            total += float(weight) * row.double()
        return total

    def finite(self) -> NDArray[np.bool_]:
        return torch.isfinite(self._matrix).all(1).cpu().numpy()

    def matrix(self) -> Tensor:
        return self._matrix


class StackedDeltas(Deltas):
    """Local models stacked by parameter, each (m, *shape), beside the start, each (*shape)."""

    def __init__(self, stacks: list[Tensor], start: list[Tensor]):
        self._stacks = [s.flatten(1) for s in stacks]
        self._start = [s.reshape(-1) for s in start]

    def weighted_sum(self, weights: NDArray[np.float64]) -> Tensor:
        share = torch.as_tensor(weights).to(self._stacks[0])
        total = float(np.sum(weights))
        return torch.cat(
            [
                (share @ s).sub_(p, alpha=total).double()
                for s, p in zip(self._stacks, self._start, strict=True)
            ]
        )

    def finite(self) -> NDArray[np.bool_]:
        # A sum is finite only if all its terms are, and reads each of them once.
        sums = torch.stack([s.sum(1) for s in self._stacks]).sum(0)
        return torch.isfinite(sums).cpu().numpy()

    def matrix(self) -> Tensor:
        return torch.cat([s - p for s, p in zip(self._stacks, self._start, strict=True)], dim=1)
