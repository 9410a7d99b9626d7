"""How clients make models of their own from a fitted classifier, and how these are asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skfedfocal._data.clients import ClientLayout
from skfedfocal._estimators.base import BaseFederatedClassifier
from skfedfocal._local import LocalPlan
from skfedfocal._training.personal import Tuning

Array = NDArray[np.float64]


def tuning_of(
    fitted: BaseFederatedClassifier,
    shares: Array,
    n_folds: int,
    n_epochs: int,
    learning_rate: float,
    seed: int,
) -> Tuning:
    """How clients train and judge, by the fitted state of the global classifier."""
    weights, prior = fitted.class_weight_, fitted.class_prior_
    of_rows = None if weights is None else fitted.loss_.divide(weights)[0]
    wanted = None
    if prior is not None:
        wanted = prior if of_rows is None else prior * of_rows
    elif fitted.decision_prior_ is not None:  # each client balanced its own classes
        wanted = fitted.decision_prior_
    constants = fitted.loss_constants_
    plan = LocalPlan(
        loss=fitted.loss_,
        class_weight=None if wanted is not None else of_rows,
        constants=None if constants is None else torch.as_tensor(constants),
        n_epochs=n_epochs,
        batch_size=fitted.batch_size,
        learning_rate=learning_rate,
        momentum=fitted.momentum,
        weight_decay=fitted.weight_decay,
        proximal=0.0,
        seed=seed,
    )
    return Tuning(plan, wanted, shares, n_folds)


def checked_shares(shares: Any) -> Array:
    """Shares as an array, ascending and without repetition."""
    found = np.asarray(shares)
    fine = found.ndim == 1 and found.size > 0 and found.dtype.kind in "iuf"
    if not (fine and (found > 0).all() and (found <= 1).all()):
        raise ValueError(f"shares must be numbers in (0, 1]; got {shares!r}.")
    return np.unique(found).astype(np.float64)


def own_priors(
    layout: ClientLayout, codes: NDArray[np.int64], weight: Any, prior: Any, n_classes: int
) -> Array:
    """Share of each class on each client, (n_clients, n_classes), none of them 0."""
    spread = np.full(n_classes, 1 / n_classes) if prior is None else np.maximum(prior, 1e-6)
    counts = layout.sum_by_client(weight, codes, n_classes) + spread / spread.sum()
    return counts / counts.sum(1, keepdims=True)


def ask(model: Any, method: str, X: Any, class_prior: Any = None) -> NDArray[Any]:
    """What one classifier says, whose own class frequencies are those of its client."""
    if method != "predict_posterior":
        return getattr(model, method)(X)
    own = isinstance(class_prior, str) and class_prior == "client"
    return model.predict_posterior(X, "population" if own else class_prior)
