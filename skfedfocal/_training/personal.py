"""Models of each client's own: the global one, trained on as far as the client's rows bear it out.

Nothing here leaves a client: each trains, judges and chooses by itself. That all of them are at
work in one block is a matter of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.validation import shuffled_cells
from skfedfocal._local import LocalPlan
from skfedfocal._random import FOLDS
from skfedfocal.engines import Failure, Task
from skfedfocal.engines._in_process import InProcessEngine

Array = NDArray[np.float64]

_ERRORS = 2  # standard errors that a gain must exceed; docs/decisions.md


@dataclass(frozen=True)
class Personal:
    """Models of the clients' own.

    Attributes
    ----------
    shares : ndarray of shape (n_clients,)
        How much of the way from the global model each went; 0 where the global model is best.
    thetas : Tensor of shape (n_personal, p)
        Models of the clients whose share is above 0, in their order.
    losses : ndarray of shape (n_clients, 1 + n_shares)
        Mean validation loss of the global model and of each share; NaN for clients that tried none.
    """

    shares: Array
    thetas: Tensor
    losses: Array


@dataclass(frozen=True)
class Tuning:
    """How clients make models of their own.

    Attributes
    ----------
    plan : LocalPlan
        How each trains, class weights being among the weights of rows.
    wanted : ndarray of shape (n_classes,) or None
        What the classes that a client has are to weigh there, up to a factor; None for as they are.
    shares : ndarray of shape (n_shares,)
        Of the way from the global model, in (0, 1], that are tried.
    n_folds : int
        Of each client's rows.
    """

    plan: LocalPlan
    wanted: Array | None
    shares: Array
    n_folds: int


def personalize(
    engine_of: Callable[[ClientLayout, Array], InProcessEngine],
    theta: Tensor,
    layout: ClientLayout,
    labels: NDArray[np.int64],
    sample_weight: Array | None,
    n_classes: int,
    tuning: Tuning,
) -> Personal:
    """Train, judge and choose on every client.

    Each client trains the global model on all folds of its rows but one, and judges on that one
    how far to go; it goes as far as is best by its mean loss plus two standard errors of what that
    differs by from the global model's, which is 0 for staying there. So clients with few rows stay
    nearer. Those with rows of one class alone, who cannot judge, keep the global model.

    Parameters
    ----------
    engine_of : callable
        Makes an engine for rows of a layout with the given weights, (n_samples,).
    theta : Tensor of shape (p,)
        The global model.
    layout : ClientLayout
        Which rows are whose.
    labels : ndarray of shape (n_samples,)
        Class numbers.
    sample_weight : ndarray of shape (n_samples,) or None
        Weights of rows.
    n_classes : int
        Number of classes.
    tuning : Tuning
        How.
    """
    n_clients, shares = layout.n_clients, tuning.shares
    counts = layout.sum_by_client(None, labels, n_classes)
    able = np.flatnonzero((counts > 0).sum(1) > 1)
    weight = row_weights(layout, labels, sample_weight, counts, tuning.wanted)
    fold = folds(tuning.plan.seed, layout, labels, n_classes, tuning.n_folds)
    whole = engine_of(layout, weight)
    losses = np.full((len(labels), 1 + len(shares)), np.nan)
    for number in range(tuning.n_folds):
        rest = layout.restrict(fold != number)
        remaining = rest.sum_by_client(None, labels, n_classes)
        weighed = row_weights(rest, labels, sample_weight, remaining, tuning.wanted)
        engine = engine_of(rest, weighed)
        for k, delta in _trained(engine, theta, able[remaining[able].any(1)], tuning.plan):
            places = _places(layout, k)
            held_out = places[fold[layout.rows(places)] == number]
            judged = _judged(whole, theta, delta, held_out, labels, tuning)
            losses[layout.rows(held_out)] = judged
    chosen, means = np.zeros(n_clients), np.full((n_clients, 1 + len(shares)), np.nan)
    for k in able.tolist():
        rows = layout.rows(_places(layout, k))
        if np.isfinite(losses[rows]).all():  # else it could not be trained or judged on a fold
            means[k], place = _choice(losses[rows], weight[rows])
            chosen[k] = 0.0 if place == 0 else shares[place - 1]
    personal = np.flatnonzero(chosen)
    thetas = theta.repeat(len(personal), 1)
    if len(personal):
        for k, delta in _trained(whole, theta, personal, tuning.plan):
            thetas[np.searchsorted(personal, k)] += chosen[k] * delta
    return Personal(chosen, thetas, means)


def row_weights(
    layout: ClientLayout,
    labels: NDArray[np.int64],
    sample_weight: Array | None,
    counts: Array,
    wanted: Array | None,
) -> Array:
    """Weights of rows, (n_samples,), by which each client's classes weigh what is wanted.

    The shift of the logits stays as it was in training. A client that weighs its classes as the
    federation's rows were weighed learns about the same population, so that its model says the same
    thing as the global one: how the classes look, not how frequent they are.
    """
    weight = np.ones(len(labels)) if sample_weight is None else np.array(sample_weight, np.float64)
    if wanted is None:
        return weight
    if sample_weight is not None:
        counts = layout.sum_by_client(weight, labels, counts.shape[1])
    by_class = np.divide(wanted, counts, out=np.zeros_like(counts), where=counts > 0)
    owners = layout.codes(len(labels))
    mine = owners >= 0
    weight[mine] *= by_class[owners[mine], labels[mine]]
    return weight


def folds(
    seed: int, layout: ClientLayout, labels: NDArray[np.int64], n_classes: int, n_folds: int
) -> NDArray[np.int64]:
    """Fold of each row, (n_samples,), each client's rows of each class being dealt in turn."""
    rows, rank, cells, sizes = shuffled_cells(seed, FOLDS, layout, labels, n_classes)
    fold = np.zeros(len(labels), np.int64)
    fold[rows] = (rank + np.repeat(cells, sizes)) % n_folds  # single rows are not all in fold 0
    return fold


