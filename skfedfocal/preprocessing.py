"""Preprocessing from statistics that sites can share: sums, not rows."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skfedfocal._data.clients import ClientLayout, check_order
from skfedfocal._data.inputs import refuse_partitions
from skfedfocal._data.moments import Moments, column_moments, scaled, standard_scale
from skfedfocal._data.queries import PlainRows, settle
from skfedfocal._sklearn import _check_sample_weight, _fit_context


class FederatedStandardScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Standardise columns to mean 0 and variance 1, from each client's sums alone.

    Clients are asked twice: for their number of rows and the sum of each column, and then, with the
    mean known, for the sum of squared deviations from it. Added up, these give what
    `sklearn.preprocessing.StandardScaler` finds on all rows together.

    Parameters
    ----------
    with_mean : bool, default=True
        Whether to centre.
    with_std : bool, default=True
        Whether to scale to unit variance.

    Attributes
    ----------
    mean_, var_ : ndarray of shape (n_features_in_,)
        Mean and variance of each column over the rows of all clients.
    scale_ : ndarray of shape (n_features_in_,) or None
        What columns are divided by: the square root of `var_`, 1 for constant columns; None
        without `with_std`.
    n_samples_seen_ : int or float
        Number of rows, or sum of their weights.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    Notes
    -----
    With the clients at several sites, discloses sums of columns and of their squared deviations,
    once. The mathematics needs only the totals over all clients; without a secure sum each site
    sends its own, and the server adds them up. Sums of plain squares would lose the variance of
    columns that lie far from 0; deviations from the common mean do not.

    Examples
    --------
    >>> from skfedfocal.preprocessing import FederatedStandardScaler
    >>> X, clients = [[0.0], [2.0], [4.0]], ["a", "a", "b"]
    >>> FederatedStandardScaler().fit(X, clients=clients).mean_
    array([2.])
    """

    __metadata_request__fit = {"clients": True}
    _parameter_constraints = {"with_mean": ["boolean"], "with_std": ["boolean"]}

    def __init__(self, *, with_mean: bool = True, with_std: bool = True):
        self.with_mean = with_mean
        self.with_std = with_std

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, clients: Any = None) -> Self:
        """Merge the clients' statistics.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of all clients.
        y : object, default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of rows.
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
        refuse_partitions(X)
        check_order(X, clients)
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
        layout = ClientLayout.from_ids(clients, X.shape[0])
        rows = PlainRows(X, None, sample_weight, layout)
        everyone = np.arange(layout.n_clients)
        return self.set_moments(
            settle(column_moments(), lambda query: query.answers(rows, everyone).sum(0))
        )

    def set_moments(self, total: Moments) -> Self:
        """Take the merged statistics of all clients as the fit.

        Parameters
        ----------
        total : Moments
            Number, mean and sum of squared deviations.

        Returns
        -------
        self : object
            The fitted scaler.
        """
        self.n_samples_seen_ = int(total.n) if total.n == int(total.n) else float(total.n)
        self.mean_ = total.mean
        self.var_ = total.variance
        self.scale_ = standard_scale(total) if self.with_std else None
        return self

    def transform(self, X: Any) -> NDArray[Any]:
        """Centre and scale.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        X_out : ndarray of shape (n_samples, n_features)
            Scaled rows.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return scaled(X, self.mean_ if self.with_mean else None, self.scale_)

    def inverse_transform(self, X: Any) -> NDArray[Any]:
        """Undo `transform`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Scaled rows.

        Returns
        -------
        X_out : ndarray of shape (n_samples, n_features)
            Rows in their own units.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32], copy=True)
        if self.scale_ is not None:
            X *= self.scale_.astype(X.dtype)
        if self.with_mean:
            X += self.mean_.astype(X.dtype)
        return X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
