"""How well a model does on the rows of each client."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._class_weight import of_rows
from skfedfocal._data.memory import Memory
from skfedfocal._data.queries import Query
from skfedfocal._data.rows import FederatedRows
from skfedfocal._disclosure import HITS, HITS_OF_ONE, VALIDATION_LOSS
from skfedfocal._local import LocalPlan
from skfedfocal.engines._engine import Failure

_SEGMENT_VALUES = 1 << 17  # features evaluated at a time, so that activations stay in the cache


Columns = tuple[NDArray[Any], ...]
Predict = Callable[[Tensor], Tensor]  # from rows (n, ...) to logits (n, n_classes)


class ModelQuery(Query):
    """A question about a model: clients answer it by what the model says of their rows."""

    def answer(self, X: Any, y: Any, sample_weight: NDArray[np.float64] | None) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is about a model, which only an engine can judge.")

    def judge(
        self,
        predict: Predict,
        rows: FederatedRows,
        clients: NDArray[np.int64],
        plan: LocalPlan,
    ) -> NDArray[np.float64]:
        """Answers of the clients, of shape (m, ...), to a model given by its logits."""
        raise NotImplementedError


class ValidationLoss(ModelQuery):
    """Sum of the objective's loss over the rows held out, and of their weights: (2,)."""

    discloses = frozenset({VALIDATION_LOSS})
    held_out = True

    def judge(
        self,
        predict: Predict,
        rows: FederatedRows,
        clients: NDArray[np.int64],
        plan: LocalPlan,
    ) -> NDArray[np.float64]:
        counts = rows.label_counts(clients) if plan.needs_own_counts else None
        class_weight = plan.class_weights(counts)
        sums = np.zeros((2, len(clients)))
        for part in judged(predict, rows, clients, *_all_of(rows, clients), plan):
            weight = part.weight * of_rows(class_weight, part.labels, part.owner)
            y = torch.as_tensor(part.labels, device=part.logits.device)
            losses = plan.loss(part.logits, y, part.constants).cpu().numpy()
            _add(sums, part.owner, (weight * losses, weight))
        return sums.T


class Hits(ModelQuery):
    """Weight of the rows of each class that the model gets right, and of all: (2, n_classes)."""

    discloses = frozenset({HITS})

    def judge(
        self,
        predict: Predict,
        rows: FederatedRows,
        clients: NDArray[np.int64],
        plan: LocalPlan,
    ) -> NDArray[np.float64]:
        def counted(hit: NDArray[np.bool_], places: NDArray[np.int64]) -> Columns:
            return hit, np.ones(len(hit))

        return _by_class(predict, rows, clients, plan, 2, counted)


class HitsBeside(ModelQuery):
    """Hits by class, another model's, rows that one alone gets right, and all: (4, n_classes).

    Parameters
    ----------
    beside : ndarray of shape (n_rows,)
        Which rows the other model gets right, by `right_rows`.
    """

    discloses = frozenset({HITS, HITS_OF_ONE})

    def __init__(self, beside: NDArray[np.bool_]):
        self.beside = beside

    def judge(
        self,
        predict: Predict,
        rows: FederatedRows,
        clients: NDArray[np.int64],
        plan: LocalPlan,
    ) -> NDArray[np.float64]:
        def counted(hit: NDArray[np.bool_], places: NDArray[np.int64]) -> Columns:
            beside = self.beside[places]
            return hit, beside, hit != beside, np.ones(len(hit))

        return _by_class(predict, rows, clients, plan, 4, counted)


def right_rows(predict: Predict, rows: FederatedRows, plan: LocalPlan) -> NDArray[np.bool_]:
    """Which rows a model decides for rightly, by place; none of a client on which it raises."""
    right = np.zeros(int(rows.layout.offsets[-1]), bool)

    def note(clients: NDArray[np.int64]) -> None:
        for _, places, hit in _decided(predict, rows, clients, plan):
            right[places] = hit

    clients = np.flatnonzero(rows.layout.sizes)
    try:
        note(clients)
    except Exception:  # of one of them, which whoever judges another model will report
        for i in range(len(clients)):
            with contextlib.suppress(Exception):
                note(clients[i : i + 1])
    return right


