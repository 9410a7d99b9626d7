"""Tables of rows from csv and parquet files, with everything wrong in them named."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.cells import DATE, EMPTY
from skfedfocal.datasets._bunch import require_pandas


def read_csv(path: Path, texts: list[str]) -> Any:
    """Frame of a csv file, in which the columns `texts` are read as they are written."""
    pd = require_pandas("reading a .csv file")
    names = column_names(path)
    texts = [name for name in texts if name in names]
    try:
        frame = pd.read_csv(
            path,
            encoding="utf-8-sig",
            header=0,
            names=names,
            index_col=False,
            dtype=dict.fromkeys(texts, str),
            keep_default_na=False,
            na_values={name: [""] if name in texts else EMPTY for name in names},
            skipinitialspace=True,
        )
    except pd.errors.ParserError as error:
        raise ValueError(f"{path.name} is not a csv file: {error}.") from error
    for name in texts:
        frame[name] = frame[name].str.strip().replace("", np.nan)
    return frame


def read_parquet(path: Path) -> Any:
    """Frame of a parquet file."""
    require_pandas("reading a .parquet file", " pyarrow")
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            "reading a .parquet file needs pyarrow: pip install pandas pyarrow"
        ) from error
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path.name} is not a parquet file: {error}") from error
    with file:
        _check_names(path, file.schema_arrow.names)
        table = file.read()
    if not table.num_rows:
        raise ValueError(f"{path.name} has no rows.")
    # Row numbers of a frame that was written with them are no feature.
    kept = [name for name in table.column_names if not name.startswith("__index_level_")]
    return table.select(kept).to_pandas(ignore_metadata=True)


def as_written(column: Any) -> NDArray[Any]:
    """Texts as integers, booleans or floats, where that loses nothing of them.

    As integers, "01" and "1" would become one client.
    """
    texts = column.to_numpy(dtype=str)
    for kind in (np.int64, np.float64):
        try:
            values = texts.astype(kind)
        except (ValueError, OverflowError):
            continue
        if kind is np.int64 and (values.astype(str) != texts).any():
            return texts
        return values if np.isfinite(values).all() else texts
    if set(texts) <= {"True", "False"}:
        return texts == "True"
    return texts


def check_no_dates(name: str, features: Any) -> None:
    """Refuse columns of dates or times: no model could take them as they are."""
    dates = [column for column, values in features.items() if is_date_column(values)]
    if dates:
        raise ValueError(
            f"{name}: {_columns(dates)} of dates or times; leave out, or make numbers of it, "
            "such as days since a beginning."
        )


def is_date_column(values: Any) -> bool:
    """Whether all of a column's first values are dates or times."""
    import pandas as pd

    if values.dtype.kind in "mM" or isinstance(values.dtype, pd.DatetimeTZDtype):
        return True
    if pd.api.types.is_numeric_dtype(values.dtype):
        return False
    first = values.dropna().head(1000)
    return len(first) > 0 and all(DATE.fullmatch(str(value).strip()) for value in first)


def as_numbers(name: str, features: Any) -> NDArray[Any]:
    """Array of the features, of the narrowest type that holds all of theirs."""
    texts = [c for c, dtype in features.dtypes.items() if not _is_number(dtype)]
    if texts:
        raise ValueError(
            f"{name}: {_columns(texts)} of texts, which are not numbers; load with as_frame=True "
            "and encode them, for example with sklearn.preprocessing.OneHotEncoder."
        )
    return features.to_numpy(dtype=np.result_type(*features.dtypes))


def column_names(path: Path) -> list[str]:
    """Names of a csv file's columns, after a look at the number of cells of every line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip() for name in next(reader, [])]
            if not names:
                raise ValueError(f"{path.name} has no line of column names.")
            _check_names(path, names)
            n_lines = 0
            for line in filter(None, reader):
                n_lines += 1
                if len(line) != len(names):
                    raise ValueError(
                        f"{path.name}, line {reader.line_num}: {len(line)} cells, but there are "
                        f"{len(names)} column names."
                    )
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not text in UTF-8 ({error}); save it so.") from error
    except csv.Error as error:
        raise ValueError(f"{path.name} is not a csv file: {error}.") from error
    if not n_lines:
        raise ValueError(f"{path.name} has no rows below the column names.")
    return names


def _check_names(path: Path, names: list[str]) -> None:
    twice = [name for name, number in Counter(names).items() if number > 1 and name]
    if twice:
        raise ValueError(f"{path.name} has more than one column {', '.join(map(repr, twice))}.")
    if "" in names:
        raise ValueError(
            f"{path.name}: column {names.index('') + 1} has no name; if it holds row numbers, "
            "write the file without them."
        )


def _is_number(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "biuf"


def _columns(names: list[Any]) -> str:
    listed = ", ".join(repr(name) for name in names)
    return f"{listed} is a column" if len(names) == 1 else f"{listed} are columns"
