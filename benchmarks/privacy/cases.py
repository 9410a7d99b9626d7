"""What is trained: sets, methods and settings, and one training with its score."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.measures import balanced_accuracy
from benchmarks.quality.sets import SETS, Scenario
from skfedfocal import FederatedClassifier, FederatedTrainingError, FedFocalClassifier
from skfedfocal.privacy import ClientLevelDP, ExampleLevelDP

EPSILONS = (1.0, 3.0, 8.0)


class Setting(NamedTuple):
    """What is tuned of a private training."""

    learning_rate: float
    clip_norm: float
    n_rounds: int = 100
    n_averaged: int = 50  # last rounds whose models are averaged, against the noise


@dataclass(frozen=True)
class PrivateSet:
    """A set of the quality benchmark, and what is tried on it.

    Attributes
    ----------
    scenario : Scenario
        Rows, clients and, without privacy, the budget.
    title : str
        As the page has it.
    unit : str
        "example" or "client".
    delta : float
        Of the guarantee.
    n_seeds : int
        Of each cell of the table.
    grid : tuple of Setting
        To choose from on validation rows.
    hidden : tuple of int
        Of private trainings.
    local : mapping
        How clients train, where whole clients are protected.
    """

    scenario: Scenario
    title: str
    unit: str
    delta: float
    n_seeds: int
    grid: tuple[Setting, ...]
    hidden: tuple[int, ...] = (16,)
    local: Mapping[str, Any] = field(default_factory=dict)


_ROWS = tuple(Setting(rate, clip) for rate in (0.3, 1.0, 2.0) for clip in (1.0, 3.0))
_CLIENTS = tuple(Setting(0.3, clip, 60, 1) for clip in (0.5, 1.0))
_THOUSAND = replace(
    SETS["mnist_half_dirichlet"],
    name="mnist_thousand",
    n_train=None,
    n_rounds=60,
    clients_per_round=100,
    partition={"kind": "dirichlet", "n_clients": 1000, "alpha": 0.5, "min_rows": 5},
)
PRIVATE_SETS = {
    "heart": PrivateSet(SETS["heart"], "heart disease, 4 hospitals", "example", 1e-3, 8, _ROWS),
    "fraud": PrivateSet(SETS["fraud"], "fraud 4.3 %, 10 banks", "example", 1e-5, 5, _ROWS),
    "har": PrivateSet(SETS["har"], "HAR, 30 people, rows", "example", 1e-5, 5, _ROWS),
    "har_cut": PrivateSet(
        SETS["har_cut"], "HAR, 3 classes cut to 3 %, rows", "example", 1e-5, 5, _ROWS
    ),
    "mnist": PrivateSet(
        _THOUSAND,
        "MNIST, 5 classes cut to 2 %, 1,000 clients, client level",
        "client",
        1e-4,
        3,
        _CLIENTS,
        (50,),
        {"n_local_epochs": 2, "batch_size": 20},
    ),
}
SAMPLING = {"example": 0.3, "client": 0.1}

# -- methods -------------------------------------------------------------------------------------

FEDAVG: dict[str, Any] = {"loss": "cross_entropy"}
METHODS: dict[str, tuple[type, dict[str, Any]]] = {
    "default": (FedFocalClassifier, {}),
    "DP-FedAvg": (FederatedClassifier, FEDAVG),
    "class weights": (FederatedClassifier, {**FEDAVG, "class_weight": "balanced"}),
    "logit adjustment": (FedFocalClassifier, {"gamma": 0.0, "logit_adjustment": 1.0}),
}
FIXED = "default, nothing tuned"
RATES = (0.03, 0.1, 0.3)  # without privacy


class Case(NamedTuple):
    """One training; without privacy epsilon is infinite, and the setting but a learning rate."""

    set: str
    method: str
    epsilon: float
    setting: Setting | float | None
    seed: int
    fold: int | None
    trust: str = "server"


@lru_cache(maxsize=3)
def task(data: Path, name: str, seed: int, fold: int | None) -> Any:
    """Rows to train and to measure on."""
    return PRIVATE_SETS[name].scenario.task(data, seed, fold)


def mechanism_of(name: str, epsilon: float, **params: Any) -> Any:
    """The mechanism for a set."""
    chosen = PRIVATE_SETS[name]
    kind = ExampleLevelDP if chosen.unit == "example" else ClientLevelDP
    return kind(
        **{
            "target_epsilon": epsilon,
            "delta": chosen.delta,
            "sampling_rate": SAMPLING[chosen.unit],
            "trust": "server",
            **params,
        }
    )


def model_of(case: Case) -> Any:
    """The estimator of a case."""
    chosen = PRIVATE_SETS[case.set]
    kind, params = METHODS["default" if case.method == FIXED else case.method]
    if np.isinf(case.epsilon):
        scenario = chosen.scenario
        return kind(
            tuple(scenario.hidden_layer_sizes),
            n_rounds=scenario.n_rounds,
            n_local_epochs=scenario.n_local_epochs,
            batch_size=scenario.batch_size,
            clients_per_round=scenario.clients_per_round,
            learning_rate=case.setting,
            random_state=case.seed,
            **params,
        )
    if case.method == FIXED:
        privacy = mechanism_of(case.set, case.epsilon)
        averaged = 50 if chosen.unit == "example" else 1  # as ExampleLevelDP advises
        return kind(
            (16,), average_rounds=averaged, privacy=privacy, random_state=case.seed, **params
        )
    setting = Setting(*case.setting)
    privacy = mechanism_of(case.set, case.epsilon, clip_norm=setting.clip_norm, trust=case.trust)
    return kind(
        chosen.hidden,
        n_rounds=setting.n_rounds,
        learning_rate=setting.learning_rate,
        average_rounds=setting.n_averaged,
        privacy=privacy,
        random_state=case.seed,
        **{**chosen.local, **params},
    )


def score(case: Case, data: Path) -> float:
    """Balanced accuracy on the rows held out; that of a constant where training diverged."""
    rows = task(data, case.set, case.seed, case.fold)
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        try:
            model = model_of(case)
            model.fit(rows.X, rows.y, clients=rows.clients)
            predicted: NDArray[Any] = model.predict(rows.X_test)
        except FederatedTrainingError:
            predicted = np.zeros_like(rows.y_test)
    return balanced_accuracy(rows.y_test, predicted)
