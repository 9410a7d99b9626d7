"""One-hot encoding with categories from counts."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.preprocessing import OneHotEncoder

from skfedfocal._sklearn import Interval, _fit_context
from skfedfocal.preprocessing._encoding import EncodesCategories


class FederatedOneHotEncoder(EncodesCategories, OneHotEncoder):
    r"""A column of 0 and 1 for each category, with categories from the clients' counts alone.

    Clients are asked how many of their rows have values that begin in some way, until all values
    are read to their end. Added up over the clients, the counts give the categories of all rows
    together and their frequencies, so that the result is what `sklearn.preprocessing.OneHotEncoder`
    finds on them, with all of its parameters.

    Parameters
    ----------
    categories : "auto" or list of array-like, default="auto"
        For each column the values that it may have; "auto" finds those that there are.
    drop : {"first", "if_binary"}, array-like of shape (n_features,) or None, default=None
        Category of each column that gets no column of its own.
    sparse_output : bool, default=True
        Whether `transform` returns a sparse matrix.
    dtype : number type, default=float
        Of the result.
    handle_unknown : {"error", "ignore", "infrequent_if_exist", "warn"}, default="error"
        What becomes of a value that is no category, in `transform`, and with "error" in `fit`.
    min_frequency : int or float, default=None
        Categories of fewer rows, or of a smaller share of all rows, are infrequent: they share one
        column.
    max_categories : int, default=None
        Largest number of columns for one column of X; the rarest categories are infrequent.
    feature_name_combiner : "concat" or callable, default="concat"
        How names of columns and categories make those of the result.
    min_rows : int, default=1
        Values of fewer rows than that, over all clients, are not asked about to their end. With
        `handle_unknown` "infrequent_if_exist" or "warn" they count as infrequent, as if
        `min_frequency` were no less; with "ignore" they are 0 in all columns.

    Attributes
    ----------
    categories_ : list of ndarray
        Of each column, sorted. Where values were withheld it has one more, which no row has.
    drop_idx_ : ndarray of shape (n_features_in_,) or None
        Place of the dropped category of each column.
    infrequent_categories_ : list of ndarray
        Of each column; where `min_frequency`, `max_categories` or `min_rows` groups them.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    See Also
    --------
    FederatedOrdinalEncoder : One column with a number for each category.

    Notes
    -----
    With the clients at several sites, discloses the values of each column with their numbers of
    rows. The mathematics needs only sums over the clients. With `min_rows` above 1 the server
    learns, of a value of fewer rows, how it begins up to the byte that tells it from all others,
    and how many rows begin so: who can list the values that there might be can guess it. Without
    secure sums it learns this of each client as well. Sites learn the categories, and nothing of
    values that are withheld. With `categories` given it discloses numbers of rows by category, and
    nothing where these do not matter: neither `min_frequency` nor `max_categories`, and
    `handle_unknown` other than "error".

    A gap at `transform` is taken for the one that `fit` had, be it None, NaN or pandas.NA; if it
    had two kinds, they are two categories, as in scikit-learn. A column of numbers alone where
    `fit` had texts alone, or the other way about, is refused.

    Examples
    --------
    >>> from skfedfocal.preprocessing import FederatedOneHotEncoder
    >>> X, clients = [["yes"], ["no"], ["unsure"], ["no"]], ["a", "a", "b", "b"]
    >>> encoder = FederatedOneHotEncoder(sparse_output=False).fit(X, clients=clients)
    >>> encoder.categories_[0].tolist(), encoder.transform([["no"]])
    (['no', 'unsure', 'yes'], array([[1., 0., 0.]]))
    """

    __metadata_request__fit = {"clients": True}
    _encoder = OneHotEncoder
    _for_withheld = ("infrequent_if_exist", "warn", "ignore")
    _parameter_constraints = {
        **OneHotEncoder._parameter_constraints,
        "min_rows": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        categories: Any = "auto",
        drop: Any = None,
        sparse_output: bool = True,
        dtype: Any = np.float64,
        handle_unknown: str = "error",
        min_frequency: float | None = None,
        max_categories: int | None = None,
        feature_name_combiner: Any = "concat",
        min_rows: int = 1,
    ):
        super().__init__(
            categories=categories,
            drop=drop,
            sparse_output=sparse_output,
            dtype=dtype,
            handle_unknown=handle_unknown,
            min_frequency=min_frequency,
            max_categories=max_categories,
            feature_name_combiner=feature_name_combiner,
        )
        self.min_rows = min_rows

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, clients: Any = None) -> Self:
        """Find the clients' common categories.

        Parameters
        ----------
        X : array-like or frame of shape (n_samples, n_features)
            Rows of all clients.
        y : object, default=None
            Ignored.
        clients : array-like of shape (n_samples,), default=None
            Id of each row's client. None is one client.

        Returns
        -------
        self : object
            The fitted encoder.

        Raises
        ------
        ValueError
            If X is a dict of partitions or has a column of dates, `clients` are in another order
            than its rows, or a column has values that are not among the categories given.
        TypeError
            If a value is no number and no text, or a column has both.
        """
        self._fit_here(X, clients)
        return self
