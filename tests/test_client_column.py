"""Ids that travel as a column of X: the same model as with ``clients=``, or a word why not.

What stands around it is in `tests/tools`.
"""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from scipy import sparse
from sklearn import config_context, get_config
from sklearn.base import BaseEstimator, ClassifierMixin, clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import (
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags

from skfedfocal import (
    ClientColumn,
    FedFocalClassifier,
    FedFocalClassifierCV,
    load_model,
    save_model,
)
from skfedfocal._data.columns import without_column
from skfedfocal.preprocessing import FederatedStandardScaler

NAMES = list("abcde")


@pytest.fixture(autouse=True, params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    """Every test with metadata routing off and on, and nothing in it may change that."""
    with config_context(enable_metadata_routing=request.param):
        before = get_config()
        yield request.param
        assert get_config() == before


@pytest.fixture
def model():
    return FedFocalClassifier((8,), n_rounds=2, batch_size=8, random_state=0)


@pytest.fixture
def data(federation):
    """Rows and labels of two classes, and ids as text and as numbers."""
    X, y, clients = federation.X, (federation.y > 0).astype(int), federation.clients
    return X, y, clients, np.unique(clients, return_inverse=True)[1]


@pytest.fixture
def table(data):
    X, y, clients, _ = data
    return pd.DataFrame(X, columns=NAMES).assign(client=clients), y


def sizes_of(fitted):
    return dict(zip(fitted.clients_.tolist(), fitted.client_sizes_.tolist(), strict=True))


def counted(clients):
    ids, sizes = np.unique(clients, return_counts=True)
    return dict(zip(ids.tolist(), sizes.tolist(), strict=True))


# -- where the column is -----------------------------------------------------------------------


def test_is_the_same_model_as_with_clients_as_an_argument(data, table, model, assert_trained_on):
    X, y, clients, _ = data
    wanted = clone(model).fit(X, y, clients=clients)
    found = ClientColumn(model).fit(*table)
    np.testing.assert_array_equal(found.estimator_.theta_, wanted.theta_)
    np.testing.assert_array_equal(found.clients_, wanted.clients_)
    assert_trained_on(found, clients)
    assert not hasattr(model, "theta_")


FORMS = {
    "pandas, by name": (lambda X, c, k: pd.DataFrame(X, columns=NAMES).assign(h=c), "h"),
    "pandas, by number": (lambda X, c, k: pd.DataFrame(X, columns=NAMES).assign(h=c), -1),
    "pandas, without names": (
        lambda X, c, k: pd.concat([pd.Series(c, name=9), pd.DataFrame(X)], axis=1),
        0,
    ),
    "pandas, categories": (
        lambda X, c, k: pd.DataFrame(X, columns=NAMES).assign(h=pd.Categorical(c)),
        "h",
    ),
    "polars, by name": (lambda X, c, k: pl.DataFrame(X, NAMES).with_columns(h=pl.Series(c)), "h"),
    "polars, by number": (
        lambda X, c, k: pl.DataFrame(X, NAMES).insert_column(2, pl.Series("h", c)),
        2,
    ),
    "array": (lambda X, c, k: np.column_stack([X[:, :3], k, X[:, 3:]]), 3),
    "array of objects": (lambda X, c, k: np.column_stack([X.astype(object), c]), 5),
    "list with texts": (lambda X, c, k: np.column_stack([X.astype(object), c]).tolist(), 5),
    "csr": (lambda X, c, k: sparse.csr_array(np.column_stack([k, X])), 0),
    "coo": (lambda X, c, k: sparse.coo_array(np.column_stack([X, k])), -1),
    "matrix of csc": (lambda X, c, k: sparse.csc_matrix(np.column_stack([X, k])), 5),
    "callable": (
        lambda X, c, k: pd.DataFrame(X, columns=NAMES).assign(hospital=c),
        make_column_selector("hospital"),
    ),
    "callable of arrays": (lambda X, c, k: np.column_stack([X, k]), lambda X: X.shape[1] - 1),
}  # fmt: skip


@pytest.mark.parametrize(("form", "column"), FORMS.values(), ids=list(FORMS))
def test_column_of_any_table(data, model, form, column):
    X, y, clients, numbers = data
    given = form(X, clients, numbers)
    wanted = clone(model).fit(X, y, clients=clients)
    found = ClientColumn(model, column).fit(given, y)
    np.testing.assert_array_equal(found.estimator_.theta_, wanted.theta_)
    by_name = dict(zip(numbers.tolist(), clients.tolist(), strict=True))
    assert [by_name.get(i, i) for i in found.clients_.tolist()] == wanted.clients_.tolist()
    np.testing.assert_array_equal(found.predict(given), wanted.predict(X))
    assert found.n_features_in_ == len(NAMES) + 1


@pytest.mark.parametrize("place", [0, 2, 5])
def test_rows_of_an_array_are_not_copied_where_the_column_is_at_an_end(place):
    X = np.arange(12.0).reshape(2, 6)
    left = without_column(X, place)
    np.testing.assert_array_equal(left, np.delete(X, place, axis=1))
    assert np.shares_memory(left, X) == (place in (0, 5))


def test_predicts_with_and_without_the_column(table, model):
    X, y = table
    pipeline = make_pipeline(FederatedStandardScaler(), model)
    fitted = ClientColumn(pipeline).fit(X, y)
    bare = X.drop(columns="client")
    elsewhere = X.assign(client=None)[["client", *NAMES]]
    for method in ("predict", "predict_proba", "decision_function", "predict_posterior"):
        wanted = getattr(fitted, method)(X)
        np.testing.assert_array_equal(getattr(fitted, method)(bare), wanted)
        np.testing.assert_array_equal(getattr(fitted, method)(elsewhere), wanted)
    assert fitted.score(X, y) == fitted.score(bare, y)
    assert fitted.feature_names_in_.tolist() == [*NAMES, "client"]


def test_predicts_arrays_with_and_without_the_column(data, model):
    X, y, _, numbers = data
    fitted = ClientColumn(model, 0).fit(np.column_stack([numbers, X]), y)
    wanted = fitted.predict_proba(np.column_stack([np.full(len(X), np.nan), X]))
    np.testing.assert_array_equal(fitted.predict_proba(X), wanted)
    with pytest.raises(ValueError, match="X has 4 features, but ClientColumn is expecting 6"):
        fitted.predict(X[:, 1:])
    with pytest.raises(ValueError, match="Reshape your data"):
        fitted.predict(X[0])


def test_columns_in_another_order_are_refused_by_the_model(table, model):
    X, y = table
    fitted = ClientColumn(model).fit(X, y)
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(X[["client", *reversed(NAMES)]])


def test_partitions_before_a_pipeline(data, model, assert_trained_on):
    X, y, clients, _ = data
    parts = {i: (X[clients == i], y[clients == i]) for i in dict.fromkeys(clients.tolist())}
    pipeline = make_pipeline(FederatedStandardScaler(), model)
    fitted = ClientColumn(pipeline, column=None).fit(parts)
    assert_trained_on(fitted, clients)
    listed = ClientColumn(pipeline, column=None).fit(
        [X for X, _ in parts.values()], [y for _, y in parts.values()]
    )
    np.testing.assert_array_equal(listed.predict_proba(X), fitted.predict_proba(X))
    with pytest.raises(ValueError, match="use column=None"):
        ClientColumn(pipeline).fit(parts)


# -- what is inside ----------------------------------------------------------------------------


class Recorder(FederatedStandardScaler):
    """A scaler that remembers what it was given."""

    def fit(self, X, y=None, *, sample_weight=None, clients=None):
        self.given_ = clients, sample_weight
        return super().fit(X, y, sample_weight=sample_weight, clients=clients)


def test_every_step_that_takes_clients_gets_them(table, model):
    X, y = table
    columns = ColumnTransformer(
        [("one", Recorder(), ["a", "b"]), ("two", make_pipeline(Recorder()), ["c"])],
        remainder=StandardScaler(),
    )
    inner = Pipeline(
        [("union", FeatureUnion([("columns", columns)])), ("k", SelectKBest(k=5)), ("m", model)]
    )
    fitted = ClientColumn(Pipeline([("inner", inner)])).fit(X, y)
    steps = fitted.estimator_["inner"]["union"]["columns"].named_transformers_
    for scaler in (steps["one"], steps["two"][0]):
        np.testing.assert_array_equal(scaler.given_[0], X["client"])
    assert sizes_of(fitted.estimator_["inner"]["m"]) == counted(X["client"])
    assert set(fitted.clients_) == set(X["client"])
    assert fitted.predict_posterior(X).shape == (len(y), 2)


def test_texts_beside_the_ids(table, model):
    X, y = table
    X = X.assign(ward=np.where(X["a"] > 0, "north", "south"))
    columns = ColumnTransformer([("text", OneHotEncoder(), ["ward"])], remainder="passthrough")
    fitted = ClientColumn(make_pipeline(columns, model)).fit(X, y)
    assert sizes_of(fitted.estimator_[-1]) == counted(X["client"])
    assert fitted.estimator_[-1].n_features_in_ == len(NAMES) + 2


TOOLS_INSIDE = {
    "GridSearchCV": (
        lambda m: GridSearchCV(m, {"gamma": [0.0, 1.0]}, cv=2),
        lambda t: t.best_estimator_,
    ),
    "TunedThresholdClassifierCV": (
        lambda m: TunedThresholdClassifierCV(m, cv=2),
        lambda t: t.estimator_,
    ),
    "VotingClassifier": (lambda m: VotingClassifier([("m", m)]), lambda t: t.estimators_[0]),
    "CalibratedClassifierCV": (
        lambda m: CalibratedClassifierCV(m, cv=2, ensemble=False),
        lambda t: t.calibrated_classifiers_[0].estimator,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("build", "inside"), TOOLS_INSIDE.values(), ids=list(TOOLS_INSIDE))
def test_tools_inside(table, model, build, inside):
    X, y = table
    fitted = ClientColumn(build(model)).fit(X, y)
    found = inside(fitted.estimator_)
    assert set(found.clients_) == set(fitted.clients_) == set(X["client"])
    assert found.client_sizes_.sum() == len(y)


@pytest.mark.parametrize("name", sorted(set(TOOLS_INSIDE) - {"TunedThresholdClassifierCV"}))
def test_weights_for_tools_inside(table, model, name):
    """But for tools with a scorer of their own, which must itself request weights."""
    if name == "CalibratedClassifierCV" and sklearn.__version__.startswith("1.6."):
        pytest.skip("scikit-learn 1.6 mixes single precision with weights in double, and raises")
    X, y = table
    build, inside = TOOLS_INSIDE[name]
    weight = np.linspace(0.5, 2, len(y))
    found = inside(ClientColumn(build(model)).fit(X, y, sample_weight=weight).estimator_)
    assert set(found.clients_) == set(X["client"])
    assert found.client_sizes_.sum() == pytest.approx(weight.sum())


def test_search_of_this_package_inside(table, assert_trained_on):
    X, y = table
    chooser = FedFocalClassifierCV((8,), gammas=(0.0, 1.0), cv=2, n_rounds=2, random_state=0)
    fitted = ClientColumn(chooser).fit(X, y)
    assert_trained_on(fitted, X["client"])
    assert not hasattr(fitted, "partial_fit")


def test_copies_in_other_processes(table, model, assert_trained_on):
    X, y = table
    search = GridSearchCV(ClientColumn(model), {"estimator__gamma": [0.0, 1.0]}, cv=2, n_jobs=2)
    fitted = search.fit(X, y).best_estimator_
    assert_trained_on(fitted, X["client"])
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))


class NoClients(ClassifierMixin, BaseEstimator):
    """A classifier of somebody else, which takes `clients` without having said so to routing."""

    def fit(self, X, y, clients=None):
        self.clients_, self.classes_ = np.unique(clients), np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


def test_classifiers_of_others(table):
    X, y = table
    for estimator in (NoClients(), make_pipeline(StandardScaler(), NoClients())):
        fitted = ClientColumn(estimator).fit(X, y)
        assert set(fitted.clients_) == set(X["client"])
        assert not hasattr(fitted, "predict_proba")
        assert not hasattr(fitted, "partial_fit")
        assert not hasattr(fitted, "predict_posterior")


# -- weights, rounds, scores -------------------------------------------------------------------


def test_sample_weight_reaches_all_that_take_it(table, model):
    X, y = table
    weight = np.arange(len(y)) % 3.0
    pipeline = make_pipeline(Recorder(), model)
    weighted = ClientColumn(pipeline).fit(X, y, sample_weight=weight)
    np.testing.assert_array_equal(weighted.estimator_[0].given_[1], weight)
    assert weighted.estimator_[1].client_sizes_.sum() == weight.sum()
    keep = weight > 0
    assert set(weighted.clients_) == set(X["client"][keep])


def test_parts_may_decline_weights(table, model, routing):
    X, y = table
    with config_context(enable_metadata_routing=True):
        scaler = Recorder().set_fit_request(sample_weight=False)
    fitted = ClientColumn(make_pipeline(scaler, model)).fit(X, y, sample_weight=np.ones(len(y)))
    assert fitted.estimator_[0].given_[1] is None
    assert fitted.estimator_[0].given_[0] is not None


def test_partial_fit_goes_on(table, model, assert_trained_on):
    X, y = table
    whole = ClientColumn(model).fit(X, y)
    by_round = ClientColumn(model)
    for n_rounds in (1, 2):
        by_round.partial_fit(X, y, classes=[0, 1])
        assert by_round.estimator_.n_iter_ == n_rounds
    np.testing.assert_array_equal(by_round.estimator_.theta_, whole.estimator_.theta_)
    assert_trained_on(by_round, X["client"])
    assert not hasattr(ClientColumn(make_pipeline(StandardScaler(), model)), "partial_fit")


def test_score_is_balanced_accuracy(table, model):
    X, y = table
    weight = np.linspace(0.5, 2, len(y))
    for inner in (model, make_pipeline(FederatedStandardScaler(), model)):
        fitted = ClientColumn(inner).fit(X, y)
        predicted = fitted.predict(X)
        assert fitted.score(X, y) == recall_score(y, predicted, average="macro")
        weighted = recall_score(y, predicted, average="macro", sample_weight=weight)
        assert fitted.score(X, y, sample_weight=weight) == pytest.approx(weighted)


# -- scikit-learn's manners --------------------------------------------------------------------


def test_parameters_tags_and_picture(table, model):
    X, y = table
    column = ClientColumn(make_pipeline(StandardScaler(), model), column="client")
    assert column.get_params()["estimator__fedfocalclassifier__gamma"] == 1.0
    other = clone(column).set_params(estimator__fedfocalclassifier__gamma=2.0, column=-1)
    assert (column.estimator[-1].gamma, column.column) == (1.0, "client")
    assert (other.estimator[-1].gamma, other.column) == (2.0, -1)
    assert is_classifier(column)
    assert get_tags(ClientColumn(model)).input_tags.sparse
    assert not get_tags(ClientColumn(NoClients())).input_tags.sparse
    for shown in (column, column.fit(X, y)):
        picture = shown._repr_html_()
        for name in ("ClientColumn", "StandardScaler", "FedFocalClassifier"):
            assert name in picture
    with pytest.raises(NotFittedError):
        clone(column).predict(X)


def test_failed_fit_leaves_it_as_it_was(table, model, unchanged):
    X, y = table
    fitted = ClientColumn(model).fit(X, y)
    with unchanged(fitted), pytest.raises(ValueError):
        fitted.fit(X, np.zeros(len(y)))
    with unchanged(fitted), pytest.raises(ValueError, match="has 0 columns 'client'"):
        fitted.fit(X[["b", "a"]], y)


# -- refusals ----------------------------------------------------------------------------------


def test_missing_column(table, data, model):
    X, y = table
    bare = X.drop(columns="client")
    with pytest.raises(ValueError, match=r"has 0 columns 'client' .* \['a', 'b', 'c', 'd', 'e'\]"):
        ClientColumn(model).fit(bare, y)
    with pytest.raises(ValueError, match=r"is a name, but X has none.*ndarray.*give the number"):
        ClientColumn(model).fit(data[0], y)
    with pytest.raises(ValueError, match="X has 5 columns and so none of number 5"):
        ClientColumn(model, 5).fit(data[0], y)
    twice = pd.concat([X, X[["client"]]], axis=1)
    with pytest.raises(ValueError, match="has 2 columns 'client'"):
        ClientColumn(model).fit(twice, y)
    with pytest.raises(ValueError, match="needs a table"):
        ClientColumn(model, 0).fit(data[0][:, :, None], y)


def test_ids_that_are_none(table, model):
    X, y = table
    X.loc[3, "client"] = None
    with pytest.raises(ValueError, match=r"column='client'.*1 missing entries, the first in row 3"):
        ClientColumn(model).fit(X, y)


def test_scaled_and_interpolated_ids(data, model):
    X, y, _, numbers = data
    pipeline = make_pipeline(StandardScaler(), ClientColumn(model, 0))
    with pytest.raises(
        ValueError, match=r"column=0 of X has fractions, the first in row 0: .*SMOTENC"
    ):
        pipeline.fit(np.column_stack([numbers, X]), y)


def test_clients_besides(table, model):
    X, y = table
    for method in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match="leave clients out"):
            getattr(ClientColumn(model), method)(X, y, clients=X["client"])


