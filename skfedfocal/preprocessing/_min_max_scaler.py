"""Scaling by extremes, from counts below thresholds."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler
from sklearn.utils.validation import validate_data

from skfedfocal._data.quantiles import column_quantiles
from skfedfocal._sklearn import _fit_context
from skfedfocal.preprocessing._ask import About, FittedByQuestions, Learning

_ACCEPTED: dict[str, Any] = {"dtype": [np.float64, np.float32], "ensure_all_finite": "allow-nan"}


class _ScalesByExtremes(FittedByQuestions):
    """A scaler of scikit-learn's that needs no more of the rows than the extremes of columns."""

    _scaler: type  # scikit-learn's
    n_samples_seen_: int

    @property
    def partial_fit(self) -> Any:
        """Absent: scikit-learn's would look at rows, not ask."""
        raise AttributeError(f"{type(self).__name__} has no partial_fit; fit takes all rows.")

    def _learn(self, about: About) -> Learning:
        extremes = yield from column_quantiles([0.0, 1.0])
        params = {name: getattr(self, name) for name in self._scaler().get_params()}
        inner = self._scaler(**params)
        with np.errstate(invalid="ignore"):
            inner.fit(extremes.astype(about.dtypes[0]))
        names = {"n_features_in_", *params}
        vars(self).update({name: v for name, v in vars(inner).items() if name not in names})
        self.n_samples_seen_ = about.n_rows


class FederatedMinMaxScaler(_ScalesByExtremes, MinMaxScaler):
    r"""Scale columns to a range, from counts alone.

    A least and a largest value are no sums. They are quantiles, though: clients are asked nine
    times how many of their rows lie at or below some thresholds, as `FederatedRobustScaler` asks,
    until the extremes are found to the last bit. The result is what
    `sklearn.preprocessing.MinMaxScaler` finds on all rows together. NaN is no value, and stays NaN.

    Parameters
    ----------
    feature_range : tuple (min, max), default=(0, 1)
        What the extremes become.
    copy : bool, default=True
        False transforms in place where that can be.
    clip : bool, default=False
        Whether `transform` cuts off what lies beyond the range.

    Attributes
    ----------
    data_min_, data_max_, data_range_ : ndarray of shape (n_features_in_,)
        Extremes of each column over the rows of all clients, and their distance.
    scale_, min_ : ndarray of shape (n_features_in_,)
        `transform` is ``X * scale_ + min_``.
    n_samples_seen_ : int
        Number of rows.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    See Also
    --------
    FederatedRobustScaler : By quartiles, which a single wild row does not move.

    Notes
    -----
    With the clients at several sites, discloses numbers of rows below thresholds, and by them the
    extremes, which are values of single rows. Only sums over the clients are needed; without a
    secure sum the server learns of each client about where its own extremes lie.

    Examples
    --------
    >>> from skfedfocal.preprocessing import FederatedMinMaxScaler
    >>> X, clients = [[0.0], [1.0], [4.0]], ["a", "a", "b"]
    >>> FederatedMinMaxScaler().fit(X, clients=clients).transform(X).ravel()
    array([0.  , 0.25, 1.  ])
    """

    __metadata_request__fit = {"clients": True}
    _scaler = MinMaxScaler

    def __init__(
        self,
        feature_range: tuple[float, float] = (0, 1),
        *,
        copy: bool = True,
        clip: bool = False,
    ):
        super().__init__(feature_range=feature_range, copy=copy, clip=clip)

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, clients: Any = None) -> Self:
        """Find the clients' common extremes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of all clients.
        y : object, default=None
            Ignored.
        clients : array-like of shape (n_samples,), default=None
            Id of each row's client. None is one client.

        Returns
        -------
        self : object
            The fitted scaler.

        Raises
        ------
        ValueError
            If X is a dict of partitions, or `clients` are in another order than its rows.
        TypeError
            If X is sparse.
        """
        self._fit_here(X, clients)
        return self

    def _look(self, X: Any) -> tuple[Any, list[Any]]:
        if sparse.issparse(X):
            raise TypeError("Sparse rows cannot be moved; consider FederatedMaxAbsScaler.")
        X = validate_data(self, X, **_ACCEPTED)
        return X, [X.dtype] * X.shape[1]


class FederatedMaxAbsScaler(_ScalesByExtremes, MaxAbsScaler):
    r"""Scale columns by their largest absolute value, from counts alone.

    The extremes are found as `FederatedMinMaxScaler` finds them, of sparse rows too. The result is
    what `sklearn.preprocessing.MaxAbsScaler` finds on all rows together. NaN is no value, and stays
    NaN.

    Parameters
    ----------
    copy : bool, default=True
        False transforms in place where that can be.

    Attributes
    ----------
    max_abs_ : ndarray of shape (n_features_in_,)
        Largest absolute value of each column over the rows of all clients.
    scale_ : ndarray of shape (n_features_in_,)
        What columns are divided by: the same, and 1 for columns of zeros.
    n_samples_seen_ : int
        Number of rows.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    See Also
    --------
    FederatedMinMaxScaler : To a range, which moves zeros.

    Notes
    -----
    Discloses what `FederatedMinMaxScaler` does.

    Examples
    --------
    >>> from skfedfocal.preprocessing import FederatedMaxAbsScaler
    >>> X, clients = [[0.0], [1.0], [-4.0]], ["a", "a", "b"]
    >>> FederatedMaxAbsScaler().fit(X, clients=clients).transform(X).ravel()
    array([ 0.  ,  0.25, -1.  ])
    """

    __metadata_request__fit = {"clients": True}
    _scaler = MaxAbsScaler
    clip = False  # a parameter of newer versions of scikit-learn's, fixed here

    def __init__(self, *, copy: bool = True):
        self.copy = copy

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, clients: Any = None) -> Self:
        """Find the clients' common extremes.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows of all clients.
        y : object, default=None
            Ignored.
        clients : array-like of shape (n_samples,), default=None
            Id of each row's client. None is one client.

        Returns
        -------
        self : object
            The fitted scaler.

        Raises
        ------
        ValueError
            If X is a dict of partitions, or `clients` are in another order than its rows.
        """
        self._fit_here(X, clients)
        return self

    def _look(self, X: Any) -> tuple[Any, list[Any]]:
        X = validate_data(self, X, accept_sparse="csr", **_ACCEPTED)
        return X, [X.dtype] * X.shape[1]
