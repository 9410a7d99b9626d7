"""The federated scaler is scikit-learn's, from sums."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skfedfocal import FederatedClassifier, FedFocalClassifier
from skfedfocal.preprocessing import FederatedStandardScaler


@parametrize_with_checks([FederatedStandardScaler(), FederatedStandardScaler(with_mean=False)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_rows=st.integers(1, 60),
    n_clients=st.integers(1, 8),
    offset=st.sampled_from([0.0, 1.0, -1e3, 1e6]),
    weighted=st.booleans(),
)
def test_equals_standard_scaler_whatever_the_partition(seed, n_rows, n_clients, offset, weighted):
    rng = np.random.default_rng(seed)
    X = offset + rng.normal(size=(n_rows, 3)) * [1.0, 1e-3, 1e3]
    weight = rng.integers(0, 4, n_rows).astype(float) if weighted else None
    if weighted:
        weight[0] = 1.0
    clients = rng.integers(0, n_clients, n_rows)
    ours = FederatedStandardScaler().fit(X, sample_weight=weight, clients=clients)
    theirs = StandardScaler().fit(X, sample_weight=weight)
    assert_allclose(ours.mean_, theirs.mean_, rtol=1e-10, atol=1e-10)
    # Far from 0, the rounding of the means themselves is all that is left of a small variance.
    spread = np.maximum(1, np.abs(theirs.mean_) / theirs.scale_ / 1e3)
    assert (np.abs(ours.scale_ / theirs.scale_ - 1) <= 1e-10 * spread).all()
    assert ours.n_samples_seen_ == theirs.n_samples_seen_


def test_transform_equals_standard_scaler_on_columns_of_all_scales():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5)) * [1e12, 1e-12, 1.0, 0.0, 3.0] + [0, 0, 1e3, 7.0, -2.0]
    clients = rng.integers(0, 7, 300)
    ours = FederatedStandardScaler().fit(X, clients=clients)
    theirs = StandardScaler().fit(X)
    assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-10, atol=1e-10)
    assert_allclose(ours.inverse_transform(ours.transform(X)), X, rtol=1e-10, atol=1e-10)
    assert_array_equal(ours.scale_ == 1, theirs.scale_ == 1)


@given(
    seed=st.integers(0, 2**32 - 1),
    n_rows=st.integers(1, 40),
    offset=st.sampled_from([0.0, 1e3]),
    weighted=st.booleans(),
    kind=st.sampled_from([np.asarray, sparse.csr_array, sparse.csr_matrix]),
    n_parts=st.integers(1, 3),
)
def test_missing_values_sparse_rows_and_parts(seed, n_rows, offset, weighted, kind, n_parts):
    rng = np.random.default_rng(seed)
    X = (offset + rng.normal(size=(n_rows, 4))) * (rng.random((n_rows, 4)) < 0.6)
    X[rng.random(X.shape) < 0.2] = np.nan
    weight = rng.random(n_rows) + 0.1 if weighted else None
    clients = rng.integers(0, 5, n_rows)
    is_dense = kind is np.asarray
    ours, theirs = FederatedStandardScaler(with_mean=is_dense), StandardScaler(with_mean=is_dense)
    with np.errstate(invalid="ignore"):  # of columns without a value
        theirs.fit(X if is_dense else sparse.csr_array(X), sample_weight=weight)
    for part in np.array_split(np.arange(n_rows), n_parts):
        if len(part):
            some = None if weight is None else weight[part]
            ours.partial_fit(kind(X[part]), sample_weight=some, clients=clients[part])
    assert_allclose(ours.n_samples_seen_, theirs.n_samples_seen_)
    assert_allclose(ours.mean_, theirs.mean_, rtol=1e-10, atol=1e-10)
    # Far from 0 the rounding of the mean is left of the variance of a constant column.
    error = 1e-10 * np.maximum(1, offset**2 * 1e-3)
    assert_allclose(ours.var_, theirs.var_, rtol=1e-9, atol=error)
    told = theirs.var_ > 1e-9
    assert_allclose(ours.scale_[told], theirs.scale_[told], rtol=1e-9)
    transformed = ours.transform(kind(X))
    again = ours.inverse_transform(transformed)
    if not is_dense:
        transformed, again = transformed.toarray(), again.toarray()
    assert_array_equal(np.isnan(transformed), np.isnan(X) | np.isnan(ours.scale_))
    known = ~np.isnan(ours.scale_)
    assert_allclose(again[:, known], X[:, known], rtol=1e-9, atol=1e-9)


def test_sparse_rows_are_not_centred():
    with pytest.raises(TypeError, match="with_mean=False"):
        FederatedStandardScaler().fit(sparse.csr_array(np.eye(3)))


def test_fit_after_partial_fit_begins_anew():
    scaler = FederatedStandardScaler().partial_fit([[5.0], [7.0]]).fit([[1.0], [3.0]])
    assert scaler.mean_ == [2.0]
    assert scaler.n_samples_seen_ == 2


def test_in_a_column_transformer_with_clients_by_routing():
    X = pd.DataFrame({"a": [0.0, 1.0, 5.0], "b": [1.0, np.nan, 3.0]})
    with config_context(enable_metadata_routing=True):
        columns = ColumnTransformer([("scale", FederatedStandardScaler(), ["a", "b"])])
        found = columns.fit_transform(X, clients=["x", "y", "y"])
    assert_allclose(found, StandardScaler().fit_transform(X))


def test_a_client_without_weight_adds_nothing():
    X = np.random.default_rng(0).normal(size=(20, 2))
    weight, clients = np.repeat([1.0, 0.0], 10), np.repeat(["a", "b"], 10)
    for order in (np.arange(20), np.arange(20)[::-1]):
        scaler = FederatedStandardScaler()
        scaler.fit(X[order], sample_weight=weight[order], clients=clients[order])
        assert_allclose(scaler.mean_, X[:10].mean(0), rtol=1e-14)
        assert_allclose(scaler.var_, X[:10].var(0), rtol=1e-13)


def test_all_weights_zero_is_an_error():
    with pytest.raises(ValueError, match="zero"):
        FederatedStandardScaler().fit(np.ones((3, 1)), sample_weight=np.zeros(3))


def test_without_mean_or_std_only_the_other_is_done():
    X = np.array([[1.0], [3.0]])
    assert_array_equal(FederatedStandardScaler(with_std=False).fit_transform(X), [[-1], [1]])
    assert_array_equal(FederatedStandardScaler(with_mean=False).fit_transform(X), [[1], [3]])


def test_in_a_pipeline_with_clients():
    rng = np.random.default_rng(0)
    X = rng.normal(5, 3, size=(60, 2))
    y = (X[:, 0] > 5).astype(int)
    clients = np.repeat([0, 1, 2], 20)
    classifier = FederatedClassifier((4,), n_rounds=2, random_state=0)
    model = make_pipeline(FederatedStandardScaler(), classifier).fit(
        X, y, federatedstandardscaler__clients=clients, federatedclassifier__clients=clients
    )
    by_hand = clone(classifier).fit(model[0].transform(X), y, clients=clients)
    assert_array_equal(model[-1].theta_, by_hand.theta_)


def test_ids_in_another_order_are_refused():
    table = pd.DataFrame({"a": [0.0, 1.0, 5.0]}, index=[3, 1, 2])
    ids = pd.Series(["x", "y", "y"], index=[1, 2, 3])
    with pytest.raises(ValueError, match=r"clients\.loc\[X\.index\]"):
        FederatedStandardScaler().fit(table, clients=ids)
    assert FederatedStandardScaler().fit(table, clients=ids.loc[table.index]).mean_ == [2.0]


def test_partitions_are_refused_with_the_way_that_works():
    X, y = np.eye(4), [0, 1, 0, 1]
    pipeline = make_pipeline(FederatedStandardScaler(), FedFocalClassifier(n_rounds=1))
    with pytest.raises(ValueError, match=r"ClientColumn\(pipeline, column=None\)\.fit"):
        pipeline.fit({"a": (X, y), "b": (X, y)})


def test_third_argument_by_position_is_refused():
    with pytest.raises(TypeError, match="positional"):
        FederatedStandardScaler().fit([[0.0], [1.0]], None, [0, 1])
