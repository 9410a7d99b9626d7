"""Federated common checks: what holds for every estimator that takes `clients`.

In the manner of scikit-learn's common checks, each is a function of an unfitted estimator. To have
an estimator checked, add it to ESTIMATORS; a check that cannot apply to it skips itself.
"""

import copy
import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from torch import nn

from skfedfocal import FederatedClassifier, FedFocalClassifier

SMALL = {"hidden_layer_sizes": (8,), "n_rounds": 3, "batch_size": 8, "random_state": 0}


class DropoutMLP:
    """Builds an MLP with dropout; its repr has no address, so that test names are stable."""

    def __call__(self, n_features, n_classes):
        return nn.Sequential(
            nn.Linear(n_features, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, n_classes)
        )

    def __repr__(self):
        return "DropoutMLP()"


ESTIMATORS = [
    FedFocalClassifier(**SMALL),
    FedFocalClassifier(**SMALL, class_weight="local", client_gamma=1.0, momentum=0.9),
    FedFocalClassifier(**SMALL, module=DropoutMLP(), clients_per_round=0.5),
    FedFocalClassifier(**SMALL, engine="loop", strategy="fedprox"),
    FederatedClassifier(**SMALL),
    FederatedClassifier(**SMALL, loss="focal", class_weight={0: 1.0, 1: 2.0, 2: 5.0}),
]


