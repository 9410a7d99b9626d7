"""Label counts of clients of whom some may lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skfedfocal.aggregation._aggregator import rounded_up


def believed_counts(counts: NDArray[np.float64], bad_share: float) -> NDArray[np.float64]:
    """Label counts summed over clients, of whom some may lie.

    Of each class the largest counts are left out, as many as there may be bad clients: the sum is
    then at most that of all honest ones. So nobody can make a rare class look frequent, which would
    take its weight from it. Where no more clients than these have a class, it has the median of
    their counts, since nobody can tell.

    Parameters
    ----------
    counts : ndarray of shape (m, n_classes)
        Of each client.
    bad_share : float
        Share of the clients that may be bad, in [0, 0.5); their number is rounded up.

    Returns
    -------
    total : ndarray of shape (n_classes,)
        Above 0 for each class that somebody has.
    """
    m = len(counts)
    ordered = np.sort(counts, axis=0)
    n_without = (counts <= 0).sum(0)
    middle = np.minimum((n_without + m - 1) // 2, m - 1)
    median = np.take_along_axis(ordered, middle[None], 0)[0]
    total = ordered[: m - rounded_up(bad_share, m)].sum(0)
    return np.where(total > 0, total, median)
