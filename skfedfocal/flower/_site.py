"""What a site does with its rows: count them, and train on them as `fit` would.

Requests and replies are plain data (`skfedfocal._plain`); nothing here knows how they travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.digest import digest
from skfedfocal._data.inputs import codes_and_known
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
from skfedfocal.flower._rows import SiteRows, check_finite


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
    codes = None if task["classes"] is None else codes_of(rows, task["classes"])
    train, held_out = split(rows, codes, task)
    part = held_out if query.held_out and held_out is not None else train
    X = prepared(rows, task)  # as those are that the classifier is given
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
    classes, X, encoder = task["classes"], prepared(rows, task), task["encoder"]
    if not (encoder is None or isinstance(encoder, RowEncoder)):
        raise TypeError(f"{type(encoder).__name__} is no encoder of rows.")
    check_finite(X)
    if tuple(X.shape[1:]) != tuple(task["row_shape"]):
        raise ValueError(f"The rows have shape {X.shape[1:]}, no longer {task['row_shape']}.")
    codes = codes_of(rows, classes)
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
    return make(net, *map(rows_of, split(rows, codes, task)))


def prepared(rows: SiteRows, task: Mapping[str, Any]) -> Any:
    """The rows behind the steps before the classifier, once they are fitted."""
    X = rows.X
    for step in task["steps"]:
        from skfedfocal.preprocessing._preparation import applied  # and with it much else

        X = applied(step, X)
    return X


def codes_of(rows: SiteRows, classes: NDArray[Any]) -> NDArray[np.int64]:
    """Labels as numbers of the federation's classes."""
    codes, known = codes_and_known(classes, rows.y)
    if not known.all():
        raise ValueError("There are labels that the model does not know.")
    return codes


def split(
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
