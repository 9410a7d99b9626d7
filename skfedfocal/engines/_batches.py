"""The rows that a block of clients trains on, fetched in the order of steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._class_weight import of_rows
from skfedfocal._data.blocks import Block
from skfedfocal._data.memory import Memory
from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal.engines._evaluate import Predict
from skfedfocal.engines._recall import RecallSample, decisions

_SEGMENT_VALUES = 1 << 21  # features fetched at a time: 8 MB in single precision


@dataclass
class Batch:
    """One batch of each of k clients.

    Attributes
    ----------
    x : Tensor of shape (k, width, ...)
    y : int64 Tensor of shape (k, width)
    weight : Tensor of shape (k, width)
        Weight of each row in its client's objective; 0 for padding.
    constants : Tensor of shape (n_constants,) or (k, 1, n_constants), or None
        The loss's numbers, by class as a rule.
    """

    x: Tensor
    y: Tensor
    weight: Tensor
    constants: Tensor | None


class BlockRows:
    """Labels, weights and features of a block's batches.

    Parameters
    ----------
    block : Block
        Which rows, in which order.
    rows : FederatedRows
        Where they are.
    class_weight : ndarray of shape (n_classes,) or (m, n_classes), or None
        Of the objective; of all clients, or of each.
    constants : Tensor of shape (n_constants,) or (m, n_constants), or None
        The loss's; of all clients, or of each.
    like : Tensor
        Of the type and on the device of the parameters.
    as_they_are : bool, default=False
        Whether rows keep their class weights, instead of weighing 1 on average over each client:
        a mean over its rows would let each of them change the weight of all others.

    Attributes
    ----------
    mean_weights : ndarray of shape (m,)
        Mean class weight of each client's rows.
    """

    def __init__(
        self,
        block: Block,
        rows: FederatedRows,
        class_weight: NDArray[np.float64] | None,
        constants: Tensor | None,
        like: Tensor,
        *,
        as_they_are: bool = False,
    ):
        self.block = block
        self.constants = constants
        self._rows = rows
        y = rows.labels(block.places)
        self._row_weight = np.where(block.share > 0, rows.weights(block.places), 0.0)
        weight = block.share * self._row_weight
        self.mean_weights = np.ones(len(block.members))
        if class_weight is not None:
            owner, m = self._owner, len(block.members)
            of_row = of_rows(class_weight, y, owner)
        if class_weight is not None and as_they_are:
            weight = weight * of_row
        elif class_weight is not None:
            # Each client's rows weigh 1 on average, so that its steps keep their length.
            total = np.bincount(owner, self._row_weight, m)
            mean = np.bincount(owner, self._row_weight * of_row, m) / total
            weight = weight * of_row / np.where(mean > 0, mean, 1.0)[owner]
            self.mean_weights = mean
        self.labels = torch.from_numpy(y).to(like.device)
        self.weight = torch.from_numpy(weight).to(like)

    @cached_property
    def _owner(self) -> NDArray[np.int64]:
        return self.block.owners()

    def recalls(self, predict: Predict, plan: LocalPlan) -> NDArray[np.float64]:
        """The clients' recalls of a model, given by its logits, of shape (m,)."""
        sample, block = self.recall_sample(plan), self.block
        found = decisions(predict, self._rows, block.members, block.places, sample, plan)
        return sample.recalls(found)

    def recall_sample(self, plan: LocalPlan) -> RecallSample:
        """Rows on which the recalls are estimated, by their places in the block."""
        block, owner = self.block, self._owner
        of_first_epoch = block.share > 0
        if plan.n_epochs > 1:
            n_steps = -(-self._rows.layout.sizes_of(block.members) // plan.batch_size)
            of_first_epoch &= block.steps() < n_steps[owner]
        among = np.flatnonzero(of_first_epoch)
        weight = 1.0 if self._rows.sample_weight is None else self._row_weight[among]
        labels = self.labels.cpu().numpy()[among]
        m, n_classes = len(block.members), self._rows.n_classes
        sample = RecallSample.draw(owner[among], labels, weight, m, n_classes, plan)
        return replace(sample, index=among[sample.index])

    def columns(self, places: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.int64]:
        """In which columns of `by_client` rows are that have these places in the block."""
        step = np.searchsorted(self.block.start, places, side="right") - 1
        return column[step] + (places - self.block.start[step]) % self.block.width[step]

    def by_client(self, column: NDArray[np.int64], memory: Memory) -> Tensor:
        """Features client by client, (m, column[-1], ...), with those of step s from column[s] on.

        Where a client has no such step there is its first row.
        """
        m, start = len(self.block.members), self.block.start
        places = np.repeat(self.block.places[: start[1]].reshape(m, -1)[:, :1], column[-1], axis=1)
        for s, (k, w) in enumerate(zip(self.block.alive, self.block.width, strict=True)):
            here = self.block.places[start[s] : start[s + 1]]
            places[:k, column[s] : column[s + 1]] = here.reshape(k, w)
        x = self._rows.features(places.ravel(), memory)
        return x.view(m, -1, *x.shape[1:])

    def batch(self, step: int, x: Tensor) -> Batch:
        """The batch of a step, whose features are given, (k, width, ...)."""
        k, w = int(self.block.alive[step]), int(self.block.width[step])
        here = slice(int(self.block.start[step]), int(self.block.start[step + 1]))
        constants = self.constants
        if constants is not None and constants.ndim == 2:
            constants = constants[:k, None]
        return Batch(
            x,
            self.labels[here].view(k, w),
            self.weight[here].view(k, w),
            constants,
        )

    def batches(self, memory: Memory) -> Iterator[Batch]:
        """All batches in order; features are fetched for several steps at a time."""
        start = self.block.start
        for lo, hi in _segments(start, _SEGMENT_VALUES // self._rows.row_values):
            x = self._rows.features(self.block.places[start[lo] : start[hi]], memory)
            for step in range(lo, hi):
                here = x[start[step] - start[lo] : start[step + 1] - start[lo]]
                k, w = int(self.block.alive[step]), int(self.block.width[step])
                yield self.batch(step, here.view(k, w, *x.shape[1:]))

    def n_batches(self, plan: LocalPlan) -> NDArray[np.float64]:
        """Batches of each client, of shape (m,)."""
        sizes = self._rows.layout.sizes_of(self.block.members)
        return (-(-sizes // plan.batch_size) * plan.n_epochs).astype(np.float64)


def _segments(start: NDArray[np.int64], max_rows: int) -> Iterator[tuple[int, int]]:
    """Cut the steps into runs of at most that many rows (or one step)."""
    lo, n_steps = 0, len(start) - 1
    while lo < n_steps:
        hi = int(np.searchsorted(start, start[lo] + max_rows, side="right")) - 1
        hi = min(max(hi, lo + 1), n_steps)
        yield lo, hi
        lo = hi
