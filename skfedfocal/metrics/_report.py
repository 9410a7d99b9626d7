"""A table of how well a model does at each client."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils import _safe_indexing

from skfedfocal._data.clients import ClientLayout
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal.metrics._recalls import Recalls
from skfedfocal.metrics._scores import predict_by_client, rows_by_client

_MAX_CLASSES = 5  # recalls of more classes would not fit a line: then the rarest


def client_report(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    clients: Any = None,
    *,
    train: tuple[Any, Any, Any] | None = None,
    local_alone: bool = False,
    pooled: bool = False,
    min_rows: int = 10,
    digits: int = 2,
    output_dict: bool = False,
) -> str | dict[str, Any]:
    """Build a text report of a classifier's recalls and balanced accuracy at each client.

    One line for each client, the worst of them marked, and below it one for all rows, in the form
    of `sklearn.metrics.classification_report`. Beside the model there may stand what each client
    would have without the others (`local_alone`), and what all would have if rows could be pooled:
    that federated training pays shows between these two.

    Parameters
    ----------
    estimator : estimator
        Fitted classifier.
    X : array-like, frame or sparse matrix of shape (n_samples, n_features)
        Rows of all clients; best ones that the estimator has not seen.
    y : array-like of shape (n_samples,)
        True labels.
    clients : array-like of shape (n_samples,), default=None
        Id of each row's client. None is for a `ClientColumn`: the ids are in its column of X.
    train : tuple (X, y, clients), default=None
        Rows to fit on, for the columns below.
    local_alone : bool, default=False
        Whether to fit a clone of the estimator on each client's rows of `train` alone.
    pooled : bool, default=False
        Whether to fit a clone on all rows of `train`, as those of one client.
    min_rows : int, default=10
        Clients with fewer rows are not marked as the worst, unless all have fewer. In the interval
        [1, inf).
    digits : int, default=2
        Digits after the point in the text.
    output_dict : bool, default=False
        Whether to return numbers instead of a text.

    Returns
    -------
    report : str or dict
        The dict has ``"clients"``, ids and for each a dict of ``"rows"``, ``"classes"`` (how many
        the client has), ``"recall"`` (of each class; NaN where the client has none of it),
        ``"balanced accuracy"``, of the classes that are there, and, where asked for,
        ``"local alone"`` and ``"pooled"``, balanced accuracies on the same rows; ``"all"``, such a
        dict of all rows; and ``"worst"``, the id of the client with the lowest balanced accuracy.
        The text has recalls of all classes where there are at most 5, else that of the rarest.

    Raises
    ------
    ValueError
        If a column is asked for without `train`, or the estimator finds clients in X by itself, so
        that a fit on pooled rows would be federated.

    Warns
    -----
    UserWarning
        If y has labels that are none of the estimator's classes.

    See Also
    --------
    client_scores : Any score, as arrays.
    skfedfocal.display.ClientScoresDisplay : The same as a picture.

    Notes
    -----
    A client without rows in `train`, or one on whose rows alone the estimator cannot be fitted
    (many classifiers refuse rows of one class), has NaN under ``"local alone"``.

    Discloses recalls of each client, to whoever is given the report. All in this process.

    Examples
    --------
    >>> from sklearn.dummy import DummyClassifier
    >>> from skfedfocal.metrics import client_report
    >>> X, y = [[0.0]] * 5, ["ill", "well", "well", "well", "well"]
    >>> model = DummyClassifier().fit(X, y)
    >>> print(client_report(model, X, y, ["oslo", "oslo", "oslo", "bergen", "bergen"], min_rows=1))
                  rows   classes   recall of ill   recall of well   balanced accuracy
    <BLANKLINE>
          oslo       3         2            0.00             1.00                0.50  worst
        bergen       2         1               -             1.00                1.00
    <BLANKLINE>
      all rows       5         2            0.00             1.00                0.50
    """
    if pooled and getattr(estimator, "column_", None) is not None:
        raise InvalidParameterError(
            "A ClientColumn finds the clients in X, so that its fit is never pooled; pass its "
            "estimator_, X without the column, and clients=."
        )
    X, y, _, layout = rows_by_client(estimator, X, y, clients, None)
    _warn_of_labels(estimator, y)
    codes, n_clients = layout.codes(), layout.n_clients
    recalls = Recalls.count(y, predict_by_client(estimator, X, layout), codes, n_clients)
    score = recalls.balanced_accuracy
    beside: dict[str, tuple[NDArray[np.float64], float]] = {}
    if local_alone or pooled:
        if train is None:
            raise InvalidParameterError(
                "local_alone and pooled fit clones of the estimator: pass train=(X, y, clients)."
            )
        rows = rows_by_client(estimator, *train, None)
        if local_alone:
            predicted = _predict_alone(estimator, rows, X, layout)
            beside["local alone"] = _scores(y, predicted, codes, n_clients)
        if pooled:
            predicted = clone(estimator).fit(*rows[:2]).predict(X)
            beside["pooled"] = _scores(y, predicted, codes, n_clients)
    large = np.flatnonzero(layout.sizes >= min(min_rows, layout.sizes.max()))
    whole, ids = recalls.together(), layout.ids.tolist()
    lines = {
        ids[k]: _line(recalls, k) | {name: float(each[k]) for name, (each, _) in beside.items()}
        for k in range(n_clients)
    }
    report = {
        "clients": lines,
        "all": _line(whole, 0) | {name: overall for name, (_, overall) in beside.items()},
        "worst": ids[large[score[large].argmin()]],
    }
    return report if output_dict else _text(report, recalls, digits)


def _line(recalls: Recalls, k: int) -> dict[str, Any]:
    return {
        "rows": int(recalls.total[k].sum()),
        "classes": int(recalls.n_classes[k]),
        "recall": dict(zip(recalls.classes.tolist(), recalls.recall[k].tolist(), strict=True)),
        "balanced accuracy": float(recalls.balanced_accuracy[k]),
    }


def _scores(
    y: NDArray[Any], predicted: NDArray[Any], codes: NDArray[np.int64], n_clients: int
) -> tuple[NDArray[np.float64], float]:
    """Balanced accuracy of each client and of all rows; NaN where something is not predicted."""
    there = np.array([value is not None for value in predicted.astype(object)])
    recalls = Recalls.count(y, predicted, codes, n_clients)
    lacking = np.bincount(codes, ~there, n_clients) > 0
    each = np.where(lacking, np.nan, recalls.balanced_accuracy)
    overall = np.nan if lacking.any() else float(recalls.together().balanced_accuracy[0])
    return each, overall


def _predict_alone(
    estimator: Any, train: tuple[Any, Any, Any, ClientLayout], X: Any, layout: ClientLayout
) -> NDArray[Any]:
    """What a fit on each client's own rows predicts of its rows of X; None where there is none."""
    X_train, y_train, _, own = train
    places = {client: k for k, client in enumerate(own.ids.tolist())}
    predicted = np.full(X.shape[0], None, object)
    for k, client in enumerate(layout.ids.tolist()):
        if client not in places:
            continue
        there = own.rows(np.arange(*own.offsets[places[client] : places[client] + 2]))
        here = layout.rows(np.arange(*layout.offsets[k : k + 2]))
        try:
            model = clone(estimator).fit(_safe_indexing(X_train, there), y_train[there])
        except ValueError:  # rows of one class, or too few
            continue
        predicted[here] = model.predict(_safe_indexing(X, here))
    return predicted