@pytest.mark.parametrize(
    "inner",
    [LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())],
    ids=["classifier", "pipeline"],
)
def test_nothing_inside_takes_clients(table, inner):
    with pytest.raises(ValueError, match=r"(?s)Nothing takes clients.*LogisticRegression"):
        ClientColumn(inner).fit(*table)


def test_nothing_inside_takes_weights(table):
    X, y = table
    with pytest.raises(ValueError, match="Nothing takes sample_weight in fit of NoClients"):
        ClientColumn(NoClients()).fit(X, y, sample_weight=np.ones(len(y)))


class Doubler(BaseEstimator):
    """A sampler, as imbalanced-learn has them."""

    def fit_resample(self, X, y):
        return np.repeat(X, 2, axis=0), np.repeat(y, 2)

    def fit(self, X, y):
        return self


def test_sampler_inside(table, model):
    pipeline = Pipeline([("more", Doubler()), ("model", model)])
    with pytest.raises(ValueError, match=r"make_pipeline\(Doubler\(\), ClientColumn"):
        ClientColumn(pipeline).fit(*table)


def test_what_is_inside_is_saved_and_predicts_without_the_column(table, model, tmp_path):
    X, y = table
    fitted = ClientColumn(make_pipeline(FederatedStandardScaler(), model)).fit(X, y)
    with pytest.raises(TypeError, match="write its estimator_"):
        save_model(fitted, tmp_path / "model")
    save_model(fitted.estimator_, tmp_path / "model")
    again = load_model(tmp_path / "model")
    found = again.predict_proba(X.drop(columns=fitted.column))
    np.testing.assert_array_equal(found, fitted.predict_proba(X))
