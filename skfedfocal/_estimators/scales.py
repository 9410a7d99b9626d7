"""A training that was lost in its first round, because columns are not scaled: said by name."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

# First-round losses, in units of log(n_classes): at most 1.1 on eleven sets with scaled columns; 3
# and more on every set whose raw columns cost accuracy, and beyond 60 where one class was left.
_LOST = 3.0
_LARGE = 5.0  # standard deviation beyond which a column is named
_SHOWN = 5
_ROWS = 10_000


def warn_if_unscaled(
    loss: float, n_classes: int, X: Any = None, names: NDArray[Any] | None = None
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
    """
    if not loss > _LOST * np.log(n_classes):
        return
    columns = "" if X is None or X.ndim != 2 else _large_columns(X, names)
    warnings.warn(
        f"The first round's loss is {loss:.3g}, where log(n_classes) is {np.log(n_classes):.3g}: "
        f"the columns of X are of too large a scale{columns}, and the model is likely to decide "
        "for few classes. Scale them (StandardScaler, or FederatedStandardScaler from sums).",
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
