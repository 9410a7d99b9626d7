"""skrub's pipelines of tables, and its DataOps."""

import numpy as np
import pytest

from skfedfocal import ClientColumn

skrub = pytest.importorskip("skrub")


def test_tabular_pipeline(table, classifier, assert_trained_on):
    """Inside, so that it does not encode the ids."""
    X, y = table
    X = X.assign(ward=np.where(X["a"] > 0, "north", "south"))
    fitted = ClientColumn(skrub.tabular_pipeline(classifier), "hospital").fit(X, y)
    assert_trained_on(fitted, X["hospital"])
    assert fitted.estimator_[-1].n_features_in_ == 6
    assert not any("hospital" in name for name in fitted.estimator_[:-1].get_feature_names_out())


def test_data_ops(table, model, assert_trained_on):
    X, y = table
    data = skrub.var("data", X.assign(y=y))
    rows = data.drop(columns="y").skb.mark_as_X()
    labels = data["y"].skb.mark_as_y()
    predicted = rows.skb.apply(model, y=labels).skb.set_name("model")
    learner = predicted.skb.make_learner(fitted=True)
    assert_trained_on(learner.find_fitted_estimator("model"), X["hospital"])
    folds = predicted.skb.cross_validate(cv=3, return_learner=True)
    for learner in folds["learner"]:
        found = learner.find_fitted_estimator("model")
        assert set(found.clients_) == set(X["hospital"])
        assert found.estimator_[-1].client_sizes_.sum() == 80


def test_data_ops_by_argument(table, classifier):
    """The ids are an input of the plan, which skrub slices with the rows."""
    X, y = table
    data = skrub.var("data", X.assign(y=y)).skb.mark_as_X()
    predicted = (
        data[list("abcde")]
        .skb.apply(
            classifier,
            y=skrub.var("y", y).skb.mark_as_y(),
            fit_kwargs={"clients": data["hospital"]},
        )
        .skb.set_name("model")
    )
    folds = predicted.skb.cross_validate(cv=3, return_learner=True)
    for learner in folds["learner"]:
        found = learner.find_fitted_estimator("model")
        assert set(found.clients_) == set(X["hospital"])
        assert found.client_sizes_.sum() == 80


def test_data_ops_without_ids(table, pipeline):
    X, y = table
    data = skrub.var("data", X.drop(columns="hospital").assign(y=y))
    rows = data.drop(columns="y").skb.mark_as_X()
    predicted = rows.skb.apply(pipeline, y=data["y"].skb.mark_as_y()).skb.set_name("model")
    learner = predicted.skb.make_learner(fitted=True)
    assert len(learner.find_fitted_estimator("model")[-1].clients_) == 1  # in silence
