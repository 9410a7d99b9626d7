"""What in a table is no number, by column and value: for the message, once a table was refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def naming_what_is_no_number(X: Any) -> Iterator[None]:
    """Replace an error about a table by one that names the column, where one is to blame."""
    try:
        yield
    except (TypeError, ValueError) as error:
        found = what_is_no_number(X)
        if found is None:
            raise
        raise ValueError(found) from error


def what_is_no_number(X: Any) -> str | None:
    """The first column with dates, or with a value that is no number; None where there is none."""
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        places = {f"{i} ({name!r})": X[name] for i, name in enumerate(X.columns)}
    elif isinstance(X, np.ndarray) and X.dtype.kind == "O" and X.ndim == 2:
        places = {str(i): column for i, column in enumerate(X.T)}
    else:
        return None
    for place, column in places.items():
        if getattr(column, "ndim", 1) != 1:
            continue  # columns of one name
        kind = str(column.dtype).lower()
        if any(word in kind for word in ("date", "time", "duration")):
            return (
                f"column {place} of X has dates or times ({column.dtype}), which are no numbers; "
                "make numbers of them, such as days since a date, or leave the column out."
            )
        for row, value in enumerate(column if _may_hold_words(kind) else ()):
            if not _is_number(value):
                return (
                    f"column {place} of X has {value!r} in row {row}, which is no number; encode "
                    "the column (OneHotEncoder, OrdinalEncoder), replace the value, or leave it "
                    "out."
                )
    return None


def _may_hold_words(kind: str) -> bool:
    return any(word in kind for word in ("object", "str", "cat", "enum"))


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return value is None or value != value  # missing, which is said elsewhere
    return True
