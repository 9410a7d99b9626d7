"""A client's work in a round: the objective it minimises and its steps of local SGD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._class_weight import balanced_class_weights
from skfedfocal._focus import Focus
from skfedfocal.losses import Loss

if TYPE_CHECKING:
    from skfedfocal.privacy._plan import PrivateStep

RowWeights = NDArray[np.float64] | Literal["local"] | None


@dataclass(frozen=True)
class LocalPlan:
    """How every client trains and what it counts: the server sends it along with the global model.

    The local objective of client k is the weighted mean over its rows i of ``loss(f(x_i), y_i)``,
    with weights ``sample_weight_i * class_weight[y_i]``, plus
    ``proximal / 2 * ||w - theta||^2 + weight_decay / 2 * ||w||^2``; and the client counts by the
    sum of these weights. So a client with many rows of heavy classes does not take longer steps:
    its update counts more, and the sum over clients is the same objective.

    With a `focus` it counts by that sum times its score, from its recall of the model that it was
    sent: that of rows weighed by class with `recall_weight`, or so that all classes which the
    client has weigh alike; estimated on about `recall_rows` of them, where it has more.

    Where rows are `private`, each of ``n_epochs`` steps takes every row by chance, sums the
    gradients of weighted losses clipped row by row, adds the client's part of the noise, and
    divides by the client's entry of `denominators`; batch size, numbers of rows and mean weights
    play no part.
    """

    loss: Loss
    class_weight: RowWeights
    constants: Tensor | None
    n_epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    proximal: float
    seed: int
    recall_weight: NDArray[np.float64] | None = None
    recall_rows: int = 128  # so that what a round costs is hardly more with a focus than without
    focus: Focus | None = None
    private: PrivateStep | None = None
    denominators: NDArray[np.float64] | None = None

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

    def recall_shares(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of each class in each client's recall.

        Parameters
        ----------
        counts : ndarray of shape (m, n_classes)
            Rows by class.

        Returns
        -------
        shares : ndarray of shape (m, n_classes)
            They add up to 1 by client; all 0 for one whose rows weigh nothing.
        """
        by_class = self.recall_weight
        shares = counts * (balanced_class_weights(counts) if by_class is None else by_class)
        total = shares.sum(-1, keepdims=True)
        return np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)

    def weigh(
        self,
        row_weight: NDArray[np.float64],
        n_rows: NDArray[Any],
        recalls: NDArray[np.float64] | None,
    ) -> NDArray[np.float64]:
        """What each client counts, of shape (m,): a matter of its own rows alone.

        Parameters
        ----------
        row_weight : ndarray of shape (m,)
            Sum of the weights of the client's rows.
        n_rows : ndarray of shape (m,)
            Their number.
        recalls : ndarray of shape (m,) or None
            Recall of the model that was sent; needed with a `focus`.
        """
        if self.focus is None:
            return row_weight
        assert recalls is not None
        return row_weight * self.focus(recalls, n_rows)

    def loss_constants(self, own_counts: NDArray[np.float64] | None, like: Tensor) -> Tensor | None:
        """The loss's constants given the client's own label counts where needed."""
        if self.loss.counts == "local":
            return self.loss.constants(torch.as_tensor(own_counts).to(like))
        return None if self.constants is None else self.constants.to(like)


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
