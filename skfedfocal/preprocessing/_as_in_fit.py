"""Columns in the form that they had in fit: gaps are one thing, however a table writes them."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.clients import is_missing


def with_nan(column: NDArray[Any]) -> NDArray[Any]:
    """A column with NaN where it has pandas.NA, which no encoder knows; None stays what it is."""
    if column.dtype.kind != "O":
        return column
    try:
        np.not_equal(column, column)
    except TypeError:  # pandas.NA has no truth value
        gaps = [value is not None and is_missing(value) for value in column]
        column = column.copy()
        column[gaps] = np.nan
    return column


def with_gaps_of(categories: NDArray[Any], column: NDArray[Any]) -> NDArray[Any]:
    """A column with its gaps as the categories have them, if they have gaps of one kind.

    A gap is NaN in a file that pandas reads, None in one that polars reads or in a request. To
    scikit-learn these are two categories; what is unknown would be encoded as no gap at all.
    """
    known = [value for value in categories.tolist() if is_missing(value)]
    if column.dtype.kind == "f" and _kinds(categories) == {str} and np.isnan(column).all():
        column = column.astype(object)  # the type of a column of gaps says nothing
    if len(known) != 1 or column.dtype.kind != "O":
        return column
    nones = np.array([value is None for value in column.tolist()])
    other = np.not_equal(column, column) if known[0] is None else nones
    return np.where(other, known[0], column) if other.any() else column


def differs_in_kind(categories: NDArray[Any], column: NDArray[Any]) -> bool:
    """Whether one has texts alone and the other numbers alone, so that nothing can be equal."""
    if categories.dtype.kind in "biuf":
        return _kinds(column) == {str}
    return _kinds(categories) == {str} and _kinds(column) == {Real}


def _kinds(values: NDArray[Any]) -> set[type]:
    """What there is beside gaps: texts, numbers (truth values as well), other things."""
    if values.dtype.kind in "biuf":
        return {Real}
    if values.dtype.kind == "U":
        return {str}
    types = {type(value) for value in values.tolist() if not is_missing(value)}
    return {next((kind for kind in (str, Real) if issubclass(t, kind)), t) for t in types}
