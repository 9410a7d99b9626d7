"""The methods compared: how each is trained and how it decides.

Every method gets the same module, rounds, local epochs, batches, cohorts and grid of learning
rates. `own` is the grid of its own parameter, three values at the most, the published (or the
package's) default first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline

import skfedfocal
from skfedfocal import FederatedClassifier, FedFocalClassifier
from skfedfocal.losses import (
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    Loss,
    SampleDependentFocalLoss,
)
from skfedfocal.selection import FocalSelection
from skfedfocal.strategies import FedProx

from .comparators import (
    BalancedSampling,
    CalibratedLogitsLoss,
    Climb,
    RestrictedSoftmaxLoss,
    effective_number_weights,
    fit_round_by_round,
)
from .datasets import Budget, Task
from .measures import class_measures, probability_measures

Own = Mapping[str, Any]
N_LOCAL_ONLY = 10  # clients whose own models stand for all in local-only training


@dataclass(frozen=True)
class Setting:
    """All that a training is given besides its method."""

    task: Task
    budget: Budget
    learning_rate: float
    seed: int

    def common(self) -> dict[str, Any]:
        """Parameters that every federated classifier has alike."""
        return {
            "hidden_layer_sizes": self.budget.hidden_layer_sizes,
            "n_rounds": self.budget.n_rounds,
            "n_local_epochs": self.budget.n_local_epochs,
            "batch_size": self.budget.batch_size,
            "clients_per_round": self.budget.clients_per_round,
            "learning_rate": self.learning_rate,
            "random_state": self.seed,
            "device": "cpu",
        }


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes
    ----------
    name, title : str
    train : callable
        ``(setting, **own) -> model``.
    own : tuple of mapping
        Grid of the method's own parameter, its default first.
    trained_as : callable or None
        ``own -> (name, own)`` of the method that trains the same model, so that it is trained once.
    shift : callable or None
        ``own -> tau``: decide by the posterior divided by the training prior to the power tau.
    federated : bool
        Whether it is one of the methods compared, or a reference (pooled rows, no federation).
    family : {"published", "fedfocal", "reference"}
        "fedfocal" are variants of the classifier that the package is about.
    tunes_rate : bool
        Whether the learning rate matters to it.
    samples_evenly : bool
        Whether its rows are drawn with equal chances for each class, so that its probabilities are
        about equally frequent classes though its loss does not know.
    """

    name: str
    title: str
    train: Callable[..., Any]
    own: tuple[Own, ...] = ({},)
    trained_as: Callable[[Own], tuple[str, Own]] | None = None
    shift: Callable[[Own], float] | None = None
    family: str = "published"
    tunes_rate: bool = True
    samples_evenly: bool = False

    @property
    def federated(self) -> bool:
        return self.family != "reference"

    def training(self, own: Own) -> tuple[str, Own]:
        return (self.name, own) if self.trained_as is None else self.trained_as(own)


# -- training --------------------------------------------------------------------------------


def _general(loss: str | Callable[..., Loss] = "cross_entropy", **fixed: Any) -> Callable[..., Any]:
    """Trains a FederatedClassifier; own parameters go to the loss."""

    def train(setting: Setting, **own: Any) -> FederatedClassifier:
        part = loss if isinstance(loss, str) else loss(**own)
        model = FederatedClassifier(loss=part, **fixed, **setting.common())
        return model.fit(setting.task.X, setting.task.y, clients=setting.task.clients)

    return train


def _prox(setting: Setting, mu: float) -> FederatedClassifier:
    model = FederatedClassifier(strategy=FedProx(mu), **setting.common())
    return model.fit(setting.task.X, setting.task.y, clients=setting.task.clients)


def _fedfocal(setting: Setting, **own: Any) -> FedFocalClassifier:
    model = FedFocalClassifier(**own, **setting.common())
    return model.fit(setting.task.X, setting.task.y, clients=setting.task.clients)


def _fedfocal_cv(setting: Setting, **own: Any) -> Any:
    """At its defaults, which `own` only records."""
    kind = skfedfocal.FedFocalClassifierCV
    taken = inspect.signature(kind).parameters
    model = kind(**{k: v for k, v in setting.common().items() if k in taken})
    return model.fit(setting.task.X, setting.task.y, clients=setting.task.clients)


