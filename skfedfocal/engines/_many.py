"""Several federations over the same clients, trained side by side in the same blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.batches import Block, schedule
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal._module import ParameterLayout
from skfedfocal.engines._blocks import BlockRows
from skfedfocal.engines._deltas import StackedDeltas
from skfedfocal.engines._engine import Updates
from skfedfocal.engines._kernels import choose_kernel
from skfedfocal.engines._vectorized import VectorizedEngine


@dataclass(frozen=True)
class Request:
    """What one federation asks of its clients in a round.

    Attributes
    ----------
    theta : Tensor of shape (p,)
        Its global model.
    cohort : ndarray of shape (m,)
        Numbers of its clients that take part.
    part : int
        Which part of the rows its clients train on.
    plan : LocalPlan
        How; plans of one round differ in class weights, for training and for the recall, and in
        loss constants only.
    want_recall : bool
        Whether clients report their recall of the global model.
    """

    theta: Tensor
    cohort: NDArray[np.int64]
    part: int
    plan: LocalPlan
    want_recall: bool


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
        self.layout = ParameterLayout.of(module)
        self.kernel = choose_kernel(module, rows)
        self.engines = [VectorizedEngine(module, rows.regroup(part)) for part in parts]

    def train(self, requests: Sequence[Request], round_: int) -> Iterator[tuple[int, Updates]]:
        """Yield the replies in blocks, each with the number of the request it answers."""
        n_clients = max(len(request.cohort) for request in requests)
        if n_clients < self.kernel.block_size:
            yield from self._side_by_side(requests, round_)
            return
        for i, r in enumerate(requests):  # one federation fills a block by itself
            cohort = r.cohort[self.engines[r.part].sizes[r.cohort] > 0]
            engine = self.engines[r.part]
            for reply in engine.train(r.theta, cohort, round_, r.plan, want_recall=r.want_recall):
                yield i, reply

    def _side_by_side(
        self, requests: Sequence[Request], round_: int
    ) -> Iterator[tuple[int, Updates]]:
        """Clients of several federations in one block."""
        plan = requests[0].plan
        whose = np.concatenate([np.full(len(r.cohort), i) for i, r in enumerate(requests)])
        cohort = np.concatenate([r.cohort for r in requests])
        members = np.concatenate([r.cohort + r.part * self.n_clients for r in requests])
        there = self.rows.layout.sizes_of(members) > 0  # a part may leave a client without rows
        whose, cohort, members = whose[there], cohort[there], members[there]
        starts = [self.layout.split(r.theta) for r in requests]
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
            of = whose[block.positions]
            own = [leaf[torch.as_tensor(of)] for leaf in start]
            stacks = [leaf.clone() for leaf in own]
            rows = self._rows(requests, block, of, own[0])
            losses = self.kernel.train_stacks(stacks, own, rows, round_, plan)
            for i in np.unique(of):
                mine = np.flatnonzero(of == i)
                clients, r, recalls = cohort[block.positions[mine]], requests[i], None
                if r.want_recall:
                    recalls = self.engines[r.part].evaluate(starts[i], clients, r.plan).recall
                yield (
                    int(i),
                    Updates(
                        clients=clients,
                        sizes=self.rows.sizes[block.members[mine]],
                        mean_weights=rows.mean_weights[mine],
                        losses=losses[mine],
                        recalls=recalls,
                        validation=None,
                        deltas=StackedDeltas([s[torch.as_tensor(mine)] for s in stacks], starts[i]),
                    ),
                )

    def _rows(
        self, requests: Sequence[Request], block: Block, of: NDArray[np.int64], like: Tensor
    ) -> BlockRows:
        counts = self.rows.label_counts(block.members)
        weights = [requests[i].plan.class_weights(c) for i, c in zip(of, counts, strict=True)]
        class_weight = None
        if any(w is not None for w in weights):
            one = np.ones(self.rows.n_classes)
            class_weight = np.stack([one if w is None else w for w in weights])
        constants = [c for i in of if (c := requests[i].plan.constants) is not None]
        stacked = torch.stack(constants).to(like) if constants else None
        return BlockRows(block, self.rows, class_weight, stacked, like)
