"""A federation from one table for each client, as they come from different hands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skfedfocal._data.cells import EMPTY, spelled
from skfedfocal._data.clients import is_missing
from skfedfocal._data.differences import aligned
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal.datasets._bunch import as_bunch, require_pandas
from skfedfocal.datasets._tables import (
    as_written,
    check_no_dates,
    column_names,
    is_date_column,
    read_csv,
    read_parquet,
)

_KINDS = (".csv", ".parquet")


def load_clients(
    paths: Any,
    *,
    target: str,
    missing: Any = ("?",),
    fold_case: bool = True,
    dates: str = "refuse",
    drop: Any = (),
    client_name: str = "client",
) -> Bunch:
    """Load one table for each client, and bring them into one form.

    Columns are aligned by name. A column is of numbers where all that clients wrote in it is; else
    it is of texts, of which blanks around and between words and, by default, capitals count for
    nothing: "Yes" and " yes" are one value.

    Parameters
    ----------
    paths : str, path-like, sequence or mapping
        A folder, of whose .csv and .parquet files each is a client; or files; or ``{id: file}``.
        Clients are called like their files, without the ending.
    target : str
        Column of the labels.
    missing : sequence of str, default=("?",)
        What stands for an empty cell of a feature, besides an empty cell, "NA", "nan", "null" and
        "None".
    fold_case : bool, default=True
        Whether texts and labels are written in small letters.
    dates : {"refuse", "days"}, default="refuse"
        What becomes of columns of dates: an error that names them, or days since 1970-01-01, of
        dates that are written like 2026-01-31.
    drop : sequence of str, default=()
        Columns that are left out, in tables that have them.
    client_name : str, default="client"
        Name of the ids.

    Returns
    -------
    federation : Bunch
        With the attributes

        data : DataFrame of shape (n_samples, n_features)
            The features, in the order of the first table; texts as objects, gaps as NaN.
        target : Series of shape (n_samples,)
            The labels, as numbers where they are.
        clients : Series of shape (n_samples,)
            Whose row each row is.
        feature_names : list of str
            Names of the columns.
        frame : DataFrame
            All of these in one.

    Raises
    ------
    ValueError
        If tables differ in their columns, or one has numbers where others have texts; if a label is
        missing; or for dates. The message says by client what differs.
    FileNotFoundError
        If there is no such file, or none in the folder.
    ImportError
        Without pandas.

    See Also
    --------
    load_federation : One table with a column of clients.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skfedfocal.datasets import load_clients
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "oslo.csv").write_text("age,smokes,ill\\n61,Yes,no\\n47,?,yes\\n")
    ...     _ = Path(folder, "bergen.csv").write_text("ill,age,smokes\\nYES,?,yes\\n")
    ...     patients = load_clients(folder, target="ill")
    >>> patients.frame
        age smokes  ill  client
    0   NaN    yes  yes  bergen
    1  61.0    yes   no    oslo
    2  47.0    NaN  yes    oslo
    """
    if dates not in ("refuse", "days"):
        raise InvalidParameterError(f"dates must be 'refuse' or 'days'; got {dates!r}.")
    pd = require_pandas("load_clients")
    files = _files(paths)
    marks = {*EMPTY, *missing}
    tables, labels = [], []
    for client, path in files.items():
        table = _read(path).drop(columns=list(drop), errors="ignore")
        if target not in table:
            raise ValueError(f"{path.name} has no column {target!r}; it has {list(table.columns)}.")
        labels.append(_labels(path, table.pop(target), fold_case))
        columns = {name: _tidy(table[name], marks, fold_case) for name in table.columns}
        table = pd.DataFrame(columns)
        tables.append(_days(table) if dates == "days" else table)
        check_no_dates(f"client {client!r}", tables[-1])
    data = pd.concat(aligned(list(files), tables), ignore_index=True)
    return as_bunch(
        data,
        as_written(pd.Series(np.concatenate(labels), dtype=object)),
        np.repeat(np.array(list(files), object), [len(table) for table in tables]),
        feature_names=list(data.columns),
        as_frame=True,
        return_X_y=False,
        target_name=target,
        client_name=client_name,
    )


def _files(paths: Any) -> dict[Any, Path]:
    """The file of each client."""
    if isinstance(paths, Mapping):
        found = {client: Path(path).expanduser() for client, path in paths.items()}
    else:
        one = [paths] if isinstance(paths, str) or hasattr(paths, "__fspath__") else list(paths)
        listed = [Path(path).expanduser() for path in one]
        if len(listed) == 1 and listed[0].is_dir():
            listed = sorted(p for p in listed[0].iterdir() if p.suffix.lower() in _KINDS)
        found = {path.stem: path for path in listed}
        if len(found) < len(listed):
            raise ValueError("Two files have one name; pass a dict of client ids and files.")
    for path in found.values():
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}.")
        if path.suffix.lower() not in _KINDS:
            raise ValueError(f"{path.name} must be a file of the kind {', '.join(_KINDS)}.")
    if not found:
        raise FileNotFoundError(f"There is no .csv or .parquet file in {paths}.")
    return found


def _read(path: Path) -> Any:
    """A table, of a csv with all cells as they are written."""
    if path.suffix.lower() == ".parquet":
        return read_parquet(path)
    return read_csv(path, column_names(path))


def _labels(path: Path, column: Any, fold_case: bool) -> Any:
    n_missing = int(sum(map(is_missing, column)))
    if n_missing:
        raise ValueError(f"{path.name}: column {column.name!r} has {n_missing} empty cells.")
    return np.array([spelled(str(value), fold_case) for value in column], object)


def _tidy(column: Any, marks: set[str], fold_case: bool) -> Any:
    """Numbers where all are, else texts in one form."""
    import pandas as pd

    if column.dtype.kind in "biufM":
        return column
    values = [np.nan if _is_gap(value, marks) else value for value in column]
    tidied = pd.Series(values, dtype=object)
    try:
        return pd.to_numeric(tidied).astype(np.float64)
    except (ValueError, TypeError):
        texts = [v if is_missing(v) else spelled(str(v), fold_case) for v in values]
        return pd.Series(texts, dtype=object)


def _is_gap(value: Any, marks: set[str]) -> bool:
    return is_missing(value) or (isinstance(value, str) and value.strip() in marks)


def _days(table: Any) -> Any:
    """Columns of dates as days since 1970; ValueError where they are written in another way."""
    import pandas as pd

    found = {}
    for name in table.columns:
        column = table[name]
        if is_date_column(column):
            try:
                moments = pd.to_datetime(column, format="ISO8601")
            except ValueError as error:
                raise ValueError(
                    f"{name!r} is a column of dates that are not all written like 2026-01-31, so "
                    f"that day and month cannot be told apart: {error}"
                ) from error
            column = (moments - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=1)
        found[name] = column
    return pd.DataFrame(found)
