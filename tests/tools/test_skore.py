"""skore's reports, which fit with X and y alone."""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split

skore = pytest.importorskip("skore")


def test_estimator_report(table, model, pipeline, assert_trained_on):
    X, X_test, y, y_test = train_test_split(*table, random_state=0, stratify=table[1])
    report = skore.EstimatorReport(model, X_train=X, y_train=y, X_test=X_test, y_test=y_test)
    assert_trained_on(report.estimator_, X["hospital"])
    assert report.metrics.accuracy() == np.mean(report.estimator_.predict(X_test) == y_test)
    bare = [part.drop(columns="hospital") for part in (X, X_test)]
    without = skore.EstimatorReport(
        pipeline, X_train=bare[0], y_train=y, X_test=bare[1], y_test=y_test
    )
    assert len(without.estimator_[-1].clients_) == 1  # in silence


def test_cross_validation_report(table, model, assert_trained_on):
    X, y = table
    report = skore.CrossValidationReport(model, X, y, splitter=3)
    assert len(report.reports_) == 3
    for fold in report.reports_:
        assert_trained_on(fold.estimator_, fold.X_train["hospital"])
        assert len(fold.X_train) == 80
