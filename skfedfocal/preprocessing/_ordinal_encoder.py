"""Ordinal encoding with categories from counts."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from sklearn.preprocessing import OrdinalEncoder

from skfedfocal._sklearn import Interval, _fit_context
from skfedfocal.preprocessing._encoding import EncodesCategories


class FederatedOrdinalEncoder(EncodesCategories, OrdinalEncoder):
    r"""A number for each category, with categories from the clients' counts alone.

    The categories are found as `FederatedOneHotEncoder` finds them, and the result is what
    `sklearn.preprocessing.OrdinalEncoder` finds on all rows together, with all of its parameters.
    It suits categories that have an order, and modules that look them up (embeddings).

    Parameters
    ----------
    categories : "auto" or list of array-like, default="auto"
        For each column the values that it may have, in the order of their numbers; "auto" finds
        those that there are, and sorts them.
    dtype : number type, default=float
        Of the result.
    handle_unknown : {"error", "use_encoded_value"}, default="error"
        What becomes of a value that is no category, in `transform`, and with "error" in `fit`.
    unknown_value : int or NaN, default=None
        The number of such values with "use_encoded_value".
    encoded_missing_value : int or NaN, default=NaN
        The number of NaN.
    min_frequency : int or float, default=None
        Categories of fewer rows, or of a smaller share of all rows, are infrequent: they share one
        number.
    max_categories : int, default=None
        Largest number of numbers for one column, without missing and unknown values; the rarest
        categories are infrequent.
    min_rows : int, default=1
        Values of fewer rows than that, over all clients, are not asked about to their end, and are
        unknown: it needs ``handle_unknown="use_encoded_value"``.

    Attributes
    ----------
    categories_ : list of ndarray
        Of each column, in the order of their numbers.
    infrequent_categories_ : list of ndarray
        Of each column; where `min_frequency` or `max_categories` groups them.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    See Also
    --------
    FederatedOneHotEncoder : A column for each category; and what finding them discloses.

    Notes
    -----
    With the clients at several sites, discloses the values of each column with their numbers of
    rows, as `FederatedOneHotEncoder` does, which also says what `min_rows` withholds, and how gaps
    and columns of another type are taken at `transform`.

    Examples
    --------
    >>> from skfedfocal.preprocessing import FederatedOrdinalEncoder
    >>> X, clients = [["mild"], ["severe"], ["none"]], ["a", "a", "b"]
    >>> encoder = FederatedOrdinalEncoder(categories=[["none", "mild", "severe"]])
    >>> encoder.fit(X, clients=clients).transform(X).ravel()
    array([1., 2., 0.])
    """

    __metadata_request__fit = {"clients": True}
    _encoder = OrdinalEncoder
    _for_withheld = ("use_encoded_value",)
    _parameter_constraints = {
        **OrdinalEncoder._parameter_constraints,
        "min_rows": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        *,
        categories: Any = "auto",
        dtype: Any = np.float64,
        handle_unknown: str = "error",
        unknown_value: float | None = None,
        encoded_missing_value: float = np.nan,
        min_frequency: float | None = None,
        max_categories: int | None = None,
        min_rows: int = 1,
    ):
        super().__init__(
            categories=categories,
            dtype=dtype,
            handle_unknown=handle_unknown,
            unknown_value=unknown_value,
            encoded_missing_value=encoded_missing_value,
            min_frequency=min_frequency,
            max_categories=max_categories,
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
