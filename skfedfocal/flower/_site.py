"""What a site does with its rows: count them, and train on them as `fit` would.

Requests and replies are plain data (`skfedfocal._plain`); nothing here knows how they travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import check_array
from torch import Tensor

from skfedfocal._data.clients import ClientLayout, is_missing
from skfedfocal._data.digest import digest
from skfedfocal._data.queries import PlainRows, Query
from skfedfocal._data.rows import FederatedRows
from skfedfocal._data.validation import validation_rows
from skfedfocal._indices import row_dtype
from skfedfocal._local import LocalPlan
from skfedfocal._module import build_module
from skfedfocal._threads import one_thread
from skfedfocal.encodings._encoder import RowEncoder
from skfedfocal.engines import ENGINES, Engine, Failure, Model, Task, Updates
from skfedfocal.engines._evaluate import ModelQuery


@dataclass(frozen=True)
class SiteRows:
    """A site's table, checked.

    Attributes
    ----------
    X : ndarray of shape (n_rows, ...) or CSR matrix
        Of type object where its columns are not all numbers.
    y : ndarray of shape (n_rows,)
        Labels as they are.
    sample_weight : ndarray of shape (n_rows,) or None
    columns : list of str or None
        Names of the columns of X, where they are all strings.
    types : list of str
        Of the columns, as numpy writes them; "" for one without a value.
    """

    X: Any
    y: NDArray[Any]
    sample_weight: NDArray[np.float64] | None
    columns: list[str] | None
    types: list[str]

    @classmethod
    def check(cls, data: Any, *, lenient: bool = False) -> SiteRows:
        """Take ``(X, y)`` or ``(X, y, sample_weight)``; raise ValueError if unfit for training.

        With `lenient` X may have missing values, which a step before training is to fill.
        """
        if not isinstance(data, tuple) or len(data) not in (2, 3):
            raise ValueError(
                f"load_data must return (X, y) or (X, y, sample_weight); got {type(data).__name__}."
            )
        y = np.asarray(data[1])
        columns = [str(c) for c in data[0].columns] if _named(data[0]) else None
        X, types = as_array(data[0])
        if X.ndim < 2 or X.shape[0] == 0 or 0 in X.shape:
            raise ValueError(f"X has shape {X.shape}; it needs rows and columns.")
        if not lenient and (sparse.issparse(X) or X.dtype.kind == "f"):
            check_finite(X)  # of other types it is the server that says what is wrong, by name
        if y.dtype.kind == "O" and all(isinstance(label, str) for label in y.flat):
            y = y.astype(str)
        if y.shape != (X.shape[0],) or y.dtype.kind not in "biufU":
            raise ValueError(
                f"y has shape {y.shape} and type {y.dtype}; it needs one number or text for each "
                f"of the {X.shape[0]} rows of X."
            )
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            raise ValueError("y has missing values.")
        if y.dtype.kind == "f" and (y != np.floor(y)).any():
            raise ValueError("y is continuous; classes must be whole numbers or texts.")
        weight = None
        if len(data) == 3 and data[2] is not None:
            weight = np.asarray(data[2], np.float64)
            if weight.shape != y.shape or not (np.isfinite(weight) & (weight >= 0)).all():
                raise ValueError("sample_weight must be one number of at least 0 for each row.")
            keep = weight > 0
            if not keep.any():
                raise ValueError("sample_weight is zero for every row; nothing is left.")
            X, y, weight = X[keep], y[keep], weight[keep]
        return cls(X, y, weight, columns, types)

    def in_order(self, columns: list[str] | None) -> SiteRows:
        """With the columns in the order of the federation's."""
        if columns is None or self.columns is None or columns == self.columns:
            return self
        places = [self.columns.index(name) for name in columns]
        types = [self.types[j] for j in places]
        return replace(self, X=self.X[:, places], columns=columns, types=types)

    @property
    def size(self) -> float:
        return float(len(self.y)) if self.sample_weight is None else float(self.sample_weight.sum())


