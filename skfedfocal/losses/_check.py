"""Whether a loss can train a federation, found by trying it on a few rows before training."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skfedfocal.losses._loss import Loss


def check_loss(loss: Loss, n_classes: int, dtype: torch.dtype) -> None:
    """Raise ValueError for a loss that lacks something, or does not give a number for each row.

    Parameters
    ----------
    loss : Loss
        What is to be minimised.
    n_classes : int
        Columns of the logits.
    dtype : torch.dtype
        Of the logits.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import FocalLoss, check_loss
    >>> check_loss(FocalLoss(), 3, torch.float32)
    """
    name = type(loss).__name__
    for method, what in _NEEDED.items():
        if getattr(type(loss), method) is getattr(Loss, method):
            raise ValueError(f"loss {name} lacks {method}: {what}; see skfedfocal.losses.Loss.")
    n = n_classes + 1  # so that a number for each class is not taken for one for each row
    logits = torch.randn((n, n_classes), generator=torch.Generator().manual_seed(0)).to(dtype)
    y = torch.arange(n) % n_classes
    with torch.no_grad():
        constants = _constants(loss, n_classes, logits)
    leaf = logits.clone().requires_grad_()
    with torch.enable_grad():
        rows = _tried(loss, "__call__", (n,), leaf, y, constants)
    if not torch.isfinite(rows).all():
        raise ValueError(f"loss {name} is not finite for ordinary logits: {rows.tolist()}.")
    if not rows.requires_grad:
        raise ValueError(
            f"loss {name} is not differentiable: no gradient reaches the logits. It must be made "
            "of torch's operations on them, without detach or a detour over NumPy."
        )
    _check_gradient(loss, logits, y, constants, torch.autograd.grad(rows.sum(), leaf)[0])
    with torch.no_grad():
        log_posterior = _tried(loss, "log_posterior", (n, n_classes), logits, constants)
    total = log_posterior.exp().sum(1)
    if not ((total - 1).abs() < _tolerance(dtype)).all():
        raise ValueError(
            f"loss {name}: log_posterior gives no log-probabilities; their exponentials sum to "
            f"{total.tolist()} instead of 1."
        )


_NEEDED = {
    "__call__": "the loss of each row",
    "log_posterior": "the log-probabilities of the classes, by which the model predicts",
}


def _constants(loss: Loss, n_classes: int, like: Tensor) -> Tensor | None:
    """Such as it will be given."""
    counts = torch.arange(1.0, n_classes + 1)
    found = loss.divide(counts.numpy().astype(np.float64))[1]
    if loss.counts is not None:
        found = loss.constants(counts)
    return None if found is None else found.to(like)


def _tried(loss: Loss, method: str, shape: tuple[int, ...], *args: Tensor | None) -> Tensor:
    """What a method gives, in the shape that it must have."""
    found, name = _called(loss, method, *args), type(loss).__name__
    if not isinstance(found, Tensor):
        raise ValueError(f"loss {name}: {method} must give a tensor; found {found!r}.")
    if found.ndim == 0:
        raise ValueError(
            f"loss {name} gives one number for all rows, as a mean is, instead of one for each; "
            "leave out the mean, or use reduction='none'."
        )
    if found.shape != shape:
        raise ValueError(
            f"loss {name}: {method} must give shape {shape}, the first dimension being that of "
            f"rows; found {tuple(found.shape)}."
        )
    return found


def _called(loss: Loss, method: str, *args: Tensor | None) -> Any:
    try:
        return getattr(loss, method)(*args)
    except Exception as error:
        raise ValueError(
            f"loss {type(loss).__name__}: {method} raised {type(error).__name__}: {error}"
        ) from error


def _check_gradient(
    loss: Loss, logits: Tensor, y: Tensor, constants: Tensor | None, wanted: Tensor
) -> None:
    """A closed form must be that of the loss, also for the rows of several clients at once."""
    several, labels, wanted = (torch.stack([t, t.flip(0)]) for t in (logits, y, wanted))
    found = _called(loss, "gradient", several, labels, constants)[1]
    if found.shape != wanted.shape or not (found - wanted).abs().max() < _tolerance(logits.dtype):
        raise ValueError(
            f"loss {type(loss).__name__}: gradient is not the derivative of the loss. A class that "
            "derives from another loss and changes its formula needs a gradient of its own, or "
            "`gradient = Loss.gradient`, which is by automatic differentiation."
        )


def _tolerance(dtype: torch.dtype) -> float:
    return float(10 * torch.finfo(dtype).eps ** 0.5)
