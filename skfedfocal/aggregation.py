"""Aggregators: many clients' updates, an (m, p) matrix, into one, (p,)."""

from __future__ import annotations

from numbers import Integral, Real
from typing import ClassVar

import torch
from torch import Tensor

from skfedfocal._component import Component
from skfedfocal._disclosure import SINGLE_UPDATES
from skfedfocal._focus import Focus
from skfedfocal._sklearn import Interval


class Aggregator(Component):
    """Combines the updates of a cohort, each with the weight that its client gives itself.

    Attributes
    ----------
    linear : bool
        Whether the aggregate is a weighted mean, which is added up reply by reply as updates
        come, so that memory is bounded by the block and not by the cohort, and which a secure sum
        can make.
    focus : Focus or None
        How clients may count more that do poorly, where the estimator's ``client_gamma`` asks for
        it; None where this aggregation cannot have that.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.aggregation import Aggregator
    >>> class Largest(Aggregator):
    ...     def __call__(self, updates, weights):
    ...         return updates[weights.argmax()]
    >>> Largest()(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 1.0]))
    tensor([1.])
    """

    linear: ClassVar[bool] = False

    @property
    def focus(self) -> Focus | None:
        """How clients may focus; None where they cannot."""
        return None

    @property
    def discloses(self) -> frozenset[str]:
        """What this tells the server beyond what any training does."""
        return frozenset() if self.linear else frozenset({SINGLE_UPDATES})

    def divide(self, total: Tensor, weight: float) -> Tensor:
        """The aggregate from a weighted sum of updates, of shape (p,), and the sum of weights."""
        return total / (weight or 1.0)  # 0 where the whole cohort has weightless rows alone

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        """Combine updates of shape (m, p) with weights of shape (m,) into one of shape (p,)."""
        raise NotImplementedError


