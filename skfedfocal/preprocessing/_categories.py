"""The values that columns have over all clients, from counts of how values begin.

Values are written as texts, and read off counts: how many rows have a value that begins so, by the
byte that comes next. What begins in one way only is read on, what branches is asked about again.
This is the tree of prefixes of W. Zhu et al., "Federated heavy hitters discovery with differential
privacy", AISTATS 2020, with exact counts in the place of sampled votes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skfedfocal._data.clients import is_missing
from skfedfocal._data.queries import Query
from skfedfocal._disclosure import CATEGORIES, VALUE_COUNTS

Array = NDArray[np.float64]
Counts = dict[Any, int]

_END = 256  # beside the 256 bytes
_AHEAD = 8  # bytes read at once where nothing is to be withheld
_AT_ONCE = 512  # beginnings in one question


class PrefixCounts(Query):
    """Rows whose value begins in given ways, by the bytes that follow: (n_prefixes, n_ahead, 257).

    The last of the 257 counts values that end.

    Parameters
    ----------
    prefixes : list of (int, bytes)
        Columns, and beginnings of their values as `written` has them.
    n_ahead : int
        How many bytes after a beginning are counted, each by itself.
    dtypes : list of str
        Type of each column, which all clients' values are brought to.
    """

    discloses = frozenset({CATEGORIES})

    def __init__(self, prefixes: list[Any], n_ahead: int, dtypes: list[str]):
        self.prefixes = prefixes
        self.n_ahead = n_ahead
        self.dtypes = dtypes

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        """Count one client's rows."""
        counts = np.zeros((len(self.prefixes), self.n_ahead, 257))
        places: dict[int, dict[bytes, int]] = {}
        for place, (j, prefix) in enumerate(self.prefixes):
            places.setdefault(j, {})[prefix] = place
        for j, known in places.items():
            lengths = {len(prefix) for prefix in known}
            for value, n in distinct(_column(X, j), self.dtypes[j], j):
                text = written(value)
                for length in lengths:
                    here = known.get(text[:length])
                    if here is None or len(text) < length:
                        continue
                    following = [*text[length : length + self.n_ahead], _END]
                    for ahead, byte in enumerate(following[: self.n_ahead]):
                        counts[here, ahead, byte] += n
        return counts


class ValueCounts(Query):
    """Rows of each of a column's agreed values, missing ones, and others, column after column.

    Parameters
    ----------
    categories : list of lists
        For each column the values that are counted. A missing value that is not among them counts
        as missing.
    dtypes : list of str
        Type of each column, which all clients' values are brought to.
    """

    discloses = frozenset({VALUE_COUNTS})

    def __init__(self, categories: list[list[Any]], dtypes: list[str]):
        self.categories = categories
        self.dtypes = dtypes

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        """Count one client's rows."""
        counts = [np.zeros(len(values) + 2) for values in self.categories]
        for j, values in enumerate(self.categories):
            places = {_key(value): place for place, value in enumerate(values)}
            for value, n in distinct(_column(X, j), self.dtypes[j], j):
                other = len(values) + (0 if is_missing(value) else 1)
                counts[j][places.get(_key(value), other)] += n
        return np.concatenate(counts)

    def split(self, answer: Array) -> list[Array]:
        """The answer by column."""
        return np.split(answer, np.cumsum([len(values) + 2 for values in self.categories])[:-1])


