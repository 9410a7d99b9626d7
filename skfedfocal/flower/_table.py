"""A site's table from the file that its own configuration names."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Config = Mapping[str, Any]
LoadData = Callable[[Config], tuple[Any, ...]]


def load_table(config: Config) -> tuple[Any, ...]:
    r"""Read the table that a site's own configuration names.

    Parameters
    ----------
    config : mapping
        ``data-path``: a .csv, .parquet or .npz file. ``target``: the column of the labels,
        "target" by default; the other columns are features. ``weight``: a column of sample
        weights, if any. An .npz file has arrays X and y instead, and may have sample_weight.

    Returns
    -------
    X : Table or ndarray of shape (n_rows, n_features)
        The features, with the names of their columns where the file has them.
    y : ndarray of shape (n_rows,)
        The labels.
    sample_weight : ndarray of shape (n_rows,) or None
        The weights, if any.

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
    kind = path.suffix.lower()
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            return stored["X"], stored["y"], stored.get("sample_weight")
    if kind == ".csv":
        names, column = _read_csv(path)
    elif kind == ".parquet":
        names, column = _read_parquet(path)
    else:
        raise ValueError(f"data-path must be a .csv, .parquet or .npz file; got {path.name!r}.")
    for wanted in [target] if weight is None else [target, str(weight)]:
        if wanted not in names:
            raise ValueError(f"{path.name} has no column {wanted!r}; it has {names}.")
    features = [name for name in names if name not in (target, weight)]
    X = Table(np.column_stack([column(name, True) for name in features]), features)
    return X, column(target, False), None if weight is None else column(str(weight), True)


@dataclass(frozen=True)
class Table:
    """An array with names for its columns."""

    values: NDArray[Any]
    columns: list[str]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.values, dtype, copy=copy)


def _read_csv(path: Path) -> tuple[list[str], Callable[[str, bool], NDArray[Any]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        header, *lines = csv.reader(file)
    names = [name.strip() for name in header]
    lines = [line for line in lines if line]
    for i, line in enumerate(lines, 2):
        if len(line) != len(names):
            raise ValueError(
                f"{path.name}, line {i}: {len(line)} cells, but the head has {len(names)}."
            )

    def column(name: str, numeric: bool) -> NDArray[Any]:
        place = names.index(name)
        cells = np.array([line[place].strip() for line in lines])
        if (cells == "").any():
            raise ValueError(f"{path.name}: column {name!r} has empty cells.")
        for kind in (np.int64, np.float64):
            if numeric and kind is np.int64:
                continue
            try:
                return cells.astype(kind)
            except ValueError:
                continue
        if numeric:
            raise ValueError(f"{path.name}: column {name!r} is not numeric.")
        return cells

    return names, column


def _read_parquet(path: Path) -> tuple[list[str], Callable[[str, bool], NDArray[Any]]]:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError("Reading .parquet needs pyarrow: pip install pyarrow") from error
    table = pq.read_table(path)

    def column(name: str, numeric: bool) -> NDArray[Any]:
        values = table.column(name)
        if values.null_count:
            raise ValueError(f"{path.name}: column {name!r} has empty cells.")
        return np.asarray(values.to_numpy(), np.float64 if numeric else None)

    return table.column_names, column
