"""The question what a model's predictions come to, from whose sums all figures are computed."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from skfedfocal._data.queries import Query
from skfedfocal._disclosure import PREDICTIONS

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

_REACH = 17.0  # log-odds of the outermost thresholds: beyond, single precision tells 1 no more
_N_HEAD = 3  # sums before the confusion matrix
WITHHELD = -1.0  # in the place of a number of rows


def thresholds(n_bins: int) -> Array:
    """The lower end of each bin of probabilities, of shape (n_bins,); the first is 0.

    They are equidistant in log-odds, as probabilities of rare classes crowd near 0 and 1, and are
    numbers of single precision, so that it makes no difference in which one compares with them.
    """
    ends = expit(np.linspace(-_REACH, _REACH, n_bins - 1)).astype(np.float32)
    return np.append(0.0, ends.astype(np.float64))


class PredictionSums(Query):
    """Sums over rows of each class: how many, what was predicted, with what loss and what scores.

    The answer, of shape (n_classes, 3 + n_classes * (1 + n_bins)), has by true class: the number of
    rows; the sum of squares of how far their weights are from 1; the weighted sum of minus the
    logarithm of the class's probability; the weight of the rows by predicted class; and for each
    class in turn the histogram of its probability.

    Parameters
    ----------
    n_classes : int
        At least 2.
    n_bins : int
        At least 2.
    min_rows : int or None, default=None
        None is for sums. A number is for a client's own figures: those of a class of which it has
        fewer rows, and not none, are withheld.
    """

    discloses = frozenset({PREDICTIONS})

    def __init__(self, n_classes: int, n_bins: int, min_rows: int | None = None):
        self.n_classes = n_classes
        self.n_bins = n_bins
        self.min_rows = min_rows

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is about what a model says of rows.")

    def of(self, decided: Codes, probability: Array, y: Codes, weight: Array | None) -> Array:
        """The answer of one client.

        Parameters
        ----------
        decided, y : ndarray of shape (n_rows,)
            Numbers of the predicted and of the true classes.
        probability : ndarray of shape (n_rows, n_classes)
            Of each class.
        weight : ndarray of shape (n_rows,) or None
            Of the rows.
        """
        n, bins = self.n_classes, self.n_bins
        if probability.shape != (len(y), n) or not np.isfinite(probability).all():
            raise ValueError("The model does not give a probability of each class for all rows.")
        probability = probability.astype(np.float64)
        weight = np.ones(len(y)) if weight is None else weight
        eps = np.finfo(np.float64).eps  # as scikit-learn's log_loss
        own = np.clip(probability[np.arange(len(y)), y], eps, 1 - eps)
        sums = [
            np.bincount(y, minlength=n),
            np.bincount(y, (weight - 1) ** 2, n),
            np.bincount(y, -weight * np.log(own), n),
            np.bincount(y * n + decided, weight, n * n).reshape(n, n),
        ]
        ends = thresholds(bins)
        for k in range(n):
            place = np.searchsorted(ends[1:], probability[:, k], side="right")
            sums.append(np.bincount(y * bins + place, weight, n * bins).reshape(n, bins))
        table = np.column_stack(sums).astype(np.float64)
        return table if self.min_rows is None else withheld(table, self.min_rows)


def withheld(table: Array, min_rows: int) -> Array:
    """The same without classes of few rows, of which it is said that they are withheld."""
    few = (table[:, 0] > 0) & (table[:, 0] < min_rows)
    table = np.where(few[:, None], 0.0, table)
    table[few, 0] = WITHHELD
    return table


def parts_of(table: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Rows, spread of weights, losses, confusion matrix and histograms; NaN where withheld.

    Histograms are of shape (n_classes, n_classes, n_bins): true class, whose probability, bin.
    """
    n = len(table)
    table = np.where(table[:, :1] == WITHHELD, np.nan, table)
    rows, spread, losses = table[:, :_N_HEAD].T
    confusion = table[:, _N_HEAD : _N_HEAD + n]
    return rows, spread, losses, confusion, table[:, _N_HEAD + n :].reshape(n, n, -1)


def check_bins(n_bins: int) -> None:
    """Raise ValueError where a histogram of so many bins says nothing."""
    if n_bins < 2:
        raise ValueError(f"n_bins must be at least 2; got {n_bins!r}.")
