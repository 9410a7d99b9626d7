"""Cross-validation in which every client keeps its rows, all candidates training together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from skfedfocal._data.rows import FederatedRows
from skfedfocal._training.assembly import Population
from skfedfocal._training.federation import Federation
from skfedfocal._training.rounds import begin, report, step, tally_of
from skfedfocal._training.state import TrainingState
from skfedfocal._training.tally import Tally
from skfedfocal.engines import (
    HitsBeside,
    ManyFederations,
    Request,
    Task,
    Traffic,
    judge_each,
    right_rows,
)
from skfedfocal.losses import FocalLoss
from skfedfocal.losses._focal import GammaAsConstant


@dataclass(frozen=True)
class Run:
    """A candidate on a fold, as a federation in training."""

    candidate: int
    fold: int
    federation: Federation
    state: TrainingState
    population: Population


def train_together(runs: Sequence[Run], many: ManyFederations) -> tuple[Run, ...]:
    """Train all runs for a round more."""
    began = time.perf_counter()
    tasks = [_with_rows(run, begin(run.federation, run.state.server)) for run in runs]
    tallies = [tally_of(run.federation, run.state.server) for run in runs]
    for alike in _of_one_step_length(tasks):
        requests = [Request(tasks[i], runs[i].fold) for i in alike]
        for place, reply in many.train(requests):
            tallies[alike[place]].add(reply)
    return tuple(
        replace(run, state=_ended(run, task, tally, began))
        for run, task, tally in zip(runs, tasks, tallies, strict=True)
    )


def _of_one_step_length(tasks: Sequence[Task]) -> list[list[int]]:
    """Numbers of the tasks that can share a block."""
    rates = [task.plan.learning_rate for task in tasks]
    return [[i for i, rate in enumerate(rates) if rate == one] for one in dict.fromkeys(rates)]


def _with_rows(run: Run, task: Task) -> Task:
    """The task without clients that the fold leaves no rows; that may be nobody."""
    there = run.state.server.stats.n_rows[task.cohort] > 0
    return replace(task, cohort=task.cohort[there])


def _ended(run: Run, task: Task, tally: Tally, began: float) -> TrainingState:
    server = step(run.federation, run.state.server, task, tally)
    came_to = replace(report(server, task, tally, Traffic(), began), failures=())
    history = (*run.state.history, came_to)
    return replace(run.state, server=server, history=history)


def race(n_candidates: int, n_rounds: int) -> list[tuple[int, int]]:
    """Stages of a race: how many rounds each lasts and how many candidates it leaves.

    Each stage leaves the better half, until one is left; these stages together are shorter than the
    training they stand for. What comes after them is its rest, for one who leads to prove it.
    """
    left, stages = n_candidates, []
    while left > 1:
        left = (left + 1) // 2
        stages.append(left)
    n_each = max(1, n_rounds // (len(stages) + 3))
    return [(n_each, left) for left in stages]


def gamma_as_constant(federation: Federation, loss: FocalLoss, n_classes: int) -> Federation:
    """The same federation with gamma beside the loss, so that candidates share their batches."""
    plan, shift = federation.plan, federation.plan.constants
    if shift is None:
        shift = torch.zeros(n_classes, dtype=torch.float64)
    gamma = torch.as_tensor(loss.gamma_by_class(shift)).to(shift)
    constants = torch.cat([shift, gamma.expand(n_classes)])
    return replace(federation, plan=replace(plan, loss=GammaAsConstant(), constants=constants))


def right(run: Run, many: ManyFederations, held_out: FederatedRows) -> NDArray[np.bool_]:
    """Which of the held-out rows the model of a run decides for rightly, by place."""
    with torch.no_grad():
        predict = many.engines[run.fold].logits(run.state.server.theta)
        return right_rows(predict, held_out, run.federation.plan)


def balanced_accuracy(
    run: Run, beside: NDArray[np.bool_], many: ManyFederations, held_out: FederatedRows
) -> tuple[float, float]:
    """Balanced accuracy on the held-out rows of all clients, from sums over clients only.

    With it comes the variance that chance gives to its lead over another candidate's, of which
    `beside` says which rows are `right`: only rows that one of the two alone gets right make it
    uncertain.
    """
    clients = np.flatnonzero(held_out.layout.sizes)
    with torch.no_grad():
        predict = many.engines[run.fold].logits(run.state.server.theta)
        query = HitsBeside(beside)
        found, _ = judge_each(query, predict, held_out, clients, run.federation.plan)
    found = found.sum(0)
    hits, others, unlike, counts = found[:, found[-1] > 0]
    # With a row more of either kind, so that few rows that agree are not taken for certain.
    share = (unlike + 1) / (counts + 2)
    chance = (share - ((hits - others) / (counts + 2)) ** 2) / counts
    return float((hits / counts).mean()), float(chance.mean() / len(chance))
