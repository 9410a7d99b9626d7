"""Engines: where clients train. All of them give the same numbers."""

from collections.abc import Callable

from skfedfocal._data.rows import FederatedRows, dense_rows
from skfedfocal.engines._engine import Engine, Updates
from skfedfocal.engines._loop import LoopEngine
from skfedfocal.engines._many import ManyFederations, Request
from skfedfocal.engines._vectorized import VectorizedEngine

__all__ = [
    "ENGINES",
    "Engine",
    "FederatedRows",
    "LoopEngine",
    "ManyFederations",
    "Request",
    "Updates",
    "VectorizedEngine",
    "dense_rows",
]

ENGINES: dict[str, Callable[..., Engine]] = {
    "auto": VectorizedEngine,
    "loop": LoopEngine,
    "vectorized": VectorizedEngine,
}
