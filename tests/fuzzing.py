"""Random federations, parameters and tools: what must come of each.

A case is drawn from a number alone, so that ``case(7)`` is the same for ever. Either it ends with a
clear error, one of the package's or scikit-learn's own checks, in words; or with a fitted model
whose invariants hold. `tools/fuzz.py` tries as many as there is time for.
"""

from __future__ import annotations

import pickle
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfedfocal import (
    ClientColumn,
    FederatedClassifier,
    FederatedTrainingError,
    FedFocalClassifier,
    FedFocalClassifierCV,
    PersonalizedClassifier,
)
from skfedfocal.preprocessing import FederatedStandardScaler

FITTED, REFUSED = "fitted", "refused"


class Wrong(AssertionError):
    """Raised where a case comes to neither a clear error nor a sound model."""


# -- federations ---------------------------------------------------------------------------------


@dataclass
class Rows:
    """Rows as somebody might have them."""

    X: Any
    y: Any
    clients: Any
    weight: Any


def rows(rng: np.random.Generator) -> Rows:
    """Sound rows more often than not; otherwise something in them is odd."""
    n, d = int(rng.integers(4, 70)), int(rng.integers(1, 7))
    n_classes, n_clients = int(rng.integers(1, 5)), int(rng.integers(1, 9))
    skew = rng.dirichlet(np.full(n_classes, rng.choice([0.2, 1.0, 10.0])))
    y = rng.choice(n_classes, n, p=skew)
    X = rng.normal(size=(n, d)) + y[:, None] * rng.normal(size=d)
    clients = rng.choice(n_clients, n, p=rng.dirichlet(np.full(n_clients, 0.5)))
    X = X * rng.choice([1.0, 1.0, 1.0, 1e-4, 1e4, 1e12])
    odd = rng.integers(12)
    if odd == 0:
        X[:, rng.integers(d)] = 3.0  # a constant column
    elif odd == 1:
        X[rng.integers(n), rng.integers(d)] = rng.choice([np.nan, np.inf, 1e38, 1e300])
    elif odd == 2:
        X = X[np.zeros(n, int)]  # one row many times
    X = _as_kind(X, rng)
    labels = [y, y.astype(str), y - 7, y * 2.0, y.astype(object), y > 0, y.astype(np.int8)]
    names = [clients, clients.astype(str), clients * 1000 - 3, list(map(int, clients)), None]
    weight = [None, None, None, np.ones(n), rng.uniform(0.1, 5, n), rng.integers(0, 2, n) * 1.0]
    return Rows(
        X,
        labels[rng.integers(len(labels))],
        names[rng.integers(len(names))],
        weight[rng.integers(len(weight))],
    )


def _as_kind(X: np.ndarray, rng: np.random.Generator) -> Any:
    """The same numbers as another kind of table."""
    kind = rng.integers(8)
    with np.errstate(over="ignore", invalid="ignore"):
        if kind == 0:
            return X.astype(np.float32)
        if kind == 1 and np.abs(X).max() < 1e6:
            return X.astype(np.int64)
        if kind == 2:
            return sparse.csr_matrix(X)
        if kind == 3:
            return pd.DataFrame(X, columns=[f"column {j}" for j in range(X.shape[1])])
        if kind == 4:
            return np.asfortranarray(X)
    return X.tolist() if kind == 5 else X


# -- estimators ----------------------------------------------------------------------------------


def _choices() -> dict[str, list[Any]]:
    return {
        "gamma": [0.0, 1.0, 2.0, 5.0],
        "class_weight": ["balanced", "local", "effective", "estimated", None],
        "logit_adjustment": [0.0, 0.6, 1.0],
        "client_gamma": [0.0, 1.0, 3.0],
        "strategy": ["fedavg", "fedprox", "fedadam", "fedyogi", "fedadagrad", "fedavgm"],
        "aggregation": ["mean", "mean", "median", "trimmed_mean", "krum", "geometric_median"],
        "selection": ["uniform", "uniform", "focal", "category_coverage"],
        "clients_per_round": [1.0, 1.0, 0.4, 2],
        "average_rounds": [1, 1, 2],
        "early_stopping": [False, False, False, True],
        "batch_size": [1, 4, 32, 1000],
        "n_local_epochs": [1, 1, 3],
        "learning_rate": [0.1, 0.1, 1e-3, 1.0, 1e6],
        "momentum": [0.0, 0.0, 0.9],
        "weight_decay": [0.0, 0.0, 0.01],
        "hidden_layer_sizes": [(), (4,), (5, 3)],
        "secure_aggregation": [False, False, False, True],
        "min_clients": [1, 1, 2],
    }


