"""Random federations, parameters and tools, and random damage to files: what must come of each.

A case is drawn from a number alone, so that ``case(7)`` is the same for ever. Either it ends with a
clear error, one of the package's or scikit-learn's own checks, in words; or with a fitted model
whose invariants hold. `tools/fuzz.py` tries as many as there is time for.
"""

from __future__ import annotations

import io
import json
import pickle
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
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
    ModelFileError,
    load_model,
    save_model,
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


# -- files ---------------------------------------------------------------------------------------


class Files:
    """A sound model file, and damage to it."""

    def __init__(self, folder: Path):
        X = np.random.default_rng(0).normal(size=(30, 3))
        y, clients = np.arange(30) % 3, np.arange(30) % 2
        model = make_pipeline(
            FederatedStandardScaler(), FedFocalClassifier((3,), n_rounds=1, random_state=0)
        )
        model.fit(X, y, fedfocalclassifier__clients=clients)
        self.path = folder / "damaged.skf"
        save_model(model, self.path)
        self.sound = self.path.read_bytes()
        self.X = X

    def case(self, number: int) -> str:
        """Damage the file, read it; returns how that ended."""
        rng = np.random.default_rng([77, number])
        damage = DAMAGE[rng.integers(len(DAMAGE))]
        self.path.write_bytes(damage(self.sound, rng))
        try:
            with warnings.catch_warnings(action="ignore"):
                model = load_model(self.path)
        except ModelFileError as error:
            if len(str(error)) < 20:
                raise Wrong(f"file {number}, {damage.__name__}: few words {error!r}") from error
            return f"{REFUSED}: {damage.__name__}"
        except Exception as error:
            raise Wrong(
                f"file {number}, {damage.__name__}: {type(error).__name__}: {error}"
            ) from error
        try:
            with warnings.catch_warnings(action="ignore"):
                sound(model, self.X)  # another model, but one
        except Exception as error:
            raise Wrong(f"file {number}, {damage.__name__}: read, and then {error!r}") from error
        return f"read: {damage.__name__}"


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    found = bytearray(content)
    for place in rng.integers(len(found), size=int(rng.integers(1, 9))):
        found[place] ^= 1 << int(rng.integers(8))
    return bytes(found)


def cut_short(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def with_more(content: bytes, rng: np.random.Generator) -> bytes:
    place, more = int(rng.integers(len(content))), rng.bytes(int(rng.integers(1, 50)))
    return content[:place] + more + content[place:]


def something_else(content: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, 2000)))


def _signed(content: bytes, body: bytes) -> bytes:
    """With the checksum that a forger would compute."""
    head = content.partition(b"\n")[0].rsplit(b" ", 1)[0]
    return head + b" " + sha256(body).hexdigest().encode() + b"\n" + body


def flipped_and_signed(content: bytes, rng: np.random.Generator) -> bytes:
    return _signed(content, flipped(content.partition(b"\n")[2], rng))


def rewritten_and_signed(content: bytes, rng: np.random.Generator) -> bytes:
    """One value of the facts, or one array, is another."""
    with np.load(io.BytesIO(content.partition(b"\n")[2])) as stored:
        arrays = dict(stored)
    facts = json.loads(arrays["facts"].tobytes())
    if rng.random() < 0.3:
        name = list(arrays)[rng.integers(len(arrays))]
        if name != "facts":
            arrays[name] = _other_array(arrays[name], rng)
    else:
        places = list(_places(facts))
        parent, key = places[rng.integers(len(places))]
        others = [None, True, 0, -1, 3, 1e308, "x", "", [], {}, [1], {"place": "0"}, {"tuple": []}]
        if rng.random() < 0.2 and isinstance(parent, dict):
            del parent[key]
        else:
            parent[key] = others[rng.integers(len(others))]
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    body = io.BytesIO()
    np.savez(body, **arrays)
    return _signed(content, body.getvalue())


def _other_array(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    which = rng.integers(5)
    if which == 0:
        return array[:-1]
    if which == 1:
        return array.astype(str)
    if which == 2:
        return np.full(array.shape, np.nan)
    return array[None] if which == 3 else np.zeros(0)


def _places(value: Any) -> Any:
    """Every place in nested lists and dicts, as the container and the key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)


DAMAGE = [
    flipped,
    cut_short,
    with_more,
    something_else,
    flipped_and_signed,
    rewritten_and_signed,
    rewritten_and_signed,
]