def judge_each(
    query: ModelQuery,
    predict: Predict,
    rows: FederatedRows,
    clients: NDArray[np.int64],
    plan: LocalPlan,
    *,
    together: bool = True,
) -> tuple[NDArray[np.float64], list[Failure]]:
    """Answers of the clients, (m, ...): zeros of those on whose rows the module raises; and why.

    Where it raises on those of all, that is raised. Not `together` is each client by itself.
    """
    if together:
        with contextlib.suppress(Exception):  # of one of them; which, only asking each will tell
            return query.judge(predict, rows, clients, plan), []
    found, failures = {}, []
    for i, client in enumerate(clients):
        try:
            found[i] = query.judge(predict, rows, clients[[i]], plan)[0]
        except Exception as error:
            failures.append(Failure.of(client, error))
    if not found and failures:
        raise cast(Exception, failures[0].error)
    answers = np.zeros((len(clients), *found[min(found)].shape))
    for i, one in found.items():
        answers[i] = one
    return answers, failures


@dataclass(frozen=True)
class Judged:
    """Some rows of some clients, and what a model says of them."""

    owner: NDArray[np.int64]
    labels: NDArray[np.int64]
    weight: NDArray[np.float64]
    logits: Tensor
    constants: Tensor | None


def _all_of(
    rows: FederatedRows, clients: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Owner, as place among the clients, and place of each of their rows."""
    offsets, sizes = rows.layout.offsets, rows.layout.sizes_of(clients)
    owners = np.repeat(np.arange(len(clients)), sizes)
    places = np.arange(len(owners)) + np.repeat(offsets[clients] - np.cumsum(sizes) + sizes, sizes)
    return owners, places


def judged(
    predict: Predict,
    rows: FederatedRows,
    clients: NDArray[np.int64],
    owners: NDArray[np.int64],
    places: NDArray[np.int64],
    plan: LocalPlan,
) -> Iterator[Judged]:
    """These rows of the clients and their logits, as many at a time as the cache holds."""
    own_counts = rows.label_counts(clients) if plan.loss.counts == "local" else None
    memory = Memory()
    n_at_once = max(256, _SEGMENT_VALUES // rows.row_values)
    for lo in range(0, len(places), n_at_once):
        here, owner = places[lo : lo + n_at_once], owners[lo : lo + n_at_once]
        labels = rows.labels(here)
        logits = predict(rows.features(here, memory))
        constants = plan.loss_constants(own_counts, logits)
        if constants is not None and constants.ndim == 2:
            constants = constants[torch.as_tensor(owner)]
        weight = np.broadcast_to(rows.sample_weights(here), labels.shape)
        yield Judged(owner, labels, weight, logits, constants)


def _decided(
    predict: Predict, rows: FederatedRows, clients: NDArray[np.int64], plan: LocalPlan
) -> Iterator[tuple[Judged, NDArray[np.int64], NDArray[np.bool_]]]:
    """Rows of the clients, their places, and which of them the model decides for rightly."""
    owners, places = _all_of(rows, clients)
    done = 0
    for part in judged(predict, rows, clients, owners, places, plan):
        decided = plan.loss.decide(part.logits, part.constants).cpu().numpy()
        end = done + len(part.labels)
        yield part, places[done:end], decided == part.labels
        done = end


def _by_class(
    predict: Predict,
    rows: FederatedRows,
    clients: NDArray[np.int64],
    plan: LocalPlan,
    n_columns: int,
    counted: Callable[[NDArray[np.bool_], NDArray[np.int64]], Columns],
) -> NDArray[np.float64]:
    """Weight of the rows by class that count in each column, (m, n_columns, n_classes).

    Parameters
    ----------
    predict, rows, clients, plan
        As of `ModelQuery.judge`.
    n_columns : int
        Number of columns.
    counted : callable
        From which rows are right, and their places, to which rows count in each column.
    """
    cells = np.zeros((n_columns, len(clients) * rows.n_classes))
    for part, places, hit in _decided(predict, rows, clients, plan):
        columns = tuple(part.weight * column for column in counted(hit, places))
        _add(cells, part.owner * rows.n_classes + part.labels, columns)
    return cells.reshape(n_columns, len(clients), rows.n_classes).swapaxes(0, 1)


def _add(
    tables: NDArray[np.float64],
    places: NDArray[np.int64],
    columns: Columns,
) -> None:
    """Add each column of values into its table at the given places."""
    first, end = int(places.min()), int(places.max()) + 1
    for table, values in zip(tables, columns, strict=True):
        table[first:end] += np.bincount(places - first, values, minlength=end - first)
