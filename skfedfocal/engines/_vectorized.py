"""Blocks of clients at once: the engine of `fit`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._batches import Block, schedule
from skfedfocal._local import LocalPlan
from skfedfocal._module import ParameterLayout
from skfedfocal.engines._data import FederatedRows
from skfedfocal.engines._engine import Engine, Updates
from skfedfocal.engines._evaluate import Evaluation, evaluate
from skfedfocal.engines._kernels import Batch, Kernel, choose_kernel

_SEGMENT_VALUES = 1 << 21  # features fetched at a time: 8 MB in single precision


class VectorizedEngine(Engine):
    """Trains a block of clients side by side on stacked parameters.

    The kernel (how a block's forward and backward pass is done) is chosen by the module; the
    numbers are those of `LoopEngine`.
    """

    def __init__(
        self, module: nn.Module, rows: FederatedRows, held_out: FederatedRows | None = None
    ):
        self.module = module
        self.rows = rows
        self.held_out = held_out
        self.layout = ParameterLayout.of(module)
        self.kernel: Kernel = choose_kernel(module, rows)

    @property
    def sizes(self) -> NDArray[np.float64]:
        return self.rows.sizes

    def label_counts(self) -> NDArray[np.float64]:
        return self.rows.label_counts

    def train(
        self,
        theta: Tensor,
        cohort: NDArray[np.int64],
        round_: int,
        plan: LocalPlan,
        *,
        want_recall: bool = False,
        want_validation: bool = False,
    ) -> Iterator[Updates]:
        start = self.layout.split(theta)
        blocks = schedule(
            cohort,
            self.rows.layout.offsets,
            seed=plan.seed,
            round_=round_,
            n_epochs=plan.n_epochs,
            batch_size=plan.batch_size,
            block_size=self.kernel.block_size,
        )
        for block in blocks:
            recalls = validation = None
            if want_recall:
                recalls = self._evaluate(self.rows, start, block.members, plan).recall
            if want_validation:
                validation = self._validate(start, block.members, plan)
            models, losses = self._train_block(start, block, round_, plan)
            yield Updates(
                clients=block.members,
                sizes=self.sizes[block.members],
                losses=losses,
                recalls=recalls,
                validation=validation,
                deltas=torch.cat([m.flatten(1) for m in models], 1) - theta,
            )

    def _train_block(
        self, start: list[Tensor], block: Block, round_: int, plan: LocalPlan
    ) -> tuple[list[Tensor], NDArray[np.float64]]:
        """Local models of a block, one tensor (m, *shape) for each parameter, and mean losses."""
        m = len(block.members)
        stacks = [p.expand(m, *p.shape).clone() for p in start]
        momenta = [torch.zeros_like(s) for s in stacks] if plan.momentum else []
        counts = self.rows.label_counts[block.members]
        constants = plan.loss_constants(counts, start[0])
        losses = torch.zeros(m, dtype=start[0].dtype, device=start[0].device)
        self.kernel.begin(plan, round_, block.members)
        for k, batch in self._batches(block, plan, counts):
            if constants is not None:
                batch.constants = constants[:k, None] if constants.ndim == 2 else constants
            losses[:k] += self.kernel.step(
                [s[:k] for s in stacks], batch, [b[:k] for b in momenta], start, plan
            )
        n_batches = -(-self.rows.layout.sizes[block.members] // plan.batch_size) * plan.n_epochs
        return stacks, losses.cpu().numpy().astype(np.float64) / n_batches

    def _batches(
        self, block: Block, plan: LocalPlan, counts: NDArray[np.float64]
    ) -> Iterator[tuple[int, Batch]]:
        """The block's batches in order; features are fetched for several steps at a time."""
        y = self.rows.labels(block.places)
        weights = block.share * self.rows.weights(block.places)
        class_weight = plan.class_weights(counts)
        if class_weight is not None:
            weights *= (
                class_weight[y] if class_weight.ndim == 1 else class_weight[block.owners(), y]
            )
        labels = torch.from_numpy(y).to(self.rows.device)
        row_weight = torch.from_numpy(weights).to(self.rows.device, self.layout_dtype)
        for lo, hi in _segments(block.start, max(1, _SEGMENT_VALUES // self.kernel.row_values)):
            first = block.start[lo]
            features = self.rows.features(block.places[first : block.start[hi]])
            for s in range(lo, hi):
                k, w = int(block.alive[s]), int(block.width[s])
                here = slice(block.start[s], block.start[s + 1])
                x = features[here.start - first : here.stop - first]
                yield (
                    k,
                    Batch(
                        x.view(k, w, *x.shape[1:]),
                        labels[here].view(k, w),
                        row_weight[here].view(k, w),
                    ),
                )

    @property
    def layout_dtype(self) -> torch.dtype:
        return next(self.module.parameters()).dtype

    def _evaluate(
        self, rows: FederatedRows, start: list[Tensor], members: NDArray[np.int64], plan: LocalPlan
    ) -> Evaluation:
        return evaluate(lambda x: self.kernel.predict(start, x), rows, members, plan)

    def _validate(
        self, start: list[Tensor], members: NDArray[np.int64], plan: LocalPlan
    ) -> NDArray[np.float64]:
        assert self.held_out is not None
        found = self._evaluate(self.held_out, start, members, plan)
        return np.stack([found.loss, found.counts.sum(1)], 1)


def _segments(start: NDArray[np.int64], max_rows: int) -> Iterator[tuple[int, int]]:
    """Cut the steps into runs of at most that many rows (or one step)."""
    lo, n_steps = 0, len(start) - 1
    while lo < n_steps:
        hi = int(np.searchsorted(start, start[lo] + max_rows, side="right")) - 1
        hi = min(max(hi, lo + 1), n_steps)
        yield lo, hi
        lo = hi
