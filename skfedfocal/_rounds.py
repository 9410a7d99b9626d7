"""Federated training, round by round. The page to read first.

A round is one line of algebra: with the cohort S drawn by the selection, every client k of S
trains the global model theta on its own rows and replies with its update; the aggregator combines
the updates; the strategy steps from there:

    S = select(stats)    Delta_k = train(theta), k in S
    Delta = aggregate(Delta_k)    theta <- step(theta, Delta)
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from skfedfocal._clients import ClientStats
from skfedfocal._local import LocalPlan
from skfedfocal.aggregation import Aggregator
from skfedfocal.engines import Engine, Updates
from skfedfocal.selection import Selection
from skfedfocal.strategies import State, Strategy


@dataclass(frozen=True)
class Round:
    """What a round came to: a row of ``history_``.

    Attributes
    ----------
    round : int
        Number of the round, from 1.
    loss : float
        Mean training loss over the cohort, weighted by rows.
    n_selected, n_failed : int
        Clients asked, and those of them that sent no update or one that was left out.
    bytes_down, bytes_up : int
        Bytes of parameters and scalars sent to and received from clients.
    seconds : float
        Wall time.
    """

    round: int
    loss: float
    n_selected: int
    n_failed: int
    bytes_down: int
    bytes_up: int
    seconds: float


@dataclass(frozen=True)
class Federation:
    """The parts of a federated training, and where it stands."""

    theta: Tensor
    plan: LocalPlan
    selection: Selection
    aggregator: Aggregator
    strategy: Strategy
    n_selected: int
    stats: ClientStats
    state: State = field(default_factory=dict)
    n_rounds: int = 0

    @property
    def needs_recall(self) -> bool:
        return self.selection.needs_recall or self.aggregator.needs_recall


class Checkpoint(Protocol):
    """Where a training is written down after each round, to go on from after a crash."""

    def restore(self, federation: Federation) -> tuple[Federation, list[Round]]:
        """The federation as of the last round written down, and the rounds until then."""

    def save(self, federation: Federation, history: list[Round]) -> None:
        """Write down a complete round."""


def run_rounds(federation: Federation, engine: Engine) -> Iterator[tuple[Federation, Round]]:
    """Train without end, one round at a time; the caller takes as many as it wants."""
    while True:
        began = time.perf_counter()
        cohort = select(federation)
        updates = engine.train(
            federation.theta,
            cohort,
            federation.n_rounds,
            federation.plan,
            want_recall=federation.needs_recall,
        )
        delta, loss, n_good = aggregate(federation, updates)
        theta, state = federation.strategy.step(federation.theta, delta, federation.state)
        federation = replace(federation, theta=theta, state=state, n_rounds=federation.n_rounds + 1)
        yield federation, _report(federation, loss, len(cohort), len(cohort) - n_good, began)


def select(federation: Federation) -> np.ndarray:
    """Draw the cohort; from the seed and the round's number alone, as far as chance goes."""
    spawn_key = (_SELECTION_STREAM, federation.n_rounds)
    rng = np.random.default_rng(np.random.SeedSequence(federation.plan.seed, spawn_key=spawn_key))
    return federation.selection.select(federation.stats, federation.n_selected, rng)


_SELECTION_STREAM = 1  # a stream of its own, apart from the shuffles


def aggregate(federation: Federation, updates: Iterable[Updates]) -> tuple[Tensor, float, int]:
    """Combine the cohort's updates; returns the aggregate, the mean loss and how many were good.

    A weighted mean is folded block by block; other aggregators see all updates at once.
    """
    aggregator, stats = federation.aggregator, federation.stats
    folded = torch.zeros_like(federation.theta, dtype=torch.float64)
    collected: list[tuple[Tensor, np.ndarray]] = []
    total_weight = total_size = loss = 0.0
    n_good = 0
    for reply in updates:
        good = reply.finite()
        if not good.all():
            _warn_left_out(federation, reply.clients[~good])
            reply = reply.take(good)
        if not len(reply.clients):
            continue
        n_good += len(reply.clients)
        weights = aggregator.weights(reply.sizes, reply.recalls)
        if aggregator.linear:
            folded += reply.weighted_sum(weights)
        else:
            collected.append((reply.deltas, weights))
        total_weight += weights.sum()
        total_size += reply.sizes.sum()
        loss += reply.losses @ reply.sizes
        _record(stats, reply, federation.n_rounds)
    if total_weight == 0:
        raise FederatedTrainingError(
            f"Round {federation.n_rounds + 1}: no client returned a finite update. The training "
            "diverged; lower learning_rate, or scale the columns of X (StandardScaler)."
        )
    if aggregator.linear:
        delta = folded / total_weight
    else:
        deltas, weights = zip(*collected, strict=True)
        delta = aggregator(torch.cat(deltas), torch.as_tensor(np.concatenate(weights)))
    return delta.to(federation.theta), loss / total_size, n_good


class FederatedTrainingError(ValueError):
    """Raised where a round cannot end with a usable model; the last good model is kept."""


def _record(stats: ClientStats, reply: Updates, round_: int) -> None:
    stats.loss[reply.clients] = reply.losses
    stats.last_round[reply.clients] = round_
    if reply.recalls is not None:
        stats.recall[reply.clients] = reply.recalls


def _warn_left_out(federation: Federation, clients: np.ndarray) -> None:
    warnings.warn(
        f"Round {federation.n_rounds + 1}: left out the non-finite updates of {len(clients)} "
        f"client(s), number {clients[:5].tolist()}.",
        RuntimeWarning,
        stacklevel=4,
    )


def _report(
    federation: Federation, loss: float, n_selected: int, n_failed: int, began: float
) -> Round:
    model = federation.theta.numel() * federation.theta.element_size()
    scalars = 8 * (2 + federation.needs_recall)  # size, loss and, where asked for, recall
    return Round(
        round=federation.n_rounds,
        loss=loss,
        n_selected=n_selected,
        n_failed=n_failed,
        bytes_down=n_selected * model,
        bytes_up=(n_selected - n_failed) * (model + scalars),
        seconds=time.perf_counter() - began,
    )
