"""Predictions are of the fitted state: no parameter that is set afterwards reaches them."""

import pickle

import numpy as np
import pytest
from oracles import federation, mlp64
from sklearn.base import clone
from torch import nn

from skfedfocal import (
    FederatedClassifier,
    FedFocalClassifier,
    FedFocalClassifierCV,
    ModelFileError,
    load_model,
    save_model,
)
from skfedfocal.losses import FocalLoss, LDAMLoss
from skfedfocal.privacy import ExampleLevelDP
from skfedfocal.strategies import FedProx

X, y, CLIENTS = federation([9, 4, 14, 6, 8])


def tanh_net(n_features, n_classes):
    """Of another shape than any MLP here; at module level, so that it pickles by name."""
    return nn.Sequential(nn.Linear(n_features, 3), nn.Tanh(), nn.Linear(3, n_classes)).double()


SETTINGS = {"hidden_layer_sizes": (3,), "n_rounds": 2, "random_state": 0}
ESTIMATORS = {
    "focal": FedFocalClassifier(**SETTINGS, gamma=2.0),
    "general": FederatedClassifier(**SETTINGS, loss="ldam", class_weight="balanced"),
    "adjusted": FederatedClassifier(**SETTINGS, loss="logit_adjusted"),
    "search": FedFocalClassifierCV(**SETTINGS, gammas=(1.0, 5.0), cv=2),
    "module": FedFocalClassifier(**SETTINGS, module=tanh_net, class_weight="local"),
}
every = pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=list(ESTIMATORS))

# Another value for every parameter there is.
OTHER = {
    "hidden_layer_sizes": (7, 7),
    "module": mlp64,
    "numeric_encoding": "piecewise_linear",
    "gamma": 5.0,
    "gammas": (0.5,),
    "learning_rates": (0.5,),
    "logit_adjustments": (0.1,),
    "client_gammas": (0.0,),
    "loss": FocalLoss(5.0),
    "class_weight": None,
    "class_weights": (None,),
    "logit_adjustment": 0.1,
    "cv": 5,
    "racing": False,
    "client_gamma": 3.0,
    "strategy": FedProx(0.5),
    "aggregation": "krum",
    "selection": "focal",
    "clients_per_round": 0.1,
    "n_rounds": 99,
    "n_local_epochs": 9,
    "batch_size": 1,
    "learning_rate": 9.0,
    "momentum": 0.9,
    "weight_decay": 0.5,
    "average_rounds": 4,
    "early_stopping": True,
    "validation_fraction": 0.9,
    "n_iter_no_change": 1,
    "tol": 7.0,
    "min_clients": 5,
    "secure_aggregation": True,
    "engine": "loop",
    "device": "meta",
    "warm_start": True,
    "verbose": 0,
    "random_state": 99,
    "privacy": ExampleLevelDP(1.0),
}


def all_that_is_said(fitted):
    """Everything that a fitted classifier says of rows."""
    said = [getattr(fitted, name)(X) for name in METHODS]
    for prior in ("uniform", [0.2, 0.3, 0.5], "population"):
        try:
            said.append(fitted.predict_posterior(X, prior))
        except ValueError as error:  # of a training that summed no label counts
            said.append(str(error))
    return [*said, fitted.score(X, y), *(p.detach().numpy() for p in fitted.module_.parameters())]


METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function")


@pytest.fixture(scope="module")
def fitted():
    return {
        name: clone(estimator).fit(X, y, clients=CLIENTS) for name, estimator in ESTIMATORS.items()
    }


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_parameter_reaches_a_prediction(name, fitted):
    wanted = all_that_is_said(fitted[name])
    params = fitted[name].get_params(deep=False)
    assert set(params) <= set(OTHER)
    for param in params:
        changed = pickle.loads(pickle.dumps(fitted[name])).set_params(**{param: OTHER[param]})
        np.testing.assert_equal(all_that_is_said(changed), wanted, err_msg=param)
    for param in params:
        changed.set_params(**{param: OTHER[param]})
    np.testing.assert_equal(all_that_is_said(changed), wanted)
    again = pickle.loads(pickle.dumps(changed))
    np.testing.assert_equal(all_that_is_said(again), wanted)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_parameter_reaches_a_model_file(name, fitted, tmp_path):
    wanted = all_that_is_said(fitted[name])
    module = ESTIMATORS[name].module
    params = fitted[name].get_params(deep=False)
    for param in params:
        if param == "device":
            continue  # of this machine
        changed = pickle.loads(pickle.dumps(fitted[name])).set_params(**{param: OTHER[param]})
        save_model(changed, tmp_path / "model")
        found = load_model(tmp_path / "model", module=module)
        np.testing.assert_equal(all_that_is_said(found), wanted, err_msg=param)


def test_a_model_of_a_module_says_that_it_needs_it_whatever_the_parameter_is_now(fitted, tmp_path):
    changed = pickle.loads(pickle.dumps(fitted["module"])).set_params(module=None)
    save_model(changed, tmp_path / "model")
    with pytest.raises(ModelFileError, match="pass the same as module="):
        load_model(tmp_path / "model")


@every
def test_a_change_between_fit_and_prediction_is_for_the_next_fit(estimator):
    clf = clone(estimator).fit(X, y, clients=CLIENTS)
    before = clf.predict_proba(X)
    clf.set_params(n_rounds=4)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    assert not np.array_equal(clf.fit(X, y, clients=CLIENTS).predict_proba(X), before)


def test_arrays_that_are_parameters_may_be_written_to_after_the_fit():
    gamma, given = np.array([0.0, 1.0, 2.0]), {0: 1.0, 1: 2.0, 2: 3.0}
    clf = FederatedClassifier(
        loss=LDAMLoss(), **SETTINGS, class_weight=given, client_gamma=0.0
    ).fit(X, y, clients=CLIENTS)
    focal = FedFocalClassifier(**SETTINGS, gamma=gamma, class_weight=given)
    focal.fit(X, y, clients=CLIENTS)
    wanted = [all_that_is_said(clf), all_that_is_said(focal)]
    gamma[:] = 5.0
    given[0] = 99.0
    clf.loss.set_params(**{next(iter(clf.loss.get_params())): 77.0})
    np.testing.assert_equal([all_that_is_said(clf), all_that_is_said(focal)], wanted)
