"""Asking the clients of an array of rows, all in this process."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.clients import ClientLayout, check_order
from skfedfocal._data.inputs import refuse_partitions
from skfedfocal._data.queries import PlainRows, Query, settle

T = TypeVar("T")


def check_rows(X: Any, clients: Any) -> None:
    """Raise ValueError where X is partitions, or clients' labels say that ids are of other rows."""
    refuse_partitions(X)
    check_order(X, clients)


def settle_here(
    questions: Generator[Query, NDArray[np.float64], T],
    X: Any,
    clients: Any,
    sample_weight: NDArray[np.float64] | None = None,
) -> T:
    """Put questions to the clients of X, each of which answers from its rows alone."""
    layout = ClientLayout.from_ids(clients, X.shape[0])
    rows, everyone = PlainRows(X, None, sample_weight, layout), np.arange(layout.n_clients)
    return settle(questions, lambda query: query.answers(rows, everyone).sum(0))