def _warn_of_labels(estimator: Any, y: NDArray[Any]) -> None:
    classes = np.asarray(getattr(estimator, "classes_", y)).tolist()
    unknown = [label for label in np.unique(y).tolist() if label not in classes]
    if unknown:
        warnings.warn(
            f"There are labels {unknown} that are none of the model's classes {classes}: their "
            "recall is 0.",
            UserWarning,
            stacklevel=3,
        )


def _text(report: dict[str, Any], recalls: Recalls, digits: int) -> str:
    """The report in lines, in the manner of classification_report."""
    classes = recalls.classes.tolist()
    shown = classes
    if len(classes) > _MAX_CLASSES:
        shown = [classes[recalls.total.sum(0).argmin()]]
    scores = [name for name in report["all"] if name not in ("rows", "classes", "recall")]
    heads = ["rows", "classes", *(f"recall of {c}" for c in shown), *scores]
    names = {client: str(client) for client in report["clients"]}
    width = 2 + max(map(len, (*names.values(), "all rows")))

    def number(value: float) -> str:
        return "-" if np.isnan(value) else f"{value:.{digits}f}"

    def written(name: str, line: dict[str, Any]) -> str:
        values = [line["recall"][c] for c in shown] + [line[s] for s in scores]
        cells = [f"{line['rows']:,}", str(line["classes"]), *map(number, values)]
        padded = (f"{c:>{max(len(h), 5)}}" for c, h in zip(cells, heads, strict=True))
        return "   ".join([f"{name:>{width}}", *padded])

    lines = ["   ".join([" " * width, *(f"{head:>5}" for head in heads)]), ""]
    for client, line in report["clients"].items():
        mark = "  worst" if client == report["worst"] else ""
        lines.append(written(names[client], line) + mark)
    return "\n".join([*lines, "", written("all rows", report["all"])])
