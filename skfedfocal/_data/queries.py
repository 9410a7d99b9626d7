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
    """Weight of the rows, and the weighted sum of each column: (1 + n_features,)."""

    discloses = frozenset({COLUMN_SUMS})

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        X = np.asarray(X, np.float64)
        weight = np.ones(len(X)) if sample_weight is None else sample_weight
        return np.append(weight.sum(), weight @ X)


class ColumnDeviations(Query):
    """Weighted sums of deviations from a centre, and of their squares: (2, n_features).

    Parameters
    ----------
    center : ndarray of shape (n_features,)
        What deviations are from.
    """

    discloses = frozenset({COLUMN_SUMS})

    def __init__(self, center: Array):
        self.center = center

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        apart = np.asarray(X, np.float64) - self.center
        weight = np.ones(len(apart)) if sample_weight is None else sample_weight
        return np.stack([weight @ apart, weight @ apart**2])
