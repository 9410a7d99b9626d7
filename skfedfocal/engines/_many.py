"""Several federations over the same clients, trained side by side in the same blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.blocks import Block, schedule
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.rows import FederatedRows
from skfedfocal._module import ParameterShapes
from skfedfocal.engines._batches import BlockRows
from skfedfocal.engines._deltas import StackedDeltas
from skfedfocal.engines._engine import Failure, Task, Updates
from skfedfocal.engines._kernels import choose_kernel
from skfedfocal.engines._recall import estimated_recalls
from skfedfocal.engines._vectorized import VectorizedEngine


@dataclass(frozen=True)
class Request:
    """What one federation asks of its clients in a round, and on which part of the rows.

    The plans of one round differ in class weights, for training and for the recall, and in
    loss constants only.
    """

    task: Task
    part: int


class ManyFederations:
    """Trains several federations at once, each with the numbers it would have by itself.

    Parameters
    ----------
    module : torch.nn.Module
        What they train.
    rows : FederatedRows
        All rows of all clients.
    parts : sequence of ClientLayout
        Same clients, different rows: the folds.
    """

    def __init__(self, module: nn.Module, rows: FederatedRows, parts: Sequence[ClientLayout]):
        self.n_clients = parts[0].n_clients
        sizes = np.concatenate([part.sizes for part in parts])
        # As if every client were there once for each part.
        together = ClientLayout(
            np.arange(len(sizes)),
            np.concatenate([[0], np.cumsum(sizes)]),
            np.concatenate([part.rows(np.arange(part.offsets[-1])) for part in parts]),
        )
        self.rows = rows.regroup(together)
        self.shapes = ParameterShapes.of(module)
        self.kernel = choose_kernel(module, rows)
        self.engines = [VectorizedEngine(module, rows.regroup(part)) for part in parts]

    def train(self, requests: Sequence[Request]) -> Iterator[tuple[int, Updates | Failure]]:
        """Yield the replies in blocks, each with the number of the request it answers."""
        if max(len(r.task.cohort) for r in requests) < self.kernel.block_size:
            yield from self._side_by_side(requests)
            return
        for i, r in enumerate(requests):  # one federation fills a block by itself
            cohort = r.task.cohort
            there = cohort[self.engines[r.part].sizes[cohort] > 0]
            yield from self._alone(requests, i, there)

    def _alone(
        self, requests: Sequence[Request], i: int, clients: NDArray[np.int64]
    ) -> Iterator[tuple[int, Updates | Failure]]:
        """Some clients of one federation, without the others."""
        engine, task = self.engines[requests[i].part], requests[i].task
        for reply in engine.train(replace(task, cohort=clients)):
            yield i, reply

    def _side_by_side(self, requests: Sequence[Request]) -> Iterator[tuple[int, Updates | Failure]]:
        """Clients of several federations in one block."""
        plan, round_ = requests[0].task.plan, requests[0].task.round
        whose = np.concatenate([np.full(len(r.task.cohort), i) for i, r in enumerate(requests)])
        cohort = np.concatenate([r.task.cohort for r in requests])
        members = np.concatenate([r.task.cohort + r.part * self.n_clients for r in requests])
        there = self.rows.layout.sizes_of(members) > 0  # a part may leave a client without rows
        whose, cohort, members = whose[there], cohort[there], members[there]
        starts = [self.shapes.split(r.task.theta) for r in requests]
        start = [torch.stack(leaves) for leaves in zip(*starts, strict=True)]
        for block in schedule(
            members,
            self.rows.layout.offsets,
            seed=plan.seed,
            round_=round_,
            n_epochs=plan.n_epochs,
            batch_size=plan.batch_size,
            block_size=self.kernel.block_size,
            numbers=cohort,
        ):
            of, numbers = whose[block.positions], cohort[block.positions]
            try:
                replies = self._train_block(requests, block, of, numbers, start, starts)
            except Exception:  # on the rows of one of them; which, its own engine tells
                for i in np.unique(of):
                    yield from self._alone(requests, int(i), numbers[of == i])
                continue
            yield from replies

    def _train_block(
        self,
        requests: Sequence[Request],
        block: Block,
        of: NDArray[np.int64],
        numbers: NDArray[np.int64],
        start: list[Tensor],
        starts: list[list[Tensor]],
    ) -> list[tuple[int, Updates]]:
        """Replies by request, of a block whose clients belong to these requests."""
        plan, round_ = requests[0].task.plan, requests[0].task.round
        own = [leaf[torch.as_tensor(of)] for leaf in start]
        stacks = [leaf.clone() for leaf in own]
        rows = self._rows(requests, block, of, own[0])
        losses = self.kernel.train_stacks(stacks, own, rows, round_, plan)
        replies = []
        for i in np.unique(of):
            mine = np.flatnonzero(of == i)
            deltas = StackedDeltas([s[torch.as_tensor(mine)] for s in stacks], starts[i])
            members = block.members[mine]
            row_weight = self.rows.sizes[members] * rows.mean_weights[mine]
            reply = self._reply(
                requests[i], numbers[mine], members, row_weight, losses[mine], deltas
            )
            replies.append((int(i), reply))
        return replies

    def _reply(
        self,
        request: Request,
        clients: NDArray[np.int64],
        members: NDArray[np.int64],
        row_weight: NDArray[np.float64],
        losses: NDArray[np.float64],
        deltas: StackedDeltas,
    ) -> Updates:
        task, engine, recalls = request.task, self.engines[request.part], None
        if task.needs_recall:
            predict = engine.logits(task.theta)
            recalls = estimated_recalls(predict, engine.rows, clients, task.plan, task.round)
        return Updates(
            clients=clients,
            weights=task.plan.weigh(row_weight, self.rows.layout.sizes_of(members), recalls),
            objective=np.column_stack([row_weight * losses, row_weight]),
            deltas=deltas,
            recalls=recalls if task.wants_recall else None,
        )

    def _rows(
        self, requests: Sequence[Request], block: Block, of: NDArray[np.int64], like: Tensor
    ) -> BlockRows:
        counts = self.rows.label_counts(block.members)
        weights = [requests[i].task.plan.class_weights(c) for i, c in zip(of, counts, strict=True)]
        class_weight = None
        if any(w is not None for w in weights):
            one = np.ones(self.rows.n_classes)
            class_weight = np.stack([one if w is None else w for w in weights])
        constants = [c for i in of if (c := requests[i].task.plan.constants) is not None]
        stacked = torch.stack(constants).to(like) if constants else None
        return BlockRows(block, self.rows, class_weight, stacked, like)
