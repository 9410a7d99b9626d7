"""Filling missing values by statistics from sums."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.impute import SimpleImputer
from sklearn.utils import _safe_indexing

from skfedfocal._data.clients import is_missing
from skfedfocal._data.quantiles import column_quantiles
from skfedfocal._data.queries import ColumnSums, Query
from skfedfocal._disclosure import VALUE_COUNTS
from skfedfocal._sklearn import InvalidParameterError, StrOptions, _fit_context
from skfedfocal.preprocessing._ask import check_rows, settle_here

Array = NDArray[np.float64]


class ValueCounts(Query):
    """Rows of each of a column's agreed values, column after column: (sum of their numbers,).

    Parameters
    ----------
    categories : list of lists
        For each column the values that it may have.
    """

    discloses = frozenset({VALUE_COUNTS})

    def __init__(self, categories: list[list[Any]]):
        self.categories = categories

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        """Count one client's rows."""
        counts = [np.zeros(len(values)) for values in self.categories]
        for j, values in enumerate(self.categories):
            places = {value: place for place, value in enumerate(values)}
            for value in X[:, j]:
                if is_missing(value):
                    continue
                if value not in places:
                    raise ValueError(f"Column {j} of X has a value that is not in its categories.")
                counts[j][places[value]] += 1
        return np.concatenate(counts)


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


class FederatedSimpleImputer(SimpleImputer):
    r"""Fill missing values with a statistic of their column, from each client's sums alone.

    The result is what `sklearn.impute.SimpleImputer` finds on all rows together: the mean from sums
    and numbers of values; the median from counts below thresholds, to the last bit; the most
    frequent value from counts of values that are agreed beforehand; or a constant. NaN is what is
    missing, and None among objects.

    Parameters
    ----------
    strategy : {"mean", "median", "most_frequent", "constant"}, default="mean"
        Where the fill values come from. The first two are for numbers.
    fill_value : str or numerical value, default=None
        The constant. None is 0 for numbers and "missing_value" for objects.
    categories : list of array-like, default=None
        For each column the values that it may have, needed for "most_frequent": which values there
        are is no sum, and so has to be known before clients can count. Of several that are as
        frequent, the smallest is taken.
    keep_empty_features : bool, default=False
        Whether columns without any value are kept, filled with 0 or the constant.

    Attributes
    ----------
    statistics_ : ndarray of shape (n_features_in_,)
        The fill value of each column; NaN for one without a value.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    Notes
    -----
    With the clients at several sites, discloses sums of columns and numbers of their values; or
    numbers of rows below thresholds, and by them the median, which is the value of a row or lies
    between two; or numbers of rows by value. Only sums over the clients are needed. A constant
    discloses the number of values of each column, and nothing with `keep_empty_features`.

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
        "keep_empty_features": ["boolean"],
    }
    # Parameters of scikit-learn's imputer that are fixed here.
    missing_values = np.nan
    copy = True
    add_indicator = False

    def __init__(
        self,
        *,
        strategy: str = "mean",
        fill_value: Any = None,
        categories: list[Any] | None = None,
        keep_empty_features: bool = False,
    ):
        self.strategy = strategy
        self.fill_value = fill_value
        self.categories = categories
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
            If X is a dict of partitions, `clients` are in another order than its rows, or for
            "most_frequent" `categories` are missing or lack a value.
        """
        check_rows(X, clients)
        rows = self._validate_input(X, in_fit=True)
        # What scikit-learn's transform needs besides, from the first row: types and names.
        super().fit(_safe_indexing(X, [0]) if hasattr(X, "columns") else rows[[0]])
        if self.strategy == "constant":
            found = settle_here(self._constant(rows), rows, clients)
        elif self.strategy == "most_frequent":
            found = settle_here(self._most_frequent(rows), rows, clients)
        else:
            is_mean = self.strategy == "mean"
            found = settle_here(_means() if is_mean else column_quantiles([0.5]), rows, clients)
            found = found if is_mean else found[0]
            if self.keep_empty_features:
                found = np.where(np.isnan(found), 0, found)
        self.statistics_ = found
        return self

    def _constant(self, X: Any) -> Generator[Query, Array, NDArray[Any]]:
        fill = self.fill_value
        if fill is None:
            fill = "missing_value" if X.dtype.kind == "O" else 0
        found = np.full(X.shape[1], fill, X.dtype)
        if not self.keep_empty_features:
            there = yield Present()
            if not there.all():  # whole numbers are always there
                found[there == 0] = np.nan
        return found

    def _most_frequent(self, X: Any) -> Generator[Query, Array, NDArray[Any]]:
        if sparse.issparse(X):
            raise ValueError("The most frequent values need dense rows.")
        if self.categories is None or len(self.categories) != X.shape[1]:
            raise InvalidParameterError(
                "strategy='most_frequent' needs categories: a list of values for each column of X, "
                "which clients then count."
            )
        values = [sorted(np.asarray(column).tolist()) for column in self.categories]
        counts = yield ValueCounts(values)
        parts = np.split(counts, np.cumsum([len(column) for column in values])[:-1])
        empty = 0 if self.keep_empty_features else np.nan
        found = np.empty(len(values), object)
        found[:] = [
            column[part.argmax()] if part.any() else empty
            for column, part in zip(values, parts, strict=True)
        ]
        return found if X.dtype.kind == "O" else found.astype(np.float64)


def _means() -> Generator[Query, Array, Array]:
    n, sums = yield ColumnSums()
    return np.divide(sums, n, out=np.full(len(n), np.nan), where=n > 0)
