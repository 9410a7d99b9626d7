"""Which rows train and which validate, in each fold of a search."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.rows import FederatedRows
from skfedfocal._data.validation import shuffled_cells
from skfedfocal._random import FOLDS
from skfedfocal._sklearn import InvalidParameterError

Mask = NDArray[np.bool_]


def splits_of(cv: Any, rows: FederatedRows, seed: int) -> list[tuple[Mask, Mask]]:
    """Masks of the training and validation rows of each fold.

    Parameters
    ----------
    cv : int, cross-validation generator or iterable
        A number of folds, or what scikit-learn takes, the clients being its groups.
    rows : FederatedRows
        All rows.
    seed : int
        Of folds that are a number.
    """
    layout, n_rows = rows.layout, len(rows.y)
    if isinstance(cv, Integral):
        fold = stratified_folds(seed, layout, rows.y, rows.n_classes, int(cv))
        return [(fold != f, fold == f) for f in range(cv)]
    owners = layout.codes(n_rows)
    if hasattr(cv, "split"):
        used = np.flatnonzero(owners >= 0)
        with warnings.catch_warnings():  # nobody who chose a splitter without groups gave any
            warnings.filterwarnings("ignore", "The groups parameter is ignored", UserWarning)
            splits = list(cv.split(np.empty(len(used)), rows.y[used], groups=owners[used]))
        splits = [(used[train], used[test]) for train, test in splits]
    else:  # row numbers as given
        try:
            splits = [(train, test) for train, test in cv]
        except (TypeError, ValueError) as error:
            raise wrong_cv(cv) from error
    masks = []
    for train, test in splits:
        mask = np.zeros((2, n_rows), bool)
        mask[0, train] = mask[1, test] = True
        masks.append((mask[0], mask[1]))
    if not masks:
        raise wrong_cv(cv)
    return masks


def wrong_cv(cv: Any) -> InvalidParameterError:
    """What to raise where `cv` is none of the kinds that it may be."""
    return InvalidParameterError(
        "cv must be a number of folds, a splitter of scikit-learn, or pairs of row numbers to "
        f"train and to validate on; got {cv!r}."
    )


def stratified_folds(
    seed: int, layout: ClientLayout, labels: NDArray[Any], n_classes: int, n_folds: int
) -> NDArray[np.int64]:
    """Number of the fold in which each row validates, even on each client and in each class.

    Each client can draw its own: the choice depends on the seed, its number and its labels only.

    Parameters
    ----------
    seed : int
        Of the search.
    layout : ClientLayout
        Which rows are whose.
    labels : ndarray of shape (n_samples,)
        Class numbers.
    n_classes : int
        Number of classes.
    n_folds : int
        Number of folds, at least 2.

    Returns
    -------
    fold : ndarray of shape (n_samples,)
        Between 0 and ``n_folds - 1``.
    """
    rows, rank, present, sizes = shuffled_cells(seed, FOLDS, layout, labels, n_classes)
    # Classes of a client take turns, so that single rows do not all fall into the first fold.
    owner, label = np.divmod(present, n_classes)
    turn = np.repeat(owner + label, sizes)
    fold = np.zeros(len(labels), np.int64)
    fold[rows] = (rank + turn) % n_folds
    return fold
