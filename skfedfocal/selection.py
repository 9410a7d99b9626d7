"""Selections: which clients take part in a round."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from skfedfocal._clients import ClientStats
from skfedfocal._component import Component


class Selection(Component):
    """Draws the cohort of a round from what the server knows of the clients.

    Attributes
    ----------
    needs_recall, needs_label_counts : bool
        What clients must report for this selection; see `ClientStats` for what that discloses.
    """

    needs_recall: ClassVar[bool] = False
    needs_label_counts: ClassVar[bool] = False

    def select(
        self, stats: ClientStats, n_selected: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Numbers of the clients selected, distinct and ascending."""
        raise NotImplementedError


class Uniform(Selection):
    """The given number of clients, uniformly at random without replacement.

    Notes
    -----
    Looks at nothing of the clients and discloses nothing.

    Examples
    --------
    >>> from skfedfocal.selection import Uniform
    >>> Uniform()
    Uniform()
    """

    def select(
        self, stats: ClientStats, n_selected: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        if n_selected == stats.n_clients:
            return np.arange(n_selected)
        return np.sort(rng.choice(stats.n_clients, n_selected, replace=False))


SELECTIONS: dict[str, type[Selection]] = {"uniform": Uniform}
