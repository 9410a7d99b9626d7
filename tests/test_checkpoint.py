"""A checkpoint goes on with its own training and no other, and is never spoilt by a refusal."""

import numpy as np
import pytest
from oracles import federation, mlp64
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skfedfocal import (
    FederatedClassifier,
    FedFocalClassifier,
    FedFocalClassifierCV,
    ModelFileError,
    save_model,
)
from skfedfocal.aggregation import TrimmedMean
from skfedfocal.losses import LDAMLoss
from skfedfocal.privacy import ExampleLevelDP
from skfedfocal.selection import FocalSelection
from skfedfocal.strategies import FedProx

X, y, CLIENTS = federation([9, 4, 14, 6, 8])
SETTINGS = {"hidden_layer_sizes": (3,), "n_rounds": 2, "batch_size": 5, "random_state": 0}
FREE = {"n_rounds", "verbose", "device", "warm_start", "min_clients"}

# Another value for every parameter that a training depends on.
OTHER = {
    "hidden_layer_sizes": (4,),
    "module": mlp64,
    "gamma": [0.0, 1.0, 2.0],
    "loss": LDAMLoss(),
    "class_weight": {0: 1.0, 1: 2.0, 2: 3.0},
    "logit_adjustment": 0.25,
    "client_gamma": 0.5,
    "numeric_encoding": "piecewise_linear",
    "strategy": FedProx(0.125),
    "aggregation": "median",
    "selection": FocalSelection(3.0),
    "clients_per_round": 2,
    "n_local_epochs": 2,
    "batch_size": 6,
    "learning_rate": 0.05,
    "momentum": 0.5,
    "weight_decay": 0.01,
    "average_rounds": 2,
    "early_stopping": True,
    "validation_fraction": 0.3,
    "n_iter_no_change": 3,
    "tol": 0.5,
    "secure_aggregation": True,
    "engine": "loop",
    "random_state": 1,
    "privacy": ExampleLevelDP(1.0),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "training"


@pytest.fixture
def refused(path):
    """Function that asserts that a fit is refused by these words, the file as it was."""

    def check(classifier, words, *data, kind=ValueError, **options):
        before = path.read_bytes()
        with pytest.raises(kind, match=words):
            classifier.fit(*data, **options, checkpoint=path)
        assert path.read_bytes() == before
        assert not hasattr(classifier, "theta_")

    return check


@pytest.mark.parametrize("kind", [FedFocalClassifier, FederatedClassifier])
def test_another_value_of_any_parameter_is_refused_by_name(kind, path, refused):
    written = kind(**SETTINGS).set_params(client_gamma=0.0)
    clone(written).fit(X, y, clients=CLIENTS, checkpoint=path)
    params = set(written.get_params(deep=False))
    assert params >= FREE
    assert params - FREE <= set(OTHER)
    for name in sorted(params - FREE):
        classifier = clone(written).set_params(**{name: OTHER[name]})
        refused(classifier, f"was written with {name} ", X, y, clients=CLIENTS)


def test_parameters_inside_a_part_count(path, refused):
    written = FedFocalClassifier(**SETTINGS, aggregation=TrimmedMean(0.1), client_gamma=0)
    clone(written).fit(X, y, clients=CLIENTS, checkpoint=path)
    other = clone(written).set_params(aggregation__trim=0.2)
    refused(other, r"aggregation TrimmedMean\(\), but now it is TrimmedMean\(trim=0.2\)", X, y)


def test_another_estimator_is_refused_by_name(path, refused):
    FedFocalClassifier(**SETTINGS).fit(X, y, clients=CLIENTS, checkpoint=path)
    refused(FederatedClassifier(**SETTINGS), "was written with estimator", X, y, clients=CLIENTS)


def test_parameters_that_change_no_number_are_free(path):
    FedFocalClassifier(**SETTINGS).fit(X, y, clients=CLIENTS, checkpoint=path)
    longer = FedFocalClassifier(**SETTINGS).set_params(n_rounds=5, warm_start=True, device="cpu")
    longer.fit(X, y, clients=CLIENTS, checkpoint=path)
    straight = FedFocalClassifier(**SETTINGS).set_params(n_rounds=5).fit(X, y, clients=CLIENTS)
    np.testing.assert_array_equal(longer.theta_, straight.theta_)
    assert longer.n_iter_ == 5


def swapped(values, i, j):
    values = values.copy()
    values[[i, j]] = values[[j, i]]
    return values


OTHER_DATA = {
    "another value": (np.where(np.arange(X.size).reshape(X.shape) == 7, 0.0, X), y, CLIENTS, None),
    "rows in another order": (X[::-1], y[::-1], CLIENTS[::-1], None),
    "permuted labels": (X, swapped(y, *np.flatnonzero(CLIENTS == 2)[[0, 1]]), CLIENTS, None),
    "a row less": (X[:-1], y[:-1], CLIENTS[:-1], None),
    "a row at another client": (X, y, np.append(CLIENTS[:-1], (CLIENTS[-1] + 1) % 5), None),
    "other names of clients": (X, y, CLIENTS + 10, None),
    "weights": (X, y, CLIENTS, np.linspace(1, 2, len(y))),
    "other type": (X.astype(np.float32), y, CLIENTS, None),
    "other labels": (X, y + 1, CLIENTS, None),
}


@pytest.mark.parametrize("name", OTHER_DATA)
def test_other_rows_are_refused_by_name(name, path, refused):
    assert len(np.unique(y[np.flatnonzero(CLIENTS == 2)[[0, 1]]])) == 2  # swapping does something
    FedFocalClassifier(**SETTINGS).fit(X, y, clients=CLIENTS, checkpoint=path)
    rows, labels, clients, weight = OTHER_DATA[name]
    words = r"was written with (rows \(a hash|sizes of the clients|label counts|clients|classes)"
    refused(
        FedFocalClassifier(**SETTINGS), words, rows, labels, clients=clients, sample_weight=weight
    )


def test_what_it_has_of_the_rows_is_named_first_where_that_says_more(path, refused):
    FedFocalClassifier(**SETTINGS).fit(X, y, clients=CLIENTS, checkpoint=path)
    clf = FedFocalClassifier(**SETTINGS)
    refused(clf, "written with sizes of the clients", X[:-1], y[:-1], clients=CLIENTS[:-1])
    other = np.where(np.arange(len(y)) == 0, (y + 1) % 3, y)
    refused(clf, "written with label counts", X, other, clients=CLIENTS)
    refused(clf, r"written with rows \(a hash of them\)", X + 1e-9, y, clients=CLIENTS)
    refused(clf, "written with row shape", X[:, :4], y, clients=CLIENTS)


@pytest.mark.parametrize("n_bytes", [0, 1, 5, 40, 200, -1])
def test_a_truncated_file_is_refused(n_bytes, path, refused):
    FedFocalClassifier(**SETTINGS).fit(X, y, clients=CLIENTS, checkpoint=path)
    path.write_bytes(path.read_bytes()[:n_bytes])
    refused(FedFocalClassifier(**SETTINGS), path.name, X, y, kind=ModelFileError)


def test_a_flipped_bit_is_refused(path, refused):
    FedFocalClassifier(**SETTINGS).fit(X, y, clients=CLIENTS, checkpoint=path)
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 40):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        path.write_bytes(flipped)
        refused(FedFocalClassifier(**SETTINGS), path.name, X, y, kind=ModelFileError)


