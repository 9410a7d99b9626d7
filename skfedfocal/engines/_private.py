"""Private steps: over rows drawn by chance, each row clipped, with the client's part of the noise.

Imported only where a training is private, since it takes what makes noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._data.blocks import Block, poisson_schedule
from skfedfocal._data.memory import Memory
from skfedfocal._data.rows import FederatedRows
from skfedfocal._module import ParameterShapes
from skfedfocal.engines._batches import BlockRows
from skfedfocal.engines._engine import Task, Updates
from skfedfocal.engines._kernels.kernel import Kernel
from skfedfocal.privacy._clipping import clip_factors
from skfedfocal.privacy._noise import NoiseSource

# What a stream of an experiment's random numbers is for.
SAMPLE, CLIENT, SERVER = range(3)

Draw = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


class BlockNoise:
    """The noise of some clients: of each its own where it is seeded, else all from one key.

    Parameters
    ----------
    task : Task
        Whose plan is private.
    members : ndarray of shape (m,)
        Client numbers.
    """

    def __init__(self, task: Task, members: NDArray[np.int64]):
        assert task.plan.private is not None
        self.deviation = task.plan.private.total.client_noise
        self._sources = _sources(task, CLIENT, members)

    def fill(self, flat: Tensor, sums: Sequence[Tensor], memory: Memory) -> None:
        """Overwrite the sums of the clients with it: they begin with it, and rows are added.

        Parameters
        ----------
        flat : Tensor of shape (m * p,)
            The memory of all sums.
        sums : list of Tensor
            That, by parameter: each (m, *shape).
        memory : Memory
            For what is drawn client by client.
        """
        if self.deviation == 0:
            flat.zero_()
        elif len(self._sources) == 1 and flat.device.type == "cpu":
            self._sources[0].normal(len(flat), flat.dtype, self.deviation, out=flat)
        else:
            rows = [total.flatten(1) for total in sums]
            drawn = memory.tensor("noise", (len(rows[0]), len(flat) // len(rows[0])), flat.dtype)
            parts = [drawn] if len(self._sources) == 1 else drawn.unbind(0)
            for source, part in zip(self._sources, parts, strict=True):
                source.normal(part.shape, part.dtype, self.deviation, out=part)
            for row, part in zip(rows, drawn.split([r.shape[1] for r in rows], 1), strict=True):
                row.copy_(part)


def sampler(task: Task) -> Callable[[NDArray[np.int64]], Draw]:
    """From the members of a block to who of their rows is in the next step."""
    assert task.plan.private is not None
    rate = task.plan.private.sampling_rate

    def of_members(members: NDArray[np.int64]) -> Draw:
        sources = _sources(task, SAMPLE, members)
        if len(sources) == 1:
            return lambda sizes: sources[0].bernoulli(int(sizes.sum()), rate)
        return lambda sizes: np.concatenate(
            [source.bernoulli(int(n), rate) for source, n in zip(sources, sizes, strict=True)]
        )

    return of_members


def _sources(task: Task, use: int, members: NDArray[np.int64]) -> list[NoiseSource]:
    """One source for all members whose key nobody knows, or one for each."""
    step = task.plan.private
    assert step is not None
    if step.secure:
        return [step.source(task.plan.seed)]
    return [step.source(task.plan.seed, use, task.round, int(member)) for member in members]


def blocks(task: Task, offsets: NDArray[np.int64], block_size: int) -> Iterator[Block]:
    """The steps of a task's cohort."""
    return poisson_schedule(
        task.cohort,
        offsets,
        n_steps=task.plan.n_epochs,
        block_size=block_size,
        sampler=sampler(task),
    )


def train_block(
    kernel: Kernel, shapes: ParameterShapes, block: Block, rows: FederatedRows, task: Task
) -> Updates:
    """Private steps of a block of clients.

    The noisy sum is made by itself, and only then moves the model: rounding beside the model's own
    numbers would be of a size that the noise was not made for. So is what a client adds, after a
    single step, to a sum that has its noise yet to come.
    """
    plan, start, m = task.plan, task.theta, len(block.members)
    step = plan.private
    assert step is not None
    assert plan.denominators is not None
    here = BlockRows(
        block,
        rows,
        plan.class_weights(None),
        plan.loss_constants(None, start),
        start,
        as_they_are=True,
    )
    noise = BlockNoise(task, block.members)
    scale = torch.as_tensor(-plan.learning_rate / plan.denominators[block.members]).to(start)
    plain = not (plan.weight_decay or plan.proximal or plan.momentum)
    factors = partial(clip_factors, clip_norm=step.clip_norm)
    # By parameter, for products write into memory that lies together in one go.
    origins = shapes.split(start)
    models = [kernel.copies(part, m) for part in origins]
    flat = start.new_empty(m * len(start))
    sums = shapes.stacks(flat, m)
    scales = [scale.view(m, *[1] * origin.ndim) for origin in origins]
    before = [torch.zeros_like(model) for model in models] if plan.momentum else []
    kernel.begin(plan, task.round, block.members)
    for batch in here.batches(kernel.memory):
        noise.fill(flat, sums, kernel.memory)
        kernel.add_clipped(sums, models, batch, plan, factors)
        # From here on nothing looks at rows.
        for i, (model, total) in enumerate(zip(models, sums, strict=True)):
            if plain and block.n_steps > 1:
                model.addcmul_(total, scales[i])
                continue
            total.mul_(scales[i])
            if plan.weight_decay:
                total.add_(model, alpha=-plan.learning_rate * plan.weight_decay)
            if plan.proximal:
                total.add_(model - origins[i], alpha=-plan.learning_rate * plan.proximal)
            if plan.momentum:
                total.copy_(before[i].mul_(plan.momentum).add_(total))
            model.add_(total)
    if block.n_steps > 1:
        sums = [model - origin for model, origin in zip(models, origins, strict=True)]
    moved = torch.cat([part.flatten(1) for part in sums], 1)
    return reply(task, block.members, moved)


def reply(task: Task, members: NDArray[np.int64], moved: Tensor) -> Updates:
    """The reply of clients that moved so far, (m, p): their weight is that of noisy counts."""
    assert task.plan.denominators is not None
    weights = task.plan.denominators[members].astype(np.float64)
    unknown = np.full(len(members), np.nan)  # a training loss is about rows, and has no noise
    return Updates(members, weights, np.column_stack([unknown, weights]), moved)
