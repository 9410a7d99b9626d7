"""What a site does with its rows: count them, and train on them as `fit` would.

Requests and replies are plain data (`skfedfocal._plain`); nothing here knows how they travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.digest import digest
from skfedfocal._data.moments import scaled
from skfedfocal._data.queries import ColumnDeviations, ColumnSums, PlainRows, Query
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
    y : ndarray of shape (n_rows,)
        Labels as they are.
    sample_weight : ndarray of shape (n_rows,) or None
    columns : list of str or None
        Names of the columns of X, where they are all strings.
    """

    X: Any
    y: NDArray[Any]
    sample_weight: NDArray[np.float64] | None
    columns: list[str] | None

    @classmethod
    def check(cls, data: Any) -> SiteRows:
        """Take ``(X, y)`` or ``(X, y, sample_weight)``; raise ValueError if unfit for training."""
        if not isinstance(data, tuple) or len(data) not in (2, 3):
            raise ValueError(
                f"load_data must return (X, y) or (X, y, sample_weight); got {type(data).__name__}."
            )
        X, y = data[0], np.asarray(data[1])
        columns = [str(c) for c in X.columns] if _named(X) else None
        X = X.tocsr() if sparse.issparse(X) else np.asarray(X)
        if X.ndim < 2 or X.shape[0] == 0 or 0 in X.shape:
            raise ValueError(f"X has shape {X.shape}; it needs rows and columns.")
        if X.dtype.kind not in "biuf":
            raise TypeError(f"X has type {X.dtype}, which is not a number; convert it first.")
        values: Any = X.data if sparse.issparse(X) else X
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError("X has missing or infinite values; impute or leave out these rows.")
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
        return cls(X, y, weight, columns)

    @property
    def size(self) -> float:
        return float(len(self.y)) if self.sample_weight is None else float(self.sample_weight.sum())


def statistics(rows: SiteRows, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer round 0: what the rows are like.

    Columns, the labels that occur, the number of rows and the sum of their weights; and on request
    a digest, by which the site's own rows are known again.
    """
    reply: dict[str, Any] = {
        "size": rows.size,
        "n_rows": len(rows.y),
        "classes": np.unique(rows.y),
        "columns": rows.columns,
        "row_shape": tuple(rows.X.shape[1:]),
        "sparse": sparse.issparse(rows.X),
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
    query, number = task["query"], np.array([int(task["number"])])
    if not isinstance(query, Query):
        raise TypeError(f"{type(query).__name__} is not a question.")
    if isinstance(query, ModelQuery):
        assert model is not None
        return _engine(rows, task, model.theta, module).ask(query, number, model)
    if sparse.issparse(rows.X) and isinstance(query, ColumnSums | ColumnDeviations):
        raise TypeError("Scaling needs dense rows.")
    codes = None if task["classes"] is None else _codes(rows, task["classes"])
    train, held_out = _split(rows, codes, task)
    part = held_out if query.held_out and held_out is not None else train
    X = _scaled(rows, task)  # as those are that the classifier is given
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
        What `GridEngine` says of the round: the client's number, classes, module, scaling.
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
    number = np.array([int(task["number"])])
    asked = Task(theta, plan, number, int(task["round"]), bool(task["wants_recall"]))
    plan.loss.check_params()
    with one_thread():
        (reply,) = _engine(rows, task, theta, module).train(asked)
    if isinstance(reply, Failure):
        raise reply.error or RuntimeError(reply.reason)
    return reply


def _engine(rows: SiteRows, task: Mapping[str, Any], theta: Tensor, module: Any) -> Engine:
    """The engine of `fit` with the site's rows, as those of the client of the task's number."""
    classes, X, encoder = task["classes"], _scaled(rows, task), task["encoder"]
    if not (encoder is None or isinstance(encoder, RowEncoder)):
        raise TypeError(f"{type(encoder).__name__} is no encoder of rows.")
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


def _scaled(rows: SiteRows, task: Mapping[str, Any]) -> Any:
    """The rows behind the scaler, if there is one and it is fitted."""
    if task["mean"] is None and task["scale"] is None:
        return rows.X
    return scaled(rows.X, task["mean"], task["scale"])


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


def _named(X: Any) -> bool:
    columns = getattr(X, "columns", None)
    return columns is not None and all(isinstance(c, str) for c in columns)
