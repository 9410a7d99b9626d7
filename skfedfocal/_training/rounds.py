"""Federated training, round by round. The page to read first.

A round is one line of algebra: with the cohort S drawn by the selection, every client k of S
trains the global model theta on its own rows and replies with its update; the aggregator combines
the updates; the strategy steps from there:

    S = select(stats)    Delta_k = train(theta), k in S
    Delta = aggregate(Delta_k)    theta <- step(theta, Delta)
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skfedfocal._disclosure import RECALLS
from skfedfocal._random import cohort_generator, order_generator
from skfedfocal._training.failures import FederatedTrainingError, check_enough
from skfedfocal._training.federation import Federation, Round, ServerState
from skfedfocal._training.tally import Tally
from skfedfocal.engines import Engine, Task, Traffic
from skfedfocal.selection import Selection


def run_round(
    federation: Federation, state: ServerState, engine: Engine
) -> tuple[ServerState, Round]:
    """One round, from one state to the next."""
    began = time.perf_counter()
    task = begin(federation, state)
    tally = tally_of(federation, state)
    for reply in engine.train(task):
        tally.add(reply)
    state = step(federation, state, task, tally)
    asked, engine.asked = engine.asked, Traffic()
    found = report(state, task, tally, asked, began)
    return state, found if federation.n_expected is None else _as_expected(found, federation, state)


def begin(federation: Federation, state: ServerState) -> Task:
    """Draw the cohort, and say what it is to do."""
    rng = cohort_generator(federation.plan.seed, state.n_rounds)
    selection = federation.selection
    cohort = selection.select(state.stats, federation.n_selected, rng)
    return Task(
        theta=state.theta,
        plan=federation.plan,
        cohort=_checked(cohort, selection, state.stats.n_clients),
        round=state.n_rounds,
        wants_recall=RECALLS in selection.needs,
    )


def tally_of(federation: Federation, state: ServerState) -> Tally:
    """For the replies to the round's task."""
    order = order_generator(federation.plan.seed, state.n_rounds)
    return Tally(federation.aggregator, state.theta, order)


def step(federation: Federation, state: ServerState, task: Task, tally: Tally) -> ServerState:
    """End a round: the server's step from the aggregate."""
    number = state.n_rounds + 1
    needed, ids = federation.min_clients, federation.client_ids
    check_enough(tally.failures, tally.n_good, len(task.cohort), needed, number, ids)
    theta, optimizer = state.theta, state.optimizer
    if tally.n_replies:  # a cohort of nobody changes nothing
        theta, optimizer = federation.strategy.step(theta, tally.aggregate(), dict(optimizer))
    if not torch.isfinite(theta).all():
        raise FederatedTrainingError(
            f"Round {number}: the step of {federation.strategy!r} from the updates of "
            f"{federation.aggregator!r} led to a model that is not finite; lower learning_rate, or "
            "the server's.",
            tally.failures,
        )
    stats = state.stats
    for clients, recalls in tally.recalls:
        stats = stats.told(clients, recalls)
    return replace(state, theta=theta, optimizer=optimizer, stats=stats, n_rounds=number)


def report(state: ServerState, task: Task, tally: Tally, asked: Traffic, began: float) -> Round:
    """What the round that ended with this state came to."""
    loss, weight = tally.objective
    n_selected = len(task.cohort)
    return Round(
        round=state.n_rounds,
        loss=float(loss / (weight or 1.0)) if tally.n_good else float("nan"),
        n_selected=n_selected,
        n_failed=n_selected - tally.n_good,
        bytes_down=n_selected * state.theta.nbytes + asked.down,
        bytes_up=tally.n_bytes + asked.up,
        seconds=time.perf_counter() - began,
        failures=tuple(tally.failures),
    )


def _as_expected(found: Round, federation: Federation, state: ServerState) -> Round:
    """The report of a round in which who took part is nobody's business, nor how many did."""
    assert federation.n_expected is not None
    n_bytes = federation.n_expected * state.theta.nbytes
    return replace(
        found,
        n_selected=federation.n_expected,
        n_failed=0,
        bytes_down=n_bytes,
        bytes_up=n_bytes,
    )


def _checked(cohort: Any, selection: Selection, n_clients: int) -> NDArray[np.int64]:
    """A selection's answer in ascending order; a wrong one would train without a word."""
    numbers = np.asarray(cohort)
    if numbers.size == 0 and numbers.ndim == 1:
        return np.empty(0, np.int64)
    whole = numbers.ndim == 1 and numbers.dtype.kind in "iu"
    if not whole or len(np.unique(numbers)) < len(numbers):
        raise ValueError(
            f"{selection!r} must select distinct clients, as a one-dimensional array of their "
            f"numbers; it gave {cohort!r}."
        )
    if numbers.min() < 0 or numbers.max() >= n_clients:
        raise ValueError(
            f"{selection!r} selected clients {numbers.min()} to {numbers.max()}, but the "
            f"{n_clients} clients have the numbers 0 to {n_clients - 1}."
        )
    return np.sort(numbers).astype(np.int64)
