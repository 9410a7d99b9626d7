"""What the benchmarks use of the package beyond its public names, in this file alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray


def folds_of(seed: int, clients: NDArray, codes: NDArray, n_classes: int, n_folds: int) -> NDArray:
    """The fold of each row, as FedFocalClassifierCV draws it."""
    from skfedfocal._data.clients import ClientLayout
    from skfedfocal._training.search import stratified_folds

    layout = ClientLayout.from_ids(clients, len(codes))
    return stratified_folds(seed, layout, codes, n_classes, n_folds)


def flower_pyproject(name: str) -> str:
    """The pyproject.toml of an app, as the package writes it for its own."""
    from skfedfocal.flower._export import _PYPROJECT

    return _PYPROJECT.format(name=name, publisher="benchmark", package="federation")


def effective_weights(counts: NDArray) -> NDArray:
    """Class weights by the effective number of rows."""
    from skfedfocal._class_weight import EffectiveNumber

    return EffectiveNumber().weights(counts, np.arange(len(counts)))


def variance_from_sums(parts: Sequence[NDArray]) -> float:
    """Variance of one column whose rows lie on several clients, as the scaler finds it."""
    from skfedfocal._data.moments import column_moments
    from skfedfocal._data.queries import settle

    total = settle(column_moments(), lambda query: sum(query.answer(p, None, None) for p in parts))
    return float(total.variance[0])


@contextmanager
def rows_of_recall(n_rows: int) -> Iterator[None]:
    """Trainings that begin within it have clients estimate their recall on so many rows."""
    from skfedfocal._training import assembly

    plan = partial(assembly.LocalPlan, recall_rows=n_rows)
    with patch.object(assembly, "LocalPlan", plan):
        yield


def recall_on_a_sample(y: NDArray, right: NDArray, class_weight: NDArray) -> float:
    """A client's recall as it estimates it, from rows in random order that a model gets right."""
    from skfedfocal._local import LocalPlan
    from skfedfocal.engines._recall import RecallSample
    from skfedfocal.losses import CrossEntropyLoss

    plan = LocalPlan(CrossEntropyLoss(), None, None, 1, 32, 0.1, 0.0, 0.0, 0.0, 0, class_weight)
    sample = RecallSample.draw(np.zeros_like(y), y, 1.0, 1, len(class_weight), plan)
    decided = np.where(right[sample.index], sample.labels, -1)
    return float(sample.recalls(decided)[0])


def crew_of_two(pieces: Iterable[Any], work: Callable[[Any], Any]) -> Iterator[Any]:
    """Replies of two threads to pieces of work, as a round takes them."""
    from skfedfocal.engines._crew import Crew

    crew = Crew(2)
    crew.choose = lambda: 2  # type: ignore[method-assign]
    return crew.run(iter(pieces), work)


def try_module_and_loss() -> None:
    """What a fit of the default estimator tries before training."""
    import torch

    from skfedfocal._module import mlp
    from skfedfocal._module_check import check_module
    from skfedfocal.losses import FocalLoss, check_loss

    check_module(mlp(64, 10, (100,), seed=0), torch.zeros(2, 64), 10)
    check_loss(FocalLoss(), 10, torch.float32)
