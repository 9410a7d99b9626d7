"""The methods compared: how each is trained, and the grid of its own parameter.

Every method gets the same module, rounds, local epochs, batches, cohorts and grid of learning
rates. The grid of a method's own parameter has three values at the most, the published (or the
package's) default first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline

from skfedfocal import FederatedClassifier, FedFocalClassifier, FedFocalClassifierCV
from skfedfocal._training.parts import resolve_parts
from skfedfocal.losses import (
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    SampleDependentFocalLoss,
)
from skfedfocal.selection import FocalSelection
from skfedfocal.strategies import FedProx

from .losses import CalibratedLogitsLoss, RestrictedSoftmaxLoss
from .rounds import BalancedSampling, Climb, fit_round_by_round
from .sets import Scenario, Task

Own = Mapping[str, Any]
Common = dict[str, Any]  # parameters that every federated classifier has alike
N_LOCAL_ONLY = 10  # clients whose own models stand for all in local-only training
_LOCAL_ONLY = 21  # a stream of random numbers


@dataclass(frozen=True)
class Method:
    """One row of the tables."""

    name: str
    title: str
    train: Callable[..., Any]  # (task, common, **own) -> model
    own: tuple[Own, ...] = ({},)  # grid of the method's own parameter, its default first
    family: str = "published"  # or "fedfocal", variants of the default; or "reference", not ranked
    trained_as: str | None = None  # the method that trains the same models, trained once
    # Decide by the posterior divided by the training prior to that power, or to the power that the
    # own parameter of that name says, which training does not know.
    shift: str | float | None = None
    tunes_rate: bool = True  # whether the learning rate matters to it
    # Whether rows are drawn with equal chances for each class, so that probabilities are about
    # equally frequent classes though the loss does not know.
    samples_evenly: bool = False

    def tau(self, own: Own) -> float:
        return own[self.shift] if isinstance(self.shift, str) else float(self.shift or 0)

    def training(self, own: Own) -> tuple[str, dict[str, Any]]:
        """Name and own parameters of the training."""
        return self.trained_as or self.name, {k: v for k, v in own.items() if k != self.shift}


def common(scenario: Scenario, learning_rate: float, seed: int) -> Common:
    """What the scenario, the learning rate and the seed say to every classifier."""
    return {
        "hidden_layer_sizes": tuple(scenario.hidden_layer_sizes),
        "n_rounds": scenario.n_rounds,
        "n_local_epochs": scenario.n_local_epochs,
        "batch_size": scenario.batch_size,
        "clients_per_round": scenario.clients_per_round,
        "learning_rate": learning_rate,
        "random_state": seed,
        "device": "cpu",
    }


def one_client(common: Common, n_clients: int) -> Common:
    """For a training on one client: as many passes over each row as the federation makes."""
    share = common["clients_per_round"]
    share = share / n_clients if isinstance(share, int) else share
    passes = max(1, round(common["n_rounds"] * common["n_local_epochs"] * share))
    return common | {"n_rounds": passes, "n_local_epochs": 1, "clients_per_round": 1.0}


# -- training --------------------------------------------------------------------------------


def _fit(kind: Callable[..., Any], task: Task, common: Common, **parameters: Any) -> Any:
    return kind(**parameters, **common).fit(task.X, task.y, clients=task.clients)


def _fedfocal(task: Task, common: Common, **own: Any) -> FedFocalClassifier:
    return _fit(FedFocalClassifier, task, common, **own)


def _general(**parts: Any) -> Callable[..., Any]:
    """Trains a FederatedClassifier; own parameters go to the part that takes any."""

    def train(task: Task, common: Common, **own: Any) -> FederatedClassifier:
        made = {name: part(**own) if callable(part) else part for name, part in parts.items()}
        return _fit(FederatedClassifier, task, common, **made)

    return train


def _fedfocal_cv(task: Task, common: Common, **own: Any) -> FedFocalClassifierCV:
    """At its defaults, which `own` only records."""
    taken = inspect.signature(FedFocalClassifierCV).parameters
    return _fit(FedFocalClassifierCV, task, {k: v for k, v in common.items() if k in taken})


def _selection(task: Task, common: Common, focus: float, **own: Any) -> FedFocalClassifier:
    return _fedfocal(task, common, **{**own, "selection": FocalSelection(focus)})


def effective_number_weights(task: Task, beta: float) -> dict[int, float]:
    """Weights ``(1 - beta) / (1 - beta ** n_c)`` (Cui et al., CVPR 2019), rows 1 on average."""
    counts = np.bincount(task.y, minlength=task.n_classes)
    weights = (1 - beta) / (1 - beta ** np.maximum(counts, 1))
    weights = weights * counts.sum() / (weights @ counts)
    return dict(enumerate(weights.tolist()))


def _effective(task: Task, common: Common, beta: float) -> FederatedClassifier:
    weights = effective_number_weights(task, beta)
    return _fit(FederatedClassifier, task, common, class_weight=weights)


def _ldam(task: Task, common: Common, max_margin: float) -> FederatedClassifier:
    """Deferred re-weighting, as in the paper: effective-number weights in the last fifth."""
    last = max(1, common["n_rounds"] // 5)
    first = common | {"n_rounds": common["n_rounds"] - last, "warm_start": True}
    model = _fit(FederatedClassifier, task, first, loss=LDAMLoss(max_margin))
    model.set_params(n_rounds=last, class_weight=effective_number_weights(task, 0.9999))
    return model.fit(task.X, task.y, clients=task.clients)


def _balanced_sampling(task: Task, common: Common) -> FederatedClassifier:
    """The rows are balanced already, so the class weights are left alone."""
    plan = BalancedSampling(common["random_state"], common["n_local_epochs"])
    model = FederatedClassifier(**common | {"n_local_epochs": 1})  # a draw holds all its epochs
    return fit_round_by_round(model, task, common["random_state"], plan)


def _climb(task: Task, common: Common, eta: float) -> FederatedClassifier:
    model = FederatedClassifier(**common)
    return fit_round_by_round(model, task, common["random_state"], Climb(eta))


def _pooled(task: Task, common: Common, **own: Any) -> FedFocalClassifier:
    """The default classifier on all rows as one client."""
    n_clients = len(np.unique(task.clients))
    return FedFocalClassifier(**own, **one_client(common, n_clients)).fit(task.X, task.y)


def _boosting(task: Task, common: Common, **own: Any) -> Pipeline:
    """With balanced class weights; where features are many, on their principal components.

    All 784 pixels would take a minute a training, all 561 features of HAR nearly as long.
    """
    seed = common["random_state"]
    wide = task.X.shape[1] > 100
    cheaper = {"max_iter": 40, "max_bins": 63} if wide else {}
    boosting = HistGradientBoostingClassifier(
        class_weight="balanced", random_state=seed, **cheaper, **own
    )
    first = [PCA(30, random_state=seed)] if wide else []
    return make_pipeline(*first, boosting).fit(task.X, task.y)


@dataclass(frozen=True)
class LocalModels:
    """Models of single clients, each trained on its own rows alone."""

    models: list[Any]


def _local_only(task: Task, common: Common, **own: Any) -> LocalModels:
    ids, models = np.unique(task.clients), []
    rng = np.random.default_rng([_LOCAL_ONLY, common["random_state"]])
    for k in rng.permutation(ids)[:N_LOCAL_ONLY]:
        X, y = task.X[task.clients == k], task.y[task.clients == k]
        model = FedFocalClassifier(**own, **one_client(common, len(ids)))
        if len(np.unique(y)) == 1:  # all that such a client can learn
            model = DummyClassifier()
        models.append(model.fit(X, y))
    return LocalModels(models)


# -- the list --------------------------------------------------------------------------------


def _written_out(kind: type, *names: str) -> dict[str, Any]:
    """Decisive defaults, written out so that records show when they change."""
    defaults = kind().get_params()
    if "auto" in (defaults["logit_adjustment"], defaults["client_gamma"]):  # as it is for all here
        parts = resolve_parts(kind(), kind()._resolve_loss(), defaults["class_weight"])
        assert parts.focus is not None
        defaults["logit_adjustment"] = parts.loss.logit_adjustment
        defaults["client_gamma"] = parts.focus.client_gamma
    return {name: defaults[name] for name in names if name in defaults}


DEFAULT = _written_out(
    FedFocalClassifier, "gamma", "class_weight", "logit_adjustment", "client_gamma", "strategy",
    "selection", "aggregation", "average_rounds",
)  # fmt: skip
_CV = _written_out(FedFocalClassifierCV, "gammas", "class_weights", "logit_adjustment", "cv")
_OTHER_GAMMAS = [{"gamma": g} for g in (0.5, 1.0, 2.0) if g != DEFAULT["gamma"]][:2]
_UNFOCUSED = {**DEFAULT, "client_gamma": 0.0}


def _grid(**grid: tuple[float, ...]) -> tuple[Own, ...]:
    return tuple({name: value} for name, values in grid.items() for value in values)


def _variant(name: str, title: str, *changes: Own) -> Method:
    own = tuple({**DEFAULT, **change} for change in changes)
    return Method(name, title, _fedfocal, own, family="fedfocal", trained_as="fedfocal")


_TAU = {"tau": (1.0, 0.5, 1.5)}
_FOCAL = _general(loss=FocalLoss), _grid(gamma=(2.0, 1.0, 5.0))
_LISTED = (
    Method("fedavg", "FedAvg, cross-entropy", _general()),
    Method(
        "fedavg_shifted", "FedAvg, logits adjusted after training", _general(), _grid(**_TAU),
        trained_as="fedavg", shift="tau",
    ),
    Method("fedprox", "FedProx", _general(strategy=FedProx), _grid(mu=(0.01, 0.1, 1.0))),
    Method("focal", "focal loss alone", *_FOCAL),
    Method("focal_shifted", "focal loss, posterior ÷ prior", *_FOCAL, trained_as="focal", shift=1),
    Method(
        "flsd", "sample-dependent focal loss (FLSD-53)", _general(loss=SampleDependentFocalLoss)
    ),
    Method("ce_local", "CE + local class weights", _general(class_weight="local")),
    Method("ce_federated", "CE + federated class weights", _general(class_weight="balanced")),
    Method(
        "effective", "CE + effective-number weights", _effective,
        _grid(beta=(0.999, 0.99, 0.9999)),
    ),
    Method("ldam", "LDAM, deferred re-weighting", _ldam, _grid(max_margin=(0.5, 1.0, 2.0))),
    Method(
        "logit_adjusted", "logit adjustment in the loss, federated",
        _general(loss=LogitAdjustedLoss), _grid(**_TAU),
    ),
    Method(
        "balanced_softmax", "balanced softmax, local",
        _general(loss=lambda tau: LogitAdjustedLoss(tau, counts="local")), _grid(**_TAU),
    ),
    Method("fedlc", "FedLC", _general(loss=CalibratedLogitsLoss), _grid(tau=(1.0, 0.5, 2.0))),
    Method("fedrs", "FedRS", _general(loss=RestrictedSoftmaxLoss), _grid(alpha=(0.5, 0.7, 0.9))),
    Method(
        "balanced_sampling", "class-balanced sampling on clients", _balanced_sampling,
        samples_evenly=True,
    ),
    Method("climb", "CLIMB", _climb, _grid(eta=(0.1, 1.0, 10.0))),
    _variant("fedfocal", "FedFocalClassifier", {}, *_OTHER_GAMMAS),
    Method(
        "elsewhere", "… as other sets choose it", _fedfocal, (DEFAULT,), "fedfocal", "fedfocal"
    ),
    _variant(
        "focal2_federated", "focal γ=2 + federated weights",
        {"gamma": 2.0, "logit_adjustment": 0.0, "client_gamma": 0.0},
    ),
    _variant("fedfocal_rows", "… with weights of rows alone", {"logit_adjustment": 0.0}),
    _variant("fedfocal_logits", "… with shifted logits alone", {"logit_adjustment": 1.0}),
    _variant("fedfocal_unfocused", "… without client focusing", {"client_gamma": 0.0}),
    Method(
        "fedfocal_selection", "… with client focusing as selection", _selection,
        tuple({**_UNFOCUSED, **own} for own in _grid(focus=(1.0, 0.5, 2.0))), "fedfocal",
    ),
    Method(
        "fedfocal_cv", "FedFocalClassifierCV", _fedfocal_cv,
        ({name: repr(value) for name, value in _CV.items()},), "fedfocal", tunes_rate=False,
    ),
    Method("pooled", "pooled rows, same module", _pooled, (DEFAULT,), "reference"),
    Method(
        "boosting", "HistGradientBoosting, pooled, balanced", _boosting,
        tuple({"max_depth": depth} for depth in (None, 2, 4)), "reference", tunes_rate=False,
    ),
    Method("local_only", "own rows only, mean over clients", _local_only, (DEFAULT,), "reference"),
)  # fmt: skip
METHODS: dict[str, Method] = {m.name: m for m in _LISTED}
BASE, CHOOSES = "fedfocal", "fedfocal_cv"  # the second chooses by itself: ranked apart
ELSEWHERE = "elsewhere"  # what it is, depends on the set
