"""Quantiles of columns over all clients, from counts below thresholds, exact to the last bit.

Doubles in the order of their values are whole numbers in the order of their bits. So the search for
the k-th smallest value of a column is one among whole numbers below 2 ** 64: each question splits
what is left into 256 parts, and after eight there is one number. Of the many that cut columns into
bins an answer would be large, so that each question may split into fewer parts, and there are more.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skfedfocal._data.queries import Query
from skfedfocal._disclosure import COUNTS_BELOW

Array = NDArray[np.float64]

_PARTS = 256
_FEWEST_PARTS = 16
_ANSWER_VALUES = 1 << 17  # of a question that splits into more than the fewest parts
_SIGN = np.uint64(1 << 63)
_LARGEST = np.finfo(np.float64).max


class CountsBelow(Query):
    """Rows of which a column's value is at most a threshold: (n_thresholds, n_ranks, n_features).

    NaN is no value, and rows count alike, whatever their weight.

    Parameters
    ----------
    thresholds : ndarray of shape (n_thresholds, n_ranks, n_features) or (n_thresholds, n_ranks, 1)
        Finite values.
    """

    discloses = frozenset({COUNTS_BELOW})

    def __init__(self, thresholds: Array):
        self.thresholds = thresholds

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        X = X.tocsc() if sparse.issparse(X) else np.asarray(X)
        shape = (*self.thresholds.shape[:-1], X.shape[1])
        thresholds, counts = np.broadcast_to(self.thresholds, shape), np.empty(shape)
        for j in range(X.shape[1]):
            values = X[:, [j]].toarray()[:, 0] if sparse.issparse(X) else X[:, j]
            values = np.sort(values.astype(np.float64))  # NaN comes last
            values = values[: len(values) - np.isnan(values).sum()]
            counts[..., j] = np.searchsorted(values, thresholds[..., j], side="right")
        return counts


def column_quantiles(
    shares: Sequence[float] | Array, are_many: bool = False
) -> Generator[Query, Array, Array]:
    """Of shape (n_shares, n_features); between two values as numpy has it by default ("linear").

    Columns without a value have NaN. Of many shares each question splits into fewer parts.
    """
    everything: Array = yield CountsBelow(np.full((1, 1, 1), _LARGEST))
    n = everything[0, 0]
    place = np.asarray(shares)[:, None] * np.maximum(n - 1, 0)
    below = np.floor(place)
    ranks = np.concatenate([below, np.minimum(below + 1, np.maximum(n - 1, 0))]) + 1
    n_parts = _FEWEST_PARTS if are_many else _PARTS  # fewer numbers in all, in more questions
    low, high = np.split((yield from _order_statistics(ranks, n_parts)), 2)
    share = place - below
    # From the nearer end, as numpy does.
    between = np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1 - share))
    return np.where(n > 0, between, np.nan)


def column_cuts(n_bins: int) -> Generator[Query, Array, Array]:
    """Of shape (n_bins + 1, n_features): values of rows that cut them into bins of like numbers.

    The first is a column's least value and the last its greatest; where values are equal, so are
    cuts. Columns without a value have NaN.
    """
    everything: Array = yield CountsBelow(np.full((1, 1, 1), _LARGEST))
    n = everything[0, 0]
    # In whole numbers: a share times a number of rows may be a little less than the number it is.
    last = np.maximum(np.rint(n).astype(np.int64) - 1, 0)
    ranks = np.arange(n_bins + 1)[:, None] * last // n_bins + 1
    n_parts = min(_PARTS, max(_FEWEST_PARTS, _ANSWER_VALUES // ranks.size))
    found = yield from _order_statistics(ranks.astype(np.float64), n_parts)
    return np.where(n > 0, found, np.nan)


def _order_statistics(ranks: Array, n_parts: int = _PARTS) -> Generator[Query, Array, Array]:
    """The values of these ranks, from 1 on, in each column: (n_ranks, n_features)."""
    low = np.full(ranks.shape, _key(np.array(-_LARGEST)))
    high = np.full(ranks.shape, _key(np.array(_LARGEST)))
    parts = np.arange(1, n_parts, dtype=np.uint64)[:, None, None]
    while (low < high).any():
        step = (high - low) // np.uint64(n_parts) + np.uint64(1)
        ends = np.minimum(low + parts * step - np.uint64(1), high)
        counts = yield CountsBelow(_value(ends))
        part = (counts < ranks).sum(0).astype(np.uint64)  # the first that reaches the rank
        low = np.minimum(low + part * step, high)
        high = np.minimum(low + step - np.uint64(1), high)
    return _value(low) + 0.0  # 0 for -0


def _key(values: Array) -> NDArray[np.uint64]:
    """Whole numbers in the order of the values."""
    bits = np.ascontiguousarray(values, np.float64).view(np.uint64)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _value(keys: NDArray[np.uint64]) -> Array:
    """The values of these keys."""
    return np.where(keys & _SIGN, keys & ~_SIGN, ~keys).view(np.float64)
