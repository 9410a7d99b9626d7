"""Means and variances of columns, by client and merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Moments:
    """Number of rows (sum of weights), and by column mean and sum of squared deviations."""

    n: float
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @property
    def variance(self) -> NDArray[np.float64]:
        return self.squares / self.n


def moments(X: NDArray[Any], sample_weight: NDArray[np.float64] | None = None) -> Moments:
    """Of rows of shape (n_samples, n_features), in two passes."""
    X = np.asarray(X, np.float64)
    weight = np.ones(len(X)) if sample_weight is None else sample_weight
    n = float(weight.sum())
    if n == 0:
        return Moments(0.0, *np.zeros((2, X.shape[1])))
    mean = weight @ X / n
    from_mean = X - mean
    # The second term is what rounding left of a sum that is 0.
    squares = weight @ from_mean**2 - (weight @ from_mean) ** 2 / n
    return Moments(n, mean, np.maximum(squares, 0))


def merge(parts: Sequence[Moments]) -> Moments:
    """Of all rows together, in the order given."""
    total = parts[0]
    for part in parts[1:]:
        n = total.n + part.n
        if n == 0:
            continue
        apart = part.mean - total.mean
        mean = total.mean + apart * (part.n / n)
        squares = total.squares + part.squares + apart**2 * (total.n * part.n / n)
        total = Moments(n, mean, squares)
    return total


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
