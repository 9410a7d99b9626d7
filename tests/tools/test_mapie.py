"""mapie's conformal classifiers."""

import pytest

classification = pytest.importorskip("mapie.classification")

# It predicts from an array where it fitted a frame.
pytestmark = pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")


def test_cross_conformal(table, model, assert_trained_on):
    X, y = table
    tool = classification.CrossConformalClassifier(model, cv=3, random_state=0)
    tool.fit_conformalize(X, y)
    inside = tool._mapie_classifier.estimator_  # which have no public name
    assert len(inside.estimators_) == 3
    for fold, member in enumerate(inside.estimators_):
        assert_trained_on(member, X["hospital"][inside.k_ != fold])
    assert tool.predict_set(X)[1].shape == (120, 2, 1)


def test_cross_conformal_without_ids(table, classifier):
    X, y = table
    X, ids = X.drop(columns="hospital"), X["hospital"].to_numpy()
    tool = classification.CrossConformalClassifier(classifier, cv=3, random_state=0)
    with pytest.raises(ValueError, match="120 entries but X has 80 rows"):  # not sliced by mapie
        tool.fit_conformalize(X, y, fit_params={"clients": ids})
    tool = classification.CrossConformalClassifier(classifier, cv=3, random_state=0)
    tool.fit_conformalize(X, y)
    for member in tool._mapie_classifier.estimator_.estimators_:
        assert len(member.clients_) == 1  # in silence


def test_split_conformal(table, model, classifier, assert_trained_on):
    X, y = table
    tool = classification.SplitConformalClassifier(model, prefit=False)
    tool.fit(X[:80], y[:80]).conformalize(X[80:], y[80:])
    assert_trained_on(tool._mapie_classifier.estimator, X["hospital"][:80])
    by_argument = classification.SplitConformalClassifier(classifier, prefit=False)
    bare, ids = X[:80].drop(columns="hospital"), X["hospital"][:80]
    by_argument.fit(bare, y[:80], fit_params={"clients": ids})
    assert set(by_argument._mapie_classifier.estimator.clients_) == set(ids)
