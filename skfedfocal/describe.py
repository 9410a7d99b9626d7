"""What rows the clients of a federation have, without what would be about few of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import _safe_indexing

from skfedfocal._data.clients import ClientLayout, is_missing
from skfedfocal._data.columns import as_table, count_columns
from skfedfocal._data.inputs import as_rows
from skfedfocal._sklearn import InvalidParameterError

__all__ = ["ClientSummary", "describe_clients"]

QUARTILES = {"25%": 0.25, "50%": 0.5, "75%": 0.75}
NUMBERS = ("missing", "mean", *QUARTILES)
OTHERS = ("missing", "distinct", "top", "top rows")


@dataclass(frozen=True, repr=False)
class ClientSummary:
    """Rows, classes and columns of each client and of all; see `describe_clients`.

    Attributes
    ----------
    clients : dict
        By client id a dict of ``"rows"``; ``"classes"``, rows by label; ``"columns"``, by column
        ``"missing"``, ``"mean"``, ``"25%"``, ``"50%"``, ``"75%"``, or ``"missing"``,
        ``"distinct"``, ``"top"``, ``"top rows"`` where values are not numbers; and ``"withheld"``,
        the number of cells that are withheld. These are None. What there are no values for is NaN.
    overall : dict
        The same of what is shown: see `describe_clients`.
    min_rows : int
        Cells of fewer rows are withheld.

    Examples
    --------
    >>> from skfedfocal.describe import describe_clients
    >>> summary = describe_clients([[1.0], [2.0]], [0, 1], ["a", "b"], min_rows=1)
    >>> summary.as_dict()["clients"]["a"]["rows"]
    1
    """

    clients: dict[Any, dict[str, Any]]
    overall: dict[str, Any]
    min_rows: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain dicts and numbers, with None for what is withheld.

        Returns
        -------
        summary : dict
            ``"clients"``, ``"all"`` and ``"min_rows"``.
        """
        return {"clients": self.clients, "all": self.overall, "min_rows": self.min_rows}

    def to_frame(self) -> Any:
        """Return a pandas frame with a row for each client and one, ``"all"``, for all.

        Returns
        -------
        frame : pandas.DataFrame
            Columns have two levels: ``("rows", "")``, ``("withheld", "")``, ``("class", label)``,
            and ``(column, statistic)``. What is withheld is missing.
        """
        import pandas as pd

        lines = [dict(_cells(line)) for line in (*self.clients.values(), self.overall)]
        frame = pd.DataFrame(lines, index=pd.Index([*self.clients, "all"], dtype=object))
        frame.columns = pd.MultiIndex.from_tuples(list(lines[-1]))
        return frame

    def __repr__(self) -> str:
        labels = list(self.overall["classes"])
        heads = ["", "rows", *(f"class {label}" for label in labels), "withheld"]
        table = [heads]
        for name, line in (*self.clients.items(), ("all shown", self.overall)):
            values = [line["rows"], *line["classes"].values(), line["withheld"]]
            table.append([str(name), *map(_text, values)])
        lines = _aligned(table)
        for names in (NUMBERS, OTHERS):
            columns = self.overall["columns"].items()
            rows = [
                [str(c), *(_text(cells[n]) for n in names)]
                for c, cells in columns
                if names[1] in cells
            ]
            if rows:
                lines += ["", *_aligned([["all shown", *names], *rows])]
        return "\n".join([*lines, "", f"*: withheld, about fewer than {self.min_rows} rows"])


