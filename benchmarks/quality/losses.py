"""Published losses that the package does not carry."""

from __future__ import annotations

from numbers import Real

import torch
from sklearn.utils._param_validation import Interval
from torch import Tensor

from skfedfocal.losses import CrossEntropyLoss, Loss


class RestrictedSoftmaxLoss(Loss):
    """FedRS: logits of the classes that a client lacks are scaled down in its softmax.

    Parameters
    ----------
    alpha : float, default=0.5
        Factor on the logits of missing classes, in [0, 1]; 1 is cross-entropy.

    References
    ----------
    .. [1] X.-C. Li, D.-C. Zhan, "FedRS: federated learning with restricted softmax for label
       distribution non-IID data", KDD 2021.
    """

    counts = "local"
    _parameter_constraints = {"alpha": [Interval(Real, 0, 1, closed="both")]}

    def __init__(self, alpha: float = 0.5):
        self.alpha = alpha

    def constants(self, counts: Tensor) -> Tensor:
        return torch.where(counts > 0, 1.0, float(self.alpha)).to(counts)

    def __call__(self, logits: Tensor, y: Tensor, constants: Tensor | None = None) -> Tensor:
        return CrossEntropyLoss()(logits if constants is None else logits * constants, y)

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        return torch.log_softmax(logits, -1)


class CalibratedLogitsLoss(Loss):
    r"""FedLC: cross-entropy on :math:`z_c - \tau n_{k,c}^{-1/4}`, with the client's own counts.

    As in the authors' code a missing class counts 1e-8 rows, which takes it out of the softmax.

    Parameters
    ----------
    tau : float, default=1.0
        Strength of the calibration, at least 0; 0 is cross-entropy.

    References
    ----------
    .. [1] J. Zhang et al., "Federated learning with label distribution skew via logits
       calibration", ICML 2022.
    """

    counts = "local"
    _parameter_constraints = {"tau": [Interval(Real, 0, None, closed="left")]}

    def __init__(self, tau: float = 1.0):
        self.tau = tau

    def constants(self, counts: Tensor) -> Tensor:
        return -self.tau * counts.clamp(min=1e-8) ** -0.25

    def __call__(self, logits: Tensor, y: Tensor, constants: Tensor | None = None) -> Tensor:
        return CrossEntropyLoss()(logits if constants is None else logits + constants, y)

    def gradient(
        self, logits: Tensor, y: Tensor, constants: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return CrossEntropyLoss().gradient(
            logits if constants is None else logits + constants, y, None
        )

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        return torch.log_softmax(logits, -1)
