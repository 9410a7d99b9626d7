"""imbalanced-learn's samplers, which make or leave out rows while the ids are a column of X."""

import numpy as np
import pytest

from skfedfocal import ClientColumn

pytest.importorskip("imblearn")
from imblearn.ensemble import BalancedBaggingClassifier
from imblearn.over_sampling import SMOTE, SMOTENC, RandomOverSampler
from imblearn.pipeline import make_pipeline
from imblearn.under_sampling import RandomUnderSampler


@pytest.mark.parametrize("sampler", [RandomUnderSampler, RandomOverSampler])
def test_random_samplers(table, model, assert_trained_on, sampler):
    X, y = table
    sampler = sampler(random_state=0)
    fitted = make_pipeline(sampler, model).fit(X, y)
    rows = fitted[0].sample_indices_
    assert len(rows) != len(y)
    assert_trained_on(fitted[-1], X["hospital"].iloc[rows])
    assert fitted.predict(X).shape == y.shape


def test_smotenc(table, model, assert_trained_on):
    """A row that it makes belongs to the client of most of the rows it was made from."""
    X, y = table
    sampler = SMOTENC(["hospital"], random_state=0)
    resampled, _ = sampler.fit_resample(X, y)
    assert len(resampled) == 2 * max(np.bincount(y))
    fitted = make_pipeline(sampler, model).fit(X, y)
    assert_trained_on(fitted[-1], resampled["hospital"])
    assert set(fitted[-1].clients_) == set(X["hospital"])


def test_balanced_bagging(array, model_of_arrays, classifier):
    X, y = array
    with pytest.raises(TypeError, match="clients"):
        BalancedBaggingClassifier(classifier).fit(X[:, :-1], y, clients=X[:, -1])
    bagging = BalancedBaggingClassifier(model_of_arrays, 2, random_state=0).fit(X, y)
    for member in bagging.estimators_:
        assert set(member[-1].clients_) == {0, 1, 2}
        assert member[-1].estimator_[-1].client_sizes_.sum() < len(y)


def test_smote_would_interpolate_ids(array, model_of_arrays):
    with pytest.raises(ValueError, match="use SMOTENC instead of SMOTE"):
        make_pipeline(SMOTE(random_state=0), model_of_arrays).fit(*array)


def test_sampler_inside_is_refused(table, classifier):
    inside = make_pipeline(RandomOverSampler(), classifier)
    with pytest.raises(ValueError, match=r"make_pipeline\(RandomOverSampler\(\), ClientColumn"):
        ClientColumn(inside, "hospital").fit(*table)


def test_sampler_before_clients_as_an_argument_is_refused(table, classifier):
    X, y = table
    numbers, step = X.drop(columns="hospital"), "fedfocalclassifier__clients"
    with pytest.raises(ValueError, match=r"resampled the rows.*skfedfocal\.ClientColumn"):
        make_pipeline(RandomOverSampler(), classifier).fit(numbers, y, **{step: X["hospital"]})
