"""Columns of mean 0 and standard deviation 1, always or where they need it."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.moments import column_moments, standard_scale
from skfedfocal._data.queries import Query
from skfedfocal._disclosure import COLUMN_SUMS
from skfedfocal._sklearn import Interval
from skfedfocal.encodings._encoder import RowEncoder
from skfedfocal.encodings._encoding import NumericEncoding, Questions

_LARGE = 5.0  # root mean square of a column beyond which none is left as it is
_SMALL = 0.1  # that of the largest column below which none is
_MOST = 256  # columns
_ROWS_AT_A_TIME = 1 << 14


class StandardEncoding(NumericEncoding):
    r"""Every column less its mean and divided by its standard deviation, over all clients.

    The numbers are those of `skfedfocal.preprocessing.FederatedStandardScaler` in front of the
    classifier. Constant columns become 0. With a bound c, a standardised value z becomes
    :math:`z / \sqrt{1 + (z / c)^2}`, so that single rows far out have no long steps.

    Parameters
    ----------
    bound : float or None, default=None
        The bound, above 0; None for none. A good one is 3.

    Notes
    -----
    Discloses the sum of each column over the clients, and that of squared deviations.

    References
    ----------
    .. [1] D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: strong pre-tuned MLPs and
       boosted trees on tabular data", NeurIPS 2024 (the bound).

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skfedfocal import FedFocalClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> model = FedFocalClassifier(numeric_encoding="standard", n_rounds=20, random_state=0)
    >>> bool(model.fit(X, y).score(X, y) > 0.9)
    True
    """

    discloses = frozenset({COLUMN_SUMS})
    _parameter_constraints = {"bound": [Interval(Real, 0, None, closed="neither"), None]}

    def __init__(self, bound: float | None = None):
        self.bound = bound

    def questions(self, n_features: int) -> Questions:
        moments = yield from column_moments()
        scale, none = standard_scale(moments), np.zeros(0)
        return RowEncoder(moments.mean, scale, self.bound, none.astype(np.int64), none, none, 1.0)


class StandardIfUnscaled(StandardEncoding):
    """As `StandardEncoding`, where columns are not of order 1; else rows as they are.

    Clients are first asked for the root mean square of each column. If one is above 5, or all are
    below 0.1, all columns are standardised; so scaled columns, shares and pixels between 0 and 1
    stay what they are, to the last bit. Rows of more than 256 columns stay so unasked.

    Parameters
    ----------
    bound : float or None, default=None
        As in `StandardEncoding`.

    Notes
    -----
    Discloses the sum of each column's squares over the clients, and where columns are standardised
    what `StandardEncoding` does.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skfedfocal import FedFocalClassifier
    >>> X, y = load_wine(return_X_y=True)
    >>> raw = FedFocalClassifier(numeric_encoding="auto", n_rounds=20, random_state=0).fit(X, y)
    >>> scaled = FedFocalClassifier(n_rounds=20, random_state=0).fit(
    ...     StandardScaler().fit_transform(X), y
    ... )
    >>> bool(abs(raw.theta_ - scaled.theta_).max() < 1e-6), scaled.encoder_ is None
    (True, True)
    """

    def takes(self, n_features: int) -> bool:
        return n_features <= _MOST

    def questions(self, n_features: int) -> Questions:
        weight, squares = yield ColumnSquares()
        size = np.sqrt(squares / weight)
        if (size <= _LARGE).all() and size.max() >= _SMALL:
            return None
        return (yield from super().questions(n_features))


class ColumnSquares(Query):
    """By column, weight of the rows, and the weighted sum of squared values: (2, n_features)."""

    discloses = frozenset({COLUMN_SUMS})

    def answer(
        self, X: Any, y: Any, sample_weight: NDArray[np.float64] | None
    ) -> NDArray[np.float64]:
        total = np.zeros((2, X.shape[1]))
        for lo in range(0, len(X), _ROWS_AT_A_TIME):  # memory must not grow with all rows
            here = slice(lo, lo + _ROWS_AT_A_TIME)
            squares = np.square(X[here], dtype=np.float64)
            weight = np.ones(len(squares)) if sample_weight is None else sample_weight[here]
            total += np.stack([np.full(X.shape[1], weight.sum()), weight @ squares])
        return total
