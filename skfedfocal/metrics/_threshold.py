"""The threshold of a probability with which a class has a given recall, from histograms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from skfedfocal.metrics._sums import Array, thresholds


class Threshold(NamedTuple):
    """A threshold of a probability, and what it does on the rows that it was chosen on.

    Attributes
    ----------
    threshold : float
        Rows of at least this probability are taken for the class.
    recall, precision : float
        Of the class.
    flagged : float
        Share of all rows that are taken for it.

    Examples
    --------
    >>> from skfedfocal.metrics import Threshold
    >>> Threshold(0.25, recall=0.9, precision=0.5, flagged=0.18).threshold
    0.25
    """

    threshold: float
    recall: float
    precision: float
    flagged: float


def highest(positives: Array, negatives: Array, recall: float) -> Threshold:
    """The highest end of a bin with that recall at least.

    Parameters
    ----------
    positives, negatives : ndarray of shape (n_bins,)
        Weight of the rows by bin of their score, from the lowest.
    recall : float
        Above 0, at most 1.
    """
    hits, false = (np.cumsum(one[::-1])[::-1] for one in (positives, negatives))
    if not (hits[0] > 0 and np.isfinite(false[0])):
        raise ValueError("The class has no rows, or figures are withheld.")
    b = int(np.flatnonzero(hits >= recall * hits[0] * (1 - 1e-12))[-1])
    taken = float(hits[b] + false[b])
    return Threshold(
        float(thresholds(len(hits))[b]),
        float(hits[b] / hits[0]),
        float(hits[b] / taken),
        taken / float(hits[0] + false[0]),
    )
