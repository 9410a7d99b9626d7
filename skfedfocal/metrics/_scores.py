"""A score for each client."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import config_context
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import check_scoring
from sklearn.utils import Bunch, _safe_indexing
from sklearn.utils.multiclass import type_of_target

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.columns import as_table, count_columns, find_column, ids_of_column
from skfedfocal._data.inputs import as_rows
from skfedfocal._sklearn import _check_sample_weight
from skfedfocal._steps import last_step, with_last_step

Score = Callable[..., float]


def client_scores(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    clients: Any = None,
    *,
    scoring: str | Score | None = None,
    sample_weight: ArrayLike | None = None,
) -> Bunch:
    r"""Score a fitted estimator on the rows of each client.

    .. math:: s_k = \mathrm{score}(f, X_k, y_k)

    Parameters
    ----------
    estimator : estimator
        Fitted estimator.
    X : array-like, frame or sparse matrix of shape (n_samples, n_features)
        Rows of all clients.
    y : array-like of shape (n_samples,)
        True labels or values.
    clients : array-like of shape (n_samples,), default=None
        Id of each row's client. None is for a `ClientColumn`: the ids are in its column of X.
    scoring : str, callable or None, default=None
        Name of a scikit-learn scorer, or ``scoring(estimator, X, y)``, more being better. None is
        the estimator's own score.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of rows, for scorers that take them.

    Returns
    -------
    scores : Bunch
        Arrays of shape (n_clients,), clients in order of first appearance:

        - ``clients``: the ids;
        - ``n_rows``: number of rows;
        - ``score``: the score; NaN where it cannot be computed;
        - ``one_class``: whether all rows of the client have one label. Scores that only look at
          the classes that are there, balanced accuracy and accuracy among them, are defined then:
          balanced accuracy is the recall of that class. Those that need two, as the area under the
          ROC curve, are NaN;
        - ``undefined``: whether there is no score;
        - ``reason``: why not, as a text; empty where there is a score.

    Raises
    ------
    ValueError
        If the rows and the clients do not fit each other. Where no client can be scored, what the
        first one's scorer raised is raised, of whatever kind it is.

    See Also
    --------
    client_report : Scores and recalls of each client as a table.
    make_client_scorer : The worst or the mean client as a scorer for searches.

    Notes
    -----
    Discloses the score of each client, to whoever is given the result. All in this process.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from skfedfocal.metrics import client_scores
    >>> X, y = [[0.0]] * 4, [0, 1, 0, 0]
    >>> model = DummyClassifier().fit(X, y)
    >>> found = client_scores(model, X, y, ["a", "a", "b", "b"], scoring="balanced_accuracy")
    >>> found.clients.tolist(), found.score.tolist(), found.one_class.tolist()
    (['a', 'b'], [0.5, 1.0], [False, True])
    """
    X, y, weight, layout = rows_by_client(estimator, X, y, clients, sample_weight)
    scorer = check_scoring(estimator, scoring)
    n_clients = layout.n_clients
    score, reason = np.full(n_clients, np.nan), np.full(n_clients, "", object)
    one_class, errors = np.zeros(n_clients, bool), []
    is_classes = type_of_target(y) in ("binary", "multiclass")
    for k in range(n_clients):
        own = layout.rows(np.arange(*layout.offsets[k : k + 2]))
        labels, kept = y[own], {} if weight is None else {"sample_weight": weight[own]}
        one_class[k] = is_classes and bool((labels == labels[0]).all())
        try:
            model = own_estimator(estimator, layout.ids[k])
            score[k] = _score(scorer, model, _safe_indexing(X, own), labels, kept)
            if np.isnan(score[k]):
                reason[k] = "the scorer is not defined for these rows"
        except Exception as error:  # of any kind: one client must not hide the others
            reason[k] = f"{type(error).__name__}: {error}"
            errors.append(error)
    if len(errors) == n_clients:  # so it is not about one client's rows
        raise errors[0]
    return Bunch(
        clients=layout.ids,
        n_rows=layout.sizes,
        score=score,
        one_class=one_class,
        undefined=np.isnan(score),
        reason=reason,
    )


def own_estimator(estimator: Any, client: Any) -> Any:
    """The model that a client has, where each has its own (`PersonalizedClassifier`)."""
    last = last_step(estimator)
    if not hasattr(last, "client_estimator"):
        return estimator
    return with_last_step(estimator, last.client_estimator(client))


def predict_by_client(
    estimator: Any, X: Any, layout: ClientLayout, method: str = "predict"
) -> NDArray[Any]:
    """What each client's model predicts of its rows, which all rows are."""
    if not hasattr(last_step(estimator), "client_estimator"):
        return np.asarray(getattr(estimator, method)(X))
    rows = [layout.rows(np.arange(*ends)) for ends in pairwise(layout.offsets)]
    found = [
        getattr(own_estimator(estimator, client), method)(_safe_indexing(X, own))
        for client, own in zip(layout.ids, rows, strict=True)
    ]
    return np.concatenate(found)[np.argsort(np.concatenate(rows))]


def _score(scorer: Score, estimator: Any, X: Any, y: Any, weight: dict[str, Any]) -> float:
    """A scorer's score, without its warnings of what the result has marks for."""
    with warnings.catch_warnings(), config_context(enable_metadata_routing=False):
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true", UserWarning)
        warnings.filterwarnings("ignore", "A single label was found", UserWarning)
        return float(scorer(estimator, X, y, **weight))


def rows_by_client(
    estimator: Any, X: Any, y: Any, clients: Any, sample_weight: Any
) -> tuple[Any, NDArray[Any], NDArray[np.float64] | None, ClientLayout]:
    """Rows, labels and weights that fit each other, and whose they are."""
    X, y, weight, ids = as_rows(X, y, sample_weight, clients)
    X, y = as_table(X), np.asarray(y)
    if len(y) != X.shape[0]:
        raise ValueError(f"X has {X.shape[0]} rows but y has {len(y)} entries.")
    if len(y) == 0:
        raise ValueError("There are no rows.")
    if ids is None:
        ids = ids_in_column(estimator, X)
    if weight is not None:
        weight = _check_sample_weight(weight, X, dtype=np.float64, ensure_non_negative=True)
    return X, y, weight, ClientLayout.from_ids(ids, X.shape[0])


def ids_in_column(estimator: Any, X: Any) -> NDArray[Any]:
    """Ids of the rows' clients, from the column where a `ClientColumn` finds them."""
    column = getattr(estimator, "column", None)
    if getattr(estimator, "column_", None) is None or column is None:
        raise ValueError(
            "clients is missing. Pass one id per row; in a search or a cross-validation enable "
            "metadata routing (sklearn.set_config(enable_metadata_routing=True)) and pass "
            "clients=, or keep the ids as a column of X and wrap the estimator in ClientColumn."
        )
    X = as_table(X)
    if count_columns(X) != estimator.n_features_in_:
        raise ValueError(f"X lacks the column {column!r} of the client ids; pass clients=.")
    return ids_of_column(X, find_column(column, X), column)