class WeightedMean(Aggregator):
    r"""The mean of updates, weighted by the clients' rows: FedAvg's aggregate, and Fed-Focal's.

    Client k weighs :math:`n_k`, the sum of the weights of its rows; with ``client_gamma`` of the
    estimator above 0 it weighs :math:`n_k \max(1 - \tilde r_k, \mathrm{floor})^{\gamma_c}`, where
    :math:`\tilde r_k = (n_k r_k + s/2) / (n_k + s)` is its smoothed recall: the share of its rows
    that the global model gets right, each row weighed as the class weights weigh its class, or
    without class weights so that the classes of a client weigh alike. So clients on which the model
    does poorly, on their rare classes above all, contribute more. With balanced class weights the
    mean of these recalls over clients, by the weight of their rows, is the balanced accuracy on all
    rows.

    Parameters
    ----------
    smoothing : float, default=20.0
        Rows s of recall one half that are added to each client's own. Only with client focusing.
    floor : float, default=0.1
        Least ``1 - recall`` that counts, in (0, 1]. Only with client focusing.

    Notes
    -----
    Each client computes its own weight; the server sees the weight, from which, as it knows the
    number of rows, it can tell with client focusing the client's recall. An update with a
    non-finite value is left out before any aggregator sees it. Fed-Focal [2]_ states no formula for
    its sampling; this one is ours.

    References
    ----------
    .. [1] B. McMahan et al., "Communication-efficient learning of deep networks from decentralized
       data", AISTATS 2017, Algorithm 1.
    .. [2] D. Sarkar, A. Narang, S. Rai, "Fed-Focal loss for imbalanced data classification in
       federated learning", FL-IJCAI 2020, arXiv:2011.06283.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.aggregation import WeightedMean
    >>> WeightedMean()(torch.tensor([[0.0], [4.0]]), torch.tensor([3.0, 1.0]))
    tensor([1.])
    """

    linear = True

    _parameter_constraints = {
        "smoothing": [Interval(Real, 0, None, closed="left")],
        "floor": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(self, smoothing: float = 20.0, floor: float = 0.1):
        self.smoothing = smoothing
        self.floor = floor

    @property
    def focus(self) -> Focus:
        """How clients may focus."""
        return Focus(1.0, self.smoothing, self.floor)

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        return (weights / weights.sum()).to(updates) @ updates


class CoordinateMedian(Aggregator):
    """The median of each coordinate, every client counting the same.

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

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        ordered = updates.sort(0).values
        middle = (len(updates) - 1) // 2
        return (ordered[middle] + ordered[len(updates) // 2]) / 2


class TrimmedMean(Aggregator):
    """The weighted mean of each coordinate without its smallest and largest values.

    Parameters
    ----------
    trim : float, default=0.1
        Share of the clients left out at either end of each coordinate, in [0, 0.5); 0 is the
        `WeightedMean`.

    Notes
    -----
    Withstands that share of bad clients. Trims holders of rare classes too, though it costs their
    recall less than the median does. Needs every single update.

    References
    ----------
    .. [1] D. Yin et al., "Byzantine-robust distributed learning: towards optimal statistical
       rates", ICML 2018.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.aggregation import TrimmedMean
    >>> TrimmedMean(0.25)(torch.tensor([[0.0], [1.0], [2.0], [99.0]]), torch.ones(4))
    tensor([1.5000])
    """

    _parameter_constraints = {"trim": [Interval(Real, 0, 0.5, closed="left")]}

    def __init__(self, trim: float = 0.1):
        self.trim = trim

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        n_cut = int(self.trim * len(updates))
        ordered, order = updates.sort(0)
        kept = slice(n_cut, len(updates) - n_cut)
        share = weights.to(updates)[order[kept]]
        return (share * ordered[kept]).sum(0) / share.sum(0)


class GeometricMedian(Aggregator):
    r"""The point of least weighted distance to all updates (robust federated averaging).

    Parameters
    ----------
    n_iterations : int, default=20
        Steps of the smoothed Weiszfeld iteration, at least 1.
    smoothing : float, default=1e-6
        Least distance that counts, above 0.

    Notes
    -----
    Withstands bad clients of up to half the weight, and costs rare classes least of all robust
    aggregations. Needs every single update.

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

    _parameter_constraints = {
        "n_iterations": [Interval(Integral, 1, None, closed="left")],
        "smoothing": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, n_iterations: int = 20, smoothing: float = 1e-6):
        self.n_iterations = n_iterations
        self.smoothing = smoothing

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        points, weights = updates.double(), weights.double()
        center = weights @ points / weights.sum()
        for _ in range(self.n_iterations):
            pull = weights / (points - center).norm(dim=1).clamp(min=self.smoothing)
            center = pull @ points / pull.sum()
        return center.to(updates)


class Krum(Aggregator):
    """The weighted mean of the updates that lie nearest to their neighbours (multi-Krum).

    Parameters
    ----------
    bad_share : float, default=0.2
        Share of bad clients to withstand, in [0, 0.5).
    n_keep : int or None, default=None
        Updates averaged; None keeps all but the bad share (multi-Krum), 1 is the original Krum.

    Notes
    -----
    An update's score is the sum of squared distances to its m - f - 2 nearest others. The original
    Krum throws away all others, the holders of rare classes first. Needs every single update.

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
        n_bad = int(self.bad_share * m)
        n_near = max(1, m - n_bad - 2)
        # By differences: the usual |x|^2 + |y|^2 - 2xy loses all digits on updates that are close.
        square = torch.stack([(updates - u).double().square().sum(1) for u in updates])
        scores = square.sort(1).values[:, 1 : n_near + 1].sum(1)
        n_keep = m - n_bad if self.n_keep is None else min(self.n_keep, m)
        kept = scores.argsort()[:n_keep]
        share = weights.to(updates)[kept]
        return share @ updates[kept] / share.sum()


class ClippedMean(Aggregator):
    """The weighted mean of updates clipped to a multiple of the cohort's median norm.

    Parameters
    ----------
    factor : float, default=3.0
        Norms above this many times the median of the cohort are scaled down to it; above 0.

    Notes
    -----
    Withstands scaled and noisy updates at little cost, but also shortens the honestly longer
    updates of clients with many more rows than others, so it is not the default. Needs every single
    update.

    References
    ----------
    .. [1] V. Shejwalkar et al., "Back to the drawing board: a critical evaluation of poisoning
       attacks on production federated learning", IEEE S&P 2022.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.aggregation import ClippedMean
    >>> ClippedMean()(torch.tensor([[1.0], [1.0], [99.0]]), torch.ones(3))
    tensor([1.6667])
    """

    _parameter_constraints = {"factor": [Interval(Real, 0, None, closed="neither")]}

    def __init__(self, factor: float = 3.0):
        self.factor = factor

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        norms = updates.double().norm(dim=1)
        bound = self.factor * norms.median()
        scale = (bound / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(max=1)
        share = (weights.to(norms) * scale / weights.sum()).to(updates)
        return share @ updates


AGGREGATORS: dict[str, type[Aggregator]] = {
    "mean": WeightedMean,
    "clipped_mean": ClippedMean,
    "median": CoordinateMedian,
    "trimmed_mean": TrimmedMean,
    "geometric_median": GeometricMedian,
    "krum": Krum,
}
