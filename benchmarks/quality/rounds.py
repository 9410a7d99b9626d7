"""Published methods that change the rows or the weights of the clients in every round."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skfedfocal import FederatedClassifier, FederatedTrainingError

from .logits import finite_logits
from .sets import Task

_COHORTS, _SAMPLING = 11, 12  # streams of random numbers


@dataclass(frozen=True)
class Cohort:
    """The clients of a round: each one's rows, as places in the training rows."""

    clients: NDArray[np.int64]
    rows: list[NDArray[np.int64]]


# Rows of the round, client by client, and the weight of each client.
RoundPlan = Callable[[FederatedClassifier, Task, Cohort], tuple[list[NDArray[np.int64]], NDArray]]


def fit_round_by_round(
    model: FederatedClassifier, task: Task, seed: int, plan: RoundPlan
) -> FederatedClassifier:
    """Train by one `partial_fit` a round, on the rows and client weights that the plan gives.

    The cohorts are drawn uniformly, as by the classifier itself. A client's weight scales the
    sample weights of its rows: local training looks at their ratios only, and the server weighs
    the client by their sum.
    """
    rng = np.random.default_rng([_COHORTS, seed])
    ids, codes = np.unique(task.clients, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    share = model.clients_per_round
    n_selected = share if isinstance(share, int) else max(1, round(share * len(ids)))
    model.set_params(clients_per_round=1.0)
    for _ in range(model.n_rounds):
        drawn = np.sort(rng.choice(len(ids), n_selected, replace=False))
        rows, weights = plan(model, task, Cohort(drawn, [rows_of[k] for k in drawn]))
        taken, sizes = np.concatenate(rows), [len(r) for r in rows]
        model.partial_fit(
            task.X[taken],
            task.y[taken],
            classes=np.arange(task.n_classes),
            sample_weight=np.repeat(weights, sizes),
            clients=np.repeat(drawn, sizes),
        )
    return model


class BalancedSampling:
    """Every client draws its rows anew each round, with equal chances for each class it has.

    With replacement, as many as it has times its local epochs: sampling proper, not weights that
    are equal to it in expectation.
    """

    def __init__(self, seed: int, n_epochs: int):
        self.rng = np.random.default_rng([_SAMPLING, seed])
        self.n_epochs = n_epochs

    def __call__(
        self, model: FederatedClassifier, task: Task, cohort: Cohort
    ) -> tuple[list[NDArray[np.int64]], NDArray[np.float64]]:
        drawn = []
        for rows in cohort.rows:
            _, label, count = np.unique(task.y[rows], return_inverse=True, return_counts=True)
            chance = 1 / (len(count) * count[label])
            drawn.append(self.rng.choice(rows, self.n_epochs * len(rows), p=chance))
        return drawn, np.ones(len(drawn))


class Climb:
    """CLIMB: clients whose loss exceeds the mean weigh more, by dual ascent on that constraint.

    ``lambda_k <- clip(lambda_k + eta (l_k - mean l - eps) / K, 0, 100)`` and
    ``w_k = 1 + lambda_k - mean lambda``, over the K clients of the round.

    References
    ----------
    .. [1] Z. Shen et al., "An agnostic approach to federated learning with class imbalance",
       ICLR 2022.
    """

    def __init__(self, eta: float = 0.1, eps: float = 0.1):
        self.eta, self.eps = eta, eps
        self.multipliers: dict[int, float] = {}

    def __call__(
        self, model: FederatedClassifier, task: Task, cohort: Cohort
    ) -> tuple[list[NDArray[np.int64]], NDArray[np.float64]]:
        known = np.array([self.multipliers.get(int(k), 0.0) for k in cohort.clients])
        if hasattr(model, "classes_"):  # before the first round there is no model to judge
            losses = _losses(model, task, cohort)
            if not np.isfinite(losses).all():
                raise FederatedTrainingError("The probabilities are no numbers any more.")
            ascent = self.eta * (losses - losses.mean() - self.eps) / len(losses)
            known = np.clip(known + ascent, 0, 100)
            self.multipliers.update(zip(cohort.clients.tolist(), known.tolist(), strict=True))
        return cohort.rows, np.maximum(1 + known - known.mean(), 1e-3)


def _losses(model: FederatedClassifier, task: Task, cohort: Cohort) -> NDArray[np.float64]:
    """Mean log-loss of each client of the cohort."""
    taken = np.concatenate(cohort.rows)
    if not finite_logits(model, task.X[taken]):
        raise FederatedTrainingError("The model has diverged.")
    p = model.predict_proba(task.X[taken])[np.arange(len(taken)), task.y[taken]]
    starts = np.cumsum([0, *(len(r) for r in cohort.rows[:-1])])
    return np.add.reduceat(-np.log(np.maximum(p, 1e-30)), starts) / [len(r) for r in cohort.rows]