def statistics(rows: SiteRows, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer round 0: what the rows are like.

    Columns and their types, the labels that occur, the number of rows and the sum of their
    weights; and on request a digest, by which the site's own rows are known again.
    """
    reply: dict[str, Any] = {
        "size": rows.size,
        "n_rows": len(rows.y),
        "classes": np.unique(rows.y),
        "columns": rows.columns,
        "types": rows.types,
        "is_sparse": bool(sparse.issparse(rows.X)),
        "row_shape": tuple(rows.X.shape[1:]),
    }
    if request.get("digest"):
        codes = np.unique(rows.y, return_inverse=True)[1]
        reply["digest"] = digest(rows.X, codes, rows.sample_weight, layout_of_one(0, len(codes)))
    return reply


def answer(
    rows: SiteRows, task: Mapping[str, Any], model: Model | None, module: Any = None
) -> NDArray[np.float64]:
    """Answer a question of the server, about the rows or about what a model says of them.

    Parameters
    ----------
    rows : SiteRows
        The site's own.
    task : mapping
        The question, and what `GridEngine` says of the training.
    model : Model or None
        What the question is about, if it is about a model.
    module : callable, torch.nn.Module or None
        The site's own `module` parameter; None for the MLP.
    """
    rows = rows.in_order(task["columns"])
    query, number = task["query"], np.array([int(task["number"])])
    if not isinstance(query, Query):
        raise TypeError(f"{type(query).__name__} is not a question.")
    if isinstance(query, ModelQuery):
        assert model is not None
        return _engine(rows, task, model.theta, module).ask(query, number, model)
    codes = None if task["classes"] is None else _codes(rows, task["classes"])
    train, held_out = _split(rows, codes, task)
    part = held_out if query.held_out and held_out is not None else train
    X = _prepared(rows, task)  # as those are that the classifier is given
    return query.answers(PlainRows(X, codes, rows.sample_weight, part), number)[0]


def train(
    rows: SiteRows, task: Mapping[str, Any], theta: Tensor, plan: LocalPlan, module: Any = None
) -> Updates:
    """Answer a round: train on the rows by the engine of `fit`, as the client of that number.

    Parameters
    ----------
    rows : SiteRows
        The site's own.
    task : mapping
        What `GridEngine` says of the round: the client's number, classes, module, steps before.
    theta : Tensor of shape (p,)
        The global model.
    plan : LocalPlan
        How to train.
    module : callable, torch.nn.Module or None
        The site's own `module` parameter; None for the MLP.

    Returns
    -------
    updates : Updates
        Of one client.
    """
    rows = rows.in_order(task["columns"])
    number = np.array([int(task["number"])])
    asked = Task(theta, plan, number, int(task["round"]), bool(task["wants_recall"]))
    plan.loss.check_params()
    with one_thread():
        engine = _engine(rows, task, theta, module)
        if plan.private is not None and not engine.clips_rows:
            raise TypeError("What one row does cannot be bounded in this module.")
        (reply,) = engine.train(asked)
    if isinstance(reply, Failure):
        raise reply.error or RuntimeError(reply.reason)
    return reply


def clips_rows(task: Mapping[str, Any], theta: Tensor, module: Any) -> bool:
    """Whether an engine can bound the influence of single rows: as a site would find, of zeros."""
    zeros, labels = np.zeros((2, *task["row_shape"])), task["classes"][:2]
    rows = SiteRows(zeros, labels, None, None, [])
    return _engine(rows, {**task, "number": 0}, theta, module).clips_rows


def _engine(rows: SiteRows, task: Mapping[str, Any], theta: Tensor, module: Any) -> Engine:
    """The engine of `fit` with the site's rows, as those of the client of the task's number."""
    classes, X, encoder = task["classes"], _prepared(rows, task), task["encoder"]
    if not (encoder is None or isinstance(encoder, RowEncoder)):
        raise TypeError(f"{type(encoder).__name__} is no encoder of rows.")
    check_finite(X)
    if tuple(X.shape[1:]) != tuple(task["row_shape"]):
        raise ValueError(f"The rows have shape {X.shape[1:]}, no longer {task['row_shape']}.")
    codes = _codes(rows, classes)
    net = build_module(
        module,
        task["hidden_layer_sizes"],
        tuple(task["row_shape"]) if encoder is None else (encoder.n_outputs,),
        len(classes),
        int(task["seed"]),
    )
    dtype = next(net.parameters()).dtype
    if theta.dtype != dtype:
        raise TypeError(f"The model has type {theta.dtype}, but the site's module {dtype}.")
    kind = row_dtype(net, X)

    def rows_of(part: ClientLayout | None) -> FederatedRows | None:
        if part is None:
            return None
        return FederatedRows(
            X, codes, rows.sample_weight, part, len(classes), kind, torch.device("cpu"), encoder
        )

    make: Any = ENGINES[task["engine"]]
    return make(net, *map(rows_of, _split(rows, codes, task)))


def _prepared(rows: SiteRows, task: Mapping[str, Any]) -> Any:
    """The rows behind the steps before the classifier, once they are fitted."""
    X = rows.X
    for step in task["steps"]:
        from skfedfocal.preprocessing._preparation import applied  # and with it much else

        X = applied(step, X)
    return X


def _codes(rows: SiteRows, classes: NDArray[Any]) -> NDArray[np.int64]:
    """Labels as numbers of the federation's classes."""
    codes = np.minimum(np.searchsorted(classes, rows.y), len(classes) - 1)
    if not (classes[codes] == rows.y).all():
        raise ValueError("There are labels now that were not there when the training began.")
    return codes


def _split(
    rows: SiteRows, codes: NDArray[np.int64] | None, task: Mapping[str, Any]
) -> tuple[ClientLayout, ClientLayout | None]:
    """Rows to train on, and rows to validate on if any, as the client of the task's number."""
    layout = layout_of_one(int(task["number"]), len(rows.y))
    if task["validation_fraction"] is None or codes is None:
        return layout, None
    held_out = validation_rows(
        int(task["seed"]), layout, codes, len(task["classes"]), task["validation_fraction"]
    )
    return layout.restrict(~held_out), layout.restrict(held_out)


def layout_of_one(number: int, n_rows: int) -> ClientLayout:
    """All rows on the client of that number, which its random streams go by."""
    offsets = np.zeros(number + 2, np.int64)
    offsets[-1] = n_rows
    return ClientLayout(np.arange(number + 1), offsets, None)


def as_array(X: Any) -> tuple[Any, list[str]]:
    """A table as one array, of type object where columns are not all numbers; and their types."""
    if sparse.issparse(X):
        X = X.tocsr()
    elif hasattr(X, "columns"):
        columns = [_array_of(column) for column in _columns_of(X)]
        types = ["" if _is_empty(column) else column.dtype.str for column in columns]
        if not all(column.dtype.kind in "biuf" for column in columns):
            X = np.empty((len(columns[0]), len(columns)), object)
            for j, column in enumerate(columns):
                X[:, j] = column
            return X, types
        return np.column_stack(columns), types
    else:
        X = np.asarray(X)
    return X, [X.dtype.str] * (X.shape[1] if X.ndim > 1 else 1)


def _columns_of(X: Any) -> list[Any]:
    if hasattr(X, "iloc"):
        return [X.iloc[:, j] for j in range(X.shape[1])]
    if hasattr(X, "arrays"):
        return list(X.arrays)
    return [X[:, j] for j in range(X.shape[1])]


def _array_of(column: Any) -> NDArray[Any]:
    """A column as scikit-learn's encoders take it; texts as objects, as those of a frame are."""
    found = check_array(column, ensure_2d=False, dtype=None, ensure_all_finite=False)
    return found.astype(object) if found.dtype.kind == "U" else found


def _is_empty(column: NDArray[Any]) -> bool:
    if column.dtype.kind == "f":
        return bool(np.isnan(column).all())
    return column.dtype.kind == "O" and all(map(is_missing, column))


def check_finite(X: Any) -> None:
    """Raise where X cannot be trained on."""
    values = X.data if sparse.issparse(X) else X
    if values.dtype.kind not in "biuf":
        raise TypeError(f"X has type {values.dtype}, which is not a number; encode it first.")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("X has missing or infinite values; impute or leave out these rows.")


def _named(X: Any) -> bool:
    columns = getattr(X, "columns", None)
    return columns is not None and all(isinstance(c, str) for c in columns)