def make_federation(seed=0):
    """72 rows of 3 classes and their clients 0 to 4, mixed; client 4 has one class, 3 two rows."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([0, 1, 2], [40, 24, 8]))
    X = (rng.normal(size=(72, 5)) + 1.5 * np.eye(3, 5)[y]).astype(np.float32)
    clients = rng.integers(0, 3, 72)
    clients[np.flatnonzero(y == 0)[:12]] = 4
    clients[[20, 50]] = 3
    return X, y, clients


def fitted_arrays(estimator):
    """All fitted arrays but ids and times."""
    history = {k: v for k, v in estimator.history_.items() if k != "seconds"}
    sizes, weights = estimator.client_sizes_, estimator.class_weight_
    return {"theta": estimator.theta_, "sizes": sizes, "class_weight": weights} | history


def assert_same_model(a, b, X):
    """Bit for bit."""
    np.testing.assert_array_equal(a.predict_proba(X), b.predict_proba(X))
    np.testing.assert_equal(fitted_arrays(a), fitted_arrays(b))


# -- whose rows are whose ----------------------------------------------------------------------


def check_none_is_one_client(estimator):
    X, y, _ = make_federation()
    alone = clone(estimator).fit(X, y)
    named = clone(estimator).fit(X, y, clients=["only"] * len(y))
    assert_same_model(alone, named, X)
    assert len(alone.clients_) == 1
    assert named.clients_.tolist() == ["only"]


def check_relabelling_clients_changes_nothing(estimator):
    X, y, clients = make_federation()
    reference = clone(estimator).fit(X, y, clients=clients)
    for names in (
        [3, 1, 4, 0, 2],
        [-5, 10**12, 0, 7, -(2**62)],
        [0.5, -0.0, 1e300, -1.5, 2.0],
        ["e", "d", "c", "b", ""],
        [("a", 1), ("a", 2), ("b",), (), ("a", (1, 2))],
    ):
        ids = np.empty(5, object)
        ids[:] = names
        renamed = clone(estimator).fit(X, y, clients=ids[clients].tolist())
        assert_same_model(reference, renamed, X)


def check_client_ids_come_back_as_given(estimator):
    X, y, clients = make_federation()
    first = pd.unique(clients)  # in order of first appearance
    days = np.array("2024-01-01", "datetime64[D]") + np.arange(5)
    words = np.array(["north", "south", "east", "west", "isle"])
    tuples = [("no", i) for i in range(5)]
    for table, column in (
        (np.arange(5) * 10, None),
        (words, None),
        (words.astype(object), None),
        (days, None),
        (days.astype("datetime64[ns]"), pd.Series),
        ([datetime.date(2024, 1, 1 + i) for i in range(5)], None),
        (words, pd.Series),
        (words, pd.Categorical),
        (words, lambda ids: pd.Series(ids, dtype="string")),
        (np.arange(5), lambda ids: pd.Series(ids, dtype="Int64")),
        (words, pl.Series),
        (tuples, None),
        ([b"a", b"b\0", b"b", b"", b"c"], None),
        ([True, "True", 2, "2", 2.5], None),
        ([2**63, 2**63 + 1, -1, 0, 1], None),
    ):
        ids = [table[k] for k in clients]
        if column is not None:
            ids = column(np.asarray(ids))
        elif isinstance(table, np.ndarray):
            ids = table[clients]
        fitted = clone(estimator).fit(X, y, clients=ids)
        assert fitted.clients_.ndim == 1
        wanted = [table[k] for k in first]
        assert list(fitted.clients_) == wanted
        kind = type(wanted[0])
        if kind in (tuple, datetime.date, bytes):
            assert [type(i) for i in fitted.clients_] == [kind] * 5
        np.testing.assert_array_equal(fitted.client_sizes_, np.bincount(clients)[first])


def check_dict_list_and_clients_are_the_same(estimator):
    X, y, clients = make_federation()
    order = np.argsort(clients, kind="stable")
    X, y, clients = X[order], y[order], clients[order]
    parts = [(X[clients == k], y[clients == k]) for k in range(5)]
    rows = clone(estimator).fit(X, y, clients=clients)
    listed = clone(estimator).fit([X_k for X_k, _ in parts], [y_k for _, y_k in parts])
    named = clone(estimator).fit({f"site {k}": part for k, part in enumerate(parts)})
    assert_same_model(rows, listed, X)
    assert_same_model(rows, named, X)
    assert listed.clients_.tolist() == [0, 1, 2, 3, 4]
    assert named.clients_.tolist() == [f"site {k}" for k in range(5)]


def check_partitions_take_sample_weight(estimator):
    X, y, clients = make_federation()
    weight = np.random.default_rng(1).uniform(0.5, 2, len(y))
    order = np.argsort(clients, kind="stable")
    X, y, clients, weight = X[order], y[order], clients[order], weight[order]
    at = [clients == k for k in range(5)]
    rows = clone(estimator).fit(X, y, sample_weight=weight, clients=clients)
    named = clone(estimator).fit({k: (X[here], y[here], weight[here]) for k, here in enumerate(at)})
    listed = clone(estimator).fit(
        [X[here] for here in at],
        [y[here] for here in at],
        sample_weight=[weight[here] for here in at],
    )
    assert_same_model(rows, named, X)
    assert_same_model(rows, listed, X)


def check_interleaving_clients_changes_nothing(estimator):
    """Rows may lie client by client or mixed, as long as each client's keep their order."""
    X, y, clients = make_federation()
    first = pd.unique(clients)
    by_client = np.argsort(np.argsort(first)[clients], kind="stable")
    mixed = clone(estimator).fit(X, y, clients=clients)
    blocks = clone(estimator).fit(X[by_client], y[by_client], clients=clients[by_client])
    assert_same_model(mixed, blocks, X)
    np.testing.assert_array_equal(mixed.clients_, blocks.clients_)


def check_order_of_rows_matters_only_to_batches(estimator):
    """With one full batch per epoch, any order of rows and clients gives the same model."""
    X, y, clients = make_federation()
    # Without a module of its own: dropout masks go by place in the batch.
    full = {"batch_size": len(y), "clients_per_round": 1.0, "module": None}
    estimator = clone(estimator).set_params(**full)
    estimator.fit(X, y, clients=clients)
    order = np.random.default_rng(1).permutation(len(y))
    other = clone(estimator).fit(X[order], y[order], clients=clients[order])
    np.testing.assert_allclose(
        estimator.predict_proba(X), other.predict_proba(X), rtol=1e-4, atol=1e-5
    )


# -- clients of every size ---------------------------------------------------------------------


