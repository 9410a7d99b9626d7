"""What a search chooses among: every combination of the values that are given for a parameter."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._training.standing import Standing, ranked

# Parameters that a search can choose, with that which lists their values. None is no list: then the
# parameter of the name says it alone, or the default of FedFocalClassifier.
LISTS = {
    "gamma": "gammas",
    "class_weight": "class_weights",
    "learning_rate": "learning_rates",
    "logit_adjustment": "logit_adjustments",
    "client_gamma": "client_gammas",
}
Candidate = dict[str, Any]


def candidates_of(estimator: Any) -> list[Candidate]:
    """All of them; the first, of each list's first value, is what others must beat."""
    lists = {name: getattr(estimator, plural) for name, plural in LISTS.items()}
    searched = {name: values for name, values in lists.items() if values is not None}
    return [dict(zip(searched, values, strict=True)) for values in product(*searched.values())]


def with_candidate(estimator: Any, candidate: Candidate) -> Any:
    """The estimator with a candidate's values in the place of its parameters."""
    settled = copy.copy(estimator)
    for name, value in candidate.items():
        setattr(settled, name, value)
    return settled


def as_results(candidates: list[Candidate], standing: Standing) -> dict[str, NDArray[Any]]:
    """What was found, by candidate, as scikit-learn's searches have it."""
    scores, order = standing.scores, ranked(standing.scores, standing.n_rounds)
    rank = np.empty(len(candidates), np.int32)
    rank[order] = np.arange(1, len(candidates) + 1)
    return {
        **{f"param_{name}": _column([c[name] for c in candidates]) for name in candidates[0]},
        "n_rounds": standing.n_rounds,
        **{f"split{f}_test_score": column for f, column in enumerate(scores.T)},
        "mean_test_score": scores.mean(1),
        "std_test_score": scores.std(1),
        "rank_test_score": rank,
    }


def as_number(value: Any) -> Any:
    """A value as it is kept: numbers as floats, one for each class as an array of them."""
    if isinstance(value, str | dict) or value is None:
        return value
    return np.array(value, float) if np.ndim(value) else float(value)


def _column(values: list[Any]) -> NDArray[Any]:
    kept = [as_number(value) for value in values]
    if all(isinstance(value, float) for value in kept):
        return np.array(kept)
    objects = np.empty(len(kept), object)
    for i, value in enumerate(kept):
        objects[i] = value
    return objects
