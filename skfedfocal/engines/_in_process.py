"""Clients whose rows are in this process: what their engines have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.queries import Query
from skfedfocal._data.rows import FederatedRows
from skfedfocal.engines._engine import Engine, Model
from skfedfocal.engines._evaluate import ModelQuery

_ROWS_TRIED = 32  # which a model must not give infinite numbers for


class InProcessEngine(Engine):
    """An engine over rows in memory.

    Parameters
    ----------
    module : torch.nn.Module
        What is trained.
    rows : FederatedRows
        To train on.
    held_out : FederatedRows or None, default=None
        To validate on.
    """

    def __init__(
        self, module: nn.Module, rows: FederatedRows, held_out: FederatedRows | None = None
    ):
        super().__init__()
        self.module = module
        self.rows = rows
        self.held_out = held_out

    @property
    def sizes(self) -> NDArray[np.float64]:
        return self.rows.sizes

    @property
    def n_rows(self) -> NDArray[np.float64]:
        return self.rows.layout.sizes.astype(np.float64)

    def can_use(self, theta: Tensor) -> bool:
        rows = self.rows.features(np.arange(min(_ROWS_TRIED, int(self.rows.layout.offsets[-1]))))
        return bool(torch.isfinite(self.logits(theta)(rows)).all())

    def _answers(
        self, query: Query, clients: NDArray[np.int64], model: Model | None
    ) -> NDArray[np.float64]:
        rows = self.held_out if query.held_out else self.rows
        assert rows is not None
        if isinstance(query, ModelQuery):
            assert model is not None
            return query.judge(self.logits(model.theta), rows, clients, model.plan)
        return query.answers(rows, clients)

    @abstractmethod
    def logits(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """The model with these parameters, (p,), as a function of rows (n, ...)."""
