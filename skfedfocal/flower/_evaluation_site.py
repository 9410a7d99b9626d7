"""A site's side of an evaluation: what it allows, and what a fitted model says of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._estimators.general import FederatedClassifier
from skfedfocal.flower._rows import SiteRows
from skfedfocal.flower._site import codes_of, prepared, split
from skfedfocal.metrics._sums import PredictionSums


def allowed(query: Any, evaluation: str | None, min_rows: int) -> PredictionSums:
    """The question as the site answers it; PermissionError where it does not.

    Parameters
    ----------
    query : PredictionSums
        For its own figures one with `min_rows`.
    evaluation : {None, "sums", "own"}
        What the site tells.
    min_rows : int
        Its own figures of a class of fewer rows are withheld.
    """
    if not isinstance(query, PredictionSums):
        raise TypeError(f"{type(query).__name__} is no question about predictions.")
    if evaluation is None:
        raise PermissionError("This site answers no evaluation; see make_client_app.")
    if query.min_rows is None:
        return query
    if evaluation != "own":
        raise PermissionError("This site does not tell its own figures; see make_client_app.")
    return PredictionSums(query.n_classes, query.n_bins, max(query.min_rows, min_rows))


def answer(
    rows: SiteRows, task: Mapping[str, Any], query: PredictionSums, module: Any
) -> NDArray[np.float64]:
    """Predict of the rows, and answer what that comes to.

    Parameters
    ----------
    rows : SiteRows
        The site's own.
    task : mapping
        With the steps before the model, fitted, and the model.
    query : PredictionSums
        The question, as it is answered.
    module : callable, torch.nn.Module or None
        The site's own `module` parameter; None for the MLP.
    """
    rows = rows.in_order(task["columns"])
    model = FederatedClassifier._rebuilt(task["predictor"], module)
    codes = codes_of(rows, model.classes_)
    train, held_out = split(rows, codes, task)
    layout = train if held_out is None else held_out
    here = layout.rows(np.arange(*layout.offsets[-2:]))
    if not len(here):  # none is held out here
        return query.of(here, np.empty((0, query.n_classes)), here, None)
    X = prepared(rows, task)[here]
    weight = None if rows.sample_weight is None else rows.sample_weight[here]
    decided = np.searchsorted(model.classes_, model.predict(X))
    return query.of(decided, model.predict_proba(X), codes[here], weight)
