"""Private work: clients' steps over rows drawn by chance, and sums over clients with noise.

Imported only where a training is private, since it takes what makes noise.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._data.blocks import Block, poisson_schedule
from skfedfocal._data.memory import Memory
from skfedfocal._data.queries import Query
from skfedfocal._data.rows import FederatedRows
from skfedfocal._module import ParameterShapes
from skfedfocal.engines._batches import BlockRows
from skfedfocal.engines._engine import Engine, Failure, Model, Task, Updates
from skfedfocal.engines._kernels.kernel import Kernel
from skfedfocal.privacy._clipping import clip_factors
from skfedfocal.privacy._noise import NoiseSource
from skfedfocal.privacy._plan import PrivateStep

# What a stream of an experiment's random numbers is for.
_SAMPLE, _CLIENT, _SERVER = range(3)

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
        self._sources = _sources(task, _CLIENT, members)

    def add_to(self, sums: Tensor, memory: Memory) -> None:
        """Add it to a sum of each client, (m, p), in place."""
        if self.deviation == 0:
            return
        noise = memory.tensor("noise", tuple(sums.shape), sums.dtype)
        parts = [noise] if len(self._sources) == 1 else noise.unbind(0)
        for source, part in zip(self._sources, parts, strict=True):
            source.normal(tuple(part.shape), sums.dtype, out=part)
        sums.add_(noise.to(sums.device), alpha=self.deviation)


def sampler(task: Task) -> Callable[[NDArray[np.int64]], Draw]:
    """From the members of a block to who of their rows is in the next step."""
    assert task.plan.private is not None
    rate = task.plan.private.sampling_rate

    def of_members(members: NDArray[np.int64]) -> Draw:
        sources = _sources(task, _SAMPLE, members)
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

    The noisy sum is made by itself, from zero, and only then moves the model: rounding beside the
    model's own numbers would be of a size that the noise was not made for. So is what a client
    adds, after a single step, to a sum that has its noise yet to come.
    """
    plan, start = task.plan, task.theta
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
    scale = torch.as_tensor(-plan.learning_rate / plan.denominators[block.members])
    scale = scale.to(start)[:, None]
    factors = partial(clip_factors, clip_norm=step.clip_norm)
    theta = start.repeat(len(block.members), 1)
    sums, step_before = torch.empty_like(theta), torch.zeros_like(theta)
    params, places = shapes.split(theta), shapes.split(sums)
    kernel.begin(plan, task.round, block.members)
    for batch in here.batches(kernel.memory):
        kernel.clipped_sums(params, batch, plan, factors, places)
        noise.add_to(sums, kernel.memory)
        # From here on nothing looks at rows.
        way = sums.mul_(scale)
        if plan.weight_decay:
            way.add_(theta, alpha=-plan.learning_rate * plan.weight_decay)
        if plan.proximal:
            way.add_(theta - start, alpha=-plan.learning_rate * plan.proximal)
        if plan.momentum:
            way = step_before.mul_(plan.momentum).add_(way)
        theta.add_(way)
    return reply(task, block.members, way if block.n_steps == 1 else theta - start)


def reply(task: Task, members: NDArray[np.int64], moved: Tensor) -> Updates:
    """The reply of clients that moved so far, (m, p): their weight is that of noisy counts."""
    assert task.plan.denominators is not None
    weights = task.plan.denominators[members].astype(np.float64)
    unknown = np.full(len(members), np.nan)  # a training loss is about rows, and has no noise
    return Updates(members, weights, np.column_stack([unknown, weights]), moved)


class NoisySumEngine(Engine):
    """An engine that shows of the engine within one sum of all replies, with noise.

    Parameters
    ----------
    within : Engine
        Where the clients are.
    step : PrivateStep
        Whose noise the sum has: where the unit is a client, replies are clipped to its norm and
        divided by its denominator; else they come divided, of rows that were clipped.
    scale : float
        What the noise on a sum of clipped gradients becomes in a sum of replies.
    least_noise : float
        Standard deviation that the noise on the sum must have, whoever takes part.
    seed : int
        Of noise in experiments.
    """

    def __init__(
        self, within: Engine, step: PrivateStep, *, scale: float, least_noise: float, seed: int
    ):
        super().__init__()
        self.within = within
        self.step = step
        self.scale = scale
        self.least_noise = least_noise
        self.seed = seed
        self.asked = within.asked
        self._warned = False

    @property
    def way(self) -> str:  # type: ignore[override]
        """How clients are trained, in words."""
        return self.within.way

    @property
    def sizes(self) -> NDArray[np.float64]:
        return self.within.sizes

    @property
    def n_rows(self) -> NDArray[np.float64]:
        return self.within.n_rows

    def _answers(
        self, query: Query, clients: NDArray[np.int64], model: Model | None
    ) -> NDArray[np.float64]:
        return self.within._answers(query, clients, model)

    def train(self, task: Task) -> Iterator[Updates]:
        """Train the cohort and yield one row: also of nobody, whose noise must look the same."""
        total = torch.zeros_like(task.theta, dtype=torch.float64)
        failures: list[Failure] = []
        for reply in self.within.train(task):
            if isinstance(reply, Failure):
                failures.append(reply)
            elif self.step.unit == "client":
                total += self.clipped_sum(reply)
            else:
                total += reply.deltas.double().sum(0)
        self._check(failures, task)
        deviation = self.scale * self.missing_noise(len(task.cohort))
        if deviation:
            source = self.step.source(self.seed, _SERVER, task.round)
            total += deviation * source.normal(len(total), torch.float64).to(total.device)
        if self.step.unit == "client":
            total /= self.step.denominator
        yield Updates(
            clients=task.cohort,
            weights=np.ones(1),
            objective=np.array([[np.nan, 1.0]]),
            deltas=total.to(task.theta)[None],
        )

    def _check(self, failures: list[Failure], task: Task) -> None:
        """Go on without clients that failed: to be within the sum or not is what noise hides.

        They are not told apart, neither by name nor by number: a failure has no noise.
        """
        errors = [failure.error for failure in failures if failure.error is not None]
        if errors and len(failures) == len(task.cohort):  # not the clients are to blame
            errors[0].add_note(f"Raised in round {task.round + 1} by all of the clients asked.")
            raise errors[0]
        if failures and not self._warned:
            self._warned = True
            what = type(errors[0]).__name__ if errors else "no reply"
            warnings.warn(
                f"Round {task.round + 1}: some clients failed ({what}), and count as zeros in a "
                "sum that is divided by a fixed number. This warning has no noise; keep it from "
                "those whom privacy is to protect from. Later failures go without a word.",
                RuntimeWarning,
                stacklevel=2,
            )

    def clipped_sum(self, reply: Updates) -> Tensor:
        """Sum of replies, each within the clip norm, of shape (p,); in double precision.

        A reply that is not finite adds nothing, which, as the denominator is fixed, is the same as
        a reply of zeros.
        """
        deltas = reply.deltas.double()
        factors = clip_factors(torch.linalg.vector_norm(deltas, dim=1), self.step.clip_norm)
        return factors @ torch.where(factors[:, None] > 0, deltas, 0.0)

    def missing_noise(self, n_clients: int) -> float:
        """Standard deviation of what is still to be added to a sum over so many clients.

        Where rows are protected each client has added its part already, at its steps.
        """
        if self.step.unit == "example":
            return self.step.total.server_noise
        shares = self.step.total.client_noise * n_clients**0.5  # all of them are in this process
        return max(shares, self.step.total.server_noise, self.least_noise)
