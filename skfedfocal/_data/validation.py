"""Which rows each client holds out to validate on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.clients import ClientLayout
from skfedfocal._random import VALIDATION, shuffled_places, validation_generator


def validation_rows(
    seed: int, layout: ClientLayout, labels: NDArray[Any], n_classes: int, fraction: float
) -> NDArray[np.bool_]:
    """Hold out a share of each client's rows of each class, at random but at least one kept.

    Each client can draw its own: the choice depends on the seed, its number and its labels only.

    Parameters
    ----------
    seed : int
        Of the training.
    layout : ClientLayout
        Which rows are whose.
    labels : ndarray of shape (n_samples,)
        Class numbers.
    n_classes : int
        Number of classes.
    fraction : float
        Share held out, in (0, 1).

    Returns
    -------
    held_out : ndarray of shape (n_samples,)
        Mask of the rows held out.
    """
    rows, rank, present, sizes = shuffled_cells(seed, VALIDATION, layout, labels, n_classes)
    # Fractions of a row are rounded so that they come out right on average over clients.
    luck = validation_generator(seed)
    rounding = luck.random(layout.n_clients * n_classes)[present]
    n_held = np.minimum((fraction * sizes + rounding).astype(np.int64), sizes - 1)
    held_out = np.zeros(len(labels), bool)
    held_out[rows[rank < np.repeat(n_held, sizes)]] = True
    return held_out


def shuffled_cells(
    seed: int, stream: int, layout: ClientLayout, labels: NDArray[Any], n_classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows cell by cell, a cell being a class on a client, at random within each.

    Returns the rows, the rank of each within its cell, and the cells (client times `n_classes` plus
    class) with their sizes.
    """
    rows = layout.rows(np.arange(layout.offsets[-1]))
    cells = layout.owners() * n_classes + labels[rows]
    by_cell = np.argsort(cells, kind="stable")
    present, starts, sizes = np.unique(cells[by_cell], return_index=True, return_counts=True)
    first = np.repeat(starts, sizes)
    drawn = shuffled_places(seed, 0, stream, present, sizes) + first
    return rows[by_cell[drawn]], np.arange(len(rows)) - first, present, sizes
