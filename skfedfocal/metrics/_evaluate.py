"""Evaluation in one process: the question that sites answer, put to the clients of an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import _safe_indexing

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.inputs import codes_and_known
from skfedfocal.metrics._evaluation import Evaluation
from skfedfocal.metrics._scores import own_estimator, predict_by_client, rows_by_client
from skfedfocal.metrics._sums import PredictionSums, check_bins

# Clients that are predicted of one by one, as sites do it: with other rows beside them,
# probabilities may differ in their last bit.
_MOST_ONE_BY_ONE = 100


def evaluate(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    clients: Any = None,
    *,
    sample_weight: ArrayLike | None = None,
    by_client: bool = False,
    min_rows: int = 1,
    n_bins: int = 1000,
) -> Evaluation:
    """Evaluate a fitted classifier as `skfedfocal.flower.evaluate` does, on rows in this process.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier with `predict_proba`.
    X : array-like, frame or sparse matrix of shape (n_samples, n_features)
        Rows; best ones that the estimator has not seen.
    y : array-like of shape (n_samples,)
        True labels, among the estimator's `classes_`.
    clients : array-like of shape (n_samples,), default=None
        Id of each row's client. None is for a `ClientColumn`, whose ids are in its column of X, and
        without `by_client` for rows of one client.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of rows.
    by_client : bool, default=False
        Whether to keep the figures of each client.
    min_rows : int, default=1
        Figures about a class of fewer rows are withheld, of a client and of all. In the interval
        [1, inf).
    n_bins : int, default=1000
        Bins of the histograms of probabilities. More of them bring the bounds of areas closer
        together. In the interval [2, inf).

    Returns
    -------
    evaluation : Evaluation
        Confusion matrix, log loss and what comes of them, exactly; areas under curves with bounds.

    Raises
    ------
    ValueError
        If y has labels that are none of the estimator's classes, or rows and clients do not fit
        each other.

    See Also
    --------
    client_scores : Any scorer's score by client.
    skfedfocal.flower.evaluate : The same over sites.

    Notes
    -----
    Its sums are those of `skfedfocal.flower.evaluate` to the last bit, for up to 100 clients; rows
    of more are predicted of together, as it is faster.

    Discloses figures by class, with `by_client` those of each client, to whoever is given the
    result. All in this process.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skfedfocal.metrics import evaluate
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> found = evaluate(GaussianNB().fit(X, y), X, y)
    >>> print(found.classification_report())
                  precision    recall  f1-score   support
    <BLANKLINE>
               0       0.95      0.89      0.92       212
               1       0.94      0.97      0.95       357
    <BLANKLINE>
        accuracy                           0.94       569
       macro avg       0.94      0.93      0.94       569
    weighted avg       0.94      0.94      0.94       569
    <BLANKLINE>
    >>> found.threshold(recall=0.99).recall >= 0.99
    True
    """
    check_bins(n_bins)
    if min_rows < 1:
        raise ValueError(f"min_rows must be at least 1; got {min_rows!r}.")
    alone = clients is None and not by_client and getattr(estimator, "column_", None) is None
    ids = np.zeros(np.shape(y)[0], np.int64) if alone else clients
    X, y, weight, layout = rows_by_client(estimator, X, y, ids, sample_weight)
    classes = np.asarray(estimator.classes_)
    codes = codes_of(y, classes)
    query, each = PredictionSums(len(classes), n_bins), {}
    total: Any = 0.0
    said = _predictions(estimator, X, layout)
    for k, client in enumerate(layout.ids.tolist()):
        here = layout.rows(np.arange(*layout.offsets[k : k + 2]))
        decided, probability = said(client, here)
        own_weight = None if weight is None else weight[here]
        own = query.of(codes_of(decided, classes), probability, codes[here], own_weight)
        total = total + own
        if by_client:
            each[client] = Evaluation(classes, own, min_rows)
    return Evaluation(classes, total, min_rows, each)


def _predictions(estimator: Any, X: Any, layout: ClientLayout) -> Callable[..., tuple[Any, Any]]:
    """What gives the labels and probabilities of a client's rows."""
    methods = ("predict", "predict_proba")
    if layout.n_clients > _MOST_ONE_BY_ONE:
        labels, probabilities = (predict_by_client(estimator, X, layout, m) for m in methods)
        return lambda client, rows: (labels[rows], probabilities[rows])

    def alone(client: Any, rows: NDArray[np.int64]) -> tuple[Any, Any]:
        model, own = own_estimator(estimator, client), _safe_indexing(X, rows)
        labels, probabilities = (np.asarray(getattr(model, m)(own)) for m in methods)
        return labels, probabilities

    return alone


def codes_of(y: Any, classes: NDArray[Any]) -> NDArray[np.int64]:
    """Labels as numbers of the classes, which are sorted."""
    y = np.asarray(y)
    try:
        codes, known = codes_and_known(classes, y)
    except TypeError:  # texts and numbers have no order
        among = set(classes.tolist())
        known = np.array([label in among for label in y.tolist()])
    if not known.all():
        unknown = sorted(set(y[~known].tolist()), key=str)
        raise ValueError(
            f"There are labels {unknown} that are none of the model's classes {classes.tolist()}."
        )
    return codes
