"""Columns of an agreed law, by quantiles from counts below thresholds."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any, Self

import numpy as np
from scipy import sparse
from sklearn.preprocessing import QuantileTransformer

from skfedfocal._data.quantiles import column_quantiles
from skfedfocal._sklearn import Interval, StrOptions, _fit_context
from skfedfocal.preprocessing._ask import About, FittedByQuestions, Learning


class FederatedQuantileTransformer(FittedByQuestions, QuantileTransformer):
    r"""Give columns a uniform or normal law, by their common quantiles, from counts alone.

    Clients are asked how many of their rows lie at or below each of some thresholds, 17 times, with
    thresholds between what the last sums have left possible. The quantiles are then those of all
    rows together, so that the result is
    what `sklearn.preprocessing.QuantileTransformer` finds on them with ``subsample=None``. NaN is
    no value: it counts nowhere, and stays NaN.

    Parameters
    ----------
    n_quantiles : int, default=100
        Number of quantiles, at least 1; no more than there are rows are used. Between two of them
        values are interpolated.
    output_distribution : {"uniform", "normal"}, default="uniform"
        The law that columns get.
    copy : bool, default=True
        False transforms in place where that can be.

    Attributes
    ----------
    n_quantiles_ : int
        Number of quantiles used.
    quantiles_ : ndarray of shape (n_quantiles_, n_features_in_)
        Of each column, over the rows of all clients.
    references_ : ndarray of shape (n_quantiles_,)
        Shares of rows that they are the quantiles of.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    See Also
    --------
    FederatedRobustScaler : Scales by two quantiles, and discloses no others.

    Notes
    -----
    With the clients at several sites, discloses numbers of rows below thresholds, and by them the
    quantiles: these are values of single rows, or lie between two, and the first and last are a
    column's extremes. With as many quantiles as rows they are all values there are, though not
    which belong to one row; hence the default of 100, where scikit-learn's is 1000, and a warning
    where there are no more rows than quantiles. Only sums over the clients are needed. Sites are
    given the quantiles as well.

    Examples
    --------
    >>> from skfedfocal.preprocessing import FederatedQuantileTransformer
    >>> X, clients = [[0.0], [1.0], [2.0], [3.0], [1000.0]], ["a", "a", "b", "b", "b"]
    >>> transformer = FederatedQuantileTransformer(n_quantiles=3).fit(X, clients=clients)
    >>> transformer.quantiles_.ravel(), transformer.transform([[501.0]])
    (array([   0.,    2., 1000.]), array([[0.75]]))
    """

    __metadata_request__fit = {"clients": True}
    _parameter_constraints = {
        "n_quantiles": [Interval(Integral, 1, None, closed="left")],
        "output_distribution": [StrOptions({"uniform", "normal"})],
        "copy": ["boolean"],
    }
    # Parameters of scikit-learn's transformer that are fixed here.
    ignore_implicit_zeros = False
    subsample = None
    random_state = None

    def __init__(
        self,
        *,
        n_quantiles: int = 100,
        output_distribution: str = "uniform",
        copy: bool = True,
    ):
        self.n_quantiles = n_quantiles
        self.output_distribution = output_distribution
        self.copy = copy

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, clients: Any = None) -> Self:
        """Find the clients' common quantiles.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows of all clients; sparse ones must not be negative.
        y : object, default=None
            Ignored.
        clients : array-like of shape (n_samples,), default=None
            Id of each row's client. None is one client.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If X is a dict of partitions, `clients` are in another order than its rows, or sparse
            rows have negative values.
        """
        self._fit_here(X, clients)
        return self

    def _look(self, X: Any) -> tuple[Any, list[Any]]:
        X = self._check_inputs(X, in_fit=True)
        if sparse.issparse(X):
            X = X.tocsr()
        return X, [X.dtype] * X.shape[1]

    def _learn(self, about: About) -> Learning:
        if self.n_quantiles > about.n_rows:
            warnings.warn(
                f"n_quantiles={self.n_quantiles} is more than the {about.n_rows} rows, so that as "
                "many are used, and disclosed: they are all values of each column. Set less.",
                stacklevel=2,
            )
        self.n_quantiles_ = max(1, min(self.n_quantiles, about.n_rows))
        self.references_ = np.linspace(0, 1, self.n_quantiles_, endpoint=True)
        shares = self.references_ * 100 / 100  # in percent and back, as in scikit-learn
        found = yield from column_quantiles(shares, are_many=True)
        # Between values that are alike rounding could make a later quantile the smaller one.
        self.quantiles_ = np.maximum.accumulate(found)
