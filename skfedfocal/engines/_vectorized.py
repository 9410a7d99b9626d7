"""Blocks of clients at once: the engine of `fit`."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.batches import Block, schedule
from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal._module import ParameterLayout
from skfedfocal._threads import allowed_threads
from skfedfocal.engines._blocks import BlockRows
from skfedfocal.engines._crew import Crew
from skfedfocal.engines._engine import Engine, Updates
from skfedfocal.engines._evaluate import Evaluation, evaluate
from skfedfocal.engines._kernels import kernel_of_round, kernels_for
from skfedfocal.engines._kernels.kernel import Kernel


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
        self.kernels = kernels_for(module, rows)
        self.kernel = self.kernels[-1]
        on_cpu = rows.device.type == "cpu"
        self.way = self.kernel.way
        self.crew = Crew(allowed_threads() if on_cpu and self.kernel.threads_well else 1)

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
        kernel = kernel_of_round(self.kernels, plan, self.rows.layout.sizes_of(cohort))
        self.way = kernel.way
        blocks = schedule(
            cohort,
            self.rows.layout.offsets,
            seed=plan.seed,
            round_=round_,
            n_epochs=plan.n_epochs,
            batch_size=plan.batch_size,
            block_size=kernel.block_size,
        )
        idle = SimpleQueue[Kernel]()  # one for each thread
        for twin in kernel.twins(self.crew.n_threads):
            idle.put(twin)

        def work(block: Block) -> Updates:
            twin = idle.get()
            try:
                return self._train_block(
                    twin, start, block, round_, plan, theta, want_recall, want_validation
                )
            finally:
                idle.put(twin)

        yield from self.crew.run(blocks, work)

    def _train_block(
        self,
        kernel: Kernel,
        start: list[Tensor],
        block: Block,
        round_: int,
        plan: LocalPlan,
        like: Tensor,
        want_recall: bool,
        want_validation: bool,
    ) -> Updates:
        validation = None
        if want_validation:
            assert self.held_out is not None
            found = evaluate(
                lambda x: kernel.predict(start, x),
                self.held_out,
                block.members,
                plan,
                want_loss=True,
            )
            validation = np.stack([found.loss, found.weight], 1)
        counts = self.rows.label_counts(block.members) if plan.needs_own_counts else None
        class_weight, constants = plan.class_weights(counts), plan.loss_constants(counts, like)
        rows = BlockRows(block, self.rows, class_weight, constants, like)
        deltas, losses, recalls = kernel.train(start, rows, round_, plan, want_recall=want_recall)
        return Updates(
            clients=block.members,
            sizes=self.sizes[block.members],
            mean_weights=rows.mean_weights,
            losses=losses,
            recalls=recalls,
            validation=validation,
            deltas=deltas,
        )

    def evaluate(
        self, start: list[Tensor], members: NDArray[np.int64], plan: LocalPlan
    ) -> Evaluation:
        """Evaluate a global model (*shape) on the rows of the given clients."""
        return evaluate(lambda x: self.kernel.predict(start, x), self.rows, members, plan)
