"""Losses, each with the map from its logits to class probabilities.

A loss is a number per row. What it weighs or shifts by class, it derives from label counts:
those of the whole federation, or each client's own.
"""

from __future__ import annotations

from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor
from torch.nn.functional import softplus

from skfedfocal._component import Component, InvalidParameterError


class Loss(Component):
    """A per-row loss of logits and labels that owns its posterior map.

    A loss of one's own derives from this class and defines `__call__`, differentiable by torch,
    and `log_posterior`. `gradient` has a default by automatic differentiation; a closed form
    makes training faster.

    Attributes
    ----------
    counts : {None, "federated", "local"}
        Whose label counts `constants` is given: nobody's, the sum over all clients (one vector,
        disclosed to the server), or each client's own (nothing leaves the client).
    """

    counts: Literal["federated", "local"] | None = None

    @property
    def keeps_order(self) -> bool:
        """Whether the largest logit is always the most probable class."""
        return False

    def constants(self, counts: Tensor) -> Tensor | None:
        """Numbers by class that the loss derives from label counts of shape (..., n_classes)."""
        return None

    def __call__(self, logits: Tensor, y: Tensor, constants: Tensor | None = None) -> Tensor:
        """Loss of each row, of shape (...), for logits (..., n_classes) and labels (...)."""
        raise NotImplementedError

    def gradient(
        self, logits: Tensor, y: Tensor, constants: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Loss of each row and its derivative by the logits, of shapes (...), (..., n_classes)."""
        with torch.enable_grad():
            leaf = logits.detach().requires_grad_()
            rows = self(leaf, y, constants)
            (gradient,) = torch.autograd.grad(rows.sum(), leaf)
        return rows.detach(), gradient

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        """Log-probability of each class in the population that the loss decides for."""
        raise NotImplementedError

    def decision_prior(self, prior: np.ndarray) -> np.ndarray:
        """Class prior to which `log_posterior` refers, given that of the training rows.

        Up to a factor; class weights count on top.
        """
        return prior


class CrossEntropyLoss(Loss):
    r"""Cross-entropy, :math:`-\log p_y`: the loss of plain FedAvg.

    Its posterior map is the softmax.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import CrossEntropyLoss
    >>> CrossEntropyLoss()(torch.zeros(1, 2), torch.tensor([0]))
    tensor([0.6931])
    """

    @property
    def keeps_order(self) -> bool:
        return True

    def __call__(self, logits: Tensor, y: Tensor, constants: Tensor | None = None) -> Tensor:
        others, _ = _against_others(logits, y)
        return _softplus(others)

    def gradient(
        self, logits: Tensor, y: Tensor, constants: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        log_p = torch.log_softmax(logits, -1)
        index = y.unsqueeze(-1)
        rows = log_p.gather(-1, index).squeeze(-1).neg_()
        gradient = log_p.exp_()
        return rows, gradient.scatter_add_(-1, index, gradient.new_full(index.shape, -1.0))

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        return torch.log_softmax(logits, -1)


class FocalLoss(Loss):
    r"""Focal loss, :math:`-(1 - p_y)^{\gamma} \log p_y`.

    Rows that the model already gets right (:math:`p_y` near 1) count less, by the power
    :math:`\gamma`. Class weights multiply it from outside (``class_weight`` of the classifier).

    Parameters
    ----------
    gamma : float or array-like of shape (n_classes,), default=2.0
        Focusing parameter, at least 0; 0 is cross-entropy. An array gives each class (by the row's
        label, in the order of ``classes_``) its own.

    Notes
    -----
    Focal loss is not a proper scoring rule: the softmax :math:`q` of its minimiser is not the
    class posterior :math:`\eta`. The posterior is :math:`\eta_k \propto h(q_k)` with

    .. math:: h(v) = \frac{v}{(1-v)^{\gamma} - \gamma (1-v)^{\gamma-1} v \ln v},

    which `log_posterior` evaluates in log space, finite for every finite logit. The map keeps the
    order of the classes for one gamma; focal loss alone hence leaves the Bayes decision as it is.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017.
    .. [2] N. Charoenphakdee et al., "On focal loss for class-posterior probability estimation: a
       theoretical perspective", CVPR 2021.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import FocalLoss
    >>> FocalLoss(gamma=2.0)(torch.zeros(1, 2), torch.tensor([0]))
    tensor([0.1733])
    """

    _parameter_constraints = {"gamma": [Interval(Real, 0, None, closed="left"), "array-like"]}

    def __init__(self, gamma: Any = 2.0):
        self.gamma = gamma

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
        return np.ndim(self.gamma) == 0

    def _gamma(self, logits: Tensor) -> float | Tensor:
        """Gamma by class."""
        if np.ndim(self.gamma) == 0:
            return float(self.gamma)
        if len(self.gamma) != logits.shape[-1]:
            raise ValueError(
                f"gamma has {len(self.gamma)} entries but there are {logits.shape[-1]} classes."
            )
        return torch.as_tensor(self.gamma, dtype=logits.dtype, device=logits.device)

    def _gamma_of_rows(self, logits: Tensor, y: Tensor, constants: Tensor | None) -> float | Tensor:
        """Gamma by row; the loss's constant is a gamma in place of its own, where it has one."""
        if constants is not None:
            return constants[..., 0]
        gamma = self._gamma(logits)
        return gamma[y] if isinstance(gamma, Tensor) else gamma

    def __call__(self, logits: Tensor, y: Tensor, constants: Tensor | None = None) -> Tensor:
        others, _ = _against_others(logits, y)
        return focal_value(others, self._gamma_of_rows(logits, y, constants))

    def gradient(
        self, logits: Tensor, y: Tensor, constants: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        return focal_gradient(logits, y, self._gamma_of_rows(logits, y, constants))

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        return focal_log_posterior(logits, self._gamma(logits))


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
        others, _ = _against_others(logits, y)
        return focal_value(others, self._gamma(torch.sigmoid(-others)))

    def gradient(
        self, logits: Tensor, y: Tensor, constants: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        others, _ = _against_others(logits, y)
        return focal_gradient(logits, y, self._gamma(torch.sigmoid(-others)))

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        return focal_log_posterior(logits, self._gamma(torch.softmax(logits, -1)))


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
        return torch.log_softmax(logits, -1)

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
        log_q = torch.log_softmax(self.scale * logits, -1)
        if constants is None:
            return log_q
        shrunk = -torch.expm1(-self.scale * constants)  # 1 - exp(-s m), below 1
        return torch.log_softmax(log_q + torch.log1p(-log_q.exp() * shrunk), -1)

    def _scaled(self, logits: Tensor, y: Tensor, constants: Tensor | None) -> Tensor:
        if constants is None:
            return self.scale * logits
        margin = constants.expand(logits.shape).gather(-1, y.unsqueeze(-1))
        return self.scale * logits.scatter_add(-1, y.unsqueeze(-1), -margin)


def focal_value(others: Tensor, gamma: float | Tensor) -> Tensor:
    """Focal loss from ``others = logsumexp(z of the other classes) - z_y``, of any shape."""
    return torch.exp(-gamma * _softplus(-others)) * _softplus(others)


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
    """
    if logits.shape[-1] == 2:
        sign = 1 - 2 * y.to(logits.dtype)  # from class 1's logit to the other one's lead
        others = (logits[..., 1] - logits[..., 0]).mul_(sign)
    else:
        others, gradient = _against_others(logits, y)
    log_loss = _softplus(others)
    wrong = torch.sigmoid(others)
    focus = wrong**gamma
    slope = (((1 - wrong) * log_loss).mul_(gamma) + wrong).mul_(focus)
    rows = focus.mul_(log_loss)
    if logits.shape[-1] == 2:
        slope.mul_(sign)
        return rows, torch.stack((-slope, slope), -1)
    gradient.scatter_(-1, y.unsqueeze(-1), -1.0)
    return rows, gradient.mul_(slope.unsqueeze(-1))


def focal_log_posterior(logits: Tensor, gamma: float | Tensor) -> Tensor:
    """Log of the class posterior whose focal minimiser has these logits.

    Parameters
    ----------
    logits : Tensor of shape (..., n_classes)
        What the module puts out.
    gamma : float or Tensor that broadcasts with logits
        Focusing parameter, of each class where there are several.

    Returns
    -------
    log_posterior : Tensor of shape (..., n_classes)
        Finite for every finite logit.
    """
    log_q = torch.log_softmax(logits, -1)
    log_not_q = torch.log1p(-log_q.exp())
    log_surprise = torch.log(-log_q)  # log(-log q)
    # Only the largest class can be so near to 1 that these three lose their digits.
    top = logits.argmax(-1, keepdim=True)
    others, _ = _against_others(logits, top.squeeze(-1))
    others = others.unsqueeze(-1)
    log_q = log_q.scatter(-1, top, -_softplus(others))
    log_not_q = log_not_q.scatter(-1, top, -_softplus(-others))
    tiny = others < -30  # there log softplus(d) = d to double precision
    surprise = torch.where(tiny, others, _softplus(others.clamp(min=-30)).log())
    log_surprise = log_surprise.scatter(-1, top, surprise)
    ratio = torch.exp(log_q + log_surprise - log_not_q)
    return torch.log_softmax(log_q - gamma * log_not_q - torch.log1p(gamma * ratio), -1)


def _against_others(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """``logsumexp(z_others) - z_y`` (...) and the softmax among the others (..., n_classes)."""
    index = y.unsqueeze(-1)
    others = logits.scatter(-1, index, -torch.inf)
    margin = torch.logsumexp(others, -1) - logits.gather(-1, index).squeeze(-1)
    return margin, torch.softmax(others, -1)


def _softplus(x: Tensor) -> Tensor:
    return softplus(x, threshold=40)  # torch's own threshold of 20 is wrong from the 9th digit


LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "sample_dependent_focal": SampleDependentFocalLoss,
    "logit_adjusted": LogitAdjustedLoss,
    "ldam": LDAMLoss,
}
