"""Standard scaling from sums."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skfedfocal._data.moments import Moments, column_moments, scaled, standard_scale
from skfedfocal._sklearn import _check_sample_weight, _fit_context
from skfedfocal.preprocessing._ask import (
    About,
    FittedByQuestions,
    Learning,
    check_rows,
    settle_here,
)

_ACCEPTED: dict[str, Any] = {
    "accept_sparse": "csr",
    "dtype": [np.float64, np.float32],
    "ensure_all_finite": "allow-nan",
}


class FederatedStandardScaler(
    FittedByQuestions, OneToOneFeatureMixin, TransformerMixin, BaseEstimator
):
    r"""Standardise columns to mean 0 and variance 1, from each client's sums alone.

    Clients are asked twice: for their number of rows and the sum of each column, and then, with the
    mean known, for the sum of squared deviations from it. Added up, these give what
    `sklearn.preprocessing.StandardScaler` finds on all rows together. As there, NaN is no value: it
    counts nowhere, and stays NaN.

    Parameters
    ----------
    with_mean : bool, default=True
        Whether to centre; sparse rows cannot be.
    with_std : bool, default=True
        Whether to scale to unit variance.

    Attributes
    ----------
    mean_, var_ : ndarray of shape (n_features_in_,)
        Mean and variance of each column over the rows of all clients.
    scale_ : ndarray of shape (n_features_in_,) or None
        What columns are divided by: the square root of `var_`, 1 for constant columns; None
        without `with_std`.
    n_samples_seen_ : int, float or ndarray of shape (n_features_in_,)
        Number of rows, or sum of their weights; by column where some have missing values.
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

    _takes_weights = True
    __metadata_request__fit = {"clients": True}
    __metadata_request__partial_fit = {"clients": True}
    _parameter_constraints = {"with_mean": ["boolean"], "with_std": ["boolean"]}

    def __init__(self, *, with_mean: bool = True, with_std: bool = True):
        self.with_mean = with_mean
        self.with_std = with_std

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, clients: Any = None) -> Self:
        """Merge the clients' statistics.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
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
        TypeError
            If sparse rows are to be centred.
        """
        return self.set_moments(self._ask(X, sample_weight, clients, reset=True))

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, clients: Any = None
    ) -> Self:
        """Merge the statistics of further rows with those so far.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Further rows of all clients, or of some.
        y : object, default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of rows.
        clients : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
            The fitted scaler.
        """
        is_new = not hasattr(self, "n_samples_seen_")
        more = self._ask(X, sample_weight, clients, reset=is_new)
        if is_new:
            return self.set_moments(more)
        n = np.broadcast_to(np.asarray(self.n_samples_seen_, np.float64), self.mean_.shape)
        return self.set_moments(Moments(n, self.mean_, self.var_ * n).merge(more))

    def _ask(self, X: Any, sample_weight: Any, clients: Any, reset: bool) -> Moments:
        check_rows(X, clients)
        X = self._look(X, reset)[0]
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            if not sample_weight.any():
                raise ValueError(
                    "sample_weight is zero for every row; there is nothing to scale by."
                )
        return settle_here(column_moments(), X, clients, sample_weight)

    def _look(self, X: Any, reset: bool = True) -> tuple[Any, list[Any]]:
        X = validate_data(self, X, reset=reset, **_ACCEPTED)
        self._refuse_centring(X)
        return X, [X.dtype] * X.shape[1]

    def _learn(self, about: About) -> Learning:
        self.set_moments((yield from column_moments()))

    def _refuse_centring(self, X: Any) -> None:
        if self.with_mean and sparse.issparse(X):
            raise TypeError("Cannot center sparse matrices: pass with_mean=False instead.")

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
        self.n_samples_seen_ = total.n_samples_seen
        self.mean_ = total.mean
        self.var_ = total.variance
        self.scale_ = standard_scale(total) if self.with_std else None
        return self

    def transform(self, X: Any) -> Any:
        """Centre and scale.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        X_out : ndarray or sparse matrix of shape (n_samples, n_features)
            Scaled rows.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, **_ACCEPTED)
        self._refuse_centring(X)
        if sparse.issparse(X):
            return X.copy() if self.scale_ is None else _times(X, 1 / self.scale_)
        return scaled(X, self.mean_ if self.with_mean else None, self.scale_)

    def inverse_transform(self, X: Any) -> Any:
        """Undo `transform`.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Scaled rows.

        Returns
        -------
        X_out : ndarray or sparse matrix of shape (n_samples, n_features)
            Rows in their own units.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, copy=True, **_ACCEPTED)
        self._refuse_centring(X)
        if sparse.issparse(X):
            return X if self.scale_ is None else _times(X, self.scale_)
        if self.scale_ is not None:
            X *= self.scale_.astype(X.dtype)
        if self.with_mean:
            X += self.mean_.astype(X.dtype)
        return X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.sparse = not self.with_mean
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _times(X: Any, factor: Any) -> Any:
    """A sparse copy of X with its columns multiplied."""
    X = X.copy()
    X.data *= factor.astype(X.dtype)[X.indices]
    return X
