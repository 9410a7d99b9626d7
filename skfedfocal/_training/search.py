"""Cross-validation in which every client keeps its rows, all candidates training together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.rows import FederatedRows
from skfedfocal._data.validation import shuffled_cells
from skfedfocal._module import load_flat
from skfedfocal._random import FOLDS
from skfedfocal._training.assembly import Population
from skfedfocal._training.federation import Federation
from skfedfocal._training.rounds import begin, report, step, tally_of
from skfedfocal._training.state import TrainingState
from skfedfocal._training.tally import Tally
from skfedfocal.engines import Hits, ManyFederations, Request, Task, Traffic, judge_each
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


def stratified_folds(
    seed: int, layout: ClientLayout, labels: NDArray[Any], n_classes: int, n_folds: int
) -> NDArray[np.int64]:
    """Number of the fold in which each row validates, even on each client and in each class.

    Each client can draw its own: the choice depends on the seed, its number and its labels only.

    Parameters
    ----------
    seed : int
        Of the search.
    layout : ClientLayout
        Which rows are whose.
    labels : ndarray of shape (n_samples,)
        Class numbers.
    n_classes : int
        Number of classes.
    n_folds : int
        Number of folds, at least 2.

    Returns
    -------
    fold : ndarray of shape (n_samples,)
        Between 0 and ``n_folds - 1``.
    """
    rows, rank, present, sizes = shuffled_cells(seed, FOLDS, layout, labels, n_classes)
    # Classes of a client take turns, so that single rows do not all fall into the first fold.
    owner, label = np.divmod(present, n_classes)
    turn = np.repeat(owner + label, sizes)
    fold = np.zeros(len(labels), np.int64)
    fold[rows] = (rank + turn) % n_folds
    return fold


def train_together(runs: Sequence[Run], many: ManyFederations) -> tuple[Run, ...]:
    """Train all runs for a round more."""
    began = time.perf_counter()
    tasks = [_with_rows(run, begin(run.federation, run.state.server)) for run in runs]
    tallies = [tally_of(run.federation, run.state.server) for run in runs]
    requests = [Request(task, run.fold) for task, run in zip(tasks, runs, strict=True)]
    for i, reply in many.train(requests):
        tallies[i].add(reply)
    return tuple(
        replace(run, state=_ended(run, task, tally, began))
        for run, task, tally in zip(runs, tasks, tallies, strict=True)
    )


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

    Each stage leaves the better half, until one is left; the stages together are shorter than the
    training they stand for. A single candidate trains for all of it.
    """
    left, stages = n_candidates, []
    while left > 1:
        left = (left + 1) // 2
        stages.append(left)
    n_each = max(1, n_rounds // (len(stages) + 3))
    return [(n_each, left) for left in stages] or [(n_rounds, 1)]


def gamma_as_constant(federation: Federation, loss: FocalLoss, n_classes: int) -> Federation:
    """The same federation with gamma beside the loss, so that candidates share their batches."""
    plan, shift = federation.plan, federation.plan.constants
    if shift is None:
        shift = torch.zeros(n_classes, dtype=torch.float64)
    gamma = torch.as_tensor(loss.gamma_by_class(shift)).to(shift)
    constants = torch.cat([shift, gamma.expand(n_classes)])
    return replace(federation, plan=replace(plan, loss=GammaAsConstant(), constants=constants))


def balanced_accuracy(run: Run, module: nn.Module, held_out: FederatedRows) -> tuple[float, float]:
    """Balanced accuracy on the held-out rows of all clients, from sums over clients only.

    With it comes the variance that chance gives it: a class of few rows has an uncertain recall.
    """
    load_flat(module, run.state.server.theta)
    module.eval()
    clients = np.flatnonzero(held_out.layout.sizes)
    with torch.no_grad():
        found, _ = judge_each(Hits(), module, held_out, clients, run.federation.plan)
    hits, counts = found.sum(0)
    hits, counts = hits[counts > 0], counts[counts > 0]
    # With a row more of either kind, so that one row that is got right is not taken for certain.
    chance = (hits + 1) * (counts - hits + 1) / (counts + 2) ** 2 / counts
    return float((hits / counts).mean()), float(chance.mean() / len(chance))