def test_a_newer_file_and_another_kind_of_file_are_refused(path, refused):
    clf = FedFocalClassifier(**SETTINGS).fit(X, y, clients=CLIENTS, checkpoint=path)
    path.write_bytes(path.read_bytes().replace(b"skfedfocal 1 ", b"skfedfocal 2 ", 1))
    refused(clone(clf), "has format '2', which this version cannot read", X, y, kind=ModelFileError)
    save_model(clf, path)
    refused(clone(clf), "is not a checkpoint of a training", X, y, kind=ModelFileError)
    path.write_bytes(b"")
    refused(clone(clf), "is not a file of skfedfocal", X, y, kind=ModelFileError)


def test_two_trainings_on_one_file(path):
    """The lock is of the open file, not of the process: two in one are as two processes."""
    pytest.importorskip("fcntl")
    found = []

    def asking(n_features, n_classes):  # called while the training holds the file
        if not found:
            with pytest.raises(RuntimeError) as raised:
                FedFocalClassifier(**SETTINGS).fit(X, y, clients=CLIENTS, checkpoint=path)
            found.append(str(raised.value))
        return mlp64(n_features, n_classes)

    clf = FedFocalClassifier(**SETTINGS).set_params(module=asking)
    clf.fit(X, y, clients=CLIENTS, checkpoint=path)
    assert found == [f"Another process is using the checkpoint {path}."]
    clf.fit(X, y, clients=CLIENTS, checkpoint=path)  # it lets go when it is done


def test_a_file_of_more_rounds_than_are_asked_for_is_refused(path, refused):
    FedFocalClassifier(**SETTINGS).set_params(n_rounds=4).fit(
        X, y, clients=CLIENTS, checkpoint=path
    )
    shorter = FedFocalClassifier(**SETTINGS).set_params(n_rounds=3)
    refused(shorter, "has 4 rounds, more than the 3 asked for", X, y, clients=CLIENTS)
    same = FedFocalClassifier(**SETTINGS).set_params(n_rounds=4)
    assert same.fit(X, y, clients=CLIENTS, checkpoint=path).n_iter_ == 4


