"""A site's table, checked, and as one array."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import check_array

from skfedfocal._data.clients import is_missing


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
