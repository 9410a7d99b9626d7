"""Scores by client: what they equal, clients without one, and how ids are routed."""

import copy
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    get_scorer,
    recall_score,
)
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfedfocal import ClientColumn, FedFocalClassifier
from skfedfocal.metrics import (
    client_report,
    client_scores,
    make_client_scorer,
    mean_client,
    worst_client,
)


class Says(ClassifierMixin, BaseEstimator):
    """Predicts its one feature."""

    classes_ = np.arange(3)

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.asarray(X)[:, 0].astype(int)

    def score(self, X, y):
        return accuracy_score(y, self.predict(X))


@pytest.fixture(scope="module")
def data():
    X, y = make_classification(200, 5, weights=[0.7], random_state=0)
    clients = np.random.default_rng(0).choice(["oslo", "bergen", "røst"], 200)
    clients[np.flatnonzero(y == 0)[:20]] = "hamar"  # of one class
    return X, y, clients


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from("abcd")),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([None, "balanced_accuracy", "f1_macro"]),
)
def test_each_score_is_that_of_the_clients_rows(rows, scoring):
    y, said, clients = (np.array(column) for column in zip(*rows, strict=True))
    X = said[:, None].astype(float)
    found = client_scores(Says(), X, y, clients, scoring=scoring)
    assert list(dict.fromkeys(clients.tolist())) == found.clients.tolist()
    for k, client in enumerate(found.clients):
        own = clients == client
        expected = {
            None: lambda a, b: accuracy_score(a, b),
            "balanced_accuracy": lambda a, b: recall_score(
                a, b, average="macro", labels=np.unique(a)
            ),
            "f1_macro": lambda a, b: f1_score(a, b, average="macro", zero_division=0),
        }[scoring](y[own], said[own])
        assert_allclose(found.score[k], expected, rtol=1e-12)
        assert found.n_rows[k] == own.sum()
        assert found.one_class[k] == (len(set(y[own].tolist())) == 1)
    assert not found.undefined.any()


def test_a_client_without_a_score_does_not_hide_the_others(data):
    X, y, clients = data
    model = LogisticRegression().fit(X, y)
    for scoring, reason in (("roc_auc", "not defined"), ("neg_log_loss", "ValueError: .*label")):
        found = client_scores(model, X, y, clients, scoring=scoring)
        (lost,) = np.flatnonzero(found.undefined)
        assert found.clients[lost] == "hamar"
        assert np.isnan(found.score[lost])
        assert found.one_class[lost]
        assert re.search(reason, found.reason[lost])
        assert (found.reason != "").sum() == 1
        for client, score in zip(found.clients, found.score, strict=True):
            if client != "hamar":
                own = clients == client
                assert_allclose(score, get_scorer(scoring)(model, X[own], y[own]))


def test_what_is_wrong_for_all_clients_is_raised(data):
    X, y, clients = data
    with pytest.raises(NotFittedError):
        client_scores(LogisticRegression(), X, y, clients)
    with pytest.raises(ValueError, match="features"):
        client_scores(LogisticRegression().fit(X, y), X[:, :2], y, clients)


def test_weights_reach_the_scorer(data):
    X, y, clients = data
    weight = np.random.default_rng(1).random(len(y))
    model = FedFocalClassifier(n_rounds=2, random_state=0).fit(X, y, clients=clients)
    for scoring in (None, "accuracy"):
        found = client_scores(model, X, y, clients, scoring=scoring, sample_weight=weight)
        scorer = (
            model.score
            if scoring is None
            else lambda *a, **k: get_scorer("accuracy")(model, *a, **k)
        )
        expected = [
            scorer(X[clients == c], y[clients == c], sample_weight=weight[clients == c])
            for c in found.clients
        ]
        assert_allclose(found.score, expected)


def test_regression_has_no_classes(data):
    X, _, clients = data
    y = X @ np.arange(5.0)
    found = client_scores(LinearRegression().fit(X, y), X, y, clients)
    assert_allclose(found.score, 1)
    assert not found.one_class.any()


@pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame, pd.DataFrame.from_records])
def test_forms_of_rows_and_partitions(data, kind):
    X, y, clients = data
    model = LogisticRegression().fit(X, y)
    plain = client_scores(model, X, y, clients)
    parts = {c: (X[clients == c], y[clients == c]) for c in plain.clients.tolist()}
    assert_array_equal(client_scores(model, parts, None).score, plain.score)
    named = LogisticRegression().fit(kind(X), y)
    assert_array_equal(client_scores(named, kind(X), y, clients).score, plain.score)


