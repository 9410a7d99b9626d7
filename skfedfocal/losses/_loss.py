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

    def decide(self, logits: Tensor, constants: Tensor | None = None) -> Tensor:
        """Most probable class of each row; the posterior is mapped only where it could differ."""
        scores = logits if self.keeps_order else self.log_posterior(logits, constants)
        return scores.argmax(-1)

    def decision_prior(self, prior: np.ndarray) -> np.ndarray:
        """Class prior to which `log_posterior` refers, given that of the training rows.

        Up to a factor; class weights count on top.
        """
        return prior


def against_others(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """``logsumexp(z_others) - z_y`` (...) and the softmax among the others (..., n_classes)."""
    index = y.unsqueeze(-1)
    top, weights, total = exponentials(logits.scatter(-1, index, -torch.inf))
    margin = total.log() + top - logits.gather(-1, index)
    return margin.squeeze(-1), weights / total


def log_softmax(logits: Tensor) -> Tensor:
    """Log of the softmax over the classes."""
    top, _, total = exponentials(logits)
    return (logits - top).sub_(total.log())


def exponentials(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Largest logit, exponentials below it, and their sum over the classes.

    By hand: torch's softmax over a short last axis takes three times as long.
    """
    top = logits.detach().amax(-1, keepdim=True)
    weights = (logits - top).exp()
    return top, weights, weights.sum(-1, keepdim=True)


def stable_softplus(x: Tensor) -> Tensor:
    return softplus(x, threshold=40)  # torch's own threshold of 20 is wrong from the 9th digit
