"""The engine over the rows of a fit: with validation rows, and behind secure sums, where wanted."""

from __future__ import annotations

from typing import Any

from torch import nn

from skfedfocal._data.rows import FederatedRows
from skfedfocal._data.validation import validation_rows
from skfedfocal.engines import ENGINES, Engine
from skfedfocal.engines._in_process import InProcessEngine
from skfedfocal.privacy._aggregation import resolve_secure


def open_engine(
    settings: Any, module: nn.Module, rows: FederatedRows, seed: int
) -> InProcessEngine:
    """The engine that shows each client's update."""
    make = ENGINES[settings.engine]
    if not settings.early_stopping:
        return make(module, rows)
    held_out = validation_rows(
        seed, rows.layout, rows.y, rows.n_classes, settings.validation_fraction
    )
    train, validate = rows.layout.restrict(~held_out), rows.layout.restrict(held_out)
    return make(module, rows.regroup(train), rows.regroup(validate))


def secured(settings: Any, engine: InProcessEngine) -> Engine:
    """The engine, or one around it that has sums alone."""
    secure = resolve_secure(settings.secure_aggregation)
    if secure is None:
        return engine
    from skfedfocal.engines._secure import SecureEngine  # with its cryptography

    return SecureEngine(engine, secure)
