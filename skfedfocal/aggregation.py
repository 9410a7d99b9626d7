"""Aggregators: many clients' updates, an (m, p) matrix, into one, (p,)."""

from __future__ import annotations

from numbers import Real
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils._param_validation import Interval
from torch import Tensor

from skfedfocal._component import Component


class Aggregator(Component):
    """Weighs clients and combines their updates.

    Attributes
    ----------
    linear : bool
        Whether the aggregate is a weighted mean, which is folded block by block as updates
        come, so that memory is bounded by the block and not by the cohort.
    needs_recall : bool
        Whether clients must report their balanced recall.
    """

    linear: ClassVar[bool] = False

    @property
    def needs_recall(self) -> bool:
        return False

    def weights(
        self, sizes: NDArray[np.float64], recalls: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        """Unnormalised weight of each client, of shape (m,)."""
        return sizes

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        """Combine updates of shape (m, p) with weights of shape (m,) into one of shape (p,)."""
        raise NotImplementedError


class WeightedMean(Aggregator):
    """The mean of updates, weighted by the clients' numbers of rows: FedAvg's aggregate.

    Notes
    -----
    Discloses each client's number of rows (the sum of its sample weights). An update with a
    non-finite value is left out before any aggregator sees it.

    References
    ----------
    .. [1] B. McMahan et al., "Communication-efficient learning of deep networks from decentralized
       data", AISTATS 2017, Algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.aggregation import WeightedMean
    >>> WeightedMean()(torch.tensor([[0.0], [4.0]]), torch.tensor([3.0, 1.0]))
    tensor([1.])
    """

    linear = True

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        return (weights / weights.sum()) @ updates


class FocalMean(WeightedMean):
    r"""Fed-Focal's client focusing as an aggregation weight.

    Client k weighs :math:`n_k (1 - r_k)^{\gamma_c}`, where :math:`r_k` is the balanced recall (mean
    of the recalls of the classes it has) of the model it was sent, on its own training rows. So
    clients on which the model does poorly, on their rare classes above all, contribute more.

    Parameters
    ----------
    client_gamma : float, default=1.0
        Client focusing, at least 0; 0 is the plain `WeightedMean`.

    Notes
    -----
    Discloses, besides each client's number of rows, its balanced recall of the global model. The
    published method [1]_ states no formula for its sampling; this one is ours.

    References
    ----------
    .. [1] D. Sarkar, A. Narang, S. Rai, "Fed-Focal loss for imbalanced data classification in
       federated learning", FL-IJCAI 2020, arXiv:2011.06283.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal.aggregation import FocalMean
    >>> FocalMean(1.0).weights(np.array([100.0, 100.0]), np.array([0.9, 0.5])).round(3)
    array([10., 50.])
    """

    _parameter_constraints = {"client_gamma": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, client_gamma: float = 1.0):
        self.client_gamma = client_gamma

    @property
    def needs_recall(self) -> bool:
        return self.client_gamma > 0

    def weights(
        self, sizes: NDArray[np.float64], recalls: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        if not self.needs_recall:
            return sizes
        assert recalls is not None
        focus = (1 - recalls) ** self.client_gamma
        # Where the model is perfect on every client of the block, nobody needs more focus.
        return sizes * np.maximum(focus, np.finfo(float).tiny)


AGGREGATORS: dict[str, type[Aggregator]] = {"mean": WeightedMean, "focal_mean": FocalMean}