def test_another_module_of_the_same_name_is_refused(path, refused):
    def module(activation):
        def make(n_features, n_classes):
            return nn.Sequential(nn.Linear(n_features, 4), activation, nn.Linear(4, n_classes))

        return make

    written = FedFocalClassifier(**{**SETTINGS, "module": module(nn.Tanh())})
    written.fit(X, y, clients=CLIENTS, checkpoint=path)
    other = FedFocalClassifier(**{**SETTINGS, "module": module(nn.ReLU())})
    refused(other, "layers of the module .*Tanh", X, y, clients=CLIENTS)


def test_in_a_pipeline(path):
    pipeline = Pipeline([("scale", StandardScaler()), ("clf", FedFocalClassifier(**SETTINGS))])
    first = clone(pipeline).fit(X, y, clf__clients=CLIENTS, clf__checkpoint=path)
    longer = clone(pipeline).set_params(clf__n_rounds=4)
    longer.fit(X, y, clf__clients=CLIENTS, clf__checkpoint=path)
    straight = clone(pipeline).set_params(clf__n_rounds=4).fit(X, y, clf__clients=CLIENTS)
    assert first[-1].n_iter_ == 2
    np.testing.assert_array_equal(longer[-1].theta_, straight[-1].theta_)
    with pytest.raises(ValueError, match=r"written with rows \(a hash"):
        clone(pipeline).fit(X[:, ::-1], y, clf__clients=CLIENTS, clf__checkpoint=path)


def test_a_grid_search_is_refused(path):
    """Its folds are other trainings; the first would be taken for all of them."""
    search = GridSearchCV(
        FedFocalClassifier(**SETTINGS), {"gamma": [0.0, 1.0]}, cv=2, error_score="raise"
    )
    with pytest.raises(ValueError, match=r"was written with (sizes of the clients|clients|label)"):
        search.fit(X, y, clients=CLIENTS, checkpoint=path)


def test_a_search_of_the_package_goes_on_in_its_final_training(path):
    settings = {**SETTINGS, "gammas": (0.0, 2.0), "cv": 2}
    FedFocalClassifierCV(**settings).fit(X, y, clients=CLIENTS, checkpoint=path)
    with pytest.raises(ValueError, match="was written with gammas"):
        FedFocalClassifierCV(**settings | {"gammas": (1.0, 2.0)}).fit(
            X, y, clients=CLIENTS, checkpoint=path
        )
    again = FedFocalClassifierCV(**settings).fit(X, y, clients=CLIENTS, checkpoint=path)
    straight = FedFocalClassifierCV(**settings).fit(X, y, clients=CLIENTS)
    np.testing.assert_array_equal(again.theta_, straight.theta_)
    assert again.best_params_ == straight.best_params_


def test_a_warm_start_has_a_file_of_its_own(path, tmp_path):
    clf = FedFocalClassifier(**SETTINGS, warm_start=True)
    clf.fit(X, y, clients=CLIENTS, checkpoint=path)
    with pytest.raises(ValueError, match="was written with rounds before 0, but now it is 2"):
        clf.fit(X, y, clients=CLIENTS, checkpoint=path)
    clf.fit(X, y, clients=CLIENTS, checkpoint=tmp_path / "second")
    assert clf.n_iter_ == 4


IDS = {
    "texts": np.array(["a", "é", "b", "c", "d"]),
    "bytes": np.array([b"a", b"b", b"c", b"d", b"e"]),
    "dates": np.arange("2024-01-01", "2024-01-06", dtype="M8[D]"),
    "floats": np.array([0.5, -0.0, 1e300, -np.inf, 2.0]),
    "tuples": np.fromiter([("a", i) for i in range(5)], object, 5),
    "mixed": np.array([1, True, "1", 1.5, ("x",)], object),
}


@pytest.mark.parametrize("name", IDS)
def test_ids_of_any_kind_are_known_again(name, path):
    ids = IDS[name][CLIENTS]
    for n_rounds in (2, 3):
        clf = FedFocalClassifier(**SETTINGS, selection="focal", clients_per_round=3)
        clf.set_params(n_rounds=n_rounds).fit(X, y, clients=ids, checkpoint=path)
    straight = clone(clf).fit(X, y, clients=ids)
    np.testing.assert_array_equal(clf.theta_, straight.theta_)
    np.testing.assert_array_equal(clf.training_state_["recall"], straight.training_state_["recall"])
    with pytest.raises(ValueError, match="was written with clients"):
        clone(clf).fit(X, y, clients=np.roll(IDS[name], 1)[CLIENTS], checkpoint=path)
