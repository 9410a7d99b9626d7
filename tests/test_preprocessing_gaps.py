"""Where values were missing, and quantile transforms, from sums: scikit-learn's on all rows."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from oracles import SKLEARN
from scipy import sparse
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import QuantileTransformer
from sklearn.utils.estimator_checks import parametrize_with_checks

from skfedfocal import load_model, save_model
from skfedfocal._data.quantiles import CountsBelow, column_quantiles
from skfedfocal.preprocessing import FederatedQuantileTransformer, FederatedSimpleImputer
from skfedfocal.preprocessing._ask import settle_here

tables = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 30), st.just(3)),
    elements=st.one_of(
        st.just(np.nan),
        st.sampled_from([0.0, -0.0, 1.0, 5e-324, -1e-310, 1e6]),
        st.floats(-1e6, 1e6),
    ),
)


def clients_of(X, seed):
    return np.random.default_rng(seed).integers(0, 5, X.shape[0])


def dense(X):
    return X.toarray() if sparse.issparse(X) else np.asarray(X)


@parametrize_with_checks(
    [
        FederatedSimpleImputer(add_indicator=True),
        FederatedQuantileTransformer(n_quantiles=5),
        FederatedQuantileTransformer(n_quantiles=5, output_distribution="normal"),
    ]
)
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_quantiles=5 is more than")
        check(estimator)


# -- where values were missing -------------------------------------------------------------------


@given(
    tables,
    st.integers(0, 99),
    st.sampled_from(["mean", "median", "constant", "most_frequent"]),
    st.booleans(),
    st.sampled_from([np.asarray, sparse.csr_array, pd.DataFrame]),
)
def test_indicator_is_scikit_learns(tmp_path_factory, X, seed, strategy, keep, kind):
    if strategy == "most_frequent" and kind is sparse.csr_array:
        kind = np.asarray  # of sparse rows each stored zero is another value there
    params = {"strategy": strategy, "keep_empty_features": keep, "add_indicator": True}
    X = np.column_stack([X, np.full(len(X), 2.5)])
    # Below 1.8 it keeps columns without a value where a constant could fill them, and warns.
    assume(SKLEARN >= (1, 8) or strategy != "constant" or keep)
    X = kind(X)
    ours = FederatedSimpleImputer(**params).fit(X, clients=clients_of(X, seed))
    theirs = SimpleImputer(**params).fit(X)
    assert_array_equal(ours.indicator_.features_, theirs.indicator_.features_)
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Skipping features without any observed")
        mine, other = ours.transform(X), theirs.transform(X)
        assert sparse.issparse(mine) == sparse.issparse(other)
        assert_allclose(dense(mine), dense(other), rtol=1e-9, atol=1e-9)
        path = tmp_path_factory.mktemp("model") / "imputer"
        save_model(ours, path)
        assert_array_equal(dense(load_model(path).transform(X)), dense(mine))


def test_indicator_of_texts():
    X = np.array([["a", np.nan], ["b", "c"], [np.nan, "c"], ["a", "d"]], object)
    params = {"strategy": "most_frequent", "add_indicator": True}
    ours = FederatedSimpleImputer(**params).fit(X, clients=[0, 0, 1, 1])
    theirs = SimpleImputer(**params).fit(X)
    assert_array_equal(ours.transform(X), theirs.transform(X))
    assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()


def test_a_gap_that_no_client_had_gets_no_column():
    ours = FederatedSimpleImputer(add_indicator=True).fit([[1.0, 2.0], [np.nan, 3.0]])
    assert_array_equal(ours.transform([[3.0, np.nan]]), [[3.0, 2.5, 0.0]])


# -- quantile transforms -------------------------------------------------------------------------


@given(
    tables,
    st.integers(0, 99),
    st.sampled_from([1, 2, 3, 7, 1000]),
    st.sampled_from(["uniform", "normal"]),
    st.sampled_from([np.asarray, sparse.csr_array, pd.DataFrame]),
)
def test_quantile_transformer_is_scikit_learns(X, seed, n_quantiles, law, kind):
    params = {"n_quantiles": min(n_quantiles, len(X)), "output_distribution": law}
    X = X[:, ~np.isnan(X).all(0)]  # of which numpy warns
    if not X.shape[1]:
        return
    X = np.where(np.abs(X) < 1e-300, 0, X)  # between which numpy's interpolation gives NaN
    if kind is sparse.csr_array:
        X = np.abs(X)
    rows, clients = kind(X), clients_of(X, seed)
    ours = FederatedQuantileTransformer(**params).fit(rows, clients=clients)
    theirs = QuantileTransformer(**params, subsample=None).fit(rows)
    assert_array_equal(ours.references_, theirs.references_)
    assert_allclose(ours.quantiles_, theirs.quantiles_, rtol=1e-12, atol=0)
    mine, other = ours.transform(rows), theirs.transform(rows)
    assert_allclose(dense(mine), dense(other), rtol=1e-9, atol=1e-9)
    back, other = ours.inverse_transform(mine), theirs.inverse_transform(other)
    assert_allclose(dense(back), dense(other), rtol=1e-9, atol=1e-9)


@given(tables, st.integers(0, 99))
def test_quantiles_are_of_sums_whatever_the_partition(X, seed):
    X = X[:, ~np.isnan(X).all(0)]
    if not X.shape[1]:
        return
    fits = [
        FederatedQuantileTransformer(n_quantiles=len(X)).fit(X, clients=clients)
        for clients in (None, clients_of(X, seed))
    ]
    assert_array_equal(fits[0].quantiles_, fits[1].quantiles_)


def test_of_more_quantiles_than_rows_is_said_what_they_tell():
    X = np.array([[3.0], [1.0], [2.0]])
    with pytest.warns(UserWarning, match=r"the 3 rows, .* all values of each column"):
        ours = FederatedQuantileTransformer().fit(X, clients=[0, 1, 2])
    assert_array_equal(ours.quantiles_, np.sort(X, 0))


def test_negative_sparse_rows_are_refused_as_by_scikit_learn():
    with pytest.raises(ValueError, match="non-negative"):
        FederatedQuantileTransformer().fit(sparse.csr_array([[-1.0], [0.0]]))


def test_answers_about_many_quantiles_are_bounded():
    X = np.random.default_rng(0).normal(size=(2000, 4))
    sizes, questions = [], column_quantiles(np.linspace(0, 1, 1000), are_many=True)
    query = next(questions)
    try:
        while True:
            assert type(query) is CountsBelow
            sizes.append(query.answer(X, None, None).size)
            query = questions.send(query.answer(X, None, None))
    except StopIteration as done:
        assert_allclose(done.value, np.quantile(X, np.linspace(0, 1, 1000), axis=0), rtol=1e-12)
    assert len(sizes) <= 17
    assert max(sizes) <= 2 * 1000 * 4 * 15
    found = settle_here(column_quantiles([0.5], are_many=True), X, None)
    assert_array_equal(found, settle_here(column_quantiles([0.5]), X, None))