def _places(layout: ClientLayout, k: int) -> NDArray[np.int64]:
    return np.arange(layout.offsets[k], layout.offsets[k + 1])


def _trained(
    engine: InProcessEngine, theta: Tensor, cohort: NDArray[np.int64], plan: LocalPlan
) -> Iterator[tuple[int, Tensor]]:
    """The clients that could be trained to a finite model, and how it differs from the global."""
    if not len(cohort):
        return
    for reply in engine.train(Task(theta, plan, cohort, 0)):
        if isinstance(reply, Failure):
            continue
        good = reply.good()
        for k, delta, is_good in zip(reply.clients, reply.deltas, good, strict=True):
            if is_good:
                yield int(k), delta


def _judged(
    engine: InProcessEngine,
    theta: Tensor,
    delta: Tensor,
    held_out: NDArray[np.int64],
    labels: NDArray[np.int64],
    tuning: Tuning,
) -> Array:
    """Log-loss at places by the global model and by each share, of shape (m, 1 + n_shares)."""
    features, own = engine.rows.features(held_out), labels[engine.rows.layout.rows(held_out)]
    y = torch.as_tensor(own, dtype=torch.int64, device=features.device)
    found = []
    for share in (0.0, *tuning.shares):
        with torch.no_grad():
            logits = engine.logits(theta + share * delta)(features)
            constants = tuning.plan.constants  # as predictions have them
            constants = None if constants is None else constants.to(logits)
            log_posterior = tuning.plan.loss.log_posterior(logits, constants)
        found.append(-log_posterior.gather(1, y[:, None])[:, 0])
    return torch.stack(found, 1).double().cpu().numpy()


def _choice(losses: Array, weight: Array) -> tuple[Array, int]:
    """Mean loss of each candidate, and which to take: the global model is the first."""
    weight = weight / weight.sum()
    means = weight @ losses
    lead = losses - losses[:, :1]
    error = np.sqrt(weight**2 @ (lead - weight @ lead) ** 2)
    return means, int(np.argmin(means + _ERRORS * error))
