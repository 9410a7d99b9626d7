"""Columns as places within bins between quantiles."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np

from skfedfocal._data.moments import column_moments, standard_scale
from skfedfocal._data.quantiles import column_cuts
from skfedfocal._disclosure import COLUMN_SUMS, COUNTS_BELOW
from skfedfocal._sklearn import Interval
from skfedfocal.encodings._encoder import RowEncoder
from skfedfocal.encodings._encoding import NumericEncoding, Questions


class PiecewiseLinearEncoding(NumericEncoding):
    r"""Every column standardised, and beside it how far into each of its bins a value is.

    Bins lie between quantiles :math:`b_0 \le \ldots \le b_T` of the column over all clients; in the
    place of bin t a value x has

    .. math:: h \min(1, \max(0, (x - b_{t-1}) / (b_t - b_{t-1}))),

    so that a linear layer has any function of the column that is linear within the bins. Equal
    quantiles have no bin between them; a column of two values has one.

    Use it where classes are not monotone in single columns, as trees find and a small network does
    not. Where they are, it has more to fit than rows may tell: then it costs a little.

    Parameters
    ----------
    n_bins : int, default=16
        Bins T of a column, at least 1. The first layer gets ``n_bins + 1`` inputs a column.
    height : float, default=0.5
        What a bin that a value is beyond becomes, above 0. The lower, the slower are bins learned,
        beside the standardised columns.
    bound : float or None, default=10.0
        What standardised columns approach but do not reach, above 0; None for no bound.

    Notes
    -----
    Discloses sums of columns, and numbers of rows below thresholds: by these the server learns the
    quantiles, which are values of single rows, the least and the greatest among them. Only sums
    over the clients are needed.

    Of Gorishniy et al., but that the column itself stays beside its bins, that values before the
    first bin and beyond the last are as if at their ends, and that training begins with the model
    without bins: their weights are 0 at first. The bound is that of RealMLP.

    References
    ----------
    .. [1] Y. Gorishniy, I. Rubachev, A. Babenko, "On embeddings for numerical features in tabular
       deep learning", NeurIPS 2022.
    .. [2] D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: strong pre-tuned MLPs and
       boosted trees on tabular data", NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal import FedFocalClassifier
    >>> X = np.random.default_rng(0).uniform(-2, 2, size=(1200, 3))
    >>> y = np.floor(2 * X[:, 0]) % 2  # up and down again along the first column
    >>> model = FedFocalClassifier(
    ...     numeric_encoding="piecewise_linear",
    ...     n_rounds=40,
    ...     batch_size=10,
    ...     learning_rate=0.3,
    ...     random_state=0,
    ... )
    >>> model = model.fit(X[:800], y[:800], clients=np.arange(800) % 4)
    >>> bool(model.score(X[800:], y[800:]) > 0.9)
    True
    """

    discloses = frozenset({COLUMN_SUMS, COUNTS_BELOW})
    _parameter_constraints = {
        "n_bins": [Interval(Integral, 1, None, closed="left")],
        "height": [Interval(Real, 0, None, closed="neither")],
        "bound": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(self, n_bins: int = 16, height: float = 0.5, bound: float | None = 10.0):
        self.n_bins = n_bins
        self.height = height
        self.bound = bound

    def questions(self, n_features: int) -> Questions:
        moments = yield from column_moments()
        cuts = yield from column_cuts(self.n_bins)
        width = np.diff(cuts, axis=0).T
        column, bin_ = np.nonzero(width > 0)
        return RowEncoder(
            moments.mean,
            standard_scale(moments),
            self.bound,
            column,
            cuts.T[column, bin_],
            width[column, bin_],
            self.height,
        )
