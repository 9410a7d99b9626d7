"""Engines around an engine, which show of it one sum with noise: added here, or under masks.

Imported only where a training is private, since it takes what makes noise.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._data.queries import Query
from skfedfocal.engines._around import EngineAround
from skfedfocal.engines._engine import Engine, Failure, Model, Task, TooFewClients, Updates
from skfedfocal.engines._private import CLIENT, SERVER
from skfedfocal.privacy._clipping import clip_factors
from skfedfocal.privacy._plan import NoisySum, PrivateStep


class NoisySumEngine(EngineAround):
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
        Standard deviation that the noise on the sum must have, whoever takes part; in proportion
        to the clip norm.
    seed : int
        Of noise in experiments.
    least_of_count : float, default=0.0
        The same of the count that steers the clip norm, where one does.

    Attributes
    ----------
    step : PrivateStep
        That of the next round, whose clip norm may be another.
    """

    def __init__(
        self,
        within: Engine,
        step: PrivateStep,
        *,
        scale: float,
        least_noise: float,
        seed: int,
        least_of_count: float = 0.0,
    ):
        super().__init__(within)
        self.step = step
        self.scale = scale
        self.least_noise = least_noise / step.clip_norm
        self.least_of_count = least_of_count
        self.seed = seed
        self._warned = False

    def train(self, task: Task) -> Iterator[Updates]:
        """Train the cohort and yield one row: also of nobody, whose noise must look the same."""
        total = torch.zeros_like(task.theta, dtype=torch.float64)
        failures: list[Failure] = []
        step, count = self.step, 0.0
        for reply in self.within.train(task):
            if isinstance(reply, Failure):
                failures.append(reply)
            elif step.unit == "client":
                sent, votes = clipped(reply, step.clip_norm)
                total += sent.sum(0)
                count += float(votes.sum())
            else:
                total += reply.deltas.double().sum(0)
        self._check(failures, task)
        deviation = self.scale * self.missing_noise(len(task.cohort))
        source = step.source(self.seed, SERVER, task.round)
        if deviation:
            total += deviation * source.normal(len(total), torch.float64).to(total.device)
        if step.within is not None:
            noise = self._missing(step.within, len(task.cohort), self.least_of_count)
            count += noise * float(source.normal(1, torch.float64))
            self.step = step.after_count(count)
        if step.unit == "client":
            total /= step.denominator
        yield one_sum(total, task.cohort, task)

    def _check(self, failures: list[Failure], task: Task) -> None:
        """Go on without clients that failed: to be within the sum or not is what noise hides.

        They are not told apart, neither by name nor by number: a failure has no noise.
        """
        raise_if_all_failed(failures, task)
        if failures and not self._warned:
            self._warned = True
            warn_of_failures(failures, task)

    def missing_noise(self, n_clients: int) -> float:
        """Standard deviation of what is still to be added to a sum over so many clients.

        Where rows are protected each client has added its part already, at its steps.
        """
        if self.step.unit == "example":
            return self.step.total.server_noise
        return self._missing(self.step.total, n_clients, self.least_noise * self.step.clip_norm)

    @staticmethod
    def _missing(total: NoisySum, n_clients: int, least: float) -> float:
        shares = total.client_noise * n_clients**0.5  # all of them are in this process
        return max(shares, total.server_noise, least)


class MaskedNoiseEngine(EngineAround):
    """What clients do before they send to a secure sum.

    All weigh 1. Where rows are protected, the noise is in their steps; where clients are, each
    clips its update and adds its share of the noise, also one that has nothing else to send.

    Parameters
    ----------
    within : Engine
        Where they train.
    step : PrivateStep
        Gives the clip norm, and each one's share.
    seed : int
        Of noise in experiments.
    """

    def __init__(self, within: Engine, step: PrivateStep, seed: int):
        super().__init__(within)
        self.step = step
        self.seed = seed
        self._warned = False

    def train(self, task: Task) -> Iterator[Updates | Failure]:
        """Train the cohort."""
        failures: list[Failure] = []
        for reply in self.within.train(task):
            if isinstance(reply, Failure):
                failures.append(reply)
            yield to_be_masked(reply, self.step, task, self.seed)
        raise_if_all_failed(failures, task)
        if failures and not self._warned:
            self._warned = True
            warn_of_failures(failures, task)


