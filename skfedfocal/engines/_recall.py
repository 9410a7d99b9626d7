"""Each client's recall of the model it is sent, estimated on some of its rows where it has many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal._random import shuffled_places
from skfedfocal.engines._evaluate import Predict, judged


@dataclass(frozen=True)
class RecallSample:
    """Rows on which the recalls of m clients are estimated: stratified by class.

    Of each class of a client the first rows in the order in which the round's first epoch meets
    them, which is a random one. A class has rows by its share of the recall, as many in all as the
    plan says, so that with equal sample weights the estimate is unbiased and its standard error at
    most ``0.5 / sqrt(plan.recall_rows)``. A client that has no more rows is judged on all of them.

    Attributes
    ----------
    index : ndarray of shape (n,)
        Which of the rows that it was drawn from they are.
    owner : ndarray of shape (n,)
        Place of each row's client among the m.
    labels : ndarray of shape (n,)
    weight : ndarray of shape (n,)
        Share of the client's recall that the row stands for.
    n_clients : int
        m.
    """

    index: NDArray[np.int64]
    owner: NDArray[np.int64]
    labels: NDArray[np.int64]
    weight: NDArray[np.float64]
    n_clients: int

    @classmethod
    def draw(
        cls,
        owner: NDArray[np.int64],
        labels: NDArray[np.int64],
        row_weight: NDArray[np.float64] | float,
        n_clients: int,
        n_classes: int,
        plan: LocalPlan,
    ) -> RecallSample:
        """Choose among all rows of some clients, each client's in the order of its first epoch."""
        cells, n_cells = owner * n_classes + labels, n_clients * n_classes
        n_rows = np.bincount(cells, minlength=n_cells)
        by_row = np.broadcast_to(row_weight, cells.shape)
        counts = np.bincount(cells, by_row, n_cells).astype(np.float64)
        share = plan.recall_shares(counts.reshape(n_clients, n_classes))
        size = plan.recall_rows
        of_client = n_rows.reshape(share.shape).sum(1)
        index, cell = np.arange(len(cells)), cells
        if (of_client > size).any():
            # What is a whole number but for rounding is taken for it, and so alike by every engine.
            wanted = np.ceil(size * share * (1 - 1e-9)).astype(np.int64)
            wanted[of_client <= size] = size
            index = _first_of_each(cells, n_rows, np.minimum(n_rows, wanted.ravel()))
            cell = cells[index]
        total = np.bincount(cell, by_row[index], n_cells)
        weight = by_row[index] * share.ravel()[cell] / total[cell]
        return cls(index, cell // n_classes, cell % n_classes, weight, n_clients)

    def recalls(self, decided: NDArray[np.int64]) -> NDArray[np.float64]:
        """Recalls (m,) from the classes that a model decides for, (n,); 1 where no row weighs."""
        missed = self.weight * (decided != self.labels)
        return np.maximum(1 - np.bincount(self.owner, missed, self.n_clients), 0)


def _first_of_each(
    cells: NDArray[np.int64], n_rows: NDArray[np.int64], taken: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Ascending places of the first so many rows of each cell."""
    short = cells.astype(np.uint16) if len(n_rows) < 1 << 16 else cells  # is sorted by counting
    order = np.argsort(short, kind="stable")
    before = np.cumsum(n_rows) - n_rows - (np.cumsum(taken) - taken)
    places = np.arange(taken.sum()) + np.repeat(before, taken)
    return np.sort(order[places])


def estimated_recalls(
    predict: Predict,
    rows: FederatedRows,
    clients: NDArray[np.int64],
    plan: LocalPlan,
    round_: int,
) -> NDArray[np.float64]:
    """Recalls of the clients, of shape (m,), of a model given by its logits."""
    m, sizes = len(clients), rows.layout.sizes_of(clients)
    owner = np.repeat(np.arange(m), sizes)
    drawn = shuffled_places(plan.seed, round_, 0, clients, sizes)
    places = rows.layout.offsets[clients][owner] + drawn
    sample = RecallSample.draw(
        owner, rows.labels(places), rows.weights(places), m, rows.n_classes, plan
    )
    return sample.recalls(decisions(predict, rows, clients, places, sample, plan))


def decisions(
    predict: Predict,
    rows: FederatedRows,
    clients: NDArray[np.int64],
    places: NDArray[np.int64],
    sample: RecallSample,
    plan: LocalPlan,
) -> NDArray[np.int64]:
    """Classes that a model decides for on a sample of rows at these places, of shape (n,)."""
    parts = judged(predict, rows, clients, sample.owner, places[sample.index], plan)
    found = [plan.loss.decide(part.logits, part.constants).cpu().numpy() for part in parts]
    return np.concatenate([np.empty(0, np.int64), *found])  # of rows that weigh nothing, none
