"""How well a model does on the rows of each client."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._data.memory import Memory
from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan

_SEGMENT_VALUES = 1 << 17  # features evaluated at a time, so that activations stay in the cache


@dataclass(frozen=True)
class Evaluation:
    """Sums over the rows of each of m clients.

    Attributes
    ----------
    hits, counts : ndarray of shape (m, n_classes)
        Weight of the rows of each class that the model gets right, and of all.
    recall : ndarray of shape (m,)
        Of each client, as the plan weighs it.
    loss, weight : ndarray of shape (m,)
        Sums of the rows' losses, by their weight in the objective, and of these weights; zero where
        they were not asked for.
    """

    hits: NDArray[np.float64]
    counts: NDArray[np.float64]
    recall: NDArray[np.float64]
    loss: NDArray[np.float64]
    weight: NDArray[np.float64]


def evaluate(
    predict: Callable[[Tensor], Tensor],
    rows: FederatedRows,
    members: NDArray[np.int64],
    plan: LocalPlan,
    *,
    want_loss: bool = False,
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
        Its loss and class weights make the objective; it weighs the recall.
    want_loss : bool, default=False
        Whether the objective is evaluated too.

    Returns
    -------
    evaluation : Evaluation
        Of each client.
    """
    offsets, sizes = rows.layout.offsets, rows.layout.sizes_of(members)
    owners = np.repeat(np.arange(len(members)), sizes)
    places = np.arange(len(owners)) + np.repeat(offsets[members] - np.cumsum(sizes) + sizes, sizes)
    cells = np.zeros((2, len(members) * rows.n_classes))
    sums = np.zeros((2, len(members)))
    label_counts = rows.label_counts(members) if plan.needs_own_counts else None
    class_weight, memory = plan.class_weights(label_counts), Memory()
    step = max(256, _SEGMENT_VALUES // max(1, math.prod(rows.X.shape[1:])))
    for lo in range(0, len(places), step):
        here, owner = places[lo : lo + step], owners[lo : lo + step]
        labels = rows.labels(here)
        weight = np.broadcast_to(rows.weights(here), labels.shape)
        logits = predict(rows.features(here, memory))
        y = torch.as_tensor(labels, device=logits.device)
        constants = plan.loss_constants(label_counts, logits)
        if constants is not None and constants.ndim == 2:
            constants = constants[torch.as_tensor(owner)]
        hit = (plan.loss.decide(logits, constants) == y).cpu().numpy()
        _add(cells, owner * rows.n_classes + labels, (weight * hit, weight))
        if not want_loss:
            continue
        if class_weight is not None:
            of_class = class_weight.ndim == 1
            weight = weight * (class_weight[labels] if of_class else class_weight[owner, labels])
        losses = plan.loss(logits, y, constants).cpu().numpy()
        _add(sums, owner, (weight * losses, weight))
    hits, counts = cells.reshape(2, len(members), rows.n_classes)
    return Evaluation(hits, counts, plan.recall(hits, counts), *sums)


def _add(
    tables: NDArray[np.float64],
    places: NDArray[np.int64],
    columns: tuple[NDArray[np.float64], ...],
) -> None:
    """Add each column of values into its table at the given places."""
    first, end = int(places.min()), int(places.max()) + 1
    for table, values in zip(tables, columns, strict=True):
        table[first:end] += np.bincount(places - first, values, minlength=end - first)
