"""Strategies: how the server steps from the aggregate, and what it asks of the local objective."""

from __future__ import annotations

from numbers import Real

import torch
from torch import Tensor

from skfedfocal._component import Component
from skfedfocal._sklearn import Interval

__all__ = [
    "STRATEGIES",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedOpt",
    "FedProx",
    "FedYogi",
    "Strategy",
]

State = dict[str, Tensor]


class Strategy(Component):
    """A server step, and the pull of the local objective towards the global model.

    A strategy of one's own derives from this class and defines `step`, and `start` where it
    carries something on.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.strategies import Strategy
    >>> class HalfStep(Strategy):
    ...     def step(self, theta, delta, state):
    ...         return theta + delta / 2, state
    >>> HalfStep().step(torch.zeros(1), torch.ones(1), {})
    (tensor([0.5000]), {})
    """

    @property
    def proximal(self) -> float:
        """Weight mu of the local term mu/2 ||w - theta||^2."""
        return 0.0

    def start(self, theta: Tensor) -> State:
        """State of the server's optimiser before the first round; a dict of vectors (p,)."""
        return {}

    def step(self, theta: Tensor, delta: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the next global model and state; the arguments stay as they are."""
        raise NotImplementedError


class FedAvg(Strategy):
    r"""Federated averaging: :math:`\theta \leftarrow \theta + \bar\Delta`.

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

    def step(self, theta: Tensor, delta: Tensor, state: State) -> tuple[Tensor, State]:
        return theta + delta, state


class FedProx(FedAvg):
    r"""FedAvg with a proximal term :math:`\frac{\mu}{2} \|w - \theta\|^2` in each local objective.

    Parameters
    ----------
    mu : float, default=0.01
        Weight of the proximal term, at least 0; 0 is FedAvg.

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
    }

    def __init__(self, mu: float = 0.01):
        self.mu = mu

    @property
    def proximal(self) -> float:
        return self.mu


class FedAvgM(Strategy):
    r"""FedAvg with momentum on the server.

    :math:`m \leftarrow \beta m + \bar\Delta`, :math:`\theta \leftarrow \theta + \eta m`.

    Parameters
    ----------
    server_learning_rate : float, default=1.0
        Step of the server, above 0.
    beta : float, default=0.9
        Momentum, in [0, 1); 0 is FedAvg for a server step of 1.

    References
    ----------
    .. [1] T. Hsu, H. Qi, M. Brown, "Measuring the effects of non-identical data distribution for
       federated visual classification", arXiv:1909.06335.

    Examples
    --------
    >>> from skfedfocal.strategies import FedAvgM
    >>> FedAvgM(beta=0.5)
    FedAvgM(beta=0.5)
    """

    _parameter_constraints = {
        "server_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "beta": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, server_learning_rate: float = 1.0, beta: float = 0.9):
        self.server_learning_rate = server_learning_rate
        self.beta = beta

    def start(self, theta: Tensor) -> State:
        return {"momentum": torch.zeros_like(theta)}

    def step(self, theta: Tensor, delta: Tensor, state: State) -> tuple[Tensor, State]:
        momentum = self.beta * state["momentum"] + delta
        return theta + self.server_learning_rate * momentum, {"momentum": momentum}


class FedOpt(Strategy):
    r"""Adaptive server step of Reddi et al.; see `FedAdagrad`, `FedAdam`, `FedYogi`.

    :math:`m \leftarrow \beta_1 m + (1-\beta_1) \bar\Delta`, then the named form's
    :math:`v`, then :math:`\theta \leftarrow \theta + \eta\, m / (\sqrt v + \tau)`.
    As in the paper's Algorithm 2 there is no bias correction, and :math:`v_{-1} = \tau^2`.

    References
    ----------
    .. [1] S. Reddi et al., "Adaptive federated optimization", ICLR 2021.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.strategies import FedAdagrad, FedOpt
    >>> adaptive: FedOpt = FedAdagrad(server_learning_rate=1.0)
    >>> state = adaptive.start(torch.zeros(1))
    >>> adaptive.step(torch.zeros(1), torch.full((1,), 8.0), state)[0].round(decimals=3)
    tensor([1.])
    """

    _parameter_constraints = {
        "server_learning_rate": [Interval(Real, 0, None, closed="neither")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "tau": [Interval(Real, 0, None, closed="neither")],
    }

    beta_1: float
    server_learning_rate: float
    tau: float

    def start(self, theta: Tensor) -> State:
        return {"first": torch.zeros_like(theta), "second": torch.full_like(theta, self.tau**2)}

    def step(self, theta: Tensor, delta: Tensor, state: State) -> tuple[Tensor, State]:
        first = self.beta_1 * state["first"] + (1 - self.beta_1) * delta
        second = self.second_moment(state["second"], delta**2)
        step = self.server_learning_rate * first / (second.sqrt() + self.tau)
        return theta + step, {"first": first, "second": second}

    def second_moment(self, second: Tensor, square: Tensor) -> Tensor:
        """The next v from the last one and the squared aggregate."""
        raise NotImplementedError


class FedAdagrad(FedOpt):
    r"""FedOpt with :math:`v \leftarrow v + \bar\Delta^2`.

    Parameters
    ----------
    server_learning_rate : float, default=0.1
        Step of the server, above 0.
    beta_1 : float, default=0.0
        Decay of the first moment, in [0, 1).
    tau : float, default=1e-3
        Degree of adaptivity, above 0.

    References
    ----------
    .. [1] S. Reddi et al., "Adaptive federated optimization", ICLR 2021, Algorithm 2.

    Examples
    --------
    >>> from skfedfocal.strategies import FedAdagrad
    >>> FedAdagrad()
    FedAdagrad()
    """

    _parameter_constraints = {
        k: v for k, v in FedOpt._parameter_constraints.items() if k != "beta_2"
    }

    def __init__(
        self,
        server_learning_rate: float = 0.1,
        beta_1: float = 0.0,
        tau: float = 1e-3,
    ):
        self.server_learning_rate = server_learning_rate
        self.beta_1 = beta_1
        self.tau = tau

    def second_moment(self, second: Tensor, square: Tensor) -> Tensor:
        return second + square


class FedAdam(FedOpt):
    r"""FedOpt with :math:`v \leftarrow \beta_2 v + (1-\beta_2) \bar\Delta^2`.

    Parameters
    ----------
    server_learning_rate : float, default=0.1
        Step of the server, above 0.
    beta_1 : float, default=0.9
        Decay of the first moment, in [0, 1).
    beta_2 : float, default=0.99
        Decay of the second moment, in [0, 1).
    tau : float, default=1e-3
        Degree of adaptivity, above 0.

    References
    ----------
    .. [1] S. Reddi et al., "Adaptive federated optimization", ICLR 2021, Algorithm 2.

    Examples
    --------
    >>> from skfedfocal.strategies import FedAdam
    >>> FedAdam(beta_2=0.999)
    FedAdam(beta_2=0.999)
    """

    def __init__(
        self,
        server_learning_rate: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        tau: float = 1e-3,
    ):
        self.server_learning_rate = server_learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.tau = tau

    def second_moment(self, second: Tensor, square: Tensor) -> Tensor:
        return self.beta_2 * second + (1 - self.beta_2) * square


class FedYogi(FedAdam):  # numpydoc ignore=PR02
    r"""FedOpt with a second moment that changes by bounded steps.

    :math:`v \leftarrow v - (1-\beta_2) \bar\Delta^2 \mathrm{sign}(v - \bar\Delta^2)`.

    Parameters
    ----------
    server_learning_rate : float, default=0.1
        Step of the server, above 0.
    beta_1 : float, default=0.9
        Decay of the first moment, in [0, 1).
    beta_2 : float, default=0.99
        Decay of the second moment, in [0, 1).
    tau : float, default=1e-3
        Degree of adaptivity, above 0.

    References
    ----------
    .. [1] S. Reddi et al., "Adaptive federated optimization", ICLR 2021, Algorithm 2.

    Examples
    --------
    >>> from skfedfocal.strategies import FedYogi
    >>> FedYogi(tau=0.01)
    FedYogi(tau=0.01)
    """

    def second_moment(self, second: Tensor, square: Tensor) -> Tensor:
        return second - (1 - self.beta_2) * square * torch.sign(second - square)


#: The strategies by the names that estimators take.
STRATEGIES: dict[str, type[Strategy]] = {
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedprox": FedProx,
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
}
