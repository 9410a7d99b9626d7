"""Focal loss and the posterior that its minimiser stands for."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skfedfocal._sklearn import Interval, InvalidParameterError
from skfedfocal.losses._focal_posterior import focal_decision, focal_log_posterior
from skfedfocal.losses._loss import (
    Loss,
    against_others,
    in_rows,
    stable_softplus,
)


class FocalLoss(Loss):
    r"""Focal loss, :math:`-(1 - p_y)^{\gamma} \log p_y`.

    Rows that the model already gets right (:math:`p_y` near 1) count less, by the power
    :math:`\gamma`. Class weights multiply it from outside (``class_weight`` of the classifier).

    Parameters
    ----------
    gamma : float or array-like of shape (n_classes,), default=2.0
        Focusing parameter, at least 0; 0 is cross-entropy. An array gives each class (by the row's
        label, in the order of ``classes_``) its own.
    logit_adjustment : float, default=0.0
        Share :math:`\tau` of the class weighting that shifts logits instead of weighing rows, in
        [0, 1]: with class weights w, a row weighs :math:`w_y^{1-\tau}` and its loss is that of
        :math:`z - \tau \ln w`. Without class weights, and with "local" ones, there is no shift.

    Notes
    -----
    Focal loss is not a proper scoring rule: the softmax :math:`q` of its minimiser is not the
    class posterior :math:`\eta`. The posterior is :math:`\eta_k \propto h(q_k)` with

    .. math:: h(v) = \frac{v}{(1-v)^{\gamma} - \gamma (1-v)^{\gamma-1} v \ln v},

    which `log_posterior` evaluates in log space, finite for every finite logit. The map keeps the
    order of the classes for one gamma; focal loss alone hence leaves the Bayes decision as it is.

    Weights alone (:math:`\tau = 0`) make rare rows take steps that are long by their weight; the
    shift alone (:math:`\tau = 1`, for gamma 0 that of logit adjustment [3]_) moves the common rows
    instead and learns rare classes late. Both stand for the same population, and so does any
    division between them, for which [4]_ is a general form: the posterior map undoes the shift.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017.
    .. [2] N. Charoenphakdee et al., "On focal loss for class-posterior probability estimation: a
       theoretical perspective", CVPR 2021.
    .. [3] A. Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.
    .. [4] G. R. Kini et al., "Label-imbalanced and group-sensitive classification under
       overparameterization", NeurIPS 2021.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import FocalLoss
    >>> FocalLoss(gamma=2.0)(torch.zeros(1, 2), torch.tensor([0]))
    tensor([0.1733])
    """

    _parameter_constraints = {
        "gamma": [Interval(Real, 0, None, closed="left"), "array-like"],
        "logit_adjustment": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(self, gamma: Any = 2.0, logit_adjustment: float = 0.0):
        self.gamma = gamma
        self.logit_adjustment = logit_adjustment

    def check_params(self) -> None:
        super().check_params()
        gamma = np.asarray(self.gamma)
        numeric = gamma.dtype.kind in "iuf" and gamma.ndim <= 1 and gamma.size > 0
        if not (numeric and np.isfinite(gamma).all() and (gamma >= 0).all()):
            raise InvalidParameterError(
                "gamma must be a finite number of at least 0, or one such number per class; "
                f"got {self.gamma!r}."
            )

    @property
    def keeps_order(self) -> bool:
        return np.ndim(self.gamma) == 0 and (self.logit_adjustment == 0 or self.gamma == 0)

    def divide(self, class_weight: np.ndarray) -> tuple[np.ndarray, Tensor | None]:
        if self.logit_adjustment == 0:
            return class_weight, None
        there = class_weight > 0
        # A class that weighs nothing has no rows to learn from: it is shifted as the rarest one.
        filled = np.where(there, class_weight, class_weight.max())
        shift = self.logit_adjustment * np.log(class_weight.max() / filled)
        of_rows = np.where(there, filled ** (1 - self.logit_adjustment), 0.0)
        return of_rows, torch.as_tensor(shift - shift.max())

    def __call__(self, logits: Tensor, y: Tensor, constants: Tensor | None = None) -> Tensor:
        shift, gamma = self._shift_and_gamma(logits, constants)
        logits = logits if shift is None else logits + shift
        others, _ = against_others(logits, y)
        return focal_value(others, _of_rows(gamma, logits, y))

    def gradient(
        self, logits: Tensor, y: Tensor, constants: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        shift, gamma = self._shift_and_gamma(logits, constants)
        logits = logits if shift is None else logits + shift
        return focal_gradient(logits, y, _of_rows(gamma, logits, y))

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        shift, gamma = self._shift_and_gamma(logits, constants)
        if shift is None:
            return focal_log_posterior(logits, gamma)
        return focal_log_posterior(logits + shift, gamma, -shift)

    def decide(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        if self.keeps_order:
            return logits.argmax(-1)
        flat, by_row = in_rows(logits, constants)
        shift, gamma = self._shift_and_gamma(flat, by_row)
        if shift is None or isinstance(gamma, Tensor) or logits.shape[-1] == 2:
            return super().decide(logits, constants)  # the map of two classes is cheap
        return focal_decision(flat, gamma, shift).view(logits.shape[:-1])

    def gamma_by_class(self, like: Tensor) -> float | Tensor:
        """Gamma as one number, or of each class for logits (..., n_classes) like these."""
        if np.ndim(self.gamma) == 0:
            return float(self.gamma)
        if len(self.gamma) != like.shape[-1]:
            raise ValueError(
                f"gamma has {len(self.gamma)} entries but there are {like.shape[-1]} classes."
            )
        return torch.as_tensor(self.gamma, dtype=like.dtype, device=like.device)

    def _shift_and_gamma(
        self, logits: Tensor, constants: Tensor | None
    ) -> tuple[Tensor | None, float | Tensor]:
        return constants, self.gamma_by_class(logits)


class GammaAsConstant(FocalLoss):
    """Focal loss whose constants are the shift of each class's logit, and the gamma of each class.

    So that federations with other gammas can train in one batch.
    """

    @property
    def keeps_order(self) -> bool:
        return False

    def _shift_and_gamma(
        self, logits: Tensor, constants: Tensor | None
    ) -> tuple[Tensor | None, float | Tensor]:
        assert constants is not None
        n_classes = logits.shape[-1]
        return constants[..., :n_classes], constants[..., n_classes:]


def _of_rows(gamma: float | Tensor, logits: Tensor, y: Tensor) -> float | Tensor:
    """Gamma of each row (...), by its label; gamma broadcasts with the logits."""
    if not isinstance(gamma, Tensor):
        return gamma
    return gamma.expand(logits.shape).gather(-1, y.unsqueeze(-1)).squeeze(-1)


class SampleDependentFocalLoss(Loss):
    r"""Focal loss whose focusing depends on how wrong the model is on the row.

    Rows with :math:`p_y` below the threshold get the first gamma, the others the second.

    Parameters
    ----------
    gamma_hard : float, default=5.0
        Focusing of rows with ``p_y < threshold``, at least 0.
    gamma_easy : float, default=3.0
        Focusing of the other rows, at least 0.
    threshold : float, default=0.2
        Probability of the true class that parts them, in (0, 1).

    Notes
    -----
    The defaults are the published FLSD-53 [1]_. The posterior map takes each class's own gamma and
    holds wherever the loss is smooth; across the threshold the order of classes can change.

    References
    ----------
    .. [1] J. Mukhoti et al., "Calibrating deep neural networks using focal loss", NeurIPS 2020.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import SampleDependentFocalLoss
    >>> SampleDependentFocalLoss()(torch.zeros(1, 2), torch.tensor([0]))
    tensor([0.0866])
    """

    _parameter_constraints = {
        "gamma_hard": [Interval(Real, 0, None, closed="left")],
        "gamma_easy": [Interval(Real, 0, None, closed="left")],
        "threshold": [Interval(Real, 0, 1, closed="neither")],
    }

    def __init__(self, gamma_hard: float = 5.0, gamma_easy: float = 3.0, threshold: float = 0.2):
        self.gamma_hard = gamma_hard
        self.gamma_easy = gamma_easy
        self.threshold = threshold

    def _gamma(self, probability: Tensor) -> Tensor:
        hard = probability.detach() < self.threshold
        return torch.where(hard, float(self.gamma_hard), float(self.gamma_easy)).to(probability)

    def __call__(self, logits: Tensor, y: Tensor, constants: Tensor | None = None) -> Tensor:
        others, _ = against_others(logits, y)
        return focal_value(others, self._gamma(torch.sigmoid(-others)))

    def gradient(
        self, logits: Tensor, y: Tensor, constants: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        others, _ = against_others(logits, y)
        return focal_gradient(logits, y, self._gamma(torch.sigmoid(-others)))

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        return focal_log_posterior(logits, self._gamma(torch.softmax(logits, -1)))


def focal_value(others: Tensor, gamma: float | Tensor) -> Tensor:
    """Focal loss from ``others = logsumexp(z of the other classes) - z_y``, of any shape.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import focal_value
    >>> focal_value(torch.zeros(1), 2.0)  # a probability of one half: -(1/2)^2 ln(1/2)
    tensor([0.1733])
    """
    return torch.exp(-gamma * stable_softplus(-others)) * stable_softplus(others)


def focal_gradient(logits: Tensor, y: Tensor, gamma: float | Tensor) -> tuple[Tensor, Tensor]:
    r"""Focal loss of each row and its derivative by the logits, free of divisions.

    With :math:`d = \log\sum_{k \ne y} e^{z_k} - z_y`, :math:`p_y = \sigma(-d)`, the derivative by d
    is :math:`(1-p_y)^{\gamma} [\gamma p_y\, \mathrm{softplus}(d) + 1 - p_y]`.

    Parameters
    ----------
    logits : Tensor of shape (..., n_classes)
        What the module puts out.
    y : int64 Tensor of shape (...)
        Class numbers.
    gamma : float or Tensor that broadcasts with y
        Focusing parameter, of each row.

    Returns
    -------
    rows : Tensor of shape (...)
        Loss of each row.
    gradient : Tensor of shape (..., n_classes)
        Its derivative by the logits.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import focal_gradient
    >>> focal_gradient(torch.zeros(1, 2), torch.tensor([0]), 0.0)[1]
    tensor([[-0.5000,  0.5000]])
    """
    binary = logits.shape[-1] == 2
    if binary:
        sign = torch.rsub(y, 1, alpha=2).to(logits)  # from class 1's logit to the other one's lead
        others = (logits[..., 1] - logits[..., 0]).mul_(sign)
    else:
        others, gradient = against_others(logits, y)
    log_loss = stable_softplus(others)
    wrong = torch.sigmoid(others)
    focus = wrong if _is_one(gamma) else wrong**gamma
    scaled = log_loss if _is_one(gamma) else gamma * log_loss
    slope = scaled.lerp(scaled.new_ones(()), wrong).mul_(focus)
    rows = log_loss.mul_(focus)
    if binary:
        slope.mul_(sign)
        return rows, torch.stack((-slope, slope), -1)
    gradient.scatter_(-1, y.unsqueeze(-1), -1.0)
    return rows, gradient.mul_(slope.unsqueeze(-1))


def _is_one(gamma: float | Tensor) -> bool:
    return not isinstance(gamma, Tensor) and gamma == 1
