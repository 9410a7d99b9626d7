"""The last step of a pipeline, and what reaches it."""

from __future__ import annotations

from copy import copy
from typing import Any

from sklearn.pipeline import Pipeline


def last_step(estimator: Any) -> Any:
    """The estimator at the end of a pipeline, or of pipelines in pipelines."""
    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[-1][1]
    return estimator


def to_last_step(estimator: Any, X: Any) -> Any:
    """Rows as a fitted pipeline's last step is given them."""
    while isinstance(estimator, Pipeline):
        X = estimator[:-1].transform(X) if len(estimator) > 1 else X
        estimator = estimator[-1]
    return X


def with_last_step(estimator: Any, last: Any) -> Any:
    """The same fitted pipeline with another last step; the other steps are shared."""
    if not isinstance(estimator, Pipeline):
        return last
    same = copy(estimator)
    name, step = estimator.steps[-1]
    same.steps = [*estimator.steps[:-1], (name, with_last_step(step, last))]
    return same
