"""Means of a few clients each, before a robust rule."""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from skfedfocal._sklearn import Interval
from skfedfocal.aggregation._aggregator import Aggregator
from skfedfocal.aggregation._medians import GeometricMedian


class Bucketing(Aggregator):
    r"""Another aggregation of the means of buckets: random groups of a few clients each.

    Clients whose classes differ send updates that differ, and a robust rule takes the holders of
    rare classes for attackers. The mean of ``size`` clients differs less from that of others, by
    :math:`1 / \sqrt{\text{size}}`; but one bad client spoils its whole bucket.

    Parameters
    ----------
    aggregator : Aggregator or None, default=None
        What combines the buckets; None is `GeometricMedian`. It has to withstand `size` times the
        share of bad clients: ``Bucketing(TrimmedMean(0.4))`` for 20 % of them.
    size : int, default=2
        Clients in a bucket, at least 1; the last may have fewer. With 1 it is the aggregator alone.

    Notes
    -----
    A bucket's update is the mean of its clients', weighted as they weigh, and it weighs as much as
    they together. Groups are taken in the order of the rows given: in a training that order is
    drawn anew in each round, from seed and round alone, so that clients cannot choose their group
    and trainings can be repeated. Needs every single update.

    References
    ----------
    .. [1] S. P. Karimireddy, L. He, M. Jaggi, "Byzantine-robust learning on heterogeneous datasets
       via bucketing", ICLR 2022.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.aggregation import Bucketing, CoordinateMedian
    >>> updates = torch.tensor([[0.0], [2.0], [3.0], [5.0], [4.0], [99.0]])
    >>> Bucketing(CoordinateMedian(), size=2)(updates, torch.ones(6))
    tensor([4.])
    """

    _parameter_constraints = {
        "aggregator": [Aggregator, None],
        "size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, aggregator: Aggregator | None = None, size: int = 2):
        self.aggregator = aggregator
        self.size = size

    @property
    def bad_share(self) -> float:  # type: ignore[override]
        """Share of the clients that may lie: of the buckets it is `size` times as many."""
        inside = GeometricMedian() if self.aggregator is None else self.aggregator
        return inside.bad_share / self.size

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        bucket = torch.arange(len(updates), device=updates.device) // self.size
        n_buckets = -(-len(updates) // self.size)
        weights = weights.to(updates.device)
        total = weights.new_zeros(n_buckets).index_add_(0, bucket, weights)
        # A bucket of weightless clients has the plain mean of them, which then weighs nothing.
        share = torch.where(
            total[bucket] > 0, weights / total[bucket], 1 / bucket.bincount()[bucket]
        )
        means = updates.new_zeros(n_buckets, updates.shape[1])
        means.index_add_(0, bucket, share.to(updates)[:, None] * updates)
        aggregator = GeometricMedian() if self.aggregator is None else self.aggregator
        return aggregator(means, total)
