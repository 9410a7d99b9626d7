"""The updates that others lie near to."""

from __future__ import annotations

from numbers import Integral, Real

import torch
from torch import Tensor

from skfedfocal._sklearn import Interval
from skfedfocal.aggregation._aggregator import Aggregator, rounded_up


class Krum(Aggregator):
    """The mean of the updates nearest to others (Krum, multi-Krum); it loses rare classes first.

    Parameters
    ----------
    bad_share : float, default=0.2
        Share of bad clients to withstand, in [0, 0.5); their number f is rounded up.
    n_keep : int or None, default=None
        Updates averaged; None keeps all but the bad share (multi-Krum), 1 is the original Krum.

    Notes
    -----
    An update's score is the sum of squared distances to its m - f - 2 nearest others. Those of
    holders of rare classes are the worst among the honest; the original Krum throws away all but
    one. What it promises needs ``m >= 2 f + 3`` clients. Time is O(m² p) and memory O(m p + m²).
    Needs every single update.

    References
    ----------
    .. [1] P. Blanchard et al., "Machine learning with adversaries: Byzantine tolerant gradient
       descent", NeurIPS 2017.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.aggregation import Krum
    >>> Krum(0.25)(torch.tensor([[0.0], [1.0], [2.0], [99.0]]), torch.ones(4))
    tensor([1.])
    """

    _parameter_constraints = {
        "bad_share": [Interval(Real, 0, 0.5, closed="left")],
        "n_keep": [Interval(Integral, 1, None, closed="left"), None],
    }

    def __init__(self, bad_share: float = 0.2, n_keep: int | None = None):
        self.bad_share = bad_share
        self.n_keep = n_keep

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        m = len(updates)
        n_bad = rounded_up(self.bad_share, m)
        n_near = max(1, m - n_bad - 2)
        points = updates.double()
        # By differences: the usual |x|^2 + |y|^2 - 2xy loses all digits on updates that are close.
        distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        scores = distance.square().sort(1).values[:, 1 : n_near + 1].sum(1)
        n_keep = m - n_bad if self.n_keep is None else min(self.n_keep, m)
        kept = scores.argsort()[:n_keep]
        share = weights.to(updates)[kept]
        return share @ updates[kept] / share.sum()
