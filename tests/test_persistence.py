"""Fitted estimators outlive the process: pickle, joblib, skops, copies and clones."""

import copy
import json
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skfedfocal import (
    ClientColumn,
    FederatedClassifier,
    FedFocalClassifier,
    FedFocalClassifierCV,
    ModelFileError,
    load_model,
    save_model,
    trusted_types,
)
from skfedfocal._component import Component
from skfedfocal._plain import write_plain
from skfedfocal.losses import FocalLoss
from skfedfocal.preprocessing import (
    FederatedMinMaxScaler,
    FederatedSimpleImputer,
    FederatedStandardScaler,
)
from skfedfocal.strategies import FedProx

SMALL = {"hidden_layer_sizes": (8,), "n_rounds": 2, "random_state": 0, "warm_start": True}


def tanh_mlp(n_features, n_classes):
    """A module factory that pickles by name."""
    return nn.Sequential(nn.Linear(n_features, 8), nn.Tanh(), nn.Linear(8, n_classes)).double()


ESTIMATORS = {
    "focal": FedFocalClassifier(**SMALL),
    "general": FederatedClassifier(**SMALL, loss=FocalLoss(), strategy=FedProx()),
    "stateful": FedFocalClassifier(**SMALL, strategy="fedadam", class_weight={"a": 2.0}),
    "module": FedFocalClassifier(**SMALL, module=tanh_mlp),
}
every = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=list(ESTIMATORS))
without_module = pytest.mark.parametrize(
    "estimator",
    [e for e in ESTIMATORS.values() if e.module is None],
    ids=[name for name, e in ESTIMATORS.items() if e.module is None],
)


def by_pickle(estimator, folder):
    return pickle.loads(pickle.dumps(estimator))


