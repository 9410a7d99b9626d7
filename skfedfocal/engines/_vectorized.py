"""Blocks of clients at once: the engine of `fit`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.blocks import Block, schedule
from skfedfocal._data.rows import FederatedRows
from skfedfocal._module import ParameterShapes
from skfedfocal._threads import allowed_threads
from skfedfocal.engines._batches import BlockRows
from skfedfocal.engines._crew import Crew
from skfedfocal.engines._engine import Failure, Task, Updates
from skfedfocal.engines._in_process import InProcessEngine
from skfedfocal.engines._kernels import kernel_of_round, kernels_for
from skfedfocal.engines._kernels.kernel import Kernel


class VectorizedEngine(InProcessEngine):
    """Trains a block of clients side by side on stacked parameters.

    The kernel (how a block's forward and backward pass is done) is chosen by the module; the
    numbers are those of `LoopEngine`.
    """

    def __init__(
        self, module: nn.Module, rows: FederatedRows, held_out: FederatedRows | None = None
    ):
        super().__init__(module, rows, held_out)
        self.shapes = ParameterShapes.of(module)
        self.kernels = kernels_for(module, rows)
        self.kernel = self.kernels[-1]
        on_cpu = rows.device.type == "cpu"
        self.way = self.kernel.way
        self.crew = Crew(allowed_threads() if on_cpu and self.kernel.threads_well else 1)

    @property
    def clips_rows(self) -> bool:
        return self.kernel.has_row_norms

    def logits(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        start = self.shapes.split(theta)
        return lambda x: self.kernel.predict(start, x)

    def train(self, task: Task) -> Iterator[Updates | Failure]:
        if len(task.cohort) == 0:
            return
        if task.plan.private is not None:
            yield from self._train_privately(task)
            return
        plan, start = task.plan, self.shapes.split(task.theta)
        kernel = kernel_of_round(self.kernels, plan, self.rows.layout.sizes_of(task.cohort))
        self.way = kernel.way
        blocks = self._blocks(task.cohort, task, kernel.block_size)
        yield from self._spread(
            kernel, blocks, lambda twin, block: self._replies(twin, start, block, task)
        )

    def _train_privately(self, task: Task) -> Iterator[Updates | Failure]:
        """Steps over rows drawn by chance, each row's gradient clipped."""
        from skfedfocal.engines import _private  # imported where it is asked for

        blocks = _private.blocks(task, self.rows.layout.offsets, self.kernel.block_size)
        self.way = self.kernel.way
        yield from self._spread(
            self.kernel,
            blocks,
            lambda twin, block: [_private.train_block(twin, self.shapes, block, self.rows, task)],
        )

    def _spread(
        self,
        kernel: Kernel,
        blocks: Iterator[Block],
        train: Callable[[Kernel, Block], list[Updates | Failure]],
    ) -> Iterator[Updates | Failure]:
        """Train the blocks, on several threads where that is faster."""
        idle = SimpleQueue[Kernel]()  # one for each thread
        for twin in kernel.twins(self.crew.n_threads):
            idle.put(twin)

        def work(block: Block) -> list[Updates | Failure]:
            twin = idle.get()
            try:
                return train(twin, block)
            finally:
                idle.put(twin)

        for replies in self.crew.run(blocks, work):
            yield from replies

    def _replies(
        self, kernel: Kernel, start: list[Tensor], block: Block, task: Task
    ) -> list[Updates | Failure]:
        """The block's replies; of one in which the module raises, client by client."""
        try:
            return [self._train_block(kernel, start, block, task)]
        except Exception as error:
            if len(block.members) == 1:
                return [Failure.of(block.members[0], error)]
        alone = self._blocks(block.members, task, block_size=1)
        return [reply for one in alone for reply in self._replies(kernel, start, one, task)]

    def _blocks(self, clients: NDArray[np.int64], task: Task, block_size: int) -> Iterator[Block]:
        return schedule(
            clients,
            self.rows.layout.offsets,
            seed=task.plan.seed,
            round_=task.round,
            n_epochs=task.plan.n_epochs,
            batch_size=task.plan.batch_size,
            block_size=block_size,
        )

    def _train_block(
        self, kernel: Kernel, start: list[Tensor], block: Block, task: Task
    ) -> Updates:
        plan = task.plan
        counts = self.rows.label_counts(block.members) if plan.needs_own_counts else None
        constants = plan.loss_constants(counts, task.theta)
        rows = BlockRows(block, self.rows, plan.class_weights(counts), constants, task.theta)
        deltas, losses, recalls = kernel.train(
            start, rows, task.round, plan, want_recalls=task.needs_recall
        )
        row_weight = self.sizes[block.members] * rows.mean_weights
        n_rows = self.rows.layout.sizes_of(block.members)
        return Updates(
            clients=block.members,
            weights=plan.weigh(row_weight, n_rows, recalls),
            objective=np.column_stack([row_weight * losses, row_weight]),
            deltas=deltas,
            recalls=recalls if task.wants_recall else None,
        )