def check_one_row_per_client(estimator):
    X, y, _ = make_federation()
    fitted = clone(estimator).fit(X, y, clients=np.arange(len(y)))
    assert fitted.client_sizes_.tolist() == [1] * len(y)
    assert np.isfinite(fitted.predict_proba(X)).all()


def check_one_class_clients(estimator):
    X, y, _ = make_federation()
    fitted = clone(estimator).fit(X, y, clients=y)
    assert fitted.classes_.tolist() == [0, 1, 2]
    np.testing.assert_allclose(fitted.predict_proba(X).sum(1), 1, rtol=1e-5)
    assert np.isfinite(fitted.history_["loss"]).all()


def check_class_that_one_client_alone_has(estimator):
    X, y, clients = make_federation()
    clients[y == 2] = 9
    fitted = clone(estimator).set_params(clients_per_round=2).fit(X, y, clients=clients)
    assert fitted.predict_proba(X).shape == (len(y), 3)
    assert np.isfinite(fitted.theta_).all()


def check_large_client_beside_a_small_one(estimator):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2001, 3)).astype(np.float32)
    y = rng.integers(0, 3, 2001)
    fitted = clone(estimator).set_params(batch_size=256).fit(X, y, clients=np.arange(2001) < 2000)
    assert fitted.clients_.tolist() == [True, False]
    assert fitted.client_sizes_.tolist() == [2000, 1]
    assert np.isfinite(fitted.theta_).all()


def check_client_without_weight_is_as_if_absent(estimator):
    X, y, clients = make_federation()
    here = clients != 2
    absent = clone(estimator).fit(X[here], y[here], clients=clients[here])
    weight = clone(estimator).fit(X, y, sample_weight=here.astype(float), clients=clients)
    np.testing.assert_allclose(weight.predict_proba(X), absent.predict_proba(X), rtol=1e-5)
    np.testing.assert_array_equal(weight.clients_, absent.clients_)
    np.testing.assert_array_equal(weight.client_sizes_, absent.client_sizes_)


def check_sizes_are_sums_of_weights(estimator):
    X, y, clients = make_federation()
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    fitted = clone(estimator).fit(X, y, sample_weight=weight, clients=clients)
    sums = np.bincount(clients, weight)[fitted.clients_]
    np.testing.assert_allclose(fitted.client_sizes_, sums)


# -- wrong clients -----------------------------------------------------------------------------


def check_wrong_length_raises(estimator):
    X, y, clients = make_federation()
    sizes = np.bincount(clients)
    for wrong in (clients[:-1], np.append(clients, 0), sizes, np.cumsum(sizes), []):
        with pytest.raises(ValueError, match="one client id per row, not offsets") as error:
            clone(estimator).fit(X, y, clients=wrong)
        assert f"clients has {len(wrong)} entries but X has {len(y)} rows" in str(error.value)


def check_wrong_shape_raises(estimator):
    X, y, clients = make_federation()
    one_hot = np.eye(5)[clients]
    for wrong in (one_hot, one_hot.tolist(), 3, "site", {0: 1}):
        with pytest.raises(ValueError, match="one client id per row"):
            clone(estimator).fit(X, y, clients=wrong)


def check_missing_client_ids_raise(estimator):
    X, y, clients = make_federation()
    words = np.array(["a", "b", "c", "d", "e"])[clients]
    days = np.array("2024-01-01", "datetime64[D]") + clients

    def with_second(values, missing):
        values = list(values)
        values[1] = missing
        return values

    numbers = clients.astype(float)
    for wrong in (
        with_second(words.tolist(), None),
        with_second(words.tolist(), float("nan")),
        np.array(with_second(words.tolist(), None), object),
        np.array(with_second(numbers, np.nan)),
        np.array(with_second(days, np.datetime64("NaT"))),
        pd.Series(with_second(words, None)),
        pd.Series(with_second(words, pd.NA), dtype="string"),
        pd.Series(with_second(clients, None), dtype="Int64"),
        pd.Categorical(with_second(words, None)),
        pd.Series(with_second(days, pd.NaT)),
        pl.Series(with_second(words.tolist(), None)),
        np.ma.array(clients, mask=np.arange(len(y)) == 1),
    ):
        with pytest.raises(ValueError, match=r"1 missing entries, the first in row 1"):
            clone(estimator).fit(X, y, clients=wrong)


