"""Questions to clients besides training, whose answers are arrays that are added up.

There is one way to ask: in this process, over sites, and under a secure sum, which adds masked
arrays up. A question stands beside the part that needs it; what takes several, one depending on the
answer to another, is a generator that yields questions and receives sums (`settle`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skfedfocal._component import Component
from skfedfocal._data.clients import ClientLayout
from skfedfocal._disclosure import COLUMN_SUMS, LABEL_TOTALS

Array = NDArray[np.float64]
T = TypeVar("T")


class Rows(Protocol):
    """Rows in this process, and whose they are."""

    @property
    def X(self) -> Any: ...
    @property
    def y(self) -> Any: ...
    @property
    def sample_weight(self) -> NDArray[np.float64] | None: ...
    @property
    def layout(self) -> ClientLayout: ...


@dataclass(frozen=True)
class PlainRows:
    """Rows as they are, for questions about data alone."""

    X: Any
    y: Any
    sample_weight: NDArray[np.float64] | None
    layout: ClientLayout


class Query(Component):
    """A question to clients; the sum of their answers is what the server wants to know.

    Attributes
    ----------
    discloses : frozenset of str
        What the sum tells the server.
    held_out : bool
        Whether it is about the rows held out for validation.
    """

    discloses: ClassVar[frozenset[str]] = frozenset()
    held_out: ClassVar[bool] = False

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        """The answer of one client, from its rows."""
        raise NotImplementedError

    def answers(self, rows: Rows, clients: NDArray[np.int64]) -> Array:
        """Those of several clients, of shape (m, ...)."""
        found = []
        for client in clients:
            here = rows.layout.rows(np.arange(*rows.layout.offsets[client : client + 2]))
            y, weight = (None if v is None else v[here] for v in (rows.y, rows.sample_weight))
            found.append(self.answer(rows.X[here], y, weight))
        return np.stack(found)


def settle(questions: Generator[Query, Array, T], ask: Callable[[Query], Array]) -> T:
    """Ask what a generator yields, and send it the sums, until it returns."""
    try:
        query = next(questions)
        while True:
            query = questions.send(ask(query))
    except StopIteration as done:
        return done.value


class LabelCounts(Query):
    """Weight of the rows of each class, and the number of rows: (n_classes + 1,).

    Parameters
    ----------
    n_classes : int
        Labels are numbers below it.
    """

    discloses = frozenset({LABEL_TOTALS})

    def __init__(self, n_classes: int):
        self.n_classes = n_classes

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        return np.append(np.bincount(y, sample_weight, self.n_classes), len(y))

    def answers(self, rows: Rows, clients: NDArray[np.int64]) -> Array:
        some = rows.layout.take(clients)
        counts = some.sum_by_client(rows.sample_weight, rows.y, self.n_classes)
        return np.column_stack([counts, some.sizes])


def in_rows(counts: Array, n_rows: Any) -> Array:
    """Label counts, of shape (..., n_classes), as if the weights of rows were 1 on average.

    Weights of rows have no unit, and what compares counts with a number of rows must not depend
    on it.

    Parameters
    ----------
    counts : ndarray of shape (..., n_classes)
        Weight of the rows of each class.
    n_rows : int or ndarray of shape (...)
        Number of rows.
    """
    weight = counts.sum(-1)
    factor = np.divide(n_rows, weight, out=np.ones_like(weight), where=weight > 0)
    return counts * factor[..., None]


class Sizes(Query):
    """Weight of the rows, and their number: (2,)."""

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        weight = len(y) if sample_weight is None else sample_weight.sum()
        return np.array([weight, len(y)], np.float64)


class ColumnSums(Query):
    """By column, weight of the rows that have a value, and its weighted sum: (2, n_features).

    NaN is no value.
    """

    discloses = frozenset({COLUMN_SUMS})

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        X, weight = _doubles(X, sample_weight)
        X, missing = _without_nan(X)
        there = np.full(X.shape[1], weight.sum())
        return np.stack([there if missing is None else there - weight @ missing, weight @ X])


class ColumnDeviations(Query):
    """Weighted sums of deviations from a centre, and of their squares: (2, n_features).

    NaN is no value.

    Parameters
    ----------
    center : ndarray of shape (n_features,)
        What deviations are from.
    """

    discloses = frozenset({COLUMN_SUMS})

    def __init__(self, center: Array):
        self.center = center

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        X, weight = _doubles(X, sample_weight)
        if sparse.issparse(X):
            return self._answer_sparse(X.tocoo(), weight)
        apart = _without_nan(X - self.center)[0]
        return np.stack([weight @ apart, weight @ apart**2])

    def _answer_sparse(self, X: Any, weight: Array) -> Array:
        """Entries one by one, and all zeros of a column at once."""
        apart, column, row_weight = X.data - self.center[X.col], X.col, weight[X.row]
        apart[np.isnan(apart)] = 0
        zeros = weight.sum() - np.bincount(column, row_weight, len(self.center))
        stored = (np.bincount(column, row_weight * v, len(self.center)) for v in (apart, apart**2))
        whole = (-zeros * self.center, zeros * self.center**2)
        return np.stack([a + b for a, b in zip(stored, whole, strict=True)])


def _doubles(X: Any, sample_weight: Array | None) -> tuple[Any, Array]:
    """Rows in double precision, dense or sparse, and a weight for each."""
    X = X.astype(np.float64) if sparse.issparse(X) else np.asarray(X, np.float64)
    return X, np.ones(X.shape[0]) if sample_weight is None else sample_weight


def _without_nan(X: Any) -> tuple[Any, Any]:
    """The same with 0 in the place of NaN, and where that is; None for nowhere."""
    values = X.data if sparse.issparse(X) else X
    missing = np.isnan(values)
    if not missing.any():
        return X, None
    filled = np.where(missing, 0, values)
    if not sparse.issparse(X):
        return filled, missing
    parts = (X.indices, X.indptr)
    return type(X)((filled, *parts), shape=X.shape), type(X)((missing, *parts), shape=X.shape)
