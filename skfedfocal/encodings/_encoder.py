"""Rows as the first layer takes them: fitted, and the same in training, at sites and in files."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._component import Component

Array = NDArray[np.float64]
_ARRAYS = ("mean", "scale", "column", "low", "width")


class RowEncoder(Component):
    """Standardised columns, and behind them how far into each of some bins a column's value is.

    Parameters
    ----------
    mean, scale : ndarray of shape (n_features,)
        What is subtracted from a column, and what it is then divided by.
    bound : float or None
        What standardised columns approach but do not reach, as ``z / sqrt(1 + (z / bound) ** 2)``;
        None for no bound.
    column : int64 ndarray of shape (n_bins,)
        Which column each bin is of.
    low, width : ndarray of shape (n_bins,)
        Where a bin begins, and how far it goes, above 0.
    height : float
        What a value at a bin's end or beyond it becomes; one before it becomes 0.
    """

    def __init__(
        self,
        mean: Array,
        scale: Array,
        bound: float | None,
        column: NDArray[np.int64],
        low: Array,
        width: Array,
        height: float,
    ):
        self.mean = mean
        self.scale = scale
        self.bound = bound
        self.column = column
        self.low = low
        self.width = width
        self.height = height

    @property
    def n_outputs(self) -> int:
        """Numbers that a row becomes."""
        return len(self.mean) + len(self.column)

    def encode(self, x: Tensor) -> Tensor:
        """Rows (n, n_features) of floats as (n, n_outputs), in their type."""
        arrays = {name: torch.as_tensor(getattr(self, name)) for name in _ARRAYS}
        return _encode(x, self.bound, self.height, **arrays)


def _encode(
    x: Tensor,
    bound: float | None,
    height: float,
    *,
    mean: Tensor,
    scale: Tensor,
    column: Tensor,
    low: Tensor,
    width: Tensor,
) -> Tensor:
    z = (x - mean.to(x)) / scale.to(x)
    if bound is not None:
        z = z / torch.sqrt(1 + (z / bound) ** 2)
    if not len(column):
        return z
    into = (x.index_select(1, column.to(x.device)) - low.to(x)) / width.to(x)
    return torch.cat([z, height * into.clamp(0, 1)], 1)


class EncodedModule(nn.Module):
    """A module behind an encoder, so that it takes rows as they were given.

    Parameters
    ----------
    encoder : RowEncoder
        What comes first; it has no parameters to train.
    module : torch.nn.Module
        What takes its numbers.
    """

    def __init__(self, encoder: RowEncoder, module: nn.Module):
        super().__init__()
        self.module = module
        self.bound, self.height = encoder.bound, encoder.height
        for name in _ARRAYS:
            self.register_buffer(name, torch.as_tensor(getattr(encoder, name)))

    def forward(self, rows: Tensor) -> Tensor:
        """Logits of rows (n, n_features)."""
        arrays = {name: self.get_buffer(name) for name in _ARRAYS}
        numbers = rows if rows.is_floating_point() else rows.to(arrays["mean"].dtype)
        x = _encode(numbers, self.bound, self.height, **arrays)
        return self.module(x.to(next(self.module.parameters()).dtype))
