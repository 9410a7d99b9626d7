"""A client's work in a round: the objective it minimises and its steps of local SGD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal.losses import Loss

ClassWeight = NDArray[np.float64] | Literal["local"] | None


@dataclass(frozen=True)
class LocalPlan:
    """How every client trains: the server sends it along with the global model.

    The local objective of client k is the weighted mean over its rows i of ``loss(f(x_i), y_i)``,
    with weights ``sample_weight_i * class_weight[y_i]``, plus
    ``proximal / 2 * ||w - theta||^2 + weight_decay / 2 * ||w||^2``; and the client counts by the
    sum of these weights. So a client with many rows of heavy classes does not take longer steps:
    its update counts more, and the sum over clients is the same objective.

    Where clients report their recall, it is that of rows weighed by class with `recall_weight`, or
    so that all classes which the client has weigh alike.
    """

    loss: Loss
    class_weight: ClassWeight
    constants: Tensor | None
    n_epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    proximal: float
    seed: int
    recall_weight: NDArray[np.float64] | None = None

    @property
    def needs_own_counts(self) -> bool:
        """Whether a client looks at its own label counts."""
        return isinstance(self.class_weight, str) or self.loss.counts == "local"

    def class_weights(self, own_counts: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        """Class weights given the client's own label counts where needed, (C,) or (m, C)."""
        if isinstance(self.class_weight, str):
            assert own_counts is not None
            return balanced_class_weights(own_counts)
        return self.class_weight

    @property
    def weight_range(self) -> tuple[float, float]:
        """Between what the mean class weight of a client's rows can lie."""
        if self.class_weight is None or isinstance(self.class_weight, str):
            return 1.0, 1.0
        return float(self.class_weight.min()), float(self.class_weight.max())

    def recall(self, hits: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of each client's rows that a model gets right, rows weighed by class.

        Parameters
        ----------
        hits, counts : ndarray of shape (m, n_classes)
            Rows by class that the model got right, and rows by class.

        Returns
        -------
        recall : ndarray of shape (m,)
            1 for a client whose rows weigh nothing.
        """
        by_class = self.recall_weight
        weights = balanced_class_weights(counts) if by_class is None else by_class
        total = (weights * counts).sum(-1)
        right = (weights * hits).sum(-1)
        return np.divide(right, total, out=np.ones_like(total), where=total > 0)

    def loss_constants(self, own_counts: NDArray[np.float64] | None, like: Tensor) -> Tensor | None:
        """The loss's constants given the client's own label counts where needed."""
        if self.loss.counts == "local":
            return self.loss.constants(torch.as_tensor(own_counts).to(like))
        return None if self.constants is None else self.constants.to(like)


def balanced_class_weights(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights ``n / (n_present * n_c)``: each class present weighs the same, rows 1 on average.

    Parameters
    ----------
    counts : ndarray of shape (..., n_classes)
        Rows by class.

    Returns
    -------
    weights : ndarray of shape (..., n_classes)
        0 for a class without rows.
    """
    total = counts.sum(-1, keepdims=True)
    n_present = (counts > 0).sum(-1, keepdims=True)
    return np.divide(total, n_present * counts, out=np.zeros_like(counts), where=counts > 0)


def effective_class_weights(
    counts: NDArray[np.float64], beta: float = 0.999
) -> NDArray[np.float64]:
    """Weights by the effective number of rows (Cui et al., CVPR 2019), rows 1 on average.

    Parameters
    ----------
    counts : ndarray of shape (n_classes,)
        Rows by class.
    beta : float, default=0.999
        How much rows of a class overlap, in [0, 1): 0 weighs all rows alike, near 1 all classes.

    Returns
    -------
    weights : ndarray of shape (n_classes,)
        0 for a class without rows.
    """
    number = (1 - beta**counts) / (1 - beta)
    weights = np.divide(1.0, number, out=np.zeros_like(counts), where=counts > 0)
    return weights * counts.sum() / (weights @ counts)


def sgd_step(
    params: list[Tensor],
    gradients: list[Tensor],
    momenta: list[Tensor],
    start: list[Tensor],
    plan: LocalPlan,
) -> None:
    """One step of SGD in place, as torch.optim.SGD, with the proximal pull towards `start`."""
    for i, (param, gradient) in enumerate(zip(params, gradients, strict=True)):
        if plan.weight_decay:
            gradient = gradient + plan.weight_decay * param
        if plan.proximal:
            gradient = gradient + plan.proximal * (param - start[i])
        if plan.momentum:
            gradient = momenta[i].mul_(plan.momentum).add_(gradient)
        param.sub_(gradient, alpha=plan.learning_rate)
