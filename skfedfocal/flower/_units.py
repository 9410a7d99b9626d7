"""Whether a site has its columns in other units than the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.queries import ColumnDeviations, ColumnSums, Query
from skfedfocal.preprocessing._preparation import Behind

Array = NDArray[np.float64]

_FACTOR = 100.0  # between what may be another population and what must be another unit


class Watch:
    """Asks all sites, and looks at each one's sums of columns on the way.

    A standard scaler is asked for them anyway, and without secure sums the server has each site's.

    Parameters
    ----------
    ask_each : callable
        From a question to the answers of all sites.
    sites : list of str
        Their names.
    columns : list of str or None
        Names of the columns, where they have any.
    """

    def __init__(
        self, ask_each: Callable[[Query], Array], sites: list[str], columns: list[str] | None
    ):
        self.ask_each = ask_each
        self.sites = sites
        self.columns = columns
        self._sums: Array | None = None

    def __call__(self, query: Query) -> Array:
        """The sum of the answers."""
        each = self.ask_each(query)
        asked = query.query if isinstance(query, Behind) else query
        if isinstance(asked, ColumnSums):
            self._sums = each
        if isinstance(asked, ColumnDeviations) and self._sums is not None:
            self._compare(each, self._names(query))
        return each.sum(0)

    def _compare(self, deviations: Array, names: Any) -> None:
        """Warn of sites whose values are far larger or smaller than those of all others."""
        assert self._sums is not None
        n, sums = np.swapaxes(self._sums, 0, 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean, (first, second) = sums / n, np.swapaxes(deviations, 0, 1) / n
            spread = np.sqrt(np.maximum(second - first**2, 0))
            size = np.sqrt(mean**2 + spread**2)
        found = []
        for k, site in enumerate(self.sites):
            ratios = []
            for values in (spread, size):  # of an own kind are both, or it is another population
                others = np.delete(values, k, 0)
                known = others > 0
                logs = np.log(np.where(known, others, 1)).sum(0)
                with np.errstate(invalid="ignore", divide="ignore"):
                    ratios.append(values[k] / np.exp(logs / known.sum(0)))
            high = np.minimum(*ratios) > _FACTOR
            low = (np.maximum(*ratios) < 1 / _FACTOR) & (spread[k] > 0)
            wrong = high if len(self.sites) == 2 else high | low
            found += [
                f"{site!r} in {names(int(j))} ({ratios[0][j]:.2g} times)"
                for j in np.flatnonzero(wrong)
            ]
        if found:
            warnings.warn(
                "Values are far from those of the other sites, as if in other units: "
                f"{', '.join(found)}. One scaler for all does not mend that; bring the columns to "
                "one unit.",
                UserWarning,
                stacklevel=7,
            )

    def _names(self, query: Query) -> Callable[[int], str]:
        """What columns are called that a question is about."""
        path = query.path if isinstance(query, Behind) else []
        if self.columns is None or any("take" not in node for node in path):
            return lambda j: f"column {j}"
        names = self.columns
        for node in path:
            names = names if node["take"] is None else [names[j] for j in node["take"]]
        return lambda j: f"column {names[j]!r}"
