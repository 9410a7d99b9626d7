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
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._data.clients import ClientStats
from skfedfocal._local import LocalPlan
from skfedfocal._random import cohort_generator
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
    validation_loss : float
        Mean loss, over the cohort's validation rows, of the model that the round began with; NaN
        where there are none.
    """

    round: int
    loss: float
    n_selected: int
    n_failed: int
    bytes_down: int
    bytes_up: int
    seconds: float
    validation_loss: float


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
    want_validation: bool = False

    @property
    def needs_recall(self) -> bool:
        return self.selection.needs_recall or self.aggregator.needs_recall


def run_rounds(federation: Federation, engine: Engine) -> Iterator[tuple[Federation, Round]]:
    """Train without end, one round at a time; the caller takes as many as it wants."""
    while True:
        cohort, fold = select(federation), Fold(federation)
        for reply in engine.train(
            federation.theta,
            cohort,
            federation.n_rounds,
            federation.plan,
            want_recall=federation.needs_recall,
            want_validation=federation.want_validation,
        ):
            fold.add(reply)
        federation, report = step(federation, fold, len(cohort))
        yield federation, report


def select(federation: Federation) -> np.ndarray:
    """Draw the cohort; from the seed and the round's number alone, as far as chance goes."""
    rng = cohort_generator(federation.plan.seed, federation.n_rounds)
    return federation.selection.select(federation.stats, federation.n_selected, rng)


class Fold:
    """Combines a round's replies as they come.

    A weighted mean is folded reply by reply; other aggregators see all updates at once.
    """

    def __init__(self, federation: Federation):
        self.began = time.perf_counter()
        self.n_good = 0
        self.left_out: list[int] = []
        self.loss: float = 0.0
        self.size: float = 0.0
        self.validation = np.zeros(2)
        self._federation = federation
        self._weight: float = 0.0
        self._folded = torch.zeros_like(federation.theta, dtype=torch.float64)
        self._collected: list[tuple[Tensor, NDArray[np.float64]]] = []

    def add(self, reply: Updates) -> None:
        """Take in the replies of some clients; those that are not finite are left out."""
        federation, aggregator = self._federation, self._federation.aggregator
        good = reply.finite()
        if not good.all():
            self.left_out += reply.clients[~good].tolist()
            reply = reply.take(good)
        weights = aggregator.weights(reply.sizes, reply.recalls) * reply.mean_weights
        if aggregator.linear:
            reply.add_to(self._folded, weights)
        else:
            self._collected.append((reply.deltas, weights))
        self._weight += float(weights.sum())
        self.n_good += len(reply.clients)
        sizes = reply.sizes * reply.mean_weights
        self.size += float(sizes.sum())
        self.loss += float(reply.losses @ sizes)
        if reply.validation is not None:
            self.validation += reply.validation.sum(0)
        _record(federation.stats, reply, federation.n_rounds)

    def aggregate(self) -> Tensor:
        """The cohort's update, of shape (p,)."""
        federation = self._federation
        if self.left_out:
            _warn_left_out(federation, sorted(self.left_out))
        if self.n_good == 0:
            raise FederatedTrainingError(
                f"Round {federation.n_rounds + 1}: no client returned a finite update. The "
                "training diverged; lower learning_rate, or scale the columns of X "
                "(StandardScaler)."
            )
        if federation.aggregator.linear:
            # All weights are zero where the whole cohort has rows of weightless classes alone.
            return (self._folded / (self._weight or 1.0)).to(federation.theta)
        deltas, weights = zip(*self._collected, strict=True)
        delta = federation.aggregator(torch.cat(deltas), torch.as_tensor(np.concatenate(weights)))
        return delta.to(federation.theta)


def step(federation: Federation, fold: Fold, n_selected: int) -> tuple[Federation, Round]:
    """End a round: the server's step, and what the round came to."""
    theta, state = federation.strategy.step(federation.theta, fold.aggregate(), federation.state)
    federation = replace(federation, theta=theta, state=state, n_rounds=federation.n_rounds + 1)
    return federation, _report(federation, fold, n_selected)


class FederatedTrainingError(ValueError):
    """Raised where a round cannot end with a usable model; an earlier good one is kept."""


def _record(stats: ClientStats, reply: Updates, round_: int) -> None:
    stats.loss[reply.clients] = reply.losses
    stats.last_round[reply.clients] = round_
    if reply.recalls is not None:
        stats.recall[reply.clients] = reply.recalls


def _warn_left_out(federation: Federation, clients: list[int]) -> None:
    warnings.warn(
        f"Round {federation.n_rounds + 1}: left out the non-finite updates of {len(clients)} "
        f"client(s), number {', '.join(map(str, clients[:5]))} of clients_.",
        RuntimeWarning,
        stacklevel=4,
    )


def _report(federation: Federation, found: Fold, n_selected: int) -> Round:
    model = federation.theta.numel() * federation.theta.element_size()
    # Size and loss; mean weight, recall and validation where there are such.
    weighted = federation.plan.class_weight is not None
    scalars = 8 * (2 + weighted + federation.needs_recall + 2 * federation.want_validation)
    bytes_up = found.n_good * (model + scalars)
    if federation.n_rounds == 1 and federation.stats.label_counts is not None:
        bytes_up += federation.stats.label_counts.nbytes  # each client's, sent once
    validated = found.validation[1] > 0
    return Round(
        round=federation.n_rounds,
        loss=found.loss / (found.size or 1.0),
        n_selected=n_selected,
        n_failed=n_selected - found.n_good,
        bytes_down=n_selected * model,
        bytes_up=bytes_up,
        seconds=time.perf_counter() - found.began,
        validation_loss=found.validation[0] / found.validation[1] if validated else float("nan"),
    )
