"""Columns whose scale costs a model its worth, said by name: before training, or by its loss."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skfedfocal.encodings._encoder import RowEncoder

# First-round losses, in units of log(n_classes): at most 1.1 on eleven sets with scaled columns; 3
# and more on every set whose raw columns cost accuracy, and beyond 60 where one class was left.
_LOST = 3.0
_LARGE = 5.0  # standard deviation beyond which a column is named
_SHOWN = 5
_ROWS = 10_000
_SQUEEZED = 0.01  # standard deviations between quartiles


def warn_if_unscaled(
    loss: float,
    n_classes: int,
    X: Any = None,
    names: NDArray[Any] | None = None,
    *,
    encoded: bool = False,
) -> None:
    """Warn where the first round's loss tells that the columns are of too large a scale.

    The hidden units are then dead, and the model decides for one class, or nearly so.

    Parameters
    ----------
    loss : float
        Of the first round.
    n_classes : int
        Number of classes.
    X : ndarray of shape (n_samples, n_features) or CSR matrix, default=None
        The rows, where they are here, so that the columns can be named.
    names : ndarray of shape (n_features,) or None, default=None
        Names of the columns.
    encoded : bool, default=False
        Whether columns are standardised in the classifier, so that their scale cannot be it.
    """
    if not loss > _LOST * np.log(n_classes):
        return
    lost = (
        f"The first round's loss is {loss:.3g}, where log(n_classes) is {np.log(n_classes):.3g}, "
        "and the model is likely to decide for few classes: "
    )
    if encoded:
        why = (
            "steps are too long for the columns, though they are standardised. Lower "
            "learning_rate, or bound values far out: numeric_encoding=StandardEncoding(bound=3)."
        )
    else:
        columns = "" if X is None or X.ndim != 2 else _large_columns(X, names)
        why = (
            f"the columns of X are of too large a scale{columns}. Scale them (StandardScaler, or "
            "FederatedStandardScaler from sums; numeric_encoding='standard' for dense rows and the "
            "default module)."
        )
    warnings.warn(lost + why, UserWarning, stacklevel=5)


def warn_if_squeezed(X: Any, encoder: RowEncoder, names: NDArray[Any] | None = None) -> None:
    """Warn of columns whose values, once standardised, are all but equal for most rows.

    Few values that lie far out do that, and clients that have another unit. Bins tell such values
    apart; so nothing is said where there are any.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        The rows.
    encoder : RowEncoder
        What they go through.
    names : ndarray of shape (n_features,) or None, default=None
        Names of the columns.
    """
    if len(encoder.column):
        return
    some = np.asarray(X[:: max(1, len(X) // _ROWS)], np.float64)
    first, third = np.quantile(some, [0.25, 0.75], axis=0)
    share = (third - first) / encoder.scale
    squeezed = np.flatnonzero((share > 0) & (share < _SQUEEZED))
    if not len(squeezed):
        return
    j = squeezed[0]
    values = X[:, j].astype(np.float64)
    value = values[np.abs(values - encoder.mean[j]).argmax()]
    column = f"{j}" if names is None else f"{j} ({names[j]!r})"
    more = f", as have {len(squeezed) - 1} more columns" if len(squeezed) > 1 else ""
    warnings.warn(
        f"X has the value {value:g} in column {column}{more}: so far from the rest that half of "
        f"the rows lie within {_SQUEEZED:.0%} of a standard deviation, and become all but "
        "equal. If it is a mistake, mend it or leave its row out; if a client has another unit, "
        "convert it; else take logarithms, or use numeric_encoding='piecewise_linear'.",
        UserWarning,
        stacklevel=5,
    )


def _large_columns(X: Any, names: NDArray[Any] | None) -> str:
    """The columns of largest spread or offset, in words."""
    some = X[:_ROWS]
    values = some.toarray() if sparse.issparse(some) else np.asarray(some)
    size = np.abs(values.mean(0, dtype=np.float64)) + values.std(0, dtype=np.float64)
    large = np.argsort(-size)[: min(_SHOWN, int((size > _LARGE).sum()))]
    if not len(large):
        return ""
    found = [f"{j if names is None else repr(names[j])} (about {size[j]:.3g})" for j in large]
    more = int((size > _LARGE).sum()) - len(large)
    return f", {', '.join(found)}" + (f" and {more} more" if more else "")