class MaskedSumEngine(EngineAround):
    """A secure sum whose noise has come with its parts, if enough of them are in it.

    Parameters
    ----------
    within : Engine
        Of secure sums, whose clients add their noise.
    step : PrivateStep
        Where the unit is a client, the sum is divided by its denominator.
    needed : int
        Clients whose shares must be in the sum: those whose noise is enough, and as many on top
        as may know their own and take it off.
    seed : int, default=0
        Of noise in experiments.

    Attributes
    ----------
    step : PrivateStep
        That of the next round, whose clip norm may be another.
    """

    def __init__(self, within: Engine, step: PrivateStep, needed: int, seed: int = 0):
        super().__init__(within)
        self.step = step
        self.needed = needed
        self.seed = seed

    def ask(
        self,
        query: Query,
        clients: NDArray[np.int64] | None = None,
        model: Model | None = None,
    ) -> NDArray[np.float64]:
        """The secure sum of the clients' answers."""
        return self.within.ask(query, clients, model)

    def train(self, task: Task) -> Iterator[Updates]:
        """Train the cohort and yield the sum.

        Raises
        ------
        TooFewClients
            If the noise in the sum is too little: it is then told to nobody.
        """
        replies = [reply for reply in self.within.train(task) if isinstance(reply, Updates)]
        n = round(sum(float(reply.weights.sum()) for reply in replies))
        if n < self.needed:
            raise TooFewClients(
                f"Round {task.round + 1}: noise of {n} clients is in the sum, and of "
                f"{self.needed} it must be; the round is not released, though it is paid for. "
                "Lower n_honest, which gives each client more noise."
            )
        (reply,) = replies
        total = n * reply.deltas[0].double()
        if self.step.unit == "client":
            total /= self.step.denominator
        if self.step.within is not None:
            self.step = self.step.after_count(float(reply.objective[0, 0]))
            self.within.share_noise(self.step, self.seed)
        yield one_sum(total, reply.clients, task)


def to_be_masked(reply: Updates | Failure, step: PrivateStep, task: Task, seed: int) -> Updates:
    """What clients send to a secure sum, whoever they are and wherever.

    Parameters
    ----------
    reply : Updates or Failure
        What came of their training; a client that failed sends noise alone.
    step : PrivateStep
        Where the unit is a client, gives the clip norm and each one's share of the noise; else
        that is in the reply.
    task : Task
        The round.
    seed : int
        Of noise in experiments.
    """
    if isinstance(reply, Failure):
        clients, votes = np.array([reply.client]), np.zeros(1)
        sent = torch.zeros_like(task.theta, dtype=torch.float64)[None]
    elif step.unit == "client":
        clients, (sent, votes) = reply.clients, clipped(reply, step.clip_norm)
    else:
        clients, votes, sent = reply.clients, np.zeros(len(reply.clients)), reply.deltas
    if step.unit == "client":
        for i, client in enumerate(clients):
            source = step.source(seed, CLIENT, task.round, int(client))
            noise = source.normal(sent.shape[1], torch.float64).to(sent.device)
            sent[i].add_(noise, alpha=step.total.client_noise)
            if step.within is not None:
                votes[i] += step.within.client_noise * float(source.normal(1, torch.float64))
    ones = np.ones(len(clients))
    told = votes if step.within is not None else ones * np.nan  # in the place of a loss
    return Updates(clients, ones, np.column_stack([told, ones]), sent)


def one_sum(total: Tensor, clients: NDArray[np.int64], task: Task) -> Updates:
    """One row for all clients, which tells no loss."""
    deltas, unknown = total.to(task.theta)[None], np.array([[np.nan, 1.0]])
    return Updates(clients, np.ones(1), unknown, deltas)


def clipped(reply: Updates, clip_norm: float) -> tuple[Tensor, NDArray[np.float64]]:
    """The replies, each within the clip norm, (m, p), and half a vote of each whether it was, (m,).

    In double precision. A reply that is not finite becomes zeros, and is never left out, which its
    value would decide.
    """
    deltas = reply.deltas.double()
    norms = torch.linalg.vector_norm(deltas, dim=1)
    factors = clip_factors(norms, clip_norm)[:, None]
    votes = np.where((norms <= clip_norm).cpu().numpy(), 0.5, -0.5)
    return factors * torch.where(factors > 0, deltas, 0.0), votes


def raise_if_all_failed(failures: list[Failure], task: Task) -> None:
    """Raise the error of a cohort all of whose clients failed: they are not to blame.

    Where none of them says why, as over sites, nobody is there to train.
    """
    errors = [failure.error for failure in failures if failure.error is not None]
    if failures and not errors and len(failures) == len(task.cohort):
        raise TooFewClients(f"Round {task.round + 1}: none of the clients asked replied.")
    if errors and len(failures) == len(task.cohort):
        errors[0].add_note(f"Raised in round {task.round + 1} by all of the clients asked.")
        raise errors[0]


def warn_of_failures(failures: list[Failure], task: Task) -> None:
    """Say that some failed, to whoever runs the training."""
    errors = [failure.error for failure in failures if failure.error is not None]
    what = type(errors[0]).__name__ if errors else "no reply"
    warnings.warn(
        f"Round {task.round + 1}: some clients failed ({what}), and count as zeros in a sum that "
        "is divided by a fixed number. This warning has no noise; keep it from those whom privacy "
        "is to protect from. Later failures go without a word.",
        RuntimeWarning,
        stacklevel=3,
    )
