"""What in a table is no number, by column and value."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

NUMBERS = re.compile(r"u?int\d|float\d|bool|double|decimal|sparse")
TIMES = re.compile(r"date|time|duration")


@contextmanager
def naming_what_is_no_number(X: Any) -> Iterator[None]:
    """Refuse dates and columns of one name; and where X is refused for a word, name both.

    Dates beside numbers are numbers to some libraries, of nanoseconds since 1970 or of
    microseconds, so that they are looked for first; words, only once there is an error.
    """
    is_frame = hasattr(X, "columns") and hasattr(X, "dtypes")
    check_frame(X)
    try:
        yield
    except (TypeError, ValueError) as error:
        found = _first_word(X, is_frame)
        if found is None:
            raise
        place, value = found
        # As of scikit-learn's estimators: of words a ValueError, of other things a TypeError.
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(
            f"column {place}, which is no number; encode the column (OneHotEncoder, "
            f"OrdinalEncoder), replace the value, or leave it out. ({error})"
        ) from error


def check_frame(X: Any) -> None:
    """Raise ValueError where a frame has columns of dates, or of one name; it says which."""
    if not (hasattr(X, "columns") and hasattr(X, "dtypes")):
        return
    names = list(X.columns)
    if len(set(names)) < len(names):
        twice = sorted({str(name) for name in names if names.count(name) > 1})
        raise ValueError(f"X has more than one column called {twice}; give each a name of its own.")
    for i, (name, kind) in enumerate(zip(names, list(X.dtypes), strict=True)):
        if TIMES.search(str(kind).lower()):
            raise ValueError(
                f"column {i} ({name!r}) of X has dates or times ({kind}), which are no numbers; "
                "make numbers of them, such as days since a date, or leave the column out."
            )


def _first_word(X: Any, is_frame: bool) -> tuple[str, Any] | None:
    """Where the first value is that is no number, and the value; None where there is none."""
    if is_frame:
        columns = {f"{i} ({name!r})": X[name] for i, name in enumerate(X.columns)}
    elif isinstance(X, np.ndarray) and X.dtype.kind == "O" and X.ndim == 2:
        columns = {str(i): column for i, column in enumerate(X.T)}
    else:
        return None
    for place, column in columns.items():
        if getattr(column, "ndim", 1) != 1 or NUMBERS.match(str(column.dtype).lower()):
            continue  # of numbers; or several columns of one name
        for row, value in enumerate(column):
            if not _is_number(value):
                return f"{place} of X has {value!r} in row {row}", value
    return None


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return _is_missing(value)
    return True


def _is_missing(value: Any) -> bool:
    """Whether it is no value at all, of which something else is said elsewhere."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA has no truth value
        return True
