"""What can be trained over sites: a classifier of the package, and steps before it."""

from __future__ import annotations

from typing import Any

from sklearn.pipeline import Pipeline

from skfedfocal._estimators.base import BaseFederatedClassifier
from skfedfocal._estimators.client_column import ClientColumn
from skfedfocal.preprocessing._described import check_step


def parts_of(estimator: Any) -> tuple[list[tuple[str, Any]], BaseFederatedClassifier]:
    """The steps before the classifier, by name, and the classifier."""
    steps = estimator.steps if isinstance(estimator, Pipeline) else [("", estimator)]
    *before, (_, classifier) = [one for one in steps if one[1] not in (None, "passthrough")]
    problem = None
    if not isinstance(classifier, BaseFederatedClassifier):
        problem = f"{type(classifier).__name__} is none"
        if isinstance(classifier, ClientColumn):
            problem += "; over sites each site is a client: pass its estimator"
    else:
        try:
            for _, step in before:
                check_step(step)
        except TypeError as error:
            problem = str(error)
    if problem is not None:
        raise TypeError(
            "Over sites, the estimator must be a classifier of skfedfocal, or a Pipeline of such a "
            "classifier behind transformers of skfedfocal.preprocessing, StandardScaler or "
            f"ColumnTransformers of these: {problem}. Got {estimator!r}."
        )
    if not classifier.over_sites:
        raise TypeError(
            f"{type(classifier).__name__} searches in one process, not over sites. Over sites use "
            "FedFocalClassifier with what was chosen, or judge one candidate at a time by "
            "leave_one_site_out."
        )
    return before, classifier
