"""A look at the sites before training: each one's own line, and one of all that is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from skfedfocal._data.quantiles import column_quantiles
from skfedfocal._data.queries import Query, settle
from skfedfocal.describe import NUMBERS, OTHERS, QUARTILES, ClientSummary, summary_of
from skfedfocal.engines import Unanswered
from skfedfocal.flower._engine import GridEngine
from skfedfocal.flower._gathering import Gathering
from skfedfocal.flower._sites import Site, SiteError, check_fits, table_of

Cells = dict[str, Any]


def describe_sites(
    grid: Grid,
    *,
    sites: int | Sequence[str] | None = None,
    min_rows: int = 10,
    timeout: float = 3600.0,
    wait: float = 600.0,
) -> ClientSummary:
    """Summarise the rows of sites: numbers, classes, and by column missing values and spread.

    As `skfedfocal.describe.describe_clients` in one process. Each site makes its own line and
    withholds in it what would be about few rows; the line of all is about what is shown, and its
    quartiles are found by counts of rows below thresholds.

    Parameters
    ----------
    grid : flwr.serverapp.Grid
        Flower's, or `SimulatedSites`.
    sites : int, sequence of str or None, default=None
        How many sites there are, or their names; None is whoever is there.
    min_rows : int, default=10
        Fewest rows that a cell may be about, or what a site's own app says where that is more. In
        the interval [1, inf).
    timeout : float, default=3600.0
        Seconds that sites have for an answer.
    wait : float, default=600.0
        Seconds to wait for the sites to come.

    Returns
    -------
    summary : ClientSummary
        Of a column of texts the line of all has the missing values alone: sites do not tell values
        that few rows have.

    Raises
    ------
    SiteError
        If the sites do not make a federation, or one of them does not allow it
        (``make_client_app(description=True)``) or does not answer.

    See Also
    --------
    skfedfocal.describe.describe_clients : The same in one process.

    Notes
    -----
    Discloses, besides round 0, what the summary shows, of each site, and numbers of rows with
    values below thresholds.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal.flower import SimulatedSites, describe_sites
    >>> X, y = np.arange(45.0)[:, None], np.array(["ill", "well", "well"] * 15)
    >>> grid = SimulatedSites({"north": (X[:33], y[:33]), "south": (X[33:], y[33:])})
    >>> describe_sites(grid)
                 rows   class ill   class well   withheld
        north      33          11           22          0
        south      12           *            *          2
    all shown      45          11           22          0
    <BLANKLINE>
    all shown   missing   mean   25%   50%   75%
            0         0     22    11    22    33
    <BLANKLINE>
    *: withheld, about fewer than 10 rows
    """
    if min_rows < 1:
        raise ValueError(f"min_rows must be at least 1; got {min_rows!r}.")
    request = {"module": None, "lenient": True, "described": min_rows}
    found = Gathering(grid, request, timeout, "The description").gather(sites, 1, wait)
    names, dtypes = table_of(found)
    keys: list[Any] = list(range(len(dtypes))) if names is None else list(names)
    dates = {key for key, dtype in zip(keys, dtypes, strict=True) if dtype.kind in "mM"}
    check_fits(found, None, True, set(keys) - dates)
    closed = [site.name for site in found if site.facts.get("described") is None]
    if closed:
        raise SiteError(
            f"{closed} do not describe their rows: their app would have to be made with "
            "description=True (make_client_app) or described=True (export_app)."
        )
    columns = [_columns_of(site, names) for site in found]
    each = [_alike([own[j] for own in columns]) for j in range(len(keys))]
    shown = np.array([[None not in own.values() for own in cells] for cells in each]).T
    numbers = np.flatnonzero([NUMBERS[1] in cells[0] for cells in each])
    try:
        quartiles = _quartiles(grid, found, names, numbers, shown, timeout)
    except Unanswered as error:
        raise SiteError(f"The description failed: {error}.") from error
    lines = [
        {
            "rows": site.facts["described"]["rows"],
            "classes": counts,
            "columns": dict(zip(keys, (cells[k] for cells in each), strict=True)),
        }
        for k, (site, counts) in enumerate(zip(found, _classes(found), strict=True))
    ]
    rows = [line["rows"] for line in lines if line["rows"] is not None]
    whole = {
        "rows": sum(rows) if rows else None,
        "classes": _summed([line["classes"] for line in lines]),
        "columns": {
            key: _together(each[j], shown[:, j], lines, quartiles.get(j))
            for j, key in enumerate(keys)
        },
    }
    return summary_of([site.name for site in found], [*lines, whole], min_rows)


def _columns_of(site: Site, names: list[str] | None) -> list[Cells]:
    """A site's cells, column by column in the order of the federation's."""
    cells = [dict(one) for one in site.facts["described"]["columns"]]
    own = site.facts["columns"]
    return cells if names is None else [cells[own.index(name)] for name in names]


def _alike(cells: list[Cells]) -> list[Cells]:
    """Cells of a column of one kind; a site without a value in it cannot know which."""
    if not any(OTHERS[1] in own for own in cells):
        return cells
    return [own if OTHERS[1] in own else _as_texts(own) for own in cells]


def _as_texts(own: Cells) -> Cells:
    """Cells of numbers where other sites have texts."""
    if own["mean"] is None or not np.isnan(own["mean"]):  # withheld, or numbers
        return dict.fromkeys(OTHERS)
    return {"missing": own["missing"], **dict(zip(OTHERS[1:], (0, np.nan, 0), strict=True))}


def _classes(sites: list[Site]) -> list[dict[Any, int | None]]:
    """Rows by label of each site: 0 for a label that it lacks, if it shows any."""
    own = [dict(map(tuple, site.facts["described"]["classes"])) for site in sites]
    labels = sorted({label for counts in own for label in counts})
    return [
        dict.fromkeys(labels)
        if all(n is None for n in counts.values())
        else {label: counts.get(label, 0) for label in labels}
        for counts in own
    ]


def _summed(classes: list[dict[Any, int | None]]) -> dict[Any, int | None]:
    """Sums of what is shown of each label; None where that is nothing."""
    found: dict[Any, int | None] = {}
    for label in classes[0]:
        counts = [own[label] for own in classes]
        total = sum(n for n in counts if n is not None)
        found[label] = None if total == 0 and None in counts else total
    return found


def _together(
    cells: list[Cells], shown: NDArray[np.bool_], lines: list[dict[str, Any]], quartiles: Any
) -> Cells:
    """The cells of a column that are about all rows of the sites that show it."""
    names = NUMBERS if NUMBERS[1] in cells[0] else OTHERS
    found: Cells = dict.fromkeys(names)
    if not shown.any():
        return found
    mine = [
        (own, line["rows"]) for own, line, here in zip(cells, lines, shown, strict=True) if here
    ]
    found["missing"] = sum(own["missing"] for own, _ in mine)
    if names is NUMBERS:
        there = [(n - own["missing"], own["mean"]) for own, n in mine if n > own["missing"]]
        n = sum(rows for rows, _ in there)
        found["mean"] = sum(rows * mean for rows, mean in there) / n if n else np.nan
        found |= dict(zip(QUARTILES, quartiles, strict=True))
    return found


def _quartiles(
    grid: Grid,
    sites: list[Site],
    names: list[str] | None,
    numbers: NDArray[np.intp],
    shown: NDArray[np.bool_],
    timeout: float,
) -> dict[int, list[float]]:
    """Of each column of numbers, over the sites that show it; those of one nobody shows are NaN."""
    mask = shown[:, numbers]
    asked = np.flatnonzero(mask.any(1))
    if not len(asked):
        return dict.fromkeys(numbers.tolist(), [np.nan] * len(QUARTILES))
    task = {
        "columns": names,
        "steps": [{"take": numbers.tolist(), "dtype": "<f8"}],
        "classes": None,
        "validation_fraction": None,
        "lenient": True,
        "module": None,
    }
    extent = np.array([(float(s.facts["size"]), float(s.facts["n_rows"])) for s in sites])
    engine = GridEngine(grid=grid, sites=sites, extent=extent, task=task, timeout=timeout)

    def ask(query: Query) -> NDArray[np.float64]:
        return np.einsum("k...j,kj->...j", engine.ask_each(query, asked), mask[asked] * 1.0)

    quartiles = settle(column_quantiles(list(QUARTILES.values())), ask)
    return dict(zip(numbers.tolist(), quartiles.T.tolist(), strict=True))
