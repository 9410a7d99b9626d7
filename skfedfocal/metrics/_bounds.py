"""Between what areas under curves lie, where only histograms of scores are known.

Within a bin the order of the rows is not known: they may be in the best order or in the worst one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Array = NDArray[np.float64]


class Bounds(NamedTuple):
    """An interval in which a figure lies.

    Attributes
    ----------
    lower, upper : float
        Its ends; NaN where the figure is not defined, or withheld.

    Examples
    --------
    >>> from skfedfocal.metrics import Bounds
    >>> Bounds(0.5, 1.0).middle
    0.75
    """

    lower: float
    upper: float

    @property
    def middle(self) -> float:
        """The middle of the interval, which is at most half its length off."""
        return (self.lower + self.upper) / 2

    def __str__(self) -> str:
        return f"{self.lower:.4f} to {self.upper:.4f}"


def mean_of(bounds: list[Bounds]) -> Bounds:
    """The interval of the mean of several figures."""
    lower, upper = np.mean(bounds, 0).tolist() if bounds else (np.nan, np.nan)
    return Bounds(lower, upper)


def roc_auc_bounds(positives: Array, negatives: Array) -> Bounds:
    """Of the area under the ROC curve.

    Parameters
    ----------
    positives, negatives : ndarray of shape (n_bins,)
        Weight of the rows by bin of their score, from the lowest.
    """
    pairs = positives.sum() * negatives.sum()
    if not pairs > 0:
        return Bounds(np.nan, np.nan)
    below = np.cumsum(negatives) - negatives
    lower = float(positives @ below / pairs)
    return _within(lower, lower + float(positives @ negatives / pairs))


def average_precision_bounds(positives: Array, negatives: Array, *, alike: bool) -> Bounds:
    """Of average precision, the sum of precisions times steps of recall.

    The best a bin can be is all its positives at one score and above its negatives; the worst is
    its negatives first, and then one positive after the other.

    Parameters
    ----------
    positives, negatives : ndarray of shape (n_bins,)
        Weight of the rows by bin of their score, from the lowest.
    alike : bool
        Whether every row weighs 1. Otherwise a bin may be many rows of next to no weight, whose sum
        is an integral in the worst case.
    """
    total = positives.sum()
    if not (total > 0 and np.isfinite(negatives).all()):
        return Bounds(np.nan, np.nan)
    there = positives > 0
    hits = (np.cumsum(positives[::-1])[::-1])[there]
    false = (np.cumsum(negatives[::-1])[::-1])[there]
    own, other = positives[there], negatives[there]
    best = own * hits / (hits + false - other)
    first = hits - own
    if alike:  # sum over i = 1 ... own of (first + i) / (first + i + false)
        worst = own - false * (digamma(hits + false + 1) - digamma(first + false + 1))
    else:
        ratio = np.divide(hits + false, first + false, out=np.ones_like(own), where=false > 0)
        worst = own - false * np.log(ratio)
    return _within(float(worst.sum() / total), float(best.sum() / total))


def _within(lower: Any, upper: Any) -> Bounds:
    """Ends in [0, 1], moved apart by what sums in doubles may be off."""
    slack = 1e-12
    return Bounds(max(0.0, lower - slack), min(1.0, upper + slack))