def _effective(setting: Setting, beta: float) -> FederatedClassifier:
    weights = effective_number_weights(setting.task, beta)
    model = FederatedClassifier(class_weight=weights, **setting.common())
    return model.fit(setting.task.X, setting.task.y, clients=setting.task.clients)


def _ldam(setting: Setting, max_margin: float) -> FederatedClassifier:
    """Deferred re-weighting, as in the paper: effective-number weights in the last fifth."""
    task, common = setting.task, setting.common()
    last = max(1, common["n_rounds"] // 5)
    common["n_rounds"] -= last
    model = FederatedClassifier(loss=LDAMLoss(max_margin), warm_start=True, **common)
    model.fit(task.X, task.y, clients=task.clients)
    model.set_params(n_rounds=last, class_weight=effective_number_weights(task, 0.9999))
    return model.fit(task.X, task.y, clients=task.clients)


def _balanced_sampling(setting: Setting) -> FederatedClassifier:
    common = setting.common() | {"n_local_epochs": 1}  # a draw holds the rows of all its epochs
    plan = BalancedSampling(setting.seed, setting.budget.n_local_epochs)
    # The rows are balanced already, so the class weights are left alone.
    model = FederatedClassifier(**common)
    return fit_round_by_round(model, setting.task, setting.seed, plan)


def _climb(setting: Setting, eta: float) -> FederatedClassifier:
    model = FederatedClassifier(**setting.common())
    return fit_round_by_round(model, setting.task, setting.seed, Climb(eta))


def _pooled(setting: Setting, **own: Any) -> FedFocalClassifier:
    """The default classifier on all rows as one client, as many passes as in the federation."""
    n_clients = len(np.unique(setting.task.clients))
    common = setting.common() | {
        "n_rounds": setting.budget.passes(n_clients),
        "n_local_epochs": 1,
        "clients_per_round": 1.0,
    }
    return FedFocalClassifier(**own, **common).fit(setting.task.X, setting.task.y)


def _boosting(setting: Setting) -> Pipeline:
    """With balanced class weights; where features are many, on their principal components.

    All 784 pixels would take a minute a training, all 561 features of HAR nearly as long.
    """
    X, y = setting.task.X, setting.task.y
    steps: list[Any] = [PCA(30, random_state=setting.seed)] if X.shape[1] > 100 else []
    steps.append(
        HistGradientBoostingClassifier(
            max_iter=40, max_bins=63, class_weight="balanced", random_state=setting.seed
        )
    )
    return make_pipeline(*steps).fit(X, y)


class LocalModels:
    """Models of single clients, each trained on its own rows alone."""

    def __init__(self, models: list[Any]):
        self.models = models

    def class_measures(self, task: Task) -> dict[str, float]:
        """Mean over the models of their measures on the common test rows."""
        found = [class_measures(task.y_test, m.predict(task.X_test)) for m in self.models]
        return {name: float(np.mean([f[name] for f in found])) for name in found[0]}


class Constant:
    """What a client with rows of one class can learn."""

    def __init__(self, label: int):
        self.label = label

    def predict(self, X: NDArray) -> NDArray[np.int64]:
        return np.full(len(X), self.label)


def _local_only(setting: Setting, **own: Any) -> LocalModels:
    task = setting.task
    ids = np.unique(task.clients)
    passes = setting.budget.passes(len(ids))
    rng = np.random.default_rng([_LOCAL_ONLY, setting.seed])
    models: list[Any] = []
    for k in rng.permutation(ids)[:N_LOCAL_ONLY]:
        X, y = task.X[task.clients == k], task.y[task.clients == k]
        if len(np.unique(y)) == 1:
            models.append(Constant(int(y[0])))
            continue
        common = setting.common() | {
            "n_rounds": passes,
            "n_local_epochs": 1,
            "clients_per_round": 1.0,
        }
        models.append(FedFocalClassifier(**own, **common).fit(X, y))
    return LocalModels(models)


_LOCAL_ONLY = 21  # a stream of random numbers


# -- the list --------------------------------------------------------------------------------


def _grid(name: str, *values: float) -> tuple[Own, ...]:
    return tuple({name: value} for value in values)


def _default_of_fedfocal() -> dict[str, Any]:
    """What makes the default classifier what it is, written out so that a change shows."""
    defaults = FedFocalClassifier().get_params()
    decisive = (
        "gamma",
        "class_weight",
        "logit_adjustment",
        "client_gamma",
        "strategy",
        "selection",
        "average_rounds",
    )
    return {name: defaults[name] for name in decisive if name in defaults}


DEFAULT = _default_of_fedfocal()


def _default_of_cv() -> tuple[Own, ...]:
    """The grid that FedFocalClassifierCV searches, written out so that a change shows."""
    kind = getattr(skfedfocal, "FedFocalClassifierCV", None)
    if kind is None:
        return ({},)
    defaults = kind().get_params()
    decisive = ("gammas", "class_weights", "logit_adjustment", "cv")
    return ({name: repr(defaults[name]) for name in decisive if name in defaults},)


def _variant(name: str, title: str, *grid: Own) -> Method:
    own = tuple({**DEFAULT, **values} for values in grid)
    return Method(name, title, _fedfocal, own, lambda own: ("fedfocal", own), family="fedfocal")


def _other_gammas() -> list[Own]:
    return [{"gamma": g} for g in (0.5, 1.0, 2.0) if g != DEFAULT["gamma"]][:2]


def _selection(setting: Setting, focus: float, **own: Any) -> FedFocalClassifier:
    return _fedfocal(setting, **{**own, "selection": FocalSelection(focus)})


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("fedavg", "FedAvg, cross-entropy", _general()),
        Method(
            "fedavg_shifted",
            "FedAvg, logits adjusted after training",
            _general(),
            _grid("tau", 1.0, 0.5, 1.5),
            trained_as=lambda own: ("fedavg", {}),
            shift=lambda own: own["tau"],
        ),
        Method("fedprox", "FedProx", _prox, _grid("mu", 0.01, 0.1, 1.0)),
        Method("focal", "focal loss alone", _general(FocalLoss), _grid("gamma", 2.0, 1.0, 5.0)),
        Method(
            "focal_shifted",
            "focal loss, posterior ÷ prior",
            _general(FocalLoss),
            _grid("gamma", 2.0, 1.0, 5.0),
            trained_as=lambda own: ("focal", own),
            shift=lambda own: 1.0,
        ),
        Method("flsd", "sample-dependent focal loss (FLSD-53)", _general(SampleDependentFocalLoss)),
        Method("ce_local", "CE + local class weights", _general(class_weight="local")),
        Method("ce_federated", "CE + federated class weights", _general(class_weight="balanced")),
        Method(
            "effective",
            "CE + effective-number weights",
            _effective,
            _grid("beta", 0.999, 0.99, 0.9999),
        ),
        Method("ldam", "LDAM, deferred re-weighting", _ldam, _grid("max_margin", 0.5, 1.0, 2.0)),
        Method(
            "logit_adjusted",
            "logit adjustment in the loss, federated",
            _general(LogitAdjustedLoss),
            _grid("tau", 1.0, 0.5, 1.5),
        ),
        Method(
            "balanced_softmax",
            "balanced softmax, local",
            _general(lambda tau: LogitAdjustedLoss(tau, counts="local")),
            _grid("tau", 1.0, 0.5, 1.5),
        ),
        Method("fedlc", "FedLC", _general(CalibratedLogitsLoss), _grid("tau", 1.0, 0.5, 2.0)),
        Method("fedrs", "FedRS", _general(RestrictedSoftmaxLoss), _grid("alpha", 0.5, 0.7, 0.9)),
        Method(
            "balanced_sampling",
            "class-balanced sampling on clients",
            _balanced_sampling,
            samples_evenly=True,
        ),
        Method("climb", "CLIMB", _climb, _grid("eta", 0.1, 1.0, 10.0)),
        _variant("fedfocal", "FedFocalClassifier", {}, *_other_gammas()),
        _variant(
            "focal2_federated",
            "focal γ=2 + federated weights",
            {"gamma": 2.0, "logit_adjustment": 0.0, "client_gamma": 0.0},
        ),
        _variant("fedfocal_rows", "… with weights of rows alone", {"logit_adjustment": 0.0}),
        _variant("fedfocal_logits", "… with shifted logits alone", {"logit_adjustment": 1.0}),
        _variant("fedfocal_unfocused", "… without client focusing", {"client_gamma": 0.0}),
        Method(
            "fedfocal_selection",
            "… with client focusing as selection",
            _selection,
            tuple({**DEFAULT, "client_gamma": 0.0, **own} for own in _grid("focus", 1.0, 0.5, 2.0)),
            family="fedfocal",
        ),
        Method(
            "fedfocal_cv", "FedFocalClassifierCV", _fedfocal_cv, _default_of_cv(),
            family="fedfocal", tunes_rate=False,
        ),
        Method("pooled", "pooled rows, same module", _pooled, (DEFAULT,), family="reference"),
        Method(
            "boosting", "HistGradientBoosting, pooled, balanced", _boosting,
            family="reference", tunes_rate=False,
        ),
        Method(
            "local_only", "own rows only, mean over clients", _local_only, (DEFAULT,),
            family="reference",
        ),
    )
}  # fmt: skip

