"""fairlearn's reductions, which fit with X, y and sample_weight."""

import pytest

reductions = pytest.importorskip("fairlearn.reductions")

# fairlearn 0.15 with pandas 3: it enlarges a Series by `.at`, and puts floats among integers.
pytestmark = pytest.mark.filterwarnings("ignore:Setting a(n item| value):DeprecationWarning")


def test_exponentiated_gradient(table, model, pipeline, assert_trained_on):
    X, y = table
    group = X["a"] > 0
    tool = reductions.ExponentiatedGradient(model, reductions.DemographicParity(), max_iter=3)
    tool.fit(X, y, sensitive_features=group)
    assert len(tool.predictors_) > 0
    for member in tool.predictors_:
        assert set(member.clients_) == set(member.estimator_[-1].clients_) == set(X["hospital"])
        assert member.estimator_[-1].client_sizes_.sum() == pytest.approx(len(y))  # weights
    assert tool.predict(X).shape == y.shape


def test_exponentiated_gradient_without_ids(table, classifier):
    X, y = table
    tool = reductions.ExponentiatedGradient(classifier, reductions.DemographicParity(), max_iter=2)
    tool.fit(X.drop(columns="hospital"), y, sensitive_features=X["a"] > 0)
    for member in tool.predictors_:
        assert len(member.clients_) == 1  # in silence
