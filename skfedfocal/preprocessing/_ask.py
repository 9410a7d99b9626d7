"""Fitting by questions: what a transformer is to be so, and the clients of an array of rows.

A fit has two halves. `_look` is a client's: it checks rows and brings them into the form that
questions are about. `_learn` is the server's: a generator that yields questions, receives sums, and
sets what the fit learns; of the rows it knows no more than `About` says. In one process both
halves are called one after the other; over sites each is called where it belongs.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.clients import ClientLayout, check_order
from skfedfocal._data.inputs import refuse_partitions
from skfedfocal._data.not_numbers import check_frame
from skfedfocal._data.queries import PlainRows, Query, settle

T = TypeVar("T")
Array = NDArray[np.float64]
Learning = Generator[Query, Array, None]


@dataclass(frozen=True)
class About:
    """What is known of a table besides its sums.

    Attributes
    ----------
    dtypes : list of numpy.dtype
        Of each column.
    n_rows : int
        Over all clients.
    """

    dtypes: list[Any]
    n_rows: int


class FittedByQuestions:
    """A transformer that learns from sums over clients, wherever these are."""

    _takes_weights = False  # of rows, in `_learn`'s questions

    def _look(self, X: Any) -> tuple[Any, list[Any]]:
        """Rows as questions see them, checked, and the type of each column.

        It learns the number and names of columns.
        """
        raise NotImplementedError

    def _learn(self, about: About) -> Learning:
        """Ask, and set what is learned."""
        raise NotImplementedError

    def _seen_as(self, dtypes: list[Any]) -> list[Any]:
        """Types of columns as `_look` gives them, of ones that come in."""
        single = {np.dtype(dtype) for dtype in dtypes} == {np.dtype(np.float32)}
        return [np.dtype(np.float32 if single else np.float64)] * len(dtypes)

    def _dtype_out(self, seen: list[Any]) -> Any:
        """Type of the columns that `transform` gives."""
        return seen[0]

    def _is_sparse_out(self, is_sparse: bool) -> bool:
        """Whether `transform` gives a sparse matrix, of rows that are one or not."""
        return is_sparse

    def _state(self) -> dict[str, Any]:
        """What was learned, as plain data; empty before a fit."""
        return {
            name: value
            for name, value in vars(self).items()
            if name.endswith("_") and not name.startswith("_")
        }

    def _restore(self, state: dict[str, Any]) -> None:
        """Learn what `_state` has."""
        vars(self).update(state)

    def _fit_here(self, X: Any, clients: Any, sample_weight: Array | None = None) -> None:
        """Fit on the rows of clients in this process."""
        check_rows(X, clients)
        rows, dtypes = self._look(X)
        settle_here(self._learn(About(dtypes, rows.shape[0])), rows, clients, sample_weight)


def check_rows(X: Any, clients: Any) -> None:
    """Raise ValueError where X is partitions or a frame with columns of dates or of one name.

    And where the labels of clients say that ids are of other rows.
    """
    refuse_partitions(X)
    check_frame(X)
    check_order(X, clients)


def settle_here(
    questions: Generator[Query, Array, T],
    X: Any,
    clients: Any,
    sample_weight: Array | None = None,
) -> T:
    """Put questions to the clients of X, each of which answers from its rows alone."""
    layout = ClientLayout.from_ids(clients, X.shape[0])
    rows = PlainRows(X, None, sample_weight, layout)

    def ask(query: Query) -> Array:
        total = query.answers(rows, np.array([0]))[0]
        for k in range(1, layout.n_clients):  # one by one: answers can be large
            total = total + query.answers(rows, np.array([k]))[0]
        return total

    return settle(questions, ask)