CHOOSES_ITSELF = ("fedfocal_cv",)  # ranked apart from the fixed methods


def missing(method: Method) -> str | None:
    """Why this version of the package cannot run the method, or None."""
    if method.name == "fedfocal_cv" and not hasattr(skfedfocal, "FedFocalClassifierCV"):
        return "no FedFocalClassifierCV"
    return None


# -- measuring -------------------------------------------------------------------------------


def measure(method: Method, model: Any, own: Own, task: Task) -> dict[str, float]:
    """Everything that is recorded of a trained model, from the test (or validation) rows.

    Probabilities are judged four ways: ``own_``, `predict_proba` in the population that it is
    about (equal classes after class weights, the training rows' otherwise); ``raw_``, the plain
    softmax in the same population; ``balanced_``, `predict_proba` where classes are equally
    frequent; ``uniform_``, the posterior for equally frequent classes where they are;
    ``natural_``, the posterior for the training population where classes occur as in it.
    """
    if isinstance(model, LocalModels):
        return model.class_measures(task)
    prior = np.maximum(task.prior, 1e-12)
    uniform = np.full(task.n_classes, 1 / task.n_classes)
    probabilities = model.predict_proba(task.X_test)
    if isinstance(model, Pipeline):
        claimed, raw = uniform, None
    else:
        claimed = uniform if method.samples_evenly else claimed_population(model, prior)
        raw = raw_softmax(model, task.X_test)
    if method.shift is not None:
        tau = method.shift(own)
        probabilities = move(probabilities, uniform, prior**-tau)
        claimed = claimed * prior**-tau
        claimed /= claimed.sum()
        raw = None if raw is None else move(raw, uniform, prior**-tau)
    y = task.y_test
    predicted = model.predict(task.X_test) if method.shift is None else probabilities.argmax(1)
    judged = {
        "own": (probabilities, claimed),
        "balanced": (probabilities, uniform),
        "uniform": (move(probabilities, claimed, uniform), uniform),
        "natural": (move(probabilities, claimed, prior), prior),
    }
    if raw is not None:
        judged["raw"] = (raw, claimed)
    measures = class_measures(y, predicted)
    for name, (p, population) in judged.items():
        for kind, value in probability_measures(y, p, population).items():
            measures[f"{name}_{kind}"] = value
    return measures


def claimed_population(model: Any, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Class frequencies of the population that `predict_proba` is about.

    From the training counts, which the benchmark knows even where the federation summed none.
    """
    chosen = getattr(model, "best_params_", None)
    weight = model.class_weight if chosen is None else chosen["class_weight"]
    if isinstance(weight, str) and weight in ("balanced", "local", "estimated"):
        claimed = np.ones(len(prior))
    else:
        fitted = model.class_weight_
        claimed = prior if fitted is None else prior * fitted
    loss = getattr(model, "loss", None)
    if isinstance(loss, Loss):
        claimed = loss.decision_prior(claimed)
    return claimed / claimed.sum()


def move(
    probabilities: NDArray, source: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Posterior for another class prior: Bayes' rule."""
    moved = probabilities * (target / source)
    return moved / moved.sum(1, keepdims=True)


def raw_softmax(model: Any, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """The softmax of the module's logits, without the loss's posterior map."""
    module = getattr(model, "best_estimator_", model).module_
    with torch.no_grad():
        return torch.softmax(module(torch.from_numpy(X)).double(), 1).numpy()
