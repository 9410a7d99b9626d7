"""Robust scaling from counts below thresholds."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import sparse, stats
from sklearn.preprocessing import RobustScaler
from sklearn.utils.validation import validate_data

from skfedfocal._data.quantiles import column_quantiles
from skfedfocal._sklearn import InvalidParameterError, _fit_context
from skfedfocal.preprocessing._ask import About, FittedByQuestions, Learning


class FederatedRobustScaler(FittedByQuestions, RobustScaler):
    r"""Centre columns by their median and scale them by their quartiles, from counts alone.

    Clients are asked how many of their rows lie at or below each of some thresholds, nine times,
    with thresholds between what the last sums have left possible. The medians and quantiles are
    then those of all rows together, to the last bit, and so the result is what
    `sklearn.preprocessing.RobustScaler` finds on them. NaN is no value: it counts nowhere, and
    stays NaN.

    Parameters
    ----------
    with_centering : bool, default=True
        Whether to subtract the median; sparse rows cannot be centred.
    with_scaling : bool, default=True
        Whether to divide by the distance of the quantiles.
    quantile_range : tuple (q_min, q_max), default=(25.0, 75.0)
        In percent, 0 <= q_min <= q_max <= 100.
    copy : bool, default=True
        False transforms in place where that can be.
    unit_variance : bool, default=False
        Whether to scale so that columns with a normal law get variance 1.

    Attributes
    ----------
    center_ : ndarray of shape (n_features_in_,) or None
        Medians; None without `with_centering`.
    scale_ : ndarray of shape (n_features_in_,) or None
        What columns are divided by, 1 where the quantiles agree; None without `with_scaling`.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    See Also
    --------
    FederatedStandardScaler : By mean and standard deviation, from two questions.

    Notes
    -----
    With the clients at several sites, discloses numbers of rows below thresholds, and by them the
    quantiles: these are values of single rows, or lie between two. Only sums over the clients are
    needed. Of a client that sends its own counts to the server, because there is no secure sum,
    the server learns values near the quantiles as well.

    Examples
    --------
    >>> from skfedfocal.preprocessing import FederatedRobustScaler
    >>> X, clients = [[0.0], [1.0], [2.0], [3.0], [1000.0]], ["a", "a", "b", "b", "b"]
    >>> scaler = FederatedRobustScaler().fit(X, clients=clients)
    >>> scaler.center_, scaler.scale_
    (array([2.]), array([2.]))
    """

    __metadata_request__fit = {"clients": True}

    def __init__(
        self,
        *,
        with_centering: bool = True,
        with_scaling: bool = True,
        quantile_range: tuple[float, float] = (25.0, 75.0),
        copy: bool = True,
        unit_variance: bool = False,
    ):
        super().__init__(
            with_centering=with_centering,
            with_scaling=with_scaling,
            quantile_range=quantile_range,
            copy=copy,
            unit_variance=unit_variance,
        )

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, clients: Any = None) -> Self:
        """Find the clients' common quantiles.

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
            If X is a dict of partitions, `clients` are in another order than its rows, or the range
            of quantiles is none.
        TypeError
            If sparse rows are to be centred.
        """
        self._fit_here(X, clients)
        return self

    def _look(self, X: Any) -> tuple[Any, list[Any]]:
        X = validate_data(
            self,
            X,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )
        if self.with_centering and sparse.issparse(X):
            raise TypeError("Cannot center sparse matrices: pass with_centering=False instead.")
        return X, [X.dtype] * X.shape[1]

    def _learn(self, about: About) -> Learning:
        q_min, q_max = self.quantile_range
        if not 0 <= q_min <= q_max <= 100:
            raise InvalidParameterError(f"Invalid quantile range: {self.quantile_range}")
        self.center_ = self.scale_ = None
        shares = [0.5] * self.with_centering + [q_min / 100, q_max / 100] * self.with_scaling
        if not shares:
            return
        found = yield from column_quantiles(shares)
        if self.with_centering:
            self.center_ = found[0]
        if self.with_scaling:
            scale = found[-1] - found[-2]
            scale[scale < 10 * np.finfo(scale.dtype).eps] = 1.0  # scikit-learn's rule
            normal = stats.norm.ppf(q_max / 100) - stats.norm.ppf(q_min / 100)
            self.scale_ = scale / normal if self.unit_variance else scale