def describe_clients(
    X: Any, y: Any = None, clients: Any = None, *, min_rows: int = 10
) -> ClientSummary:
    """Summarise the clients' rows: numbers, classes, and by column missing values and spread.

    What would be about fewer than `min_rows` rows of a client is withheld, and so is what it could
    be computed from:

    - a client with fewer rows is withheld whole;
    - a count of rows of a class is withheld where it is below `min_rows` and not 0. The client's
      number of rows is shown, and the difference would give the count away: therefore the client's
      largest count is withheld with it (all that are as large), and where even that is below
      `min_rows`, all of them are. Who knows this rule still finds several values possible for each
      count withheld, from ``min_rows=3`` on;
    - a column of a client is withheld where fewer rows have a value, or fewer have none, or all but
      a few have the same one: mean or counts would give these few away;
    - the line of all is about what is shown and nothing else: rows of the clients that are shown,
      the sum of the classes' counts that are, and for each column the rows of clients of which
      nothing is withheld in it. Total minus the others is therefore never what is withheld.

    Parameters
    ----------
    X : array-like, frame or sparse matrix of shape (n_samples, n_features), or partitions
        Rows of all clients. Columns of a frame may hold anything.
    y : array-like of shape (n_samples,), default=None
        Labels. None leaves classes out.
    clients : array-like of shape (n_samples,), default=None
        Id of each row's client. None is one client.
    min_rows : int, default=10
        Fewest rows that a cell may be about. In the interval [1, inf); 1 withholds nothing.

    Returns
    -------
    summary : ClientSummary
        With `to_frame`, `as_dict` and a text for print.

    Raises
    ------
    InvalidParameterError
        If `min_rows` is below 1.

    See Also
    --------
    skfedfocal.flower.describe_sites : The same where the rows are at sites.

    Notes
    -----
    Discloses, to whoever is given it, what it shows: quartiles are values of single rows (or lie
    between two), which is taken to be harmless among `min_rows` others. It is no differential
    privacy, and does not protect from the difference of two summaries of almost the same rows.
    Infinite values count as missing.

    Examples
    --------
    >>> from skfedfocal.describe import describe_clients
    >>> X = [[1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [9.0]]
    >>> y = ["ill", "well", "well", "well", "ill", "ill", "well"]
    >>> describe_clients(X, y, ["a", "a", "a", "b", "b", "b", "c"], min_rows=2)
                 rows   class ill   class well   withheld
            a       3           *            *          2
            b       3           *            *          2
            c       *           *            *          8
    all shown       6           *            *          3
    <BLANKLINE>
    all shown   missing   mean    25%   50%    75%
            0         0    3.5   2.25   3.5   4.75
    <BLANKLINE>
    *: withheld, about fewer than 2 rows
    """
    if min_rows < 1:
        raise InvalidParameterError(f"min_rows must be at least 1; got {min_rows!r}.")
    X, y, _, ids = as_rows(X, y, None, clients)
    X = as_table(X)
    names = list(X.columns) if hasattr(X, "columns") else list(range(count_columns(X)))
    layout = ClientLayout.from_ids(ids, X.shape[0])
    large = layout.sizes >= min_rows
    codes = np.where(large[layout.codes()], layout.codes(), -1)  # no look at the others' rows
    tables = [_class_counts(y, codes, layout.n_clients, min_rows)]
    tables += [_column(_values(X, j), codes, layout.n_clients, min_rows) for j in range(len(names))]
    lines = []
    for k in range(layout.n_clients + 1):
        classes, *columns = (table[k] for table in tables)
        if k < layout.n_clients:
            rows = int(layout.sizes[k]) if large[k] else None
        else:
            rows = int(layout.sizes[large].sum()) if large.any() else None
        named = dict(zip(names, columns, strict=True))
        lines.append({"rows": rows, "classes": classes, "columns": named})
    return summary_of(layout.ids.tolist(), lines, min_rows)


def summary_of(clients: list[Any], lines: list[dict[str, Any]], min_rows: int) -> ClientSummary:
    """The summary of the clients' lines and, last, that of all."""
    counted = [
        line | {"withheld": sum(value is None for _, value in _cells(line))} for line in lines
    ]
    # And of all, clients that it is not about.
    counted[-1]["withheld"] += sum(line["rows"] is None for line in lines[:-1])
    return ClientSummary(dict(zip(clients, counted, strict=False)), counted[-1], min_rows)


def _class_counts(
    y: Any, codes: NDArray[np.int64], n_clients: int, min_rows: int
) -> list[dict[Any, int | None]]:
    """Rows by label of each client, and the sums of those that are shown."""
    if y is None:
        return [{} for _ in range(n_clients + 1)]
    y = np.asarray(y)
    if len(y) != len(codes):
        raise ValueError(f"X has {len(codes)} rows but y has {len(y)} entries.")
    kept = codes >= 0
    classes, labels = np.unique(y[kept], return_inverse=True)
    cells = np.bincount(codes[kept] * len(classes) + labels, minlength=n_clients * len(classes))
    counts = cells.reshape(n_clients, len(classes))
    hidden = np.stack([_hidden(own, min_rows) for own in counts])
    total, partly = np.where(hidden, 0, counts).sum(0), hidden.any(0)
    keys = classes.tolist()

    def line(values: Any, withheld: Any) -> dict[Any, int | None]:
        return {c: None if h else int(n) for c, n, h in zip(keys, values, withheld, strict=True)}

    return [*map(line, counts, hidden), line(total, partly & (total == 0))]