@pytest.mark.parametrize("scorer", [worst_client, mean_client])
def test_reduced_scores(data, scorer):
    X, y, clients = data
    model = LogisticRegression().fit(X, y)
    each = client_scores(model, X, y, clients).score
    expected = each.min() if scorer is worst_client else each.mean()
    assert scorer(model, X, y, clients=clients) == expected
    for copied in (copy.deepcopy(scorer), pickle.loads(pickle.dumps(scorer))):
        assert repr(copied) == repr(scorer)
        assert copied(model, X, y, clients=clients) == expected


def test_small_clients_and_those_without_a_score_are_left_out(data):
    X, y, clients = data
    model = LogisticRegression().fit(X, y)
    clients = clients.copy()
    wrong = np.flatnonzero(model.predict(X) != y)[0]
    clients[wrong] = "alone"
    assert make_client_scorer("accuracy")(model, X, y, clients=clients) == 0
    assert make_client_scorer("accuracy", min_rows=2)(model, X, y, clients=clients) > 0
    assert make_client_scorer("accuracy", min_rows=10**6)(model, X, y, clients=clients) > 0
    area = client_scores(model, X, y, clients, scoring="roc_auc").score
    assert make_client_scorer("roc_auc")(model, X, y, clients=clients) == np.nanmin(area)
    assert np.isnan(make_client_scorer("roc_auc")(model, X[:1], y[:1], clients=clients[:1]))


def test_invalid_scorers():
    with pytest.raises(ValueError, match="reduce"):
        make_client_scorer(reduce="median")
    with pytest.raises(ValueError, match="min_rows"):
        make_client_scorer(min_rows=0)
    with pytest.raises(TypeError, match="takes clients"):
        make_client_scorer().set_score_request(groups=True)


@pytest.mark.parametrize("reduce", ["worst", "mean"])
def test_grid_search_routes_clients_to_scorer_and_fit(data, reduce):
    X, y, clients = data
    scorer = make_client_scorer(reduce=reduce)
    pipeline = make_pipeline(StandardScaler(), FedFocalClassifier(n_rounds=3, random_state=0))
    grid = {"fedfocalclassifier__gamma": [0.0, 2.0]}
    folds = StratifiedGroupKFold(3)
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(pipeline, grid, scoring=scorer, cv=folds, error_score="raise")
        search.fit(X, y, clients=clients, groups=clients)
        assert search.score(X, y, clients=clients) == scorer(
            search.best_estimator_, X, y, clients=clients
        )
    assert len(search.best_estimator_[-1].clients_) == 4
    train, test = next(folds.split(X, y, clients))
    model = pipeline.set_params(fedfocalclassifier__gamma=2.0).fit(
        X[train], y[train], fedfocalclassifier__clients=clients[train]
    )
    expected = scorer(model, X[test], y[test], clients=clients[test])
    assert search.cv_results_["split0_test_score"][1] == expected


def test_cross_validate_takes_several_and_weights_on_request(data):
    X, y, clients = data
    weight = np.random.default_rng(1).random(len(y))
    weighted = make_client_scorer("accuracy").set_score_request(sample_weight="row_weight")
    scoring = {"worst": worst_client, "mean": mean_client, "weighted": weighted}
    with config_context(enable_metadata_routing=True):
        found = cross_validate(
            LogisticRegression(),
            X,
            y,
            scoring=scoring,
            params={"clients": clients, "row_weight": weight},
            return_estimator=True,
            return_indices=True,
            error_score="raise",
        )
    for i, model in enumerate(found["estimator"]):
        test = found["indices"]["test"][i]
        own = {"clients": clients[test]}
        assert found["test_worst"][i] == worst_client(model, X[test], y[test], **own)
        assert found["test_mean"][i] == mean_client(model, X[test], y[test], **own)
        expected = weighted(model, X[test], y[test], sample_weight=weight[test], **own)
        assert found["test_weighted"][i] == expected
    assert (found["test_worst"] < found["test_mean"]).all()


def test_ids_in_a_column_need_no_routing(data):
    X, y, clients = data
    table = pd.DataFrame(X, columns=list("abcde")).assign(client=clients)
    model = ClientColumn(FedFocalClassifier(n_rounds=2, random_state=0)).fit(table, y)
    expected = client_scores(model.estimator_, table[list("abcde")], y, clients)
    assert_array_equal(client_scores(model, table, y).score, expected.score)
    search = GridSearchCV(model, {"estimator__gamma": [0.0, 2.0]}, scoring=worst_client, cv=3)
    assert 0 < search.fit(table, y).best_score_ < 1
    with pytest.raises(ValueError, match="lacks the column 'client'"):
        client_scores(model, table[list("abcde")], y)
    with pytest.raises(ValueError, match="enable metadata routing"):
        worst_client(model.estimator_, X, y)


