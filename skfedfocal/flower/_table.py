"""A site's table from the file that its own configuration names."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.cells import DATE, EMPTY, spelled

Config = Mapping[str, Any]
_TRUTHS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?")
LoadData = Callable[[Config], tuple[Any, ...]]


def load_table(config: Config) -> tuple[Any, ...]:
    r"""Read the table that a site's own configuration names.

    Parameters
    ----------
    config : mapping
        ``data-path``: a .csv, .parquet or .npz file. ``target``: the column of the labels,
        "target" by default; the other columns are features. ``weight``: a column of sample
        weights, if any. ``drop``: columns that are left out, separated by commas. ``missing``:
        texts that stand for an empty cell in a .csv file, separated by blanks, besides NA, N/A,
        n/a, NaN, nan, NULL, null, None and <NA>. ``dates``: "days" makes columns of dates those of
        days since 1970-01-01; as dates no model takes them. ``fold-case``: true brings texts and
        labels into one spelling, in small letters and with single blanks, as `load_clients` does.
        An .npz file has arrays X and y instead, and may have sample_weight. Where `evaluate` asks
        for ``table="test"``, keys that begin with ``test-``, such as ``test-data-path``, come in
        the place of those without.

    Returns
    -------
    X : Table or ndarray of shape (n_rows, n_features)
        The features, with the names of their columns where the file has them; empty cells are NaN.
    y : ndarray of shape (n_rows,)
        The labels.
    sample_weight : ndarray of shape (n_rows,) or None
        The weights, if any.

    Raises
    ------
    ValueError
        If the file is damaged, or is no such table; names it. If dates are not all written like
        2026-01-31.
    OSError
        If there is no such file, or it may not be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skfedfocal.flower import load_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "north.csv")
    ...     _ = path.write_text("age,pulse,finding\n61,72,sick\n47,80,well\n")
    ...     X, y, sample_weight = load_table({"data-path": path, "target": "finding"})
    >>> X.columns, y.tolist(), sample_weight
    (['age', 'pulse'], ['sick', 'well'], None)
    """
    if "data-path" not in config:
        raise ValueError("The node's configuration has no data-path; it must name the table.")
    path = Path(str(config["data-path"]))
    target, weight = str(config.get("target", "target")), config.get("weight")
    marks = frozenset({*EMPTY, *str(config.get("missing", "")).split()})
    dropped = [name.strip() for name in str(config.get("drop", "")).split(",")]
    days, fold_case = _choice(config, "dates", "refuse", "days"), _choice(config, "fold-case")
    kind = path.suffix.lower()
    if kind not in (".npz", ".csv", ".parquet"):
        raise ValueError(f"data-path must be a .csv, .parquet or .npz file; got {path.name!r}.")
    with _named(path):
        if kind == ".npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return stored["X"], stored["y"], stored.get("sample_weight")
        names, column = _read_csv(path, marks) if kind == ".csv" else _read_parquet(path)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{path.name} has more than one column called {twice}.")
    for wanted in [target] if weight is None else [target, str(weight)]:
        if wanted not in names:
            raise ValueError(f"{path.name} has no column {wanted!r}; it has {names}.")
    features = [name for name in names if name not in (target, weight, *dropped)]
    with _named(path):
        X = Table([_tidy(column(name), days, fold_case) for name in features], features)
        y = _tidy(_complete(column(target), target, path), False, fold_case)
        return X, y, None if weight is None else _complete(column(str(weight)), str(weight), path)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """One type of exception for whatever is wrong with a file's content, with the file's name."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError, ImportError):
        raise
    except Exception as error:
        if type(error) is ValueError and path.name in str(error):
            raise
        raise ValueError(
            f"{path.name} cannot be read as a table: {type(error).__name__}: {error}"
        ) from error


