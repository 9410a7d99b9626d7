"""From an estimator's parameters to the parts of a federated training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skfedfocal._component import resolve
from skfedfocal._data.clients import ClientStats
from skfedfocal._local import (
    ClassWeight,
    LocalPlan,
    balanced_class_weights,
    effective_class_weights,
)
from skfedfocal._module import flatten
from skfedfocal._training.prior import estimate_class_prior
from skfedfocal._training.rounds import Federation
from skfedfocal.aggregation import Aggregator, FocalMean, WeightedMean
from skfedfocal.engines import Engine
from skfedfocal.losses import Loss
from skfedfocal.selection import SELECTIONS, Selection
from skfedfocal.strategies import STRATEGIES, Strategy


def assemble(
    settings: Any,
    engine: Engine,
    module: nn.Module,
    loss: Loss,
    class_weight: Any,
    classes: NDArray[Any],
    seed: int,
) -> tuple[Federation, ClassWeight, NDArray[np.float64] | None]:
    """Put a federation together, before its first round.

    Parameters
    ----------
    settings : estimator
        Whose parameters say what is wanted.
    engine : Engine
        Where the clients are.
    module : torch.nn.Module
        With the parameters to begin from.
    loss : Loss
        Of each row.
    class_weight : dict, str or None
        As the estimators take it.
    classes : ndarray of shape (n_classes,)
        Labels, to which a dict of class weights refers.
    seed : int
        Of shuffles and selection.

    Returns
    -------
    federation : Federation
        Ready for `run_rounds`.
    class_weight : ndarray of shape (n_classes,), "local" or None
        What each class weighs, before the loss takes its part of it.
    prior : ndarray of shape (n_classes,) or None
        Share of each class in all rows, where the parameters ask for it.
    """
    strategy = resolve(settings.strategy, STRATEGIES, Strategy, "strategy")
    selection = resolve(settings.selection, SELECTIONS, Selection, "selection")
    theta = flatten(module)
    plan = LocalPlan(
        loss=loss,
        class_weight=None,
        constants=None,
        n_epochs=settings.n_local_epochs,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        proximal=strategy.proximal,
        seed=seed,
    )
    plan, weights, counts = _weighted(plan, class_weight, classes, engine, module)
    federation = Federation(
        theta=theta,
        plan=plan,
        selection=selection,
        aggregator=_aggregator(strategy, settings.client_gamma, len(engine.sizes)),
        strategy=strategy,
        n_selected=_n_selected(settings.clients_per_round, len(engine.sizes)),
        stats=ClientStats(
            engine.sizes, engine.label_counts() if selection.needs_label_counts else None
        ),
        state=strategy.start(theta),
        want_validation=settings.early_stopping,
    )
    return federation, weights, None if counts is None else counts / counts.sum()


def resume(federation: Federation, state: Mapping[str, NDArray[Any]], n_rounds: int) -> Federation:
    """The same federation after that many rounds, with its server optimiser as it was."""
    if set(state) != set(federation.state):
        raise ValueError(
            "The model to go on from was trained with another strategy than "
            f"{federation.strategy!r}; use the same one, or fit anew, without warm_start."
        )
    theta = federation.theta
    tensors = {name: torch.as_tensor(value).to(theta) for name, value in state.items()}
    return replace(federation, state=tensors, n_rounds=n_rounds)


def _aggregator(strategy: Strategy, client_gamma: float, n_clients: int) -> Aggregator:
    """The strategy's, focused on clients that do poorly if it is a plain mean."""
    aggregator = strategy.aggregator()
    # Of one client alone, the weight does not matter.
    if client_gamma > 0 and type(aggregator) is WeightedMean and n_clients > 1:
        return FocalMean(client_gamma)
    return aggregator


def _weighted(
    plan: LocalPlan, wanted: Any, classes: NDArray[Any], engine: Engine, module: nn.Module
) -> tuple[LocalPlan, ClassWeight, NDArray[np.float64] | None]:
    """The plan with its class weights and the loss's constants; the weights; counts asked for."""
    loss, counts, constants = plan.loss, None, None
    if wanted == "estimated":
        counts = estimate_class_prior(engine, module, plan) * engine.sizes.sum()
    elif wanted in ("balanced", "effective") or loss.counts == "federated":
        counts = engine.label_totals()
    weights = of_rows = _class_weight(wanted, classes, counts)
    if isinstance(weights, np.ndarray):
        of_rows, constants = loss.divide(weights)
        plan = replace(plan, recall_weight=weights)
    if loss.counts == "federated":
        constants = loss.constants(torch.as_tensor(counts))
    return replace(plan, class_weight=of_rows, constants=constants), weights, counts


def _class_weight(
    wanted: Any, classes: NDArray[Any], counts: NDArray[np.float64] | None
) -> ClassWeight:
    if wanted is None or wanted == "local":
        return wanted
    if isinstance(wanted, str):
        assert counts is not None
        return (
            effective_class_weights(counts)
            if wanted == "effective"
            else balanced_class_weights(counts)
        )
    labels = classes.tolist()
    unknown = [label for label in wanted if label not in labels]
    if unknown:
        raise ValueError(f"class_weight has labels {unknown} that are not among {labels}.")
    weights = np.array([wanted.get(label, 1.0) for label in labels], np.float64)
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError(f"class_weight must have finite weights of at least 0; got {wanted}.")
    return weights


def _n_selected(wanted: Any, n_clients: int) -> int:
    if not isinstance(wanted, Integral):
        return max(1, round(wanted * n_clients))
    number = int(wanted)
    if number > n_clients:
        raise ValueError(
            f"clients_per_round={number} is more than the {n_clients} clients there are."
        )
    return number
