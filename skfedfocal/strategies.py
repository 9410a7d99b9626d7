"""Strategies: how the server steps from the aggregate, and what it asks of the local objective."""

from __future__ import annotations

from numbers import Real
from typing import Any

from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from skfedfocal._component import Component, resolve
from skfedfocal.aggregation import AGGREGATORS, Aggregator

State = dict[str, Tensor]


class Strategy(Component):
    """A server step, and the pull of the local objective towards the global model."""

    aggregation: Any = "mean"

    @property
    def proximal(self) -> float:
        """Weight mu of the local term mu/2 ||w - theta||^2."""
        return 0.0

    def aggregator(self) -> Aggregator:
        """The aggregator, made from its name or cloned from the object."""
        return resolve(self.aggregation, AGGREGATORS, Aggregator, "aggregation")

    def start(self, theta: Tensor) -> State:
        """State of the server's optimiser before the first round; a dict of vectors (p,)."""
        return {}

    def step(self, theta: Tensor, delta: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the next global model and state; the arguments stay as they are."""
        raise NotImplementedError


_AGGREGATION = [StrOptions(set(AGGREGATORS)), Aggregator]


class FedAvg(Strategy):
    r"""Federated averaging: :math:`\theta \leftarrow \theta + \bar\Delta`.

    Parameters
    ----------
    aggregation : str or Aggregator, default="mean"
        How updates are combined; see `skfedfocal.aggregation`.

    References
    ----------
    .. [1] B. McMahan et al., "Communication-efficient learning of deep networks from decentralized
       data", AISTATS 2017, Algorithm 1.

    Examples
    --------
    >>> from skfedfocal.strategies import FedAvg
    >>> FedAvg()
    FedAvg()
    """

    _parameter_constraints = {"aggregation": _AGGREGATION}

    def __init__(self, *, aggregation: Any = "mean"):
        self.aggregation = aggregation

    def step(self, theta: Tensor, delta: Tensor, state: State) -> tuple[Tensor, State]:
        return theta + delta, state


class FedProx(FedAvg):
    r"""FedAvg with a proximal term :math:`\frac{\mu}{2} \|w - \theta\|^2` in each local objective.

    Parameters
    ----------
    mu : float, default=0.01
        Weight of the proximal term, at least 0; 0 is FedAvg.
    aggregation : str or Aggregator, default="mean"
        How updates are combined; see `skfedfocal.aggregation`.

    References
    ----------
    .. [1] T. Li et al., "Federated optimization in heterogeneous networks", MLSys 2020.

    Examples
    --------
    >>> from skfedfocal.strategies import FedProx
    >>> FedProx(mu=0.1)
    FedProx(mu=0.1)
    """

    _parameter_constraints = {
        "mu": [Interval(Real, 0, None, closed="left")],
        "aggregation": _AGGREGATION,
    }

    def __init__(self, mu: float = 0.01, *, aggregation: Any = "mean"):
        super().__init__(aggregation=aggregation)
        self.mu = mu

    @property
    def proximal(self) -> float:
        return self.mu


STRATEGIES: dict[str, type[Strategy]] = {"fedavg": FedAvg, "fedprox": FedProx}
