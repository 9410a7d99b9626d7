"""scikit-learn's tools around `ClientColumn`, with metadata routing off and on.

Each test looks at the clients that the estimators inside were trained on.
"""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
    cross_val_score,
    cross_validate,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.semi_supervised import SelfTrainingClassifier


@pytest.fixture(autouse=True, params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    with config_context(enable_metadata_routing=request.param):
        yield


def test_grid_search(table, model, assert_trained_on):
    X, y = table
    grid = {"estimator__fedfocalclassifier__gamma": [0.0, 2.0]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y)
    assert_trained_on(search.best_estimator_, X["hospital"])
    inner = search.best_estimator_.estimator_[-1]
    assert inner.gamma == search.best_params_["estimator__fedfocalclassifier__gamma"]


def test_cross_validation(table, model, assert_trained_on):
    X, y = table
    result = cross_validate(model, X, y, cv=3, return_estimator=True, return_indices=True)
    for fitted, train in zip(result["estimator"], result["indices"]["train"], strict=True):
        assert_trained_on(fitted, X["hospital"].iloc[train])
    np.testing.assert_array_equal(cross_val_score(model, X, y, cv=3), result["test_score"])


def test_stacking(table, model, assert_trained_on):
    X, y = table
    stack = StackingClassifier([("a", model)], LogisticRegression(), cv=2).fit(X, y)
    assert_trained_on(stack.estimators_[0], X["hospital"])
    assert stack.predict(X).shape == y.shape


@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_voting(table, model, assert_trained_on, voting):
    X, y = table
    fitted = VotingClassifier([("a", model), ("b", model)], voting=voting).fit(X, y)
    for member in fitted.estimators_:
        assert_trained_on(member, X["hospital"])


def test_self_training(array, model_of_arrays, assert_trained_on):
    """It makes an array of X, so that ids are numbers in a column of a number."""
    X, y = array
    known = np.arange(len(y)) % 3 > 0
    tool = SelfTrainingClassifier(model_of_arrays, max_iter=2, threshold=0.5)
    tool.fit(X, np.where(known, y, -1))
    labelled = tool.transduction_ != -1
    assert (labelled & ~known).any()
    assert_trained_on(tool.estimator_, X[labelled, -1])


def test_tuned_and_fixed_threshold(table, model, assert_trained_on):
    X, y = table
    for tool in (TunedThresholdClassifierCV(model, cv=2), FixedThresholdClassifier(model)):
        assert_trained_on(tool.fit(X, y).estimator_, X["hospital"])


@pytest.mark.parametrize("ensemble", [True, False])
def test_calibration(table, model, assert_trained_on, ensemble):
    X, y = table
    fitted = CalibratedClassifierCV(model, cv=2, ensemble=ensemble).fit(X, y)
    for member in fitted.calibrated_classifiers_:
        assert set(member.estimator.clients_) == set(X["hospital"])
        n_rows = member.estimator.estimator_[-1].client_sizes_.sum()
        assert n_rows == len(y) / (2 if ensemble else 1)


def test_bagging(array, model_of_arrays, assert_trained_on):
    """Rows drawn twice count twice: as weights, or as rows."""
    X, y = array
    bagging = BaggingClassifier(model_of_arrays, 2, random_state=0).fit(X, y)
    for member, rows in zip(bagging.estimators_, bagging.estimators_samples_, strict=True):
        assert_trained_on(member, X[rows, -1])


def test_one_vs_rest(array, model_of_arrays, assert_trained_on):
    X, y = array
    rest = OneVsRestClassifier(model_of_arrays).fit(X, y + (X[:, 0] > 0))
    assert len(rest.estimators_) == 3
    for member in rest.estimators_:
        assert_trained_on(member, X[:, -1])
