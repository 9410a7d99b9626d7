"""Engines: where clients train. All of them give the same numbers."""

from collections.abc import Callable

from skfedfocal._data.rows import FederatedRows, dense_rows
from skfedfocal.engines._engine import Engine, Model, Task, Traffic, Unanswered, Updates
from skfedfocal.engines._evaluate import Hits, ValidationLoss
from skfedfocal.engines._loop import LoopEngine
from skfedfocal.engines._many import ManyFederations, Request
from skfedfocal.engines._vectorized import VectorizedEngine

__all__ = [
    "ENGINES",
    "Engine",
    "FederatedRows",
    "Hits",
    "LoopEngine",
    "ManyFederations",
    "Model",
    "Request",
    "Task",
    "Traffic",
    "Unanswered",
    "Updates",
    "ValidationLoss",
    "VectorizedEngine",
    "dense_rows",
]

ENGINES: dict[str, Callable[..., Engine]] = {
    "loop": LoopEngine,
    "vectorized": VectorizedEngine,
}
