"""A table with a column of client ids: finding it, reading it, and leaving it out."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import _safe_indexing

from skfedfocal._data.clients import id_column


def as_table(X: Any) -> Any:
    """X with a shape; a list with texts in it keeps its numbers."""
    if hasattr(X, "shape"):
        return X
    table = np.asarray(X)
    return np.array(X, object) if table.dtype.kind in "US" else table


def count_columns(X: Any) -> int:
    """Number of columns; raise ValueError where X is not a table."""
    if len(X.shape) != 2:
        raise ValueError(
            f"X has shape {X.shape}, but a column of client ids needs a table. Reshape your data."
        )
    return int(X.shape[1])


def find_column(column: Any, X: Any) -> int:
    """Number of the column that holds the ids."""
    n_columns = count_columns(X)
    wanted = column(X) if callable(column) else column
    if isinstance(wanted, list | tuple | np.ndarray) and len(wanted) == 1:
        wanted = wanted[0]  # as make_column_selector returns it
    if isinstance(wanted, Integral):
        place = int(wanted)
        if not -n_columns <= place < n_columns:
            raise ValueError(f"X has {n_columns} columns and so none of number {place}.")
        return place % n_columns
    if not hasattr(X, "columns"):
        raise ValueError(
            f"column={column!r} is a name, but X has none: it is of type {type(X).__name__}. If a "
            "tool made it so, give the number of the column."
        )
    names = list(X.columns)
    if names.count(wanted) != 1:
        raise ValueError(
            f"X has {names.count(wanted)} columns {wanted!r} where one holds the client ids; its "
            f"columns are {names}."
        )
    return names.index(wanted)


def ids_of_column(X: Any, place: int, column: Any) -> NDArray[Any]:
    """The column itself, as one id per row."""
    values = (
        X.tocsc()[:, [place]].toarray() if sparse.issparse(X) else _safe_indexing(X, place, axis=1)
    )
    try:
        ids = id_column(values)
    except ValueError as error:
        raise ValueError(f"column={column!r} of X cannot be client ids: {error}") from error
    if ids.dtype.kind == "f" and (ids != np.floor(ids)).any():
        raise ValueError(
            f"column={column!r} of X has fractions, the first in row "
            f"{(ids != np.floor(ids)).argmax()}: a step before has scaled or interpolated the "
            "client ids. Leave the column out of scaling (ColumnTransformer, or scale inside "
            "ClientColumn), and use SMOTENC instead of SMOTE."
        )
    return ids


def without_column(X: Any, place: int) -> Any:
    """All of X but one column, in its own kind; of an array a view, if the column is at an end."""
    last = X.shape[1] - 1
    if isinstance(X, np.ndarray) and place in (0, last):  # a mapped file stays where it is
        return X[:, 1:] if place == 0 else X[:, :-1]
    kept = [j for j in range(last + 1) if j != place]
    return X.tocsr()[:, kept] if sparse.issparse(X) else _safe_indexing(X, kept, axis=1)
