"""Cross-entropy with margins or shifts that depend on how many rows a class has."""

from __future__ import annotations

from numbers import Real
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from skfedfocal._sklearn import Interval, StrOptions
from skfedfocal.losses._cross_entropy import CrossEntropyLoss
from skfedfocal.losses._loss import Loss, finite, log_softmax, with_room


class LogitAdjustedLoss(Loss):
    r"""Cross-entropy on :math:`z + \tau \log \pi`: the class prior taken into the loss.

    What is left in the logits decides as if all classes were equally frequent (for tau 1).

    Parameters
    ----------
    tau : float, default=1.0
        Strength of the adjustment, at least 0; 0 is cross-entropy.
    counts : {"federated", "local"}, default="federated"
        Whose class prior: that of the label counts summed over the clients (one vector,
        disclosed), or each client's own (balanced softmax on each client; nothing leaves it).

    Notes
    -----
    A class without rows counts as half a row, so that its logits stay finite.

    References
    ----------
    .. [1] A. Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.
    .. [2] J. Ren et al., "Balanced meta-softmax for long-tailed visual recognition", NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import LogitAdjustedLoss
    >>> loss = LogitAdjustedLoss()
    >>> loss(torch.zeros(1, 2), torch.tensor([1]), loss.constants(torch.tensor([99.0, 1.0])))
    tensor([4.6052])
    """

    _parameter_constraints = {
        "tau": [Interval(Real, 0, None, closed="left")],
        "counts": [StrOptions({"federated", "local"})],
    }

    def __init__(self, tau: float = 1.0, counts: Literal["federated", "local"] = "federated"):
        self.tau = tau
        self.counts = counts

    @property
    def keeps_order(self) -> bool:
        return True

    def constants(self, counts: Tensor) -> Tensor:
        filled = counts.clamp(min=0.5)
        return self.tau * (filled / filled.sum(-1, keepdim=True)).log()

    def __call__(self, logits: Tensor, y: Tensor, constants: Tensor | None = None) -> Tensor:
        return CrossEntropyLoss()(self._adjusted(logits, constants), y)

    def gradient(
        self, logits: Tensor, y: Tensor, constants: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return CrossEntropyLoss().gradient(self._adjusted(logits, constants), y)

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        return log_softmax(logits)

    def decision_prior(self, prior: np.ndarray) -> np.ndarray:
        return prior ** (1 - self.tau)

    @staticmethod
    def _adjusted(logits: Tensor, constants: Tensor | None) -> Tensor:
        return logits if constants is None else logits + constants


class LDAMLoss(Loss):
    r"""Cross-entropy with a larger margin for rarer classes (LDAM).

    The logit of the true class is lowered by :math:`m_y \propto n_y^{-1/4}` before the softmax.

    Parameters
    ----------
    max_margin : float, default=0.5
        Margin of the rarest class, at least 0; 0 is cross-entropy.
    scale : float, default=1.0
        Factor on the logits, above 0.
    counts : {"federated", "local"}, default="federated"
        Whose label counts: summed over the clients (one vector, disclosed), or each client's own.

    Notes
    -----
    The paper uses scale 30 with normalised features and weights, whose logits are cosines; for an
    ordinary last layer the scale is 1. With :math:`q` the softmax of the scaled logits, the class
    posterior at the minimiser is :math:`\eta_k \propto q_k (1 - q_k (1 - e^{-s m_k}))`, which
    follows from its stationarity: the posterior is the stationary distribution of the matrix whose
    row y is the softmax under label y.

    References
    ----------
    .. [1] K. Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss",
       NeurIPS 2019.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import LDAMLoss
    >>> loss = LDAMLoss()
    >>> loss.constants(torch.tensor([16.0, 1.0]))
    tensor([0.2500, 0.5000])
    """

    _parameter_constraints = {
        "max_margin": [Interval(Real, 0, None, closed="left")],
        "scale": [Interval(Real, 0, None, closed="neither")],
        "counts": [StrOptions({"federated", "local"})],
    }

    def __init__(
        self,
        max_margin: float = 0.5,
        scale: float = 1.0,
        counts: Literal["federated", "local"] = "federated",
    ):
        self.max_margin = max_margin
        self.scale = scale
        self.counts = counts

    def constants(self, counts: Tensor) -> Tensor:
        margins = counts.clamp(min=0.5) ** -0.25
        return self.max_margin * margins / margins.amax(-1, keepdim=True)

    def __call__(self, logits: Tensor, y: Tensor, constants: Tensor | None = None) -> Tensor:
        return CrossEntropyLoss()(self._scaled(logits, y, constants), y)

    def gradient(
        self, logits: Tensor, y: Tensor, constants: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        rows, gradient = CrossEntropyLoss().gradient(self._scaled(logits, y, constants), y)
        return rows, gradient.mul_(self.scale)

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        log_q = log_softmax(self.scale * with_room(logits))
        if constants is None:
            return finite(log_q, logits.dtype)
        # As 1 - q + q exp(-s m), which is above 0 even where q is 1 and exp(-s m) next to nothing.
        kept = torch.logaddexp(torch.log1p(-log_q.exp()), log_q - self.scale * constants)
        return finite(log_softmax(log_q + kept), logits.dtype)

    def _scaled(self, logits: Tensor, y: Tensor, constants: Tensor | None) -> Tensor:
        if constants is None:
            return self.scale * logits
        margin = constants.expand(logits.shape).gather(-1, y.unsqueeze(-1))
        return self.scale * logits.scatter_add(-1, y.unsqueeze(-1), -margin)
