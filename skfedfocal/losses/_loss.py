"""What a loss is: a number per row, and the map from its logits to class probabilities."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from skfedfocal._component import Component
from skfedfocal._disclosure import LABEL_TOTALS


class Loss(Component):
    """A per-row loss of logits and labels that owns its posterior map.

    A loss of one's own derives from this class. Its constructor stores parameters under their own
    names and checks nothing, as an estimator's. It has

    - ``__call__(logits, y, constants)``: the loss of each row, of shape ``(n,)``, not their mean,
      for logits of shape ``(n, n_classes)`` and class numbers of shape ``(n,)``; finite, and
      differentiable by torch. A loss of torch's own does with ``reduction="none"``.
    - ``log_posterior(logits, constants)``: log-probabilities of the classes, ``(n, n_classes)``,
      given the logits that minimise the loss. For a proper loss it is the log-softmax. It makes
      `predict` as well as `predict_proba`, and the recalls that clients report in training.

    The rest has defaults. `gradient` is by automatic differentiation; a closed form makes training
    faster. Where the loss needs numbers by class, it sets `counts` and makes them in `constants`;
    they come to the other methods with shape ``(n_classes,)``, or ``(n, n_classes)`` where rows
    are of clients with numbers of their own. Otherwise constants are None.

    Two methods that are overridden take logits of any shape ``(..., n_classes)``: `gradient` and
    `decide`. A loss is tried on a few rows before training.

    Attributes
    ----------
    counts : {None, "federated", "local"}
        Whose label counts `constants` is given: nobody's, the sum over all clients (one vector,
        disclosed to the server), or each client's own (nothing leaves the client).

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.losses import Loss
    >>> class SmoothedLoss(Loss):
    ...     def __init__(self, smoothing=0.1):
    ...         self.smoothing = smoothing
    ...
    ...     def __call__(self, logits, y, constants=None):
    ...         return torch.nn.functional.cross_entropy(
    ...             logits, y, reduction="none", label_smoothing=self.smoothing
    ...         )
    ...
    ...     def log_posterior(self, logits, constants=None):
    ...         n_classes = logits.shape[1]
    ...         share = self.smoothing / n_classes
    ...         q = (torch.softmax(logits, 1) - share).clamp(min=1e-7)
    ...         return torch.log(q / q.sum(1, keepdim=True))
    >>> SmoothedLoss()(torch.zeros(1, 2), torch.tensor([0]))
    tensor([0.6931])
    """

    counts: Literal["federated", "local"] | None = None

    @property
    def discloses(self) -> frozenset[str]:
        """What this tells the server beyond what any training does."""
        return frozenset({LABEL_TOTALS}) if self.counts == "federated" else frozenset()

    @property
    def keeps_order(self) -> bool:
        """Whether the largest logit is always the most probable class."""
        return False

    def constants(self, counts: Tensor) -> Tensor | None:
        """Numbers by class that the loss derives from label counts of shape (..., n_classes)."""
        return None

    def divide(self, class_weight: np.ndarray) -> tuple[np.ndarray, Tensor | None]:
        """How class weights enter: as weights of rows, and as constants of the loss.

        Both of shape (n_classes,). Most losses take all of it as weights of rows.
        """
        return class_weight, None

    def __call__(self, logits: Tensor, y: Tensor, constants: Tensor | None = None) -> Tensor:
        """Loss of each row, of shape (n,), for logits (n, n_classes) and labels (n,)."""
        raise NotImplementedError

    def gradient(
        self, logits: Tensor, y: Tensor, constants: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Loss of each row and its derivative by the logits, of shapes (...), (..., n_classes)."""
        flat, constants = in_rows(logits, constants)
        with torch.enable_grad():
            leaf = flat.detach().requires_grad_()
            rows = self(leaf, y.reshape(-1), constants)
            (gradient,) = torch.autograd.grad(rows.sum(), leaf)
        return rows.detach().view(y.shape), gradient.view(logits.shape)

    def log_posterior(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        """Log-probabilities (n, n_classes) in the population that the loss decides for."""
        raise NotImplementedError

    def decide(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        """Most probable class of each row; the posterior is mapped only where it could differ."""
        if self.keeps_order:
            return logits.argmax(-1)
        flat, constants = in_rows(logits, constants)
        return self.log_posterior(flat, constants).argmax(-1).view(logits.shape[:-1])

    def decision_prior(self, prior: np.ndarray) -> np.ndarray:
        """Class prior to which `log_posterior` refers, given that of the training rows.

        Up to a factor; class weights count on top.
        """
        return prior


def in_rows(logits: Tensor, constants: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Rows of several clients as one table, and constants (n_constants,) or by row."""
    if constants is not None and constants.ndim > 1:
        constants = constants.expand(*logits.shape[:-1], -1).reshape(-1, constants.shape[-1])
    return logits.reshape(-1, logits.shape[-1]), constants


def against_others(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """``logsumexp(z_others) - z_y`` (...) and the softmax among the others (..., n_classes)."""
    index = y.unsqueeze(-1)
    top, weights, total = exponentials(logits.scatter(-1, index, -torch.inf))
    margin = total.log() + top - logits.gather(-1, index)
    return margin.squeeze(-1), weights / total


def log_softmax(logits: Tensor) -> Tensor:
    """Log of the softmax over the classes, finite for every finite logit."""
    top, _, total = exponentials(logits)
    return finite((logits - top).sub_(total.log()), logits.dtype)


def with_room(logits: Tensor) -> Tensor:
    """Logits in a type and within bounds in which sums and multiples of them do not overflow.

    The bounds are of no consequence: 1e19 in single precision.
    """
    wide = logits.float() if torch.finfo(logits.dtype).bits < 32 else logits
    limit = torch.finfo(wide.dtype).max ** 0.5
    return wide.clamp(-limit, limit)


def finite(log_posterior: Tensor, dtype: torch.dtype) -> Tensor:
    """Log-probabilities in the given type, the least number of which stands for all below it."""
    return log_posterior.clamp(min=torch.finfo(dtype).min).to(dtype)


def exponentials(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Largest logit, exponentials below it, and their sum over the classes.

    By hand: torch's softmax over a short last axis takes three times as long.
    """
    top = logits.detach().amax(-1, keepdim=True)
    weights = (logits - top).exp()
    return top, weights, weights.sum(-1, keepdim=True)


def stable_softplus(x: Tensor) -> Tensor:
    return softplus(x, threshold=40)  # torch's own threshold of 20 is wrong from the 9th digit