def _hidden(counts: NDArray[np.int64], min_rows: int) -> NDArray[np.bool_]:
    """Which counts of a client are withheld, so that its number of rows does not tell them."""
    if counts.sum() < min_rows:  # as of a client that is withheld whole
        return np.full(len(counts), True)
    hidden = (counts > 0) & (counts < min_rows)
    if hidden.any():
        largest = counts.max()
        hidden |= counts == largest if largest >= min_rows else True
    return hidden


def _few(count: int, min_rows: int) -> bool:
    return 0 < count < min_rows


def _values(X: Any, j: int) -> NDArray[Any]:
    """A column: doubles where all are numbers, NaN where one is missing; else objects, None."""
    column = (
        X.tocsc()[:, [j]].toarray()[:, 0] if sparse.issparse(X) else _safe_indexing(X, j, axis=1)
    )
    if isinstance(column, np.ndarray) and column.dtype.kind == "O":
        values = column
    else:
        values = np.asarray(column)
        if values.dtype.kind in "biuf":
            return values.astype(np.float64)
    objects = np.empty(len(values), object)
    objects[:] = [None if is_missing(v) else v for v in values]
    if all(v is None or isinstance(v, Number) for v in objects):
        return np.array([np.nan if v is None else v for v in objects], np.float64)
    return objects


def _column(
    values: NDArray[Any], codes: NDArray[np.int64], n_clients: int, min_rows: int
) -> list[dict[str, Any]]:
    """Statistics of a column for each client, and for all clients that show theirs."""
    numbers = values.dtype.kind == "f"
    if numbers:
        there = np.isfinite(values)
    else:
        there = np.array([v is not None for v in values], bool)
    describe, names = (_numbers, NUMBERS) if numbers else (_others, OTHERS)
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(n_clients + 1))
    lines, shown = [], []
    for k in range(n_clients):
        own = order[ends[k] : ends[k + 1]]
        if not len(own):
            lines.append(dict.fromkeys(names))
            continue
        line = describe(values[own][there[own]], len(own), min_rows)
        lines.append(line)
        if None not in line.values():
            shown.append(own)
    if not shown:
        return [*lines, dict.fromkeys(names)]
    rows = np.concatenate(shown)
    return [*lines, describe(values[rows][there[rows]], len(rows), min_rows)]


def _numbers(values: NDArray[np.float64], n_rows: int, min_rows: int) -> dict[str, Any]:
    n, commonest = len(values), int(np.unique(values, return_counts=True)[1].max(initial=0))
    if any(_few(count, min_rows) for count in (n, n_rows - n, n - commonest)):
        return dict.fromkeys(NUMBERS)
    spread = np.quantile(values, list(QUARTILES.values())).tolist() if n else [np.nan] * 3
    mean = float(values.mean()) if n else np.nan
    return dict(zip(NUMBERS, (n_rows - n, mean, *spread), strict=True))


def _others(values: NDArray[Any], n_rows: int, min_rows: int) -> dict[str, Any]:
    n, counts = len(values), Counter(values.tolist())
    top, most = counts.most_common(1)[0] if n else (np.nan, 0)
    if any(_few(count, min_rows) for count in (n, n_rows - n, most, n - most)):
        return dict.fromkeys(OTHERS)
    return dict(zip(OTHERS, (n_rows - n, len(counts), top, most), strict=True))


def _cells(line: dict[str, Any]) -> Iterator[tuple[tuple[Any, Any], Any]]:
    """All cells of a line, with names of two levels."""
    yield ("rows", ""), line["rows"]
    if "withheld" in line:
        yield ("withheld", ""), line["withheld"]
    yield from ((("class", label), count) for label, count in line["classes"].items())
    for column, cells in line["columns"].items():
        yield from (((column, name), value) for name, value in cells.items())


def _text(value: Any) -> str:
    if value is None:
        return "*"
    if isinstance(value, float):
        return "-" if np.isnan(value) else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _aligned(table: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["   ".join(f"{c:>{w}}" for c, w in zip(row, widths, strict=True)) for row in table]
