"""A training that has diverged says so, also where it did in its last round."""

import numpy as np
import pytest
from oracles import federation, mlp64
from sklearn.base import clone
from torch import nn

from skfedfocal import FederatedTrainingError, FedFocalClassifier
from skfedfocal.strategies import FedAdam

X, y, CLIENTS = federation([9, 4, 14, 6, 8])
SETTINGS = {"hidden_layer_sizes": (3,), "random_state": 0}
every_engine = pytest.mark.parametrize("engine", ["loop", "vectorized"])
WILD = [
    {"strategy": FedAdam(server_learning_rate=1e38)},  # a step that is finite, to no use
    {"learning_rate": 1e20},
    {"learning_rate": 1e38},
]


@every_engine
@pytest.mark.parametrize("wild", WILD, ids=str)
@pytest.mark.parametrize("n_rounds", [1, 3])
@pytest.mark.filterwarnings("ignore:Round .* goes on without:RuntimeWarning")
def test_no_model_that_is_not_finite_is_kept(engine, wild, n_rounds, unchanged):
    clf = FedFocalClassifier(**SETTINGS, n_rounds=n_rounds, engine=engine, **wild)
    with pytest.raises(FederatedTrainingError, match=r"^Round \d"), unchanged(clf):
        clf.fit(X, y, clients=CLIENTS)


@every_engine
@pytest.mark.parametrize("wild", WILD, ids=str)
@pytest.mark.parametrize("way", ["fit", "partial_fit"])
@pytest.mark.filterwarnings("ignore:Round .* goes on without:RuntimeWarning")
def test_the_last_good_model_is_kept(engine, wild, way):
    strategy = {"strategy": "fedadam"} if "strategy" in wild else {}
    clf = FedFocalClassifier(**SETTINGS, n_rounds=3, warm_start=True, engine=engine, **strategy)
    clf.fit(X, y, clients=CLIENTS)
    before = clf.predict_proba(X)
    clf.set_params(**wild, n_rounds=1)
    with pytest.raises(FederatedTrainingError):
        getattr(clf, way)(X, y, clients=CLIENTS)
    np.testing.assert_array_equal(clf.predict_proba(X), before)
    # And it can be gone on with.

    clf.set_params(learning_rate=0.1, **strategy).fit(X, y, clients=CLIENTS)
    straight = FedFocalClassifier(**SETTINGS, n_rounds=4, engine=engine, **strategy)
    np.testing.assert_array_equal(clf.theta_, straight.fit(X, y, clients=CLIENTS).theta_)


@every_engine
def test_the_model_of_least_loss_is_kept_where_the_end_is_wild(engine):
    """Rounds of large but finite steps are no ground to go on from."""
    module = mlp64(hidden=(6, 4), activation=nn.ELU)
    clf = FedFocalClassifier(module=module, random_state=0, warm_start=True, engine=engine)
    clf.set_params(n_rounds=2).fit(X, y, clients=CLIENTS)
    before = clf.theta_.copy()
    clf.set_params(learning_rate=1e300, n_rounds=1)
    with pytest.raises(FederatedTrainingError):
        clf.fit(X, y, clients=CLIENTS)
    np.testing.assert_array_equal(clf.theta_, before)
    assert clf.n_iter_ == len(clf.history_["loss"]) == 2


@every_engine
def test_large_models_that_are_finite_are_no_error(engine):
    clf = FedFocalClassifier(**SETTINGS, n_rounds=1, learning_rate=1e6, engine=engine)
    assert np.isfinite(clone(clf).fit(X, y, clients=CLIENTS).predict_proba(X)).all()
