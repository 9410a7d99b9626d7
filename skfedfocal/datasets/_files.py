"""A federation from a file: arrays of an npz, or columns of a csv or parquet table."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skfedfocal.datasets._bunch import as_bunch, feature_texts
from skfedfocal.datasets._tables import (
    as_numbers,
    as_written,
    check_no_dates,
    read_csv,
    read_parquet,
)

KINDS = (".npz", ".csv", ".parquet")


def load_federation(
    path: Any,
    *,
    target: str | None = None,
    client: str | None = None,
    weight: str | None = None,
    as_frame: bool = False,
) -> Bunch:
    r"""Load rows, their labels and whose rows they are, from a file.

    Types stay as they are in the file. Labels and client ids of a csv file become numbers only
    where that loses nothing of how they are written: "01" and "1" stay two clients.

    Parameters
    ----------
    path : str or path-like
        An .npz file with an array X of shape (n_samples, ...) and others with an entry for each of
        its rows; or a .csv (UTF-8, with commas and a line of column names) or .parquet file, whose
        columns are features but for those named below.
    target : str, default=None
        Array or column of the labels. None is "y" in an npz, and refused for a table.
    client : str, default=None
        Array or column of the clients. None is "client" in an npz, if it has that, and no clients
        (None) for a table.
    weight : str, default=None
        Array or column of sample weights, if any: finite numbers of at least 0.
    as_frame : bool, default=False
        Whether data, labels and clients come as pandas objects. Columns of texts are kept only
        so.

    Returns
    -------
    federation : Bunch
        With the attributes

        data : ndarray of shape (n_samples, n_features) or DataFrame
            The features. Empty cells are NaN.
        target : ndarray of shape (n_samples,) or Series
            The labels.
        clients : ndarray of shape (n_samples,), Series or None
            The client ids.
        sample_weight : ndarray of shape (n_samples,) or None
            The weights.
        feature_names : list of str
            Names of the columns; of an npz its array `feature_names`, or made up.
        target_names : list of str or None
            Of an npz its array `class_names`.
        extras : dict of ndarray
            All other arrays of an npz, by name.
        frame : DataFrame or None
            Data, target and clients in one, with ``as_frame=True``.
        filename : str
            The file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is malformed: it says where, and what it has instead.
    ImportError
        If a table is read without pandas, or parquet without pyarrow.

    See Also
    --------
    make_federation : A federation drawn at random.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skfedfocal.datasets import load_federation
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "patients.csv")
    ...     _ = path.write_text("age,pulse,site,finding\n61,72,N,sick\n47,80,S,well\n")
    ...     patients = load_federation(path, target="finding", client="site")
    >>> patients.data
    array([[61, 72],
           [47, 80]])
    >>> patients.target, patients.clients, patients.feature_names
    (array(['sick', 'well'], dtype='<U4'), array(['N', 'S'], dtype='<U1'), ['age', 'pulse'])
    """
    path = Path(path).expanduser()
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise ValueError(f"{path.name} must be a file of the kind {', '.join(KINDS)}.")
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    named = {"target": target, "client": client, "weight": weight}
    given = [name for name in named.values() if name is not None]
    if len(set(given)) < len(given):
        raise ValueError(f"target, client and weight must name different columns; got {given}.")
    read = _read_npz if kind == ".npz" else _read_table
    X, columns, facts = read(path, named, as_frame)
    _check_columns(path, named, columns)
    weights = columns.get(named["weight"])
    return as_bunch(
        X,
        columns[named["target"]],
        columns.get(named["client"]),
        as_frame=as_frame,
        return_X_y=False,
        target_name=named["target"],
        client_name=named["client"] or "client",
        sample_weight=weights,
        filename=str(path),
        **facts,
    )


def _read_npz(path: Path, named: dict[str, Any], as_frame: bool) -> tuple[Any, dict, dict]:
    """Features, the columns that are none by name, and what else the file says."""
    arrays = _arrays(path)
    named["target"] = named["target"] or "y"
    if named["client"] is None and "client" in arrays:
        named["client"] = "client"
    chosen = list(filter(None, named.values()))
    for name in ("X", *chosen):
        if name not in arrays:
            raise ValueError(f"{path.name} has no array {name!r}; it has {', '.join(arrays)}.")
    X = arrays.pop("X")
    if X.ndim < 2 or X.dtype.kind not in "biuf":
        raise ValueError(
            f"{path.name}: X has shape {X.shape} and type {X.dtype}; it must have a row of numbers "
            "for each sample."
        )
    if as_frame and X.ndim > 2:
        raise ValueError(f"{path.name}: X has shape {X.shape}, which as_frame=True cannot hold.")
    columns = {name: arrays.pop(name) for name in chosen}
    for name, column in columns.items():
        if column.shape not in ((len(X),), (len(X), 1)):
            raise ValueError(
                f"{path.name}: arrays differ in length; X has {len(X)} rows, and {name!r} has "
                f"shape {column.shape}."
            )
        columns[name] = column.ravel()
    names = feature_texts(arrays.pop("feature_names", None), X.shape[1])
    if len(names) != X.shape[1]:
        raise ValueError(f"{path.name}: {len(names)} feature_names for {X.shape[1]} features.")
    classes = arrays.pop("class_names", None)
    facts = {
        "feature_names": names,
        "target_names": None if classes is None else [str(name) for name in classes],
        "extras": arrays,
    }
    return X, columns, facts


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(
            f"{path.name} cannot be read as an npz of plain arrays: {error}"
        ) from error


def _read_table(path: Path, named: dict[str, Any], as_frame: bool) -> tuple[Any, dict, dict]:
    """Features, the columns that are none by name, and what else the file says."""
    texts = [name for name in (named["target"], named["client"]) if name is not None]
    is_csv = path.suffix.lower() == ".csv"
    table = read_csv(path, texts) if is_csv else read_parquet(path)
    from pandas.api.types import is_string_dtype

    listed = ", ".join(table.columns)
    if named["target"] is None:
        raise ValueError(f"target must name the column of the labels; {path.name} has {listed}.")
    columns = {}
    for name in filter(None, named.values()):
        if name not in table:
            raise ValueError(f"{path.name} has no column {name!r}; it has {listed}.")
        column = table.pop(name)
        if column.isna().any():
            raise ValueError(f"{path.name}: column {name!r} has {column.isna().sum()} empty cells.")
        if is_csv and name in texts:
            columns[name] = as_written(column)
        else:  # texts as an array of texts, not of objects
            columns[name] = column.to_numpy(dtype=str if is_string_dtype(column) else None)
    if not table.shape[1]:
        raise ValueError(f"{path.name} has no column of features besides {', '.join(columns)}.")
    check_no_dates(path.name, table)
    X = table if as_frame else as_numbers(path.name, table)
    return X, columns, {"feature_names": list(table.columns), "target_names": None, "extras": {}}


def _check_columns(path: Path, named: dict[str, Any], columns: dict[str, NDArray[Any]]) -> None:
    """Labels and clients are whole, and weights are weights."""
    for name in filter(None, (named["target"], named["client"])):
        values = columns[name]
        missing = np.char.str_len(values) == 0 if values.dtype.kind in "US" else values != values
        if np.any(missing):
            raise ValueError(f"{path.name}: {name!r} has {np.sum(missing)} empty cells.")
    weights = columns.get(named["weight"])
    if weights is None:
        return
    is_number = weights.dtype.kind in "biuf"
    if not is_number or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            f"{path.name}: weights {named['weight']!r} must be numbers, finite and at least 0."
        )
