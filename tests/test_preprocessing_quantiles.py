"""Quantiles, robust scaling and imputing from sums are those of scikit-learn on all rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import SKLEARN
from scipy import sparse
from sklearn import config_context
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skfedfocal import FedFocalClassifier
from skfedfocal._data.quantiles import CountsBelow, column_quantiles
from skfedfocal.preprocessing import FederatedRobustScaler, FederatedSimpleImputer
from skfedfocal.preprocessing._ask import settle_here

CHECKED = [
    FederatedRobustScaler(),
    FederatedRobustScaler(with_centering=False),
    FederatedSimpleImputer(),
    FederatedSimpleImputer(strategy="median"),
    FederatedSimpleImputer(strategy="constant"),
]
SHARES = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0]

tables = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 30), st.just(2)),
    elements=st.one_of(
        st.just(np.nan),
        st.sampled_from([0.0, -0.0, 1.0, 5e-324, -1e-310, 1e300]),
        st.floats(-1e306, 1e306),
    ),
)


def as_scikit_learns(estimator):
    if getattr(estimator, "strategy", None) == "constant":
        return {"check_dtype_object": "takes objects of any kind, as scikit-learn's does"}
    return {}


@parametrize_with_checks(CHECKED, expected_failed_checks=as_scikit_learns)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def clients_of(X, seed):
    return np.random.default_rng(seed).integers(0, 5, len(X))


@given(tables, st.integers(0, 99))
def test_quantiles_are_numpys(X, seed):
    found = settle_here(column_quantiles(SHARES), X, clients_of(X, seed))
    for j in range(2):
        values = X[~np.isnan(X[:, j]), j]
        if len(values):
            assert_allclose(found[:, j], np.quantile(values, SHARES), rtol=1e-12, atol=0)
        else:
            assert np.isnan(found[:, j]).all()


@given(tables, st.integers(0, 99))
def test_quantiles_are_of_sums_whatever_the_partition(X, seed):
    one, other = (
        settle_here(column_quantiles(SHARES), X, clients) for clients in (None, clients_of(X, seed))
    )
    assert_array_equal(one, other)


def test_nine_questions_whose_answers_are_counts():
    X = np.random.default_rng(0).normal(size=(50, 3))
    questions = column_quantiles([0.5])
    query, asked = next(questions), 0
    while query is not None:
        assert type(query) is CountsBelow
        answer = query.answer(X, None, None)
        assert ((answer == np.floor(answer)) & (answer >= 0) & (answer <= 50)).all()
        asked += 1
        try:
            query = questions.send(answer)
        except StopIteration as done:
            query = None
            assert_allclose(done.value, np.median(X, 0)[None], rtol=1e-15)
    assert asked == 9


@given(
    tables.map(lambda X: np.clip(X, -1e6, 1e6)),
    st.integers(0, 99),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(25.0, 75.0), (10.0, 90.0), (5.0, 95.0)]),
)
def test_robust_scaler_is_scikit_learns(X, seed, centering, scaling, unit, quantile_range):
    params = {
        "with_centering": centering,
        "with_scaling": scaling,
        "unit_variance": unit,
        "quantile_range": quantile_range,
    }
    X = X[:, ~np.isnan(X).all(0)]  # of which scikit-learn warns
    if not X.shape[1]:
        return
    ours = FederatedRobustScaler(**params).fit(X, clients=clients_of(X, seed))
    theirs = RobustScaler(**params).fit(X)
    for name in ("center_", "scale_"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert (mine is None) == (other is None)
        if mine is not None:
            assert_allclose(mine, other, rtol=1e-9, atol=1e-300)
    assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-9, atol=1e-9)


def test_robust_scaler_of_sparse_rows():
    X = sparse.csr_array(sparse.random(40, 4, density=0.7, random_state=0))
    ours = FederatedRobustScaler(with_centering=False).fit(X, clients=clients_of(X.toarray(), 0))
    assert_allclose(ours.scale_, RobustScaler(with_centering=False).fit(X).scale_, rtol=1e-12)
    with pytest.raises(TypeError, match="with_centering=False"):
        FederatedRobustScaler().fit(X)


def test_invalid_quantile_range():
    with pytest.raises(ValueError, match="quantile range"):
        FederatedRobustScaler(quantile_range=(80.0, 20.0)).fit([[0.0]])


@given(
    tables.map(lambda X: np.clip(X, -1e6, 1e6)),
    st.integers(0, 99),
    st.sampled_from(["mean", "median", "constant"]),
    st.booleans(),
    st.sampled_from([np.asarray, sparse.csr_array, pd.DataFrame]),
)
def test_imputer_is_scikit_learns(X, seed, strategy, keep, kind):
    params = {"strategy": strategy, "keep_empty_features": keep}
    X = np.column_stack([X, np.full(len(X), 2.5)])
    # Below 1.8 it keeps columns without a value where a constant could fill them, and warns.
    assume(SKLEARN >= (1, 8) or strategy != "constant" or keep)
    X, clients = kind(X), clients_of(X, seed)
    ours = FederatedSimpleImputer(**params).fit(X, clients=clients)
    theirs = SimpleImputer(**params).fit(X)
    mine, other = (np.asarray(fitted.statistics_, float) for fitted in (ours, theirs))
    assert_allclose(mine, other, rtol=1e-9, atol=1e-9)
    if not keep and np.isnan(mine).any():  # both warn of what they leave out
        return
    mine, other = ours.transform(X), theirs.transform(X)
    if sparse.issparse(mine):
        mine, other = mine.toarray(), other.toarray()
    assert_allclose(mine, other, rtol=1e-9, atol=1e-9)
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", np.nan]), st.sampled_from([1, 2, 7])), min_size=1
    ),
    st.integers(0, 99),
    st.booleans(),
    st.booleans(),
)
def test_most_frequent_is_scikit_learns(rows, seed, keep, given):
    texts = np.array([[row[0]] for row in rows], object)
    numbers = np.array([[float(row[1])] for row in rows])
    numbers[seed % len(rows)] = np.nan
    for X, values in ((texts, ["c", "b", "a", "d"]), (numbers, [1, 2, 7])):
        params = {"strategy": "most_frequent", "keep_empty_features": keep}
        ours = FederatedSimpleImputer(**params, categories=[values] if given else None)
        ours.fit(X, clients=clients_of(X, seed))
        theirs = SimpleImputer(**params).fit(X)
        pd.testing.assert_series_equal(pd.Series(ours.statistics_), pd.Series(theirs.statistics_))
        if ours.statistics_[0] == ours.statistics_[0]:
            assert_array_equal(ours.transform(X), theirs.transform(X))


def test_categories_of_the_most_frequent_value_have_to_be_all():
    X = np.array([["a"], ["b"]], object)
    with pytest.raises(ValueError, match="for each column"):
        FederatedSimpleImputer(strategy="most_frequent", categories=[["a"], ["b"]]).fit(X)
    with pytest.raises(ValueError, match="Column 0 of X has a value"):
        FederatedSimpleImputer(strategy="most_frequent", categories=[["a"]]).fit(X)


@pytest.mark.parametrize("step", [FederatedRobustScaler(), FederatedSimpleImputer()])
def test_in_pipelines_and_column_transformers(step):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 3)), columns=list("abc"))
    X.iloc[5, 1] = np.nan
    y, clients = rng.integers(0, 2, 60), np.repeat([0, 1, 2], 20)
    with config_context(enable_metadata_routing=True):
        columns = ColumnTransformer([("step", step, ["a", "b"])])
        model = make_pipeline(
            columns, FederatedSimpleImputer(), FedFocalClassifier(n_rounds=1, random_state=0)
        )
        model.fit(X, y, clients=clients)
    inner = model[0].named_transformers_["step"]
    alone = type(step)().fit(X[["a", "b"]], clients=clients)
    assert_array_equal(inner.transform(X[["a", "b"]]), alone.transform(X[["a", "b"]]))
    assert model[-1].clients_.tolist() == [0, 1, 2]
    name = type(step).__name__.lower()
    plain = make_pipeline(step).fit(X, **{f"{name}__clients": clients})
    assert plain[0].n_features_in_ == 3


@pytest.mark.parametrize("step", [FederatedRobustScaler(), FederatedSimpleImputer()])
def test_partitions_and_ids_in_another_order_are_refused(step):
    with pytest.raises(ValueError, match="ClientColumn"):
        step.fit({"a": ([[0.0]], [0])})
    table = pd.DataFrame({"a": [0.0, 1.0]}, index=[1, 2])
    with pytest.raises(ValueError, match=r"clients\.loc\[X\.index\]"):
        step.fit(table, clients=pd.Series(["x", "y"], index=[2, 1]))