def classifier(rng: np.random.Generator) -> Any:
    """A classifier of which a few parameters are not the defaults."""
    kind = [FedFocalClassifier, FedFocalClassifier, FederatedClassifier, FedFocalClassifierCV][
        rng.integers(4)
    ]
    model = kind(n_rounds=int(rng.integers(1, 4)), random_state=int(rng.integers(100)))
    choices = _choices()
    known = [name for name in choices if name in model.get_params()]
    for name in rng.choice(known, int(rng.integers(0, 5)), replace=False):
        values = choices[name]
        model.set_params(**{str(name): values[rng.integers(len(values))]})
    return model


# -- cases ---------------------------------------------------------------------------------------


def case(number: int) -> str:
    """Try a case; returns how it ended, and raises `Wrong` where that is not allowed."""
    rng = np.random.default_rng(number)
    model, of = classifier(rng), rows(rng)
    tool = TOOLS[rng.integers(len(TOOLS))]
    before = pickle.dumps((of, model.get_params()))
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            tool(model, of, rng)
        ended = FITTED
    except Wrong as error:
        raise Wrong(f"case {number}, {tool.__name__}, {model!r}: {error}") from error
    except Exception as error:
        ended = f"{REFUSED}: {type(error).__name__}"
        what = unclear(error)
        if what:
            raise Wrong(f"case {number}, {tool.__name__}, {model!r}: {what}") from error
    if pickle.dumps((of, model.get_params())) != before:
        raise Wrong(f"case {number}: what was given has been changed")
    return ended


def unclear(error: Exception) -> str:
    """What is wrong with an error as an answer to a user; nothing where it is a clear one."""
    if not isinstance(error, ValueError | TypeError | FederatedTrainingError):
        return f"ends with {type(error).__name__}: {error}"
    if len(str(error)) < 20:
        return f"ends with few words: {error!r}"
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    if not any(place in last for place in ("skfedfocal", "sklearn")):
        return f"ends in {Path(last).name}, where nobody speaks to users: {error!r}"
    return ""


def alone(model: Any, of: Rows, rng: np.random.Generator) -> None:
    model = clone(model)
    model.fit(of.X, of.y, clients=of.clients, sample_weight=of.weight)
    sound(model, of.X)
    again = clone(model).fit(of.X, of.y, clients=of.clients, sample_weight=of.weight)
    if not np.array_equal(again.theta_, model.theta_):
        raise Wrong("two fits with one seed differ")
    if not np.array_equal(pickle.loads(pickle.dumps(model)).predict(of.X), model.predict(of.X)):
        raise Wrong("a pickle predicts otherwise")


def engines(model: Any, of: Rows, rng: np.random.Generator) -> None:
    rate = 0.1 if model.learning_rate == "auto" else model.learning_rate
    if isinstance(model, FedFocalClassifierCV) or rate > 0.1:
        return alone(model, of, rng)  # the choice, or a wild training, multiplies roundings
    models = [
        clone(model)
        .set_params(engine=engine)
        .fit(of.X, of.y, clients=of.clients, sample_weight=of.weight)
        for engine in ("loop", "vectorized")
    ]
    one, two = (m.predict_proba(of.X) for m in models)
    if abs(np.abs(one - two).max()) > 0.02:
        raise Wrong(f"the engines' probabilities differ by {np.abs(one - two).max():.2g}")


def in_stages(model: Any, of: Rows, rng: np.random.Generator) -> None:
    if "warm_start" not in model.get_params():
        return alone(model, of, rng)
    given = {"clients": of.clients, "sample_weight": of.weight}
    whole = clone(model).set_params(n_rounds=3).fit(of.X, of.y, **given)
    parts = clone(model).set_params(warm_start=True, n_rounds=1).fit(of.X, of.y, **given)
    parts.set_params(n_rounds=2)
    with warnings.catch_warnings(action="ignore"):
        parts.fit(of.X, of.y, **given)
    if not np.array_equal(whole.theta_, parts.theta_):
        raise Wrong("stages differ from a straight training")


def one_by_one(model: Any, of: Rows, rng: np.random.Generator) -> None:
    if not hasattr(model, "partial_fit"):
        return alone(model, of, rng)
    model = clone(model)
    for _ in range(2):
        model.partial_fit(of.X, of.y, clients=of.clients, sample_weight=of.weight)
    sound(model, of.X)


def renamed(model: Any, of: Rows, rng: np.random.Generator) -> None:
    given = {"sample_weight": of.weight}
    one = clone(model).fit(of.X, of.y, clients=of.clients, **given)
    ids = None if of.clients is None else [f"client {c}" for c in of.clients]
    two = clone(model).fit(of.X, of.y, clients=ids, **given)
    if not np.array_equal(one.theta_, two.theta_):
        raise Wrong("the names of clients change the model")


