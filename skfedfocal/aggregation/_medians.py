"""Medians of updates."""

from __future__ import annotations

from numbers import Integral, Real

import torch
from torch import Tensor

from skfedfocal._sklearn import Interval
from skfedfocal.aggregation._aggregator import DOUBTED, Aggregator

_TIE = 1e-9  # share of all weight by which two halves may differ and still be halves


class CoordinateMedian(Aggregator):
    """The median of each coordinate, every client alike; it can halve the recall of rare classes.

    Notes
    -----
    Withstands up to half of the clients. On data whose classes are unevenly spread it discards the
    holders of rare classes as outliers and can halve their recall even without any attacker, as
    ``python -m benchmarks.aggregators`` shows. Needs every single update.

    References
    ----------
    .. [1] D. Yin et al., "Byzantine-robust distributed learning: towards optimal statistical
       rates", ICML 2018.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.aggregation import CoordinateMedian
    >>> CoordinateMedian()(torch.tensor([[0.0], [1.0], [99.0]]), torch.ones(3))
    tensor([1.])
    """

    bad_share = DOUBTED

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        ordered = updates.sort(0).values
        middle = (len(updates) - 1) // 2
        return (ordered[middle] + ordered[len(updates) // 2]) / 2


class GeometricMedian(Aggregator):
    r"""The point of least weighted distance to all updates (robust federated averaging).

    Parameters
    ----------
    n_iterations : int, default=20
        Steps of the smoothed Weiszfeld iteration, at least 1.
    smoothing : float, default=1e-6
        Least distance that counts, above 0, as a share of the median distance: of updates in other
        units the aggregate is the same in those units.

    Notes
    -----
    Withstands bad clients of up to half the weight, and costs rare classes least of all robust
    aggregations. The iteration begins at the median of each coordinate, which attackers cannot move
    far; from the mean, as published, it would take the longer to come back the further away they
    are. Needs every single update.

    References
    ----------
    .. [1] K. Pillutla, S. Kakade, Z. Harchaoui, "Robust aggregation for federated learning", IEEE
       Transactions on Signal Processing 70, 2022.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.aggregation import GeometricMedian
    >>> GeometricMedian()(torch.tensor([[0.0], [1.0], [99.0]]), torch.ones(3)).round(decimals=3)
    tensor([1.])
    """

    bad_share = DOUBTED
    _parameter_constraints = {
        "n_iterations": [Interval(Integral, 1, None, closed="left")],
        "smoothing": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, n_iterations: int = 20, smoothing: float = 1e-6):
        self.n_iterations = n_iterations
        self.smoothing = smoothing

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        points, weights = updates.double(), weights.to(updates.device).double()
        center = weighted_median(points, weights)
        for _ in range(self.n_iterations):
            distance = (points - center).norm(dim=1)
            scale = weighted_median(distance[:, None], weights)
            if scale == 0:  # half of the weight is at this point, which then is the median
                break
            pull = weights * scale / distance.clamp(min=self.smoothing * scale.item())
            center = pull @ points / pull.sum()
        return center.to(updates)


def weighted_median(points: Tensor, weights: Tensor) -> Tensor:
    """Weighted median of each column: half way between two values if need be.

    Parameters
    ----------
    points : Tensor of shape (m, p)
        Values.
    weights : Tensor of shape (m,)
        What each row counts; where nobody has a weight, all count the same.

    Returns
    -------
    median : Tensor of shape (p,)
        As much weight on either side of it, in each column.
    """
    ordered, order = points.sort(0)
    shares = weights if weights.sum() > 0 else torch.ones_like(weights)
    below = shares[order].cumsum(0)
    half = below[-1:] / 2
    tie = _TIE * below[-1:]  # or the units of the weights would decide, by what they round to
    lower = (below < half - tie).sum(0, keepdim=True)
    upper = (below <= half + tie).sum(0, keepdim=True)
    upper = upper.clamp(max=len(points) - 1)
    return (ordered.gather(0, lower) + ordered.gather(0, upper))[0] / 2