def by_joblib(estimator, folder):
    joblib.dump(estimator, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def by_deepcopy(estimator, folder):
    return copy.deepcopy(estimator)


@pytest.fixture
def data(federation):
    """With texts as labels and tuples as client ids: kinds that a format may lose."""
    labels = np.array(["a", "b", "c"])[federation.y]
    return federation.X, labels, [("site", str(client)) for client in federation.clients]


def fitted_state(estimator):
    """What a fit learned; parts by how they print."""
    state = {name: value for name, value in vars(estimator).items() if name.endswith("_")}
    return {name: repr(v) if isinstance(v, Component) else v for name, v in state.items()}


def assert_same_estimator(found, wanted, X):
    np.testing.assert_equal(fitted_state(found), fitted_state(wanted))
    assert found.classes_.dtype == wanted.classes_.dtype
    np.testing.assert_array_equal(found.predict_proba(X), wanted.predict_proba(X))
    np.testing.assert_array_equal(found.predict(X), wanted.predict(X))


@every
@pytest.mark.parametrize("copied", [by_pickle, by_joblib, by_deepcopy])
def test_round_trip(estimator, data, tmp_path, copied):
    X, y, clients = data
    fitted = clone(estimator).fit(X, y, clients=clients)
    other = copied(fitted, tmp_path)
    assert_same_estimator(other, fitted, X)
    assert list(other.clients_) == list(fitted.clients_)
    # Training goes on as if nothing had been written.
    for one in (other, fitted):
        assert one.fit(X, y, clients=clients).n_iter_ == 4
    np.testing.assert_array_equal(other.theta_, fitted.theta_)


@every
@pytest.mark.parametrize("copied", [by_pickle, by_joblib, by_deepcopy])
def test_unfitted_round_trip(estimator, tmp_path, copied):
    other = copied(clone(estimator), tmp_path)
    assert repr(other) == repr(estimator)
    with pytest.raises(NotFittedError):
        other.predict(np.zeros((1, 5)))


@every
def test_a_copy_is_independent(estimator, data):
    X, y, clients = data
    fitted = clone(estimator).fit(X, y, clients=clients)
    before = fitted.predict_proba(X)
    copy.deepcopy(fitted).fit(X, y[::-1], clients=clients)
    with torch.no_grad():
        next(copy.deepcopy(fitted).module_.parameters()).zero_()
    np.testing.assert_array_equal(fitted.predict_proba(X), before)


@every
def test_clone_after_fit_is_unfitted(estimator, data):
    X, y, clients = data
    fitted = clone(estimator).fit(X, y, clients=clients)
    fresh = clone(fitted)
    assert fitted_state(fresh) == {}
    assert repr(fresh) == repr(fitted)
    with pytest.raises(NotFittedError):
        fresh.predict(X)


@every
def test_fitted_state_is_arrays_and_json(estimator, data):
    """So that formats which run no code on loading can hold it."""
    X, y, clients = data
    fitted = clone(estimator).fit(X, y, clients=clients)

    def check(name, value):
        if isinstance(value, dict):
            for key, part in value.items():
                check(key, part)
        elif isinstance(value, list):
            for part in value:
                check(name, part)
        elif not isinstance(value, np.ndarray):
            json.dumps(value)  # raises for anything else
        elif name not in ("clients_", "clients"):  # ids are what the user gave
            assert value.dtype.kind in "biufU"

    check("", fitted_state(fitted))


@every
def test_module_is_rebuilt_from_the_state(estimator, data):
    X, y, clients = data
    fitted = clone(estimator).fit(X, y, clients=clients)
    assert pickle.loads(pickle.dumps(fitted)).__dict__["_module"] is None
    rebuilt = pickle.loads(pickle.dumps(fitted)).module_
    assert not rebuilt.training
    for found, wanted in zip(rebuilt.parameters(), fitted.module_.parameters(), strict=True):
        assert torch.equal(found, wanted)


@without_module
def test_skops_round_trip(estimator, data):
    """Only the package's own classes need trust; no function, no torch object."""
    skops = pytest.importorskip("skops.io")
    X, y, clients = data
    fitted = make_pipeline(StandardScaler(), clone(estimator)).fit(
        X, y, **{f"{type(estimator).__name__.lower()}__clients": clients}
    )
    written = skops.dumps(fitted)
    untrusted = skops.get_untrusted_types(data=written)
    parts = [estimator, *(v for v in estimator.get_params().values() if hasattr(v, "get_params"))]
    parts.append(fitted[-1].loss_)
    assert set(untrusted) == {f"{type(part).__module__}.{type(part).__name__}" for part in parts}
    assert set(untrusted) <= set(trusted_types())
    found = skops.loads(written, trusted=trusted_types())
    assert_same_estimator(found[-1], fitted[-1], fitted[0].transform(X))
    np.testing.assert_array_equal(found.predict_proba(X), fitted.predict_proba(X))


@pytest.mark.filterwarnings("ignore:The columns of X:UserWarning")
def test_all_of_a_prepared_pipeline_is_trusted_by_name():
    skops = pytest.importorskip("skops.io")
    X, y = load_breast_cancer(return_X_y=True)
    clients = np.arange(len(y)) % 3
    X[::7, 0] = np.nan
    numbers = make_pipeline(FederatedSimpleImputer(), FederatedStandardScaler())
    columns = make_column_transformer((numbers, [0, 1, 2]), remainder=FederatedMinMaxScaler())
    with config_context(enable_metadata_routing=True):
        inner = make_pipeline(columns, FedFocalClassifierCV((4,), gammas=(1.0, 0.0), n_rounds=2))
        model = ClientColumn(inner, column=-1).fit(np.column_stack([X, clients]), y)
    raw = FedFocalClassifier((4,), n_rounds=2, numeric_encoding="piecewise_linear")
    raw.fit(np.nan_to_num(X), y, clients=clients)
    for fitted, rows in ((model, X), (raw, np.nan_to_num(X))):
        found = skops.loads(skops.dumps(fitted), trusted=trusted_types())
        np.testing.assert_array_equal(found.predict_proba(rows), fitted.predict_proba(rows))


@every
def test_model_file_round_trip(estimator, federation, tmp_path):
    X, y, clients = federation.X, federation.y.astype(str), federation.clients
    fitted = clone(estimator).set_params(class_weight="balanced").fit(X, y, clients=clients)
    save_model(fitted, tmp_path / "model")
    found = load_model(tmp_path / "model", module=estimator.module)
    assert_same_estimator(found, fitted, X)


@pytest.mark.parametrize("scaler", [StandardScaler(), FederatedStandardScaler()], ids=str)
def test_model_file_keeps_the_kind_of_output(scaler, tmp_path):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame({"age": [61.0, 47.0, 52.0], "pulse": [72.0, 80.0, 65.0]})
    scaler = clone(scaler).set_output(transform="pandas").fit(X)
    save_model(scaler, tmp_path / "model")
    found = load_model(tmp_path / "model")
    pd.testing.assert_frame_equal(found.transform(X), scaler.transform(X))


def test_a_file_of_a_pipeline_without_steps_is_refused_when_it_is_read(tmp_path):
    """Nobody can have written it; without a word it would fail when it is first used."""
    write_plain(tmp_path / "model", {"steps": []})
    with pytest.raises(ModelFileError, match="no steps"):
        load_model(tmp_path / "model")
