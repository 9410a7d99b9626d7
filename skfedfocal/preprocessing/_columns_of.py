"""A choice of columns by what is in them, in one process as over sites."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Number
from typing import Any

import numpy as np

from skfedfocal._component import Component
from skfedfocal._data.clients import is_missing
from skfedfocal._data.not_numbers import NUMBERS, check_frame
from skfedfocal._sklearn import StrOptions


class ColumnsOf(Component):
    """The columns of numbers, or those of texts, for a `ColumnTransformer` in place of names.

    As `sklearn.compose.make_column_selector`, for all that columns can be in: a frame of pandas or
    polars, an array, the tables of sites. A column is in one of the two kinds.

    Parameters
    ----------
    kind : {"numbers", "texts"}
        Which columns. Truth values are numbers, and so is a column without any value; categories of
        pandas and polars are texts.

    See Also
    --------
    make_table_transformer : The usual steps for both kinds.

    Notes
    -----
    Dates are refused, and so is a column of objects in which there are numbers: of an array of
    texts and numbers, say. The message names it.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfedfocal.preprocessing import ColumnsOf
    >>> table = pd.DataFrame({"age": [61, None], "pain": ["dull", None], "smokes": [True, False]})
    >>> ColumnsOf("numbers")(table), ColumnsOf("texts")(table)
    (['age', 'smokes'], ['pain'])
    """

    _parameter_constraints = {"kind": [StrOptions({"numbers", "texts"})]}

    def __init__(self, kind: str):
        self.kind = kind

    def __call__(self, X: Any) -> list[Any]:
        """Names of the columns, or numbers where they have none.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        columns : list of str or int
            For a `ColumnTransformer`.
        """
        self.check_params()
        check_frame(X)
        if hasattr(X, "columns"):
            names = list(X.columns)
            texts = [_has_texts(repr(n), X[n].dtype, X[n]) for n in names]
        else:
            names = list(range(X.shape[1]))
            texts = [X.dtype.kind not in "biuf" and _has_texts(n, X.dtype, X[:, n]) for n in names]
        found = self._of(texts)
        all_named = all(isinstance(name, str) for name in names)
        return [names[place] for place in found] if all_named else found

    def places(self, dtypes: list[Any]) -> list[int]:
        """Numbers of the columns, of types alone: where rows are elsewhere."""
        self.check_params()
        return self._of([not NUMBERS.match(str(dtype)) for dtype in dtypes])

    def _of(self, texts: list[bool]) -> list[int]:
        return [place for place, is_text in enumerate(texts) if is_text == (self.kind == "texts")]


def _has_texts(name: Any, dtype: Any, values: Iterable[Any]) -> bool:
    """Whether a column is for an encoder; ValueError where it should be of numbers."""
    kind = str(dtype).lower()
    if NUMBERS.match(kind):
        return False
    there = [value for value in values if not is_missing(value)]
    numbers = [isinstance(v, Number) and not isinstance(v, bool | np.bool_) for v in there]
    if kind == "object" and any(numbers):
        raise ValueError(
            f"column {name} of X has {there[numbers.index(True)]!r}, a number, and is of type "
            "object; give it the type of what is in it (`X[name].astype(float)`, or `astype(str)` "
            "for categories), an array of texts and numbers as a frame."
        )
    return bool(there)