def config_of(config: Config, table: str | None) -> dict[str, Any]:
    """The configuration for a table other than the usual one: keys after its name come first.

    So a site names the tables that there are, and what is not in its configuration is refused.

    Parameters
    ----------
    config : mapping
        The node's own.
    table : str or None
        Name of the table; None for the usual one.

    Returns
    -------
    config : dict
        For `load_data`; it has the name as ``table``.
    """
    if table is None:
        return dict(config)
    prefix = f"{table}-"
    own = {key[len(prefix) :]: v for key, v in config.items() if key.startswith(prefix)}
    if not own:
        raise ValueError(f"The node's configuration names no table {table!r}.")
    return {**config, **own, "table": table}


@dataclass(frozen=True)
class Table:
    """Columns with names.

    Attributes
    ----------
    arrays : list of ndarray of shape (n_rows,)
        Whole numbers, numbers with NaN for empty cells, dates, or objects: texts, and NaN.
    columns : list of str
        Their names.
    """

    arrays: list[NDArray[Any]]
    columns: list[str]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(np.column_stack(self.arrays), dtype)


Column = Callable[[str], NDArray[Any]]


def _complete(column: NDArray[Any], name: str, path: Path) -> NDArray[Any]:
    """Labels or weights, of which none is missing."""
    empty = [value is None or value != value for value in column]
    if any(empty):
        raise ValueError(f"{path.name}: column {name!r} has empty cells.")
    return column.astype(str) if column.dtype.kind == "O" else column


def _choice(config: Config, key: str, no: str = "false", yes: str = "true") -> bool:
    """What the configuration says where there are two ways."""
    value = str(config.get(key, no)).lower()
    if value not in (no, yes):
        raise ValueError(f"{key} must be {yes} or {no}; got {config[key]!r}.")
    return value == yes


def _tidy(column: NDArray[Any], days: bool, fold_case: bool) -> NDArray[Any]:
    """Dates as days since 1970, and texts in one spelling, where that is asked for."""
    if days and column.dtype.kind == "M":
        return (column - np.datetime64(0, "D")) / np.timedelta64(1, "D")
    if fold_case and column.dtype.kind in "OU":
        texts = [spelled(value) if isinstance(value, str) else value for value in column]
        return np.array(texts, column.dtype.kind)
    return column


def _read_csv(path: Path, marks: frozenset[str]) -> tuple[list[str], Column]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = list(csv.reader(file))
    if not lines:
        raise ValueError(f"{path.name} is empty.")
    header, *lines = lines
    names = [name.strip() for name in header]
    lines = [line for line in lines if line]
    for i, line in enumerate(lines, 2):
        if len(line) != len(names):
            raise ValueError(
                f"{path.name}, line {i}: {len(line)} cells, but the head has {len(names)}."
            )

    def column(name: str) -> NDArray[Any]:
        place = names.index(name)
        cells = np.array([line[place].strip() for line in lines], object)
        missing = np.array([cell in marks for cell in cells], bool)
        if not missing.any():
            try:
                return cells.astype(np.int64)
            except (ValueError, OverflowError):
                pass
        if not missing.all() and all(map(DATE.fullmatch, cells[~missing])):
            if not all(map(_ISO_DATE.fullmatch, cells[~missing])):
                raise ValueError(
                    f"column {name!r} has dates that are not all written like 2026-01-31, so that "
                    "day and month cannot be told apart; write them so, or drop the column."
                )
            return np.where(missing, "NaT", cells).astype("M8[us]")
        cells[missing] = np.nan
        try:
            return cells.astype(np.float64)
        except ValueError:
            pass
        if all(cell in _TRUTHS for cell in cells[~missing]):
            cells[~missing] = [_TRUTHS[cell] for cell in cells[~missing]]
            return cells if missing.any() else cells.astype(bool)
        return cells

    return names, column


def _read_parquet(path: Path) -> tuple[list[str], Column]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("Reading .parquet needs pyarrow: pip install pyarrow") from error
    table = pq.read_table(path)

    def column(name: str) -> NDArray[Any]:
        found = np.asarray(table.column(name).to_numpy())
        if found.dtype.kind == "O":  # texts, and None where there is none
            found = np.array([np.nan if value is None else value for value in found], object)
        return found

    return table.column_names, column
