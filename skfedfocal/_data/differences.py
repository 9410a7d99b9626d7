"""Where clients' tables differ: who lacks what, in words, and nothing of what is alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.clients import is_missing
from skfedfocal._data.not_numbers import NUMBERS, TIMES

Kinds = Mapping[Any, str]
NOTHING = "nothing"  # the kind of a column without a value, which goes with every other


def most(values: Sequence[Any]) -> Any:
    """The value that occurs most often; the first one of several."""
    return Counter(values).most_common(1)[0][0]


def twice(names: Sequence[Any]) -> list[Any]:
    """Names that occur more than once."""
    return [name for name, n in Counter(names).items() if n > 1]


def of_columns(columns: Mapping[str, Sequence[Hashable]]) -> list[str]:
    """Who lacks columns that at least half of all have, and who has others besides.

    Parameters
    ----------
    columns : mapping
        Names of the columns, by who has them.
    """
    problems = []
    for who, names in columns.items():
        if many := twice(names):
            problems.append(f"{who} has more than one column called {many}")
    counts = Counter(name for names in columns.values() for name in names)
    for who, names in columns.items():
        lacks = [name for name, n in counts.items() if 2 * n >= len(columns) and name not in names]
        more = [name for name in names if 2 * counts[name] < len(columns)]
        said = [f"lacks {lacks}"] * bool(lacks) + [f"has {more} besides"] * bool(more)
        if said:
            problems.append(f"{who} {' and '.join(said)}")
    return problems


def usual_kinds(kinds: Mapping[str, Kinds]) -> dict[Any, str]:
    """The kind that each column has with most; all need the same columns."""
    columns = next(iter(kinds.values()))
    found = {column: [own[column] for own in kinds.values()] for column in columns}
    return {
        column: most([kind for kind in own if kind != NOTHING] or [NOTHING])
        for column, own in found.items()
    }


def of_kinds(kinds: Mapping[str, Kinds], usual: Kinds) -> list[str]:
    """Who has columns of another kind than most.

    Parameters
    ----------
    kinds : mapping
        Kinds of the columns, by who has them.
    usual : mapping
        Those of `usual_kinds`, of the columns that are to be compared.
    """
    problems = []
    for who, own in kinds.items():
        others: dict[tuple[str, str], list[Any]] = {}
        for column, kind in usual.items():
            if own[column] not in (kind, NOTHING):
                others.setdefault((own[column], kind), []).append(column)
        for (kind, other), columns in others.items():
            problems.append(f"{who} has {kind} in {columns}, others {other}")
    return problems


def kinds_of(X: Any) -> dict[Any, str]:
    """Kinds of the columns of a frame: numbers, texts, dates, or nothing."""
    return {
        name: _kind(X[name], str(kind).lower())
        for name, kind in zip(X.columns, list(X.dtypes), strict=True)
    }


def _kind(column: Any, dtype: str) -> str:
    if TIMES.search(dtype):
        return "dates"
    if NUMBERS.match(dtype):
        return "numbers"
    known = (value for value in column if not is_missing(value))
    first = next(known, None)
    if first is None:
        return NOTHING
    return "texts" if isinstance(first, str) else "numbers"


def aligned(ids: list[Any], tables: list[Any]) -> list[Any]:
    """The tables with columns in the order of the first; ValueError where they are not alike."""
    if not all(hasattr(X, "columns") for X in tables):
        for client, X in zip(ids, tables, strict=True):
            if _columns(X) != _columns(tables[0]):
                raise ValueError(
                    f"Client {client!r} has columns {_columns(X)} but client {ids[0]!r} has "
                    f"{_columns(tables[0])}; all clients need the same columns."
                )
        return tables
    kinds = [type(X).__module__.partition(".")[0] for X in tables]
    for client, kind in zip(ids, kinds, strict=True):
        if kind != kinds[0]:
            raise ValueError(
                f"Client {client!r} has a {kind} table but client {ids[0]!r} has one of "
                f"{kinds[0]}; use one kind."
            )
    owned = dict(zip([f"client {client!r}" for client in ids], tables, strict=True))
    problems = of_columns({who: list(X.columns) for who, X in owned.items()})
    if not problems:
        found = {who: kinds_of(X) for who, X in owned.items()}
        problems = of_kinds(found, usual_kinds(found))
    if problems:
        raise ValueError(
            f"The clients' tables do not go together: {'; '.join(problems)}. All clients need the "
            "same columns, in any order."
        )
    names = list(tables[0].columns)
    return [X if list(X.columns) == names else X[names] for X in tables]


def _columns(X: Any) -> Any:
    if hasattr(X, "columns"):
        return list(X.columns)
    return (
        f"of shape {tuple(X.shape[1:])}" if hasattr(X, "shape") else f"of shape {np.shape(X)[1:]}"
    )


def look_alikes(labels: NDArray[Any]) -> list[list[Any]]:
    """Groups of texts that differ in blanks and capitals only."""
    if labels.dtype.kind not in "UO" or not all(isinstance(label, str) for label in labels):
        return []
    groups: dict[str, list[Any]] = {}
    for label in labels.tolist():
        groups.setdefault(" ".join(label.split()).casefold(), []).append(label)
    return [group for group in groups.values() if len(group) > 1]