def check_clients_beside_partitions_raise(estimator):
    X, y, clients = make_federation()
    with pytest.raises(ValueError, match="do not pass y, sample_weight or clients"):
        clone(estimator).fit({"a": (X, y)}, clients=clients)
    with pytest.raises(ValueError, match="do not pass clients"):
        clone(estimator).fit([X, X], [y, y], clients=clients)


# -- chance ------------------------------------------------------------------------------------


def check_same_random_state_same_model(estimator):
    X, y, clients = make_federation()
    first = clone(estimator).fit(X, y, clients=clients)
    assert_same_model(first, clone(estimator).fit(X, y, clients=clients), X)
    assert_same_model(first, copy.deepcopy(first).fit(X, y, clients=clients), X)
    other = clone(estimator).set_params(random_state=1).fit(X, y, clients=clients)
    assert not np.array_equal(first.theta_, other.theta_)


def check_random_state_instance(estimator):
    X, y, clients = make_federation()
    a = clone(estimator).set_params(random_state=np.random.RandomState(3))
    b = clone(estimator).set_params(random_state=np.random.RandomState(3))
    assert_same_model(a.fit(X, y, clients=clients), b.fit(X, y, clients=clients), X)


def check_global_generators_are_left_alone(estimator):
    X, y, clients = make_federation()
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    first = clone(estimator).fit(X, y, clients=clients)
    first.predict_proba(X)
    np.testing.assert_equal(np.random.get_state(), numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    torch.manual_seed(1)
    assert_same_model(first, clone(estimator).fit(X, y, clients=clients), X)


def check_data_are_left_alone(estimator):
    X, y, clients = make_federation()
    weight = np.linspace(0.5, 2, len(y))
    given = (X, y, weight, clients)
    before = [values.copy() for values in given]
    for values in given:
        values.setflags(write=False)
    clone(estimator).fit(X, y, sample_weight=weight, clients=clients).predict(X)
    for values, copied in zip(given, before, strict=True):
        np.testing.assert_array_equal(values, copied)


# -- rounds ------------------------------------------------------------------------------------


def check_partial_fit_runs_one_round(estimator):
    X, y, clients = make_federation()
    whole = clone(estimator).set_params(n_rounds=3).fit(X, y, clients=clients)
    by_round = clone(estimator)
    for n_rounds in (1, 2, 3):
        by_round.partial_fit(X, y, clients=clients)
        assert by_round.n_iter_ == n_rounds
    assert_same_model(whole, by_round, X)


def check_partial_fit_takes_classes_to_come(estimator):
    X, y, clients = make_federation()
    seen = y != 2
    fitted = clone(estimator)
    fitted.partial_fit(X[seen], y[seen], classes=[0, 1, 2], clients=clients[seen])
    assert fitted.predict_proba(X).shape == (len(y), 3)
    fitted.partial_fit(X, y, clients=clients)
    assert fitted.n_iter_ == 2


def check_warm_start_goes_on(estimator):
    X, y, clients = make_federation()
    whole = clone(estimator).set_params(n_rounds=4).fit(X, y, clients=clients)
    halves = clone(estimator).set_params(n_rounds=2, warm_start=True)
    halves.fit(X, y, clients=clients).fit(X, y, clients=clients)
    assert_same_model(whole, halves, X)
    afresh = halves.set_params(warm_start=False, n_rounds=4).fit(X, y, clients=clients)
    assert_same_model(whole, afresh, X)


def check_clients_may_come_and_go(estimator):
    X, y, clients = make_federation()
    fitted = clone(estimator).set_params(n_rounds=2, warm_start=True)
    fitted.fit(X, y, clients=clients)
    fitted.fit(X[::2], y[::2], clients=np.char.add("new ", (clients[::2] % 2).astype(str)))
    assert sorted(fitted.clients_) == ["new 0", "new 1"]
    assert fitted.history_["round"].tolist() == [1, 2, 3, 4]


def check_history_is_consistent(estimator):
    X, y, clients = make_federation()
    fitted = clone(estimator).set_params(n_rounds=3).fit(X, y, clients=clients)
    history = fitted.history_
    assert fitted.n_iter_ == 3
    assert {len(column) for column in history.values()} == {3}
    assert all(isinstance(column, np.ndarray) for column in history.values())
    assert history["round"].tolist() == [1, 2, 3]
    assert np.isfinite(history["loss"]).all()
    assert (history["loss"] > 0).all()
    assert (history["seconds"] >= 0).all()
    assert (history["n_failed"] == 0).all()
    model = fitted.theta_.nbytes
    np.testing.assert_array_equal(history["bytes_down"], history["n_selected"] * model)
    scalars = history["bytes_up"] - history["n_selected"] * model
    of_each = 8 * 3 * history["n_selected"]  # weight and objective come with each update
    np.testing.assert_array_equal(scalars[1:], of_each[1:])
    # Before the first, label counts and numbers of rows of all; weights and squares of columns.
    counted = estimator.get_params().get("class_weight") == "balanced"
    looked_at = estimator.module is None
    asked = (8 * 5 * 4 if counted else 0) + (8 * 5 * 2 * X.shape[1] if looked_at else 0)
    assert scalars[0] == of_each[0] + asked


def check_clients_per_round(estimator):
    X, y, clients = make_federation()
    for given, selected in ((1.0, 5), (5, 5), (0.6, 3), (3, 3), (0.01, 1), (1, 1)):
        fitted = clone(estimator).set_params(clients_per_round=given).fit(X, y, clients=clients)
        assert fitted.history_["n_selected"].tolist() == [selected] * fitted.n_iter_
    share = clone(estimator).set_params(clients_per_round=0.6).fit(X, y, clients=clients)
    number = clone(estimator).set_params(clients_per_round=3).fit(X, y, clients=clients)
    assert_same_model(share, number, X)
    with pytest.raises(ValueError, match="clients_per_round=6 is more than the 5 clients"):
        clone(estimator).set_params(clients_per_round=6).fit(X, y, clients=clients)


# -- scikit-learn ------------------------------------------------------------------------------


def check_requests_clients_without_being_told(estimator):
    for method in ("fit", "partial_fit"):
        request = getattr(estimator.get_metadata_routing(), method).requests
        assert request["clients"] is True
        assert request["sample_weight"] is None
    with config_context(enable_metadata_routing=True):
        declined = clone(estimator).set_fit_request(clients=False)
    assert declined.get_metadata_routing().fit.requests["clients"] is False


def check_prediction_needs_no_clients(estimator):
    X, y, clients = make_federation()
    fitted = clone(estimator).fit(X, y, clients=clients)
    one = fitted.predict_proba(X[:1])
    np.testing.assert_allclose(fitted.predict_proba(X)[:1], one, rtol=1e-5)
    labels = fitted.classes_[fitted.predict_proba(X).argmax(1)]
    np.testing.assert_array_equal(fitted.predict(X), labels)


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]


def name_of(value):
    return value.__name__ if callable(value) else "".join(repr(value).split())


every_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=name_of)


@every_estimator
@pytest.mark.parametrize("check", CHECKS, ids=name_of)
def test_federated_checks(estimator, check):
    check(estimator)


@every_estimator
def test_wrong_clients_leave_the_estimator_as_it_was(estimator, unchanged):
    X, y, clients = make_federation()
    estimator = clone(estimator)
    with unchanged(estimator), pytest.raises(ValueError, match="not offsets"):
        estimator.fit(X, y, clients=[0, 10, 72])
    estimator.fit(X, y, clients=clients)
    before = estimator.predict_proba(X)
    with unchanged(estimator), pytest.raises(ValueError, match="not offsets"):
        estimator.fit(X[:, :3], y, clients=[0, 10, 72])
    np.testing.assert_array_equal(estimator.predict_proba(X), before)