def in_pipeline(model: Any, of: Rows, rng: np.random.Generator) -> None:
    scaler = [StandardScaler(with_mean=False), FederatedStandardScaler(with_mean=False)]
    name = type(model).__name__.lower()
    pipeline = make_pipeline(scaler[rng.integers(2)], clone(model))
    pipeline.fit(
        of.X, of.y, **{f"{name}__clients": of.clients, f"{name}__sample_weight": of.weight}
    )
    sound(pipeline, of.X)


def in_grid(model: Any, of: Rows, rng: np.random.Generator) -> None:
    grid = GridSearchCV(clone(model), {"n_local_epochs": [1, 2]}, cv=2, error_score="raise")
    grid.fit(of.X, of.y, clients=of.clients)
    sound(grid.best_estimator_, of.X)


def out_of_fold(model: Any, of: Rows, rng: np.random.Generator) -> None:
    found = cross_val_predict(clone(model), of.X, of.y, cv=2, params={"clients": of.clients})
    if len(found) != len(of.y):
        raise Wrong("not every row has a prediction")


def calibrated(model: Any, of: Rows, rng: np.random.Generator) -> None:
    found = CalibratedClassifierCV(clone(model), cv=2).fit(of.X, of.y, clients=of.clients)
    probabilities = found.predict_proba(of.X)
    if not np.allclose(probabilities.sum(1), 1, atol=1e-5):
        raise Wrong("probabilities do not add up to 1")


def by_column(model: Any, of: Rows, rng: np.random.Generator) -> None:
    if of.clients is None or sparse.issparse(of.X):
        return alone(model, of, rng)
    numbers = np.unique(np.asarray(of.clients), return_inverse=True)[1]
    if isinstance(of.X, pd.DataFrame):
        X, column = of.X.assign(client=numbers), "client"
    else:
        X, column = np.column_stack([np.asarray(of.X, np.float64), numbers]), -1
    wanted = clone(model).fit(
        X.drop(columns="client") if column == "client" else X[:, :-1], of.y, clients=numbers
    )
    found = ClientColumn(clone(model), column=column).fit(X, of.y)
    if not np.array_equal(found.estimator_.theta_, wanted.theta_):
        raise Wrong("ids as a column train another model than ids as an argument")


def personalized(model: Any, of: Rows, rng: np.random.Generator) -> None:
    """Each client's own model, of which the least share is the global one."""
    X = np.asarray(of.X.todense()) if sparse.issparse(of.X) else np.asarray(of.X, np.float64)
    given = {"clients": of.clients, "sample_weight": of.weight}
    shares = [(0.0,), (0.5, 1.0)][rng.integers(2)]
    own = PersonalizedClassifier(clone(model), n_epochs=1, shares=shares, random_state=0)
    own.fit(X, of.y, **given)
    ids = np.zeros(len(X), int) if of.clients is None else of.clients
    probabilities = own.predict_proba(X, clients=of.clients)
    if not np.isfinite(probabilities).all() or not np.allclose(probabilities.sum(1), 1, atol=1e-4):
        raise Wrong("probabilities of clients' own models are none")
    if not np.isin(own.predict(X, clients=of.clients), own.classes_).all():
        raise Wrong("a class is predicted that there is not")
    strange = own.predict_proba(X, clients=[f"nobody {i}" for i, _ in enumerate(ids)])
    if not np.array_equal(strange, own.estimator_.predict_proba(X)):
        raise Wrong("for rows of strangers it is not the global model that predicts")


TOOLS: list[Callable[[Any, Rows, np.random.Generator], None]] = [
    alone,
    alone,
    engines,
    in_stages,
    one_by_one,
    renamed,
    in_pipeline,
    in_grid,
    out_of_fold,
    calibrated,
    by_column,
    personalized,
]


def sound(model: Any, X: Any) -> None:
    """What holds of every fitted model."""
    probabilities, predicted = model.predict_proba(X), model.predict(X)
    if not np.isfinite(probabilities).all():
        raise Wrong("probabilities are not finite")
    if not np.allclose(probabilities.sum(1), 1, atol=1e-4):
        raise Wrong("probabilities do not add up to 1")
    if not np.isin(predicted, model.classes_).all():
        raise Wrong("a class is predicted that there is not")
    best = probabilities.max(1)
    chosen = probabilities[np.arange(len(best)), np.searchsorted(model.classes_, predicted)]
    if not (chosen >= best - 1e-4).all():
        raise Wrong("the class predicted is not the most probable one")
