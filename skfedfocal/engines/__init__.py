"""Engines: where clients train. All of them give the same numbers."""

from collections.abc import Callable

from skfedfocal._data.rows import FederatedRows, module_rows
from skfedfocal.engines._engine import (
    Engine,
    Failure,
    Model,
    Task,
    TooFewClients,
    Traffic,
    Unanswered,
    Updates,
)
from skfedfocal.engines._evaluate import Hits, HitsBeside, ValidationLoss, judge_each, right_rows
from skfedfocal.engines._in_process import InProcessEngine
from skfedfocal.engines._loop import LoopEngine
from skfedfocal.engines._many import ManyFederations, Request
from skfedfocal.engines._vectorized import VectorizedEngine

__all__ = [
    "ENGINES",
    "Engine",
    "Failure",
    "FederatedRows",
    "Hits",
    "HitsBeside",
    "LoopEngine",
    "ManyFederations",
    "Model",
    "Request",
    "Task",
    "TooFewClients",
    "Traffic",
    "Unanswered",
    "Updates",
    "ValidationLoss",
    "VectorizedEngine",
    "judge_each",
    "module_rows",
    "right_rows",
]

ENGINES: dict[str, Callable[..., InProcessEngine]] = {
    "loop": LoopEngine,
    "vectorized": VectorizedEngine,
}
