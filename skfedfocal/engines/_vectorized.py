"""Blocks of clients at once: the engine of `fit`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._batches import schedule
from skfedfocal._local import LocalPlan
from skfedfocal._module import ParameterLayout
from skfedfocal.engines._blocks import BlockRows
from skfedfocal.engines._choice import choose_kernel
from skfedfocal.engines._data import FederatedRows
from skfedfocal.engines._dual import DualKernel
from skfedfocal.engines._engine import Engine, Updates
from skfedfocal.engines._evaluate import Evaluation, evaluate
from skfedfocal.engines._kernels import Kernel
from skfedfocal.engines._mlp import MLPKernel


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
        self.kernel = choose_kernel(module, rows)
        self.dual = DualKernel(module) if isinstance(self.kernel, MLPKernel) else None

    @property
    def sizes(self) -> NDArray[np.float64]:
        return self.rows.sizes

    def label_counts(self) -> NDArray[np.float64]:
        return self.rows.label_counts(np.arange(len(self.sizes)))

    def label_totals(self) -> NDArray[np.float64]:
        return self.rows.label_totals()

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
        kernel = self._kernel(plan, self.rows.layout.sizes[cohort])
        blocks = schedule(
            cohort,
            self.rows.layout.offsets,
            seed=plan.seed,
            round_=round_,
            n_epochs=plan.n_epochs,
            batch_size=plan.batch_size,
            block_size=kernel.block_size,
        )
        for block in blocks:
            recalls = validation = None
            if want_recall:
                recalls = self._evaluate(self.rows, start, block.members, plan).recall
            if want_validation:
                validation = self._validate(start, block.members, plan)
            counts = self.rows.label_counts(block.members) if plan.needs_own_counts else None
            class_weight, constants = plan.class_weights(counts), plan.loss_constants(counts, theta)
            rows = BlockRows(block, self.rows, class_weight, constants, theta)
            deltas, losses = kernel.train(start, rows, round_, plan)
            yield Updates(
                clients=block.members,
                sizes=self.sizes[block.members],
                mean_weights=rows.mean_weights,
                losses=losses,
                recalls=recalls,
                validation=validation,
                deltas=deltas,
            )

    def _kernel(self, plan: LocalPlan, sizes: NDArray[np.int64]) -> Kernel:
        if self.dual is not None and self.dual.pays(plan, sizes):
            self.dual.fit_block_size(plan, sizes)
            return self.dual
        return self.kernel

    def _evaluate(
        self, rows: FederatedRows, start: list[Tensor], members: NDArray[np.int64], plan: LocalPlan
    ) -> Evaluation:
        return evaluate(lambda x: self.kernel.predict(start, x), rows, members, plan)

    def _validate(
        self, start: list[Tensor], members: NDArray[np.int64], plan: LocalPlan
    ) -> NDArray[np.float64]:
        assert self.held_out is not None
        found = self._evaluate(self.held_out, start, members, plan)
        return np.stack([found.loss, found.weight], 1)
