"""Which rows belong to which client, and what is known of each client."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROWS_AT_A_TIME = 1 << 18


@dataclass(frozen=True)
class ClientLayout:
    """Rows grouped by client: three arrays, however many clients there are.

    Clients are numbered in order of first appearance, so that renaming them changes nothing
    that is drawn by client number.

    Attributes
    ----------
    ids : ndarray of shape (n_clients,)
        Client ids as given.
    offsets : ndarray of shape (n_clients + 1,)
        The rows of client k are the places ``offsets[k]:offsets[k + 1]`` of `order`.
    order : ndarray of shape (n_samples,) or None
        Row numbers sorted by client; None where the rows already lie client by client.
    """

    ids: NDArray[Any]
    offsets: NDArray[np.int64]
    order: NDArray[np.int64] | None

    @classmethod
    def from_ids(cls, clients: Any, n_samples: int) -> ClientLayout:
        """Group rows by client id; ``clients=None`` puts them all on one client."""
        if clients is None:
            return cls(np.zeros(1, np.int64), np.array([0, n_samples]), None)
        ids = id_column(clients)
        if ids.shape[0] != n_samples:
            raise ValueError(
                f"clients has {ids.shape[0]} entries but X has {n_samples} rows; "
                "pass one client id per row, not offsets. If a step before this one resampled the "
                "rows, ids that are an argument cannot follow: keep them as a column of X, and "
                "wrap this estimator in skfedfocal.ClientColumn."
            )
        starts = _starts_of_runs(ids)
        unique_ids, run_codes = _factorize(ids[starts])
        if len(unique_ids) == len(starts):
            return cls(unique_ids, np.append(starts, n_samples), None)
        lengths = np.diff(starts, append=n_samples)
        sizes = np.bincount(run_codes, lengths, len(unique_ids)).astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        order = np.argsort(np.repeat(run_codes, lengths), kind="stable")
        return cls(unique_ids, offsets, order)

    @property
    def n_clients(self) -> int:
        return len(self.ids)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows per client, of shape (n_clients,)."""
        return np.diff(self.offsets)

    def sizes_of(self, members: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of the given clients, without a look at all the others."""
        return self.offsets[members + 1] - self.offsets[members]

    def rows(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row numbers at the given places of the client-by-client order."""
        return places if self.order is None else self.order[places]

    def owners(self) -> NDArray[np.int64]:
        """Client number of every place."""
        return np.repeat(np.arange(self.n_clients), self.sizes)

    def codes(self, n_samples: int | None = None) -> NDArray[np.int64]:
        """Client number of every row, of shape (n_samples,); -1 for a row that no client has."""
        by_row = np.full(self.offsets[-1] if n_samples is None else n_samples, -1)
        by_row[self.rows(np.arange(self.offsets[-1]))] = self.owners()
        return by_row

    def restrict(self, keep: NDArray[np.bool_]) -> ClientLayout:
        """The same clients with some of their rows, given as a mask of shape (n_samples,)."""
        order = np.arange(len(keep)) if self.order is None else self.order
        kept = keep[order]
        sizes = np.bincount(self.owners()[kept], minlength=self.n_clients)
        return ClientLayout(self.ids, np.concatenate([[0], np.cumsum(sizes)]), order[kept])

    def without_empty(self) -> ClientLayout:
        """Only the clients that have rows, numbered by the first appearance of those."""
        there = np.flatnonzero(self.sizes)
        return self.take(there[np.argsort(self.rows(self.offsets[there]))])

    def take(self, members: NDArray[np.int64]) -> ClientLayout:
        """Only the given clients, with their rows."""
        sizes = self.sizes_of(members)
        ends = np.cumsum(sizes)
        places = np.arange(ends[-1]) + np.repeat(self.offsets[members] - ends + sizes, sizes)
        return ClientLayout(self.ids[members], np.concatenate([[0], ends]), self.rows(places))

    def sum_by_client(
        self, values: NDArray[Any] | None, labels: NDArray[Any], n_labels: int
    ) -> NDArray[np.float64]:
        """Sum values (1 where None) by client and label, of shape (n_clients, n_labels)."""
        sums = np.zeros((self.n_clients, n_labels))
        n_places = int(self.offsets[-1])
        for lo in range(0, n_places, _ROWS_AT_A_TIME):  # memory must not grow with all rows
            places = np.arange(lo, min(lo + _ROWS_AT_A_TIME, n_places))
            rows = self.rows(places)
            owners = np.searchsorted(self.offsets, places, side="right") - 1
            first = owners[0]
            cells = (owners - first) * n_labels + labels[rows]
            counts = np.bincount(cells, None if values is None else values[rows])
            sums.reshape(-1)[first * n_labels : first * n_labels + len(counts)] += counts
        return sums


@dataclass(frozen=True)
class ClientStats:
    """What the server knows of each client: all that selection may look at.

    Attributes
    ----------
    n_rows : ndarray of shape (n_clients,)
        Number of rows, not weighed.
    label_counts : ndarray of shape (n_clients, n_classes) or None
        Rows by class, where the selection needs them.
    recall : ndarray of shape (n_clients,)
        Recall on the client's own rows, weighed by class, of the model it was last sent; NaN
        before, and where the selection does not need it.
    """

    n_rows: NDArray[np.float64]
    label_counts: NDArray[np.float64] | None = None
    recall: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    def __post_init__(self) -> None:
        if len(self.recall) != len(self.n_rows):
            # Half as wide as others will do, and with a million clients that is megabytes.
            unknown = np.full(len(self.n_rows), np.nan, np.float32)
            object.__setattr__(self, "recall", unknown)

    @property
    def n_clients(self) -> int:
        return len(self.n_rows)

    def told(self, clients: NDArray[np.int64], recalls: NDArray[np.float64] | None) -> ClientStats:
        """The same after some clients have reported their recall."""
        if recalls is None:
            return self
        recall = self.recall.copy()
        recall[clients] = recalls
        return replace(self, recall=recall)


def check_order(X: Any, clients: Any) -> None:
    """Raise ValueError where the labels of pandas' rows say that ids belong to other rows.

    Ids are taken by position, as scikit-learn takes y. Ids without labels have nothing to say, and
    neither have those counted from 0, unless X has the same labels in another order.
    """
    rows, ids = _index(X), _index(clients)
    if rows is None or ids is None or len(rows) != len(ids) or rows.equals(ids):
        return
    if rows.isin(ids).all() and ids.isin(rows).all():
        remedy = "clients.loc[X.index]" if ids.is_unique else "the ids in the order of X's rows"
        raise ValueError(
            "clients has the same index as X in another order, and ids are taken by position; "
            f"pass {remedy}, or clients.to_numpy() if the positions are right."
        )
    import pandas as pd

    if not ids.equals(pd.RangeIndex(len(ids))):
        raise ValueError(
            "clients has another index than X, so that its rows may be others; pass "
            "clients.to_numpy() if the positions are right."
        )


def _index(values: Any) -> Any:
    """Labels of the rows of a pandas frame or series, else None."""
    return values.index if hasattr(values, "iloc") else None


def id_column(clients: Any) -> NDArray[Any]:
    """One-dimensional array of client ids of any hashable kind, without missing ones."""
    if isinstance(clients, list | tuple):
        _refuse_missing(np.fromiter((v is np.ma.masked for v in clients), bool, len(clients)))
        ids = _as_given(clients)
    else:
        ids = np.asarray(clients)
    if ids.ndim == 2 and ids.shape[1] == 1:
        ids = ids[:, 0]
    if ids.ndim != 1:
        raise ValueError(
            f"clients has shape {ids.shape}; pass a one-dimensional array, one client id per row."
        )
    if np.ma.is_masked(clients):
        missing = np.ma.getmaskarray(clients).ravel()
    elif ids.dtype.kind == "f":
        missing = np.isnan(ids)
    elif ids.dtype.kind in "mM":
        missing = np.isnat(ids)
    elif ids.dtype.kind == "O":
        missing = np.fromiter(map(is_missing, ids), bool, len(ids))
    else:
        return ids
    _refuse_missing(missing)
    return ids


def _refuse_missing(missing: NDArray[np.bool_]) -> None:
    if missing.any():
        raise ValueError(
            f"clients has {missing.sum()} missing entries, the first in row {missing.argmax()}; "
            "every row needs a client id."
        )


def _as_given(clients: list[Any] | tuple[Any, ...]) -> NDArray[Any]:
    """The array of the ids themselves, where a plain array would make others of them.

    It makes one id of 1 and "1", and of 1 and True, a name of NaN, and a table of tuples.
    """
    kinds = {isinstance(client, bool | np.bool_) for client in clients}
    if len(kinds) < 2 and not any(isinstance(client, tuple) for client in clients):
        plain = np.asarray(clients)
        if plain.ndim != 1 or plain.tolist() == list(clients):
            return plain
    return np.fromiter(clients, object, len(clients))


def id_key(client: Any) -> tuple[bool, Any]:
    """An id as a dict tells it from others: 1 == True, but not as ids."""
    return isinstance(client, bool | np.bool_), client


def is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas.NA has no truth value
        return True


def _starts_of_runs(ids: NDArray[Any]) -> NDArray[np.int64]:
    """Where another id than before begins; a piece at a time, for memory's sake."""
    found = [np.zeros(1, np.int64)]
    for lo in range(1, len(ids), _ROWS_AT_A_TIME):
        hi = min(lo + _ROWS_AT_A_TIME, len(ids))
        found.append(np.flatnonzero(_differ(ids[lo:hi], ids[lo - 1 : hi - 1])) + lo)
    return np.concatenate(found)


def _differ(some: NDArray[Any], others: NDArray[Any]) -> NDArray[np.bool_]:
    """Which ids differ, pair by pair; True is not 1."""
    differ = some != others
    if some.dtype.kind != "O":
        return differ
    kinds = [[isinstance(v, bool | np.bool_) for v in values] for values in (some, others)]
    return differ | (np.array(kinds[0]) != np.array(kinds[1]))


def _factorize(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Distinct values in order of first appearance, and the place of each value among them."""
    if values.dtype.kind == "O":  # need not be sortable
        seen: dict[Any, int] = {}
        keys = map(id_key, values)
        codes = np.fromiter((seen.setdefault(k, len(seen)) for k in keys), np.int64, len(values))
        unique = np.empty(len(seen), object)
        unique[:] = [value for _, value in seen]
        return unique, codes
    if (values[1:] > values[:-1]).all():  # as ids of a table sorted by client are
        return values, np.arange(len(values))
    unique, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    by_appearance = np.argsort(first)
    rank = np.empty_like(by_appearance)
    rank[by_appearance] = np.arange(len(first))
    return unique[by_appearance], rank[inverse]
