"""What both encoders do: categories from counts, and the rest by scikit-learn's own encoder."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data

from skfedfocal._data.clients import is_missing
from skfedfocal._data.queries import Query
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal.preprocessing._as_in_fit import differs_in_kind, with_gaps_of, with_nan
from skfedfocal.preprocessing._ask import About, FittedByQuestions, Learning
from skfedfocal.preprocessing._categories import Counts, ValueCounts, column_categories

Array = NDArray[np.float64]


class EncodesCategories(FittedByQuestions):
    """An encoder of scikit-learn's whose categories come from clients' counts.

    All else (order, infrequent categories, what is dropped) is found by scikit-learn's encoder
    itself, from columns that have the values as often as all clients together have them.
    """

    _encoder: type  # scikit-learn's
    _for_withheld: tuple[str, ...]  # values of handle_unknown that know what to do with others
    categories: Any
    categories_: list[NDArray[Any]]
    handle_unknown: str
    min_frequency: Any
    max_categories: Any
    min_rows: int

    def _look(self, X: Any) -> tuple[Any, list[Any]]:
        validate_data(self, X, skip_check_array=True)
        columns, *_ = self._columns(X, ensure_all_finite="allow-nan")
        dtypes = [column.dtype for column in columns]
        one_kind = len({dtype.kind for dtype in dtypes}) == 1
        together = np.result_type(*set(dtypes)) if one_kind else object
        rows = np.empty((len(columns[0]), len(columns)), together)
        for j, column in enumerate(columns):
            rows[:, j] = column
        return rows, dtypes

    def _learn(self, about: About) -> Learning:
        if self.min_rows > 1 and self.handle_unknown not in self._for_withheld:
            raise InvalidParameterError(
                f"min_rows={self.min_rows} withholds values, which have to be something at "
                f"transform; set handle_unknown to one of {self._for_withheld}."
            )
        if isinstance(self.categories, str):
            counts = yield from column_categories(about.dtypes, self.min_rows)
            given = None
        else:
            given = _given(self.categories, about.dtypes)
            counts = yield from self._count(given, about)
        params = self.get_params()  # type: ignore[attr-defined]
        if given is None and any(not found for found in counts):
            j = [not found for found in counts].index(True)
            raise ValueError(
                f"Column {j} of X has no value of as many rows as min_rows asks for; leave the "
                "column out."
            )
        if self._groups_withheld(given):
            params["min_frequency"] = self._least_rows(about.n_rows)
            counts = [_with_placeholder(found, about.n_rows) for found in counts]
        self._encode(params, counts, about)

    def _encode(self, params: dict[str, Any], counts: list[Counts], about: About) -> None:
        """Have scikit-learn find the rest."""
        inner = type(self)(**params)
        self._encoder.fit(inner, Counted(counts, about))  # type: ignore[attr-defined]
        vars(self).update({name: v for name, v in vars(inner).items() if name not in params})

    def _seen_as(self, dtypes: list[Any]) -> list[Any]:
        return dtypes

    def _dtype_out(self, seen: list[Any]) -> Any:
        return np.dtype(self.dtype)  # type: ignore[attr-defined]

    def _is_sparse_out(self, is_sparse: bool) -> bool:
        return getattr(self, "sparse_output", False)

    def _state(self) -> dict[str, Any]:
        """Categories, and which are infrequent: not how many rows they have."""
        if not hasattr(self, "categories_"):
            return {}
        found: dict[str, Any] = {
            "categories_": self.categories_,
            "infrequent_": getattr(self, "_infrequent_indices", None),
        }
        if hasattr(self, "feature_names_in_"):
            found["feature_names_in_"] = self.feature_names_in_
        return found

    def _restore(self, state: dict[str, Any]) -> None:
        infrequent, params = state["infrequent_"], self.get_params()  # type: ignore[attr-defined]
        # Two rows for what is frequent, one for what is not.
        params |= {"max_categories": None, "min_frequency": None if infrequent is None else 2}
        if not isinstance(self.categories, str):
            params["categories"] = state["categories_"]
        counts = []
        for j, values in enumerate(state["categories_"]):
            few = set() if infrequent is None or infrequent[j] is None else set(infrequent[j])
            places = enumerate(values.tolist())
            counts.append({value: 1 if place in few else 2 for place, value in places})
        dtypes = [values.dtype for values in state["categories_"]]
        self._encode(params, counts, About(dtypes, 0))
        if "feature_names_in_" in state:
            self.feature_names_in_ = state["feature_names_in_"]

    def _columns(self, X: Any, **kwargs: Any) -> tuple[list[NDArray[Any]], int, int]:
        columns, *shape = super()._check_X(X, **kwargs)  # type: ignore[misc]
        return [with_nan(column) for column in columns], *shape

    def _check_X(self, X: Any, **kwargs: Any) -> tuple[list[NDArray[Any]], int, int]:
        """The columns of X, which is where scikit-learn's encoders take them from.

        In `fit` those that were counted; in `transform` as they were in `fit`.
        """
        if isinstance(X, Counted):
            return X.columns, *X.shape
        columns, n_rows, n_columns = self._columns(X, **kwargs)
        if n_columns != len(self.categories_):
            return columns, n_rows, n_columns  # which scikit-learn refuses
        both = list(zip(self.categories_, columns, strict=True))
        columns = [with_gaps_of(known, column) for known, column in both]
        for j, (known, column) in enumerate(zip(self.categories_, columns, strict=True)):
            if differs_in_kind(known, column):
                validate_data(self, X, reset=False, skip_check_array=True)  # perhaps another column
                raise TypeError(self._other_kind(j, known[0], column))
        return columns, n_rows, n_columns

    def _other_kind(self, j: int, known: Any, column: NDArray[Any]) -> str:
        names = getattr(self, "feature_names_in_", None)
        which = f"Column {j}" if names is None else f"Column {names[j]!r}"
        value = next(value for value in column.tolist() if not is_missing(value))
        known = np.asarray(known).tolist()
        return (
            f"{which} of X has {value!r}, but in fit it had values such as {known!r}; give it the "
            f"type that it had there (`X[name].astype({type(known).__name__})`)."
        )

    def _count(self, given: list[NDArray[Any]], about: About) -> Generator[Query, Array, Any]:
        """Rows of the given categories, where anything depends on them."""
        params = {"min_frequency": self.min_frequency, "max_categories": self.max_categories}
        if self.handle_unknown != "error" and not self._counts_matter(params):
            return [dict.fromkeys(values.tolist(), 1) for values in given]
        names = [np.dtype(dtype).str for dtype in about.dtypes]
        query = ValueCounts([values.tolist() for values in given], names)
        found = query.split((yield query))
        for j, counts in enumerate(found):
            if self.handle_unknown == "error" and counts[-2:].any():
                raise ValueError(f"Found unknown categories in column {j} during fit.")
        return [
            dict(zip(values.tolist(), counts.astype(int).tolist(), strict=False))
            for values, counts in zip(given, found, strict=True)
        ]

    def _groups_withheld(self, given: Any) -> bool:
        """Whether values that are withheld count as infrequent."""
        groups = ("infrequent_if_exist", "warn")
        return given is None and self.min_rows > 1 and self.handle_unknown in groups

    def _least_rows(self, n_rows: int) -> int:
        """Rows below which a category is infrequent."""
        least = self.min_frequency
        if least is None:
            least = 1
        elif not isinstance(least, int | np.integer):
            least = int(np.ceil(n_rows * least))
        return max(least, self.min_rows)

    @staticmethod
    def _counts_matter(params: dict[str, Any]) -> bool:
        return params["min_frequency"] is not None or params["max_categories"] is not None


class Counted:
    """Columns with values as often as they were counted; columns may differ in length.

    Attributes
    ----------
    columns : list of ndarray
        Values of each column, in its type.
    shape : tuple of int
        Of the table that was counted.
    """

    def __init__(self, counts: list[Counts], about: About):
        self.shape = (about.n_rows, len(counts))
        self.columns = []
        for found, dtype in zip(counts, about.dtypes, strict=True):
            values = np.empty(len(found), object)
            values[:] = list(found)
            self.columns.append(np.repeat(values, list(found.values())).astype(dtype))


def _given(categories: Any, dtypes: list[Any]) -> list[NDArray[Any]]:
    """Categories that are parameters, in the types of the columns."""
    if len(categories) != len(dtypes):
        raise ValueError(
            "Shape mismatch: if categories is an array, it has to be of shape (n_features,)."
        )
    return [
        np.array(values, object if dtype.kind == "U" else dtype)
        for values, dtype in zip(categories, dtypes, strict=True)
    ]


def _with_placeholder(found: Counts, n_rows: int) -> Counts:
    """The same with one value more, in the place of those that were withheld, if any were.

    As it has one row it is infrequent; it is a value that no row has, as far as is known.
    """
    if sum(found.values()) == n_rows:
        return found
    known = [value for value in found if not is_missing(value)]
    if any(isinstance(value, bool) for value in known):
        other: Any = not known[0]
    elif any(isinstance(value, str) for value in known):
        other = "withheld"
        while other in found:
            other += "_"
    elif any(isinstance(value, bytes) for value in known):
        other = b"withheld" + max(known)
    else:
        other = next(number for number in itertools.count() if number not in found)
    return found | {other: 1}
