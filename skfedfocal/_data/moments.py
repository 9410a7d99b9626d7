"""Means and variances of columns over all clients, from sums."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.queries import ColumnDeviations, ColumnSums, Query


@dataclass(frozen=True)
class Moments:
    """By column number of values (sum of their weights), mean and sum of squared deviations."""

    n: NDArray[np.float64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @property
    def variance(self) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):  # of a column without values: NaN
            return self.squares / self.n

    @property
    def n_samples_seen(self) -> int | float | NDArray[Any]:
        """As scikit-learn has it: one number where all columns agree, whole where it can be."""
        n = self.n.astype(np.int64) if (self.n == np.floor(self.n)).all() else self.n
        return n[0].item() if (n == n[0]).all() else n

    def merge(self, other: Moments) -> Moments:
        """Of the rows of both together."""
        n = self.n + other.n
        one, two = (np.where(part.n > 0, part.mean, 0) for part in (self, other))
        with np.errstate(invalid="ignore"):
            share = other.n / n
        mean = one + (two - one) * share
        between = (two - one) ** 2 * self.n * share
        squares = (np.where(part.n > 0, part.squares, 0) for part in (self, other))
        return Moments(n, mean, sum(squares) + between)


def column_moments() -> Generator[Query, NDArray[np.float64], Moments]:
    """Of the rows of all clients, from sums: first the means, then deviations from them.

    Sums of squares would lose the variance of columns that lie far from 0.
    """
    n, sums = yield ColumnSums()
    with np.errstate(invalid="ignore"):
        center = sums / n
    first, second = yield ColumnDeviations(np.where(n > 0, center, 0))
    with np.errstate(invalid="ignore"):
        # The first sum is what rounding left of one that is 0.
        return Moments(n, center + first / n, np.maximum(second - first**2 / n, 0))


def standard_scale(total: Moments) -> NDArray[np.float64]:
    """Standard deviations; 1 for columns that are constant up to rounding.

    The rule is scikit-learn's: a variance below the error bound of its own computation is 0.
    """
    eps = np.finfo(np.float64).eps
    variance = total.variance
    constant = variance <= total.n * eps * variance + (total.n * total.mean * eps) ** 2
    scale = np.sqrt(variance)
    scale[constant] = 1.0
    return scale


def scaled(
    X: NDArray[Any], mean: NDArray[np.float64] | None, scale: NDArray[np.float64] | None
) -> NDArray[Any]:
    """Centred and scaled copy of X, in single precision where X is, else double."""
    X = np.array(X, X.dtype if X.dtype in (np.float32, np.float64) else np.float64)
    if mean is not None:
        X -= mean.astype(X.dtype)
    if scale is not None:
        X /= scale.astype(X.dtype)
    return X