def column_categories(
    dtypes: list[Any], min_rows: int = 1
) -> Generator[Query, Array, list[Counts]]:
    """By column, the values there are and the number of rows of each.

    Parameters
    ----------
    dtypes : list of numpy.dtype
        Of the columns.
    min_rows : int, default=1
        Values of fewer rows than that over all clients are not asked about to their end, and are
        not in the result.
    """
    names = [np.dtype(dtype).str for dtype in dtypes]
    found: list[dict[bytes, int]] = [{} for _ in names]
    # Bytes further on would give away the values that are to be withheld.
    n_ahead = _AHEAD if min_rows <= 1 else 1
    waiting: list[tuple[int, bytes]] = [(j, b"") for j in range(len(names))]
    while waiting:
        asked, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
        answer = yield PrefixCounts([list(one) for one in asked], n_ahead, names)
        for (j, prefix), counts in zip(asked, answer, strict=True):
            ended, begun = _read_on(prefix, counts, max(min_rows, 1))
            found[j] |= ended
            waiting += [(j, longer) for longer in begun]
    return [_merged(texts, dtype) for texts, dtype in zip(found, dtypes, strict=True)]


def _read_on(prefix: bytes, counts: Array, min_rows: int) -> tuple[dict[bytes, int], list[bytes]]:
    """Values that end, with their rows, and beginnings to ask about."""
    total = counts[0].sum()
    for following in counts:
        bytes_ = np.flatnonzero(following >= min_rows)
        if len(bytes_) != 1 or following[bytes_[0]] != total:
            ended = {prefix: int(following[_END])} if _END in bytes_ else {}
            return ended, [prefix + bytes([b]) for b in bytes_ if b != _END]
        if bytes_[0] == _END:
            return {prefix: int(total)}, []
        prefix += bytes([bytes_[0]])
    return {}, [prefix]


def _merged(texts: dict[bytes, int], dtype: Any) -> Counts:
    """Values and their rows; 1 and 1.0 are one value, as they are to scikit-learn."""
    counts: Counts = {}
    for text in sorted(texts):
        value = read(text)
        counts[value] = counts.get(value, 0) + texts[text]
    return counts


# -- values as texts -------------------------------------------------------------------------------


def _column(X: Any, j: int) -> Any:
    return X[:, [j]].toarray()[:, 0] if sparse.issparse(X) else X[:, j]


def distinct(column: Any, dtype: str, j: int) -> list[tuple[Any, int]]:
    """The values of a column and the rows of each.

    Raises
    ------
    TypeError
        If a value is no number and no text; it says which column has it.
    """
    column = np.asarray(column).astype(np.dtype(dtype), copy=False)
    if column.dtype.kind in "biufUS":
        values, counts = np.unique(column, return_counts=True)
        return list(zip(values.tolist(), counts.tolist(), strict=True))
    if column.dtype.kind == "O":
        found: Counter[Any] = Counter()
        for value in column:
            if not _is_category(value):
                break
            found[type(value), _NAN if value is not None and value != value else value] += 1
        else:
            return [(np.nan if v is _NAN else v, n) for (_, v), n in found.items()]
        kind = type(value).__name__
    else:
        kind = str(column.dtype)
    raise TypeError(
        f"Column {j} of X has a value of type {kind}; as a category an argument must be a string, "
        "a number or missing. Make strings of the values, or leave the column out."
    )


_NAN = object()


def _is_category(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes | Real | np.bool_)


def written(value: Any) -> bytes:
    """A value as bytes that say its kind as well."""
    if value is None:
        return b"-"
    if isinstance(value, str):
        return b"s" + str(value).encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return b"y" + value
    if isinstance(value, bool | np.bool_):
        return b"b1" if value else b"b0"
    if isinstance(value, Integral):
        return b"i" + str(int(value)).encode()
    return b"f" + repr(float(value) + 0.0).encode()  # 0 for -0


def read(text: bytes) -> Any:
    """The value of `written`."""
    kind, rest = text[:1], text[1:]
    if kind == b"s":
        return rest.decode("utf-8", "surrogatepass")
    if kind == b"y":
        return rest
    if kind == b"b":
        return rest == b"1"
    if kind == b"i":
        return int(rest)
    return float(rest) if kind == b"f" else None


def _key(value: Any) -> Any:
    """What equal values have in common; NaN is equal to itself."""
    return _NAN if value is not None and value != value else value