# -- the report --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report_data():
    rng = np.random.default_rng(0)
    y = rng.choice(3, 90, p=[0.6, 0.3, 0.1])
    X = np.where(rng.random(90) < 0.7, y, rng.integers(0, 3, 90))[:, None].astype(float)
    return X, y, rng.choice([10, 20, 30], 90)


def test_report_has_each_clients_numbers(report_data):
    X, y, clients = report_data
    report = client_report(Says(), X, y, clients, output_dict=True)
    said = X[:, 0].astype(int)
    rows = {client: clients == client for client in report["clients"]}
    for line, own in [
        *((report["clients"][client], own) for client, own in rows.items()),
        (report["all"], np.full(90, True)),
    ]:
        present = np.unique(y[own])
        recalls = recall_score(y[own], said[own], labels=present, average=None)
        assert line["rows"] == own.sum()
        assert line["classes"] == len(present)
        assert_allclose([line["recall"][c] for c in present.tolist()], recalls)
        assert_allclose(line["balanced accuracy"], recalls.mean())
    scores = {c: line["balanced accuracy"] for c, line in report["clients"].items()}
    assert report["worst"] == min(scores, key=scores.get)


def test_report_as_text(report_data):
    X, y, clients = report_data
    report = client_report(Says(), X, y, clients, output_dict=True)
    text = client_report(Says(), X, y, clients, digits=3).splitlines()
    assert text[0].split()[:2] == ["rows", "classes"]
    lines = {line.split()[0]: line for line in text[1:] if line}
    for client, line in report["clients"].items():
        shown = lines[str(client)].replace("worst", "").split()[1:]
        values = [*line["recall"].values(), line["balanced accuracy"]]
        assert shown == [str(line["rows"]), "3", *(f"{v:.3f}" for v in values)]
        assert lines[str(client)].endswith("worst") == (client == report["worst"])
    assert len({len(line.removesuffix("  worst")) for line in text if line}) == 1  # aligned


def test_report_of_many_classes_names_the_rarest():
    y = np.repeat(np.arange(7), [5, 5, 5, 2, 5, 5, 5])
    says = Says()
    says.classes_ = np.arange(7)
    head = client_report(says, y[:, None], y, np.arange(len(y)) % 2).splitlines()[0]
    assert "recall of 3" in head
    assert head.count("recall") == 1


def test_report_beside_local_and_pooled_fits(data):
    X, y, clients = data
    train, test = np.arange(200) % 2 == 0, np.arange(200) % 2 == 1
    model = LogisticRegression().fit(X[train], y[train])
    report = client_report(
        model,
        X[test],
        y[test],
        clients[test],
        train=(X[train], y[train], clients[train]),
        local_alone=True,
        pooled=True,
        output_dict=True,
    )
    assert np.isnan(report["clients"]["hamar"]["local alone"])  # of one class: cannot be fitted
    assert np.isnan(report["all"]["local alone"])
    for client, line in report["clients"].items():
        assert line["pooled"] == line["balanced accuracy"]  # the model is a fit on all rows
        if client != "hamar":
            fit, own = train & (clients == client), test & (clients == client)
            alone = LogisticRegression().fit(X[fit], y[fit]).predict(X[own])
            expected = recall_score(y[own], alone, average="macro")
            assert_allclose(line["local alone"], expected)


def test_report_pools_what_is_federated(data):
    X, y, clients = data
    model = FedFocalClassifier(n_rounds=2, random_state=0).fit(X, y, clients=clients)
    kwargs = {"train": (X, y, clients), "pooled": True, "output_dict": True}
    report = client_report(model, X, y, clients, **kwargs)
    alone = FedFocalClassifier(n_rounds=2, random_state=0).fit(X, y)
    assert_allclose(report["all"]["pooled"], alone.score(X, y))
    table = pd.DataFrame(X, columns=list("abcde")).assign(client=clients)
    column = ClientColumn(FedFocalClassifier(n_rounds=2)).fit(table, y)
    with pytest.raises(ValueError, match="never pooled"):
        client_report(column, table, y, train=(table, y, None), pooled=True)


def test_report_needs_rows_to_fit_on(data):
    X, y, clients = data
    with pytest.raises(ValueError, match="train="):
        client_report(LogisticRegression().fit(X, y), X, y, clients, pooled=True)


def test_worst_is_not_a_client_of_few_rows(report_data):
    X, y, clients = report_data
    clients = clients.copy()
    clients[np.flatnonzero(X[:, 0] != y)[0]] = 99  # one row, and wrong
    assert client_report(Says(), X, y, clients, output_dict=True)["worst"] != 99
    assert client_report(Says(), X, y, clients, min_rows=1, output_dict=True)["worst"] == 99
