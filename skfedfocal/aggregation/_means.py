"""Means of updates: plain, and without what is extreme."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor

from skfedfocal._focus import Focus
from skfedfocal._sklearn import Interval
from skfedfocal.aggregation._aggregator import DOUBTED, Aggregator, rounded_up


class WeightedMean(Aggregator):
    r"""The mean of updates, weighted by the clients' rows: FedAvg's aggregate, and Fed-Focal's.

    Client k weighs :math:`n_k`, the sum of the weights of its rows; with ``client_gamma`` of the
    estimator above 0 it weighs :math:`n_k \max(1 - q_k, \mathrm{floor})^{\gamma_c}`, where
    :math:`q_k = (n_k r_k + s/2) / (n_k + s)` is its smoothed recall: the share of its rows
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
    A client of over 128 rows estimates its recall on about so many of them, anew each round: of
    each class, in proportion to what it weighs in the recall, the rows that the client is first to
    train on. The estimate is unbiased, with a standard error of at most 0.044, and costs a
    fraction of the forward pass over all rows that the published sampling takes.

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


class TrimmedMean(Aggregator):
    """The weighted mean of each coordinate without its smallest and largest values.

    Parameters
    ----------
    trim : float, default=0.1
        Share of the clients left out at either end of each coordinate, in [0, 0.5); 0 is the
        `WeightedMean`. Their number is rounded up, but one or two are left in the middle.

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

    @property
    def bad_share(self) -> float:  # type: ignore[override]
        """Share of the clients that may lie: the one that is trimmed."""
        return self.trim

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        n_cut = rounded_up(self.trim, len(updates))
        ordered, order = updates.sort(0)
        kept = slice(n_cut, len(updates) - n_cut)
        share = weights.to(updates)[order[kept]]
        return (share * ordered[kept]).sum(0) / share.sum(0)


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

    bad_share = DOUBTED
    _parameter_constraints = {"factor": [Interval(Real, 0, None, closed="neither")]}

    def __init__(self, factor: float = 3.0):
        self.factor = factor

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        norms = updates.double().norm(dim=1)
        bound = self.factor * norms.median()
        scale = (bound / norms.clamp(min=torch.finfo(norms.dtype).tiny)).clamp(max=1)
        share = (weights.to(norms) * scale / weights.sum()).to(updates)
        return share @ updates
