"""Filling missing values by statistics from sums."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.utils.validation import validate_data

from skfedfocal._data.clients import is_missing
from skfedfocal._data.quantiles import column_quantiles
from skfedfocal._data.queries import ColumnSums, Query
from skfedfocal._disclosure import VALUE_COUNTS
from skfedfocal._sklearn import InvalidParameterError, StrOptions, _fit_context
from skfedfocal.preprocessing._ask import About, FittedByQuestions, Learning
from skfedfocal.preprocessing._categories import ValueCounts, column_categories

Array = NDArray[np.float64]


class Present(Query):
    """Rows that have a value, by column: (n_features,)."""

    discloses = frozenset({VALUE_COUNTS})

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        """Count one client's rows."""
        if sparse.issparse(X):
            missing = np.bincount(X.tocoo().col, np.isnan(X.data), X.shape[1])
        elif X.dtype.kind == "O":
            missing = np.array([sum(map(is_missing, X[:, j])) for j in range(X.shape[1])])
        else:
            missing = np.isnan(X).sum(0)
        return X.shape[0] - missing.astype(np.float64)


class FederatedSimpleImputer(FittedByQuestions, SimpleImputer):
    r"""Fill missing values with a statistic of their column, from each client's sums alone.

    The result is what `sklearn.impute.SimpleImputer` finds on all rows together: the mean from sums
    and numbers of values; the median from counts below thresholds, to the last bit; the most
    frequent value from counts of values; or a constant. NaN is what is missing, and None among
    objects.

    Parameters
    ----------
    strategy : {"mean", "median", "most_frequent", "constant"}, default="mean"
        Where the fill values come from. The first two are for numbers.
    fill_value : str or numerical value, default=None
        The constant. None is 0 for numbers and "missing_value" for objects.
    categories : list of array-like, default=None
        For each column the values that it may have, for "most_frequent": clients then count those,
        in one question. None finds the values first, as `FederatedOneHotEncoder` does. Of several
        that are as frequent, the smallest is taken.
    add_indicator : bool, default=False
        Whether columns follow that say where a value was missing: one for each column of which any
        client missed one in fit.
    keep_empty_features : bool, default=False
        Whether columns without any value are kept, filled with 0 or the constant.

    Attributes
    ----------
    statistics_ : ndarray of shape (n_features_in_,)
        The fill value of each column; NaN for one without a value.
    indicator_ : MissingIndicator or None
        What makes those columns, with `add_indicator`.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    Notes
    -----
    With the clients at several sites, discloses sums of columns and numbers of their values; or
    numbers of rows below thresholds, and by them the median, which is the value of a row or lies
    between two; or numbers of rows by value. Only sums over the clients are needed. A constant
    discloses the number of values of each column, and nothing with `keep_empty_features`; so does
    `add_indicator`, in one more question.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal.preprocessing import FederatedSimpleImputer
    >>> X, clients = [[1.0], [np.nan], [2.0], [6.0]], ["a", "a", "b", "b"]
    >>> FederatedSimpleImputer(strategy="median").fit_transform(X, clients=clients).ravel()
    array([1., 2., 2., 6.])
    """

    __metadata_request__fit = {"clients": True}
    _parameter_constraints = {
        "strategy": [StrOptions({"mean", "median", "most_frequent", "constant"})],
        "fill_value": "no_validation",
        "categories": [list, None],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
    }
    # Parameters of scikit-learn's imputer that are fixed here.
    missing_values = np.nan
    copy = True

    def __init__(
        self,
        *,
        strategy: str = "mean",
        fill_value: Any = None,
        categories: list[Any] | None = None,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
    ):
        self.strategy = strategy
        self.fill_value = fill_value
        self.categories = categories
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, clients: Any = None) -> Self:
        """Find the clients' common statistics.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features)
            Rows of all clients.
        y : object, default=None
            Ignored.
        clients : array-like of shape (n_samples,), default=None
            Id of each row's client. None is one client.

        Returns
        -------
        self : object
            The fitted imputer.

        Raises
        ------
        ValueError
            If X is a dict of partitions or has a column of dates, `clients` are in another order
            than its rows, or `categories` lack a value.
        """
        self._fit_here(X, clients)
        return self

    def _look(self, X: Any) -> tuple[Any, list[Any]]:
        validate_data(self, X, skip_check_array=True)
        rows = self._validate_input(X, in_fit=True)
        return rows, [rows.dtype] * rows.shape[1]

    def _seen_as(self, dtypes: list[Any]) -> list[Any]:
        if self.strategy in ("mean", "median"):
            return super()._seen_as(dtypes)
        numbers = {dtype.kind for dtype in dtypes} <= set("biuf")
        return [np.result_type(*dtypes) if numbers else np.dtype(object)] * len(dtypes)

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        indicator = state.pop("indicator_", None)
        if "statistics_" not in state:
            return {}
        if indicator is not None:
            state["with_gaps_"] = indicator.features_
        return state | {"dtype_": self._fit_dtype.str}

    def _restore(self, state: dict[str, Any]) -> None:
        state = dict(state)
        n, dtype = int(state["n_features_in_"]), np.dtype(state.pop("dtype_"))
        self._learn_types(About([dtype] * n, 0))
        if self.add_indicator:
            self.indicator_ = _indicator(np.isin(np.arange(n), state.pop("with_gaps_")))
        super()._restore(state)

    def _learn(self, about: About) -> Learning:
        self._learn_types(about)
        there: Array | None = None
        if self.add_indicator or (self.strategy == "constant" and not self.keep_empty_features):
            there = yield Present()
        if self.strategy == "constant":
            self.statistics_ = self._constant(about, there)
        elif self.strategy == "most_frequent":
            self.statistics_ = yield from self._most_frequent(about)
        elif self.strategy == "mean":
            self.statistics_ = self._kept((yield from _means()))
        else:
            self.statistics_ = self._kept((yield from column_quantiles([0.5]))[0])
        if self.add_indicator and there is not None:
            self.indicator_ = _indicator(there < about.n_rows)

    def _learn_types(self, about: About) -> None:
        """What scikit-learn's transform needs besides, from a row of such a table."""
        names = getattr(self, "feature_names_in_", None)
        super().fit(np.zeros((1, len(about.dtypes)), about.dtypes[0]))
        if names is not None:
            self.feature_names_in_ = names

    def _kept(self, found: Array) -> Array:
        return np.where(np.isnan(found), 0, found) if self.keep_empty_features else found

    def _constant(self, about: About, there: Array | None) -> NDArray[Any]:
        fill, dtype = self.fill_value, about.dtypes[0]
        if fill is None:
            fill = "missing_value" if dtype.kind == "O" else 0
        found = np.full(len(about.dtypes), fill, dtype)
        if not self.keep_empty_features and there is not None and not there.all():
            found[there == 0] = np.nan  # whole numbers are always there
        return found

    def _most_frequent(self, about: About) -> Generator[Query, Array, NDArray[Any]]:
        counts = yield from self._value_counts(about)
        empty = 0 if self.keep_empty_features else np.nan
        found = np.empty(len(counts), object)
        for j, rows_of in enumerate(counts):
            most = max(rows_of.values(), default=0)
            found[j] = min(v for v, n in rows_of.items() if n == most) if most else empty
        return found if about.dtypes[0].kind == "O" else found.astype(np.float64)

    def _value_counts(self, about: About) -> Generator[Query, Array, list[dict[Any, int]]]:
        """Rows of the values of each column."""
        if self.categories is None:
            found = yield from column_categories(about.dtypes)
            return [{v: n for v, n in one.items() if not is_missing(v)} for one in found]
        if len(self.categories) != len(about.dtypes):
            raise InvalidParameterError("categories needs a list of values for each column of X.")
        values = [np.asarray(column).tolist() for column in self.categories]
        query = ValueCounts(values, [dtype.str for dtype in about.dtypes])
        counts = query.split((yield query))
        for j, one in enumerate(counts):
            if one[-1]:
                raise ValueError(f"Column {j} of X has a value that is not in its categories.")
        return [
            dict(zip(column, one[:-2].tolist(), strict=True))
            for column, one in zip(values, counts, strict=True)
        ]


def _means() -> Generator[Query, Array, Array]:
    n, sums = yield ColumnSums()
    return np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0)


def _indicator(has_gaps: NDArray[np.bool_]) -> MissingIndicator:
    """What tells where values were missing, in columns that have gaps."""
    indicator = MissingIndicator(missing_values=np.nan, error_on_new=False)
    indicator._fit(has_gaps[None], precomputed=True)
    return indicator
