"""The posterior that the minimiser of focal loss stands for, and the class that it decides for."""

from __future__ import annotations

import torch
from torch import Tensor

from skfedfocal.losses._loss import (
    against_others,
    finite,
    log_softmax,
    stable_softplus,
    with_room,
)


def focal_log_posterior(
    logits: Tensor, gamma: float | Tensor, shift: Tensor | None = None
) -> Tensor:
    """Log of the class posterior whose focal minimiser has these logits.

    Parameters
    ----------
    logits : Tensor of shape (..., n_classes)
        What the module puts out.
    gamma : float or Tensor that broadcasts with logits
        Focusing parameter, of each class where there are several.
    shift : Tensor that broadcasts with logits, default=None
        Log of the factors that take the posterior to another population.

    Returns
    -------
    log_posterior : Tensor of shape (..., n_classes)
        Finite for every finite logit.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import focal_log_posterior
    >>> focal_log_posterior(torch.tensor([[2.0, 0.0]]), 2.0).exp()  # softmax: 0.88
    tensor([[0.9955, 0.0045]])
    """
    dtype, logits = logits.dtype, with_room(logits)
    if logits.shape[-1] == 2 and not isinstance(gamma, Tensor):
        return finite(_binary_log_posterior(logits, gamma, shift), dtype)
    top = logits.argmax(-1, keepdim=True)
    others = against_others(logits, top.squeeze(-1))[0].unsqueeze(-1)
    log_q = logits - logits.gather(-1, top) - stable_softplus(others)
    q = log_q.exp()
    log_not_q = torch.log1p(-q)
    ratio = -log_q * q / (1 - q)
    # Only the largest class can be so near to 1 that these lose their digits.
    log_not_q.scatter_(-1, top, -stable_softplus(-others))
    near_one = others < -30  # there softplus(d) = exp(d) to double precision
    bounded = others.clamp(min=-30)
    largest = torch.where(near_one, 1.0, stable_softplus(bounded) * torch.exp(-bounded))
    ratio.scatter_(-1, top, largest)
    posterior = log_q - gamma * log_not_q - torch.log1p(gamma * ratio)
    return finite(log_softmax(posterior if shift is None else posterior + shift), dtype)


def _binary_log_posterior(logits: Tensor, gamma: float, shift: Tensor | None) -> Tensor:
    """The same for two classes, from their log-odds, which costs a fraction."""
    odds = logits[..., 1] - logits[..., 0]
    lead = odds.abs()
    tail = torch.exp(-lead)
    log_loss = torch.log1p(tail)  # of the class ahead; that of the other is larger by the lead
    # -q log q / (1 - q) for both
    ahead = torch.where(tail > 1e-18, log_loss / tail, 1.0)
    behind = (lead + log_loss) * tail
    lead = (1 + gamma) * lead + torch.log1p(gamma * behind) - torch.log1p(gamma * ahead)
    lead = lead.abs()
    posterior = torch.where(odds < 0, -lead, lead)  # copysign has no form in ONNX
    if shift is not None:
        posterior += shift[..., 1] - shift[..., 0]
    return torch.stack((-stable_softplus(posterior), -stable_softplus(-posterior)), -1)


def focal_decision(logits: Tensor, gamma: float, shift: Tensor) -> Tensor:
    """The class of the largest posterior (n,) for logits (n, n_classes) that were shifted.

    Parameters
    ----------
    logits : Tensor of shape (n, n_classes)
        What the module puts out.
    gamma : float
        Focusing parameter.
    shift : Tensor of shape (n_classes,) or (n, n_classes)
        What was added to them in training.

    Returns
    -------
    decision : int64 Tensor of shape (n,)
        The argmax of ``focal_log_posterior(logits + shift, gamma, -shift)``.
    """
    shifted = with_room(logits) + shift
    decided = shifted.argmax(-1)
    # Where the first class keeps its lead at the least rate at which the map can rise, the map,
    # which takes ten times as long, would say the same.
    unsure = (shifted * least_slope(gamma) - shift).argmax(-1) != decided
    if unsure.any():
        rows = unsure.nonzero().squeeze(-1)
        back = -shift if shift.ndim == 1 else -shift[rows]
        decided[rows] = focal_log_posterior(shifted[rows], gamma, back).argmax(-1)
    return decided


def least_slope(gamma: float) -> float:
    """A bound from below on the derivative of log h(v) by log v, for v in (0, 1).

    With L = -log v it is ``1 - gamma v (L - 2 + (1 - gamma) v L / (1 - v)) / (1 - v + gamma v L)``.
    Since v L <= 1 - v, that is at least the bound if ``4 v L - 3 v <= 1``; and this is at most 0.7.
    """
    return 4 / (4 + gamma)
