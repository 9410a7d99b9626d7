"""How well a model does on the rows of each client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._local import LocalPlan, balanced_recall
from skfedfocal.engines._data import FederatedRows

_SEGMENT_ROWS = 1 << 13


@dataclass(frozen=True)
class Evaluation:
    """Sums over the rows of each of m clients.

    Attributes
    ----------
    hits, counts : ndarray of shape (m, n_classes)
        Weight of the rows of each class that the model gets right, and of all.
    loss : ndarray of shape (m,)
        Sum of the objective's weighted loss.
    """

    hits: NDArray[np.float64]
    counts: NDArray[np.float64]
    loss: NDArray[np.float64]

    @property
    def recall(self) -> NDArray[np.float64]:
        """Balanced recall of each client, of shape (m,)."""
        return balanced_recall(self.hits, self.counts)


def evaluate(
    predict: Callable[[Tensor], Tensor],
    rows: FederatedRows,
    members: NDArray[np.int64],
    plan: LocalPlan,
) -> Evaluation:
    """Evaluate one model, given by its logits, on the rows of the given clients.

    Parameters
    ----------
    predict : callable
        From rows (n, ...) to logits (n, n_classes).
    rows : FederatedRows
        Where the rows are.
    members : ndarray of shape (m,)
        Client numbers.
    plan : LocalPlan
        Its loss and class weights make the objective.

    Returns
    -------
    evaluation : Evaluation
        Of each client.
    """
    offsets, sizes = rows.layout.offsets, rows.layout.sizes[members]
    owners = np.repeat(np.arange(len(members)), sizes)
    places = np.arange(len(owners)) + np.repeat(offsets[members] - np.cumsum(sizes) + sizes, sizes)
    hits, counts = np.zeros((2, len(members), rows.n_classes))
    loss = np.zeros(len(members))
    label_counts = rows.label_counts(members) if plan.needs_own_counts else None
    class_weight = plan.class_weights(label_counts)
    for lo in range(0, len(places), _SEGMENT_ROWS):
        here, owner = places[lo : lo + _SEGMENT_ROWS], owners[lo : lo + _SEGMENT_ROWS]
        y = rows.labels(here)
        weight = np.broadcast_to(rows.weights(here), y.shape)
        logits = predict(rows.features(here))
        np.add.at(counts, (owner, y), weight)
        np.add.at(hits, (owner, y), weight * (logits.argmax(1).cpu().numpy() == y))
        if class_weight is not None:
            weight = weight * (
                class_weight[y] if class_weight.ndim == 1 else class_weight[owner, y]
            )
        constants = plan.loss_constants(label_counts, logits)
        if constants is not None and constants.ndim == 2:
            constants = constants[torch.as_tensor(owner)]
        losses = plan.loss(logits, torch.as_tensor(y, device=logits.device), constants)
        np.add.at(loss, owner, weight * losses.cpu().numpy())
    return Evaluation(hits, counts, loss)
