"""Clients whose rows are in this process: what their engines have in common."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.queries import Query
from skfedfocal._data.rows import FederatedRows
from skfedfocal.engines._engine import Engine, Failure, Model
from skfedfocal.engines._evaluate import ModelQuery, judge_each

_ROWS_TRIED = 16  # which a model must not give infinite numbers for


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

    Attributes
    ----------
    together : bool
        Whether a model may be judged on the rows of several clients at once.
    """

    together = True

    def __init__(
        self, module: nn.Module, rows: FederatedRows, held_out: FederatedRows | None = None
    ):
        super().__init__()
        self.module = module
        self.rows = rows
        self.held_out = held_out
        self._mute: set[int] = set()

    @property
    def sizes(self) -> NDArray[np.float64]:
        return self.rows.sizes

    @property
    def n_rows(self) -> NDArray[np.float64]:
        return self.rows.layout.sizes.astype(np.float64)

    def can_use(self, theta: Tensor, before: Tensor) -> bool:
        rows = self.rows.features(np.arange(min(_ROWS_TRIED, int(self.rows.layout.offsets[-1]))))
        try:
            then, now = (torch.isfinite(self.logits(t)(rows)).all(-1) for t in (before, theta))
        except Exception:  # on the rows of a client that rounds go on without
            return True
        return bool((now | ~then).all())

    def _answers(
        self, query: Query, clients: NDArray[np.int64], model: Model | None
    ) -> NDArray[np.float64]:
        rows = self.held_out if query.held_out else self.rows
        assert rows is not None
        if isinstance(query, ModelQuery):
            assert model is not None
            predict = self.logits(model.theta)
            found, failures = judge_each(
                query, predict, rows, clients, model.plan, together=self.together
            )
            self._warn(failures)
            return found
        return query.answers(rows, clients)

    def _warn(self, failures: list[Failure]) -> None:
        """Say once of each client that nothing can be asked about its rows."""
        new = [failure for failure in failures if failure.client not in self._mute]
        self._mute |= {failure.client for failure in new}
        for failure in new:
            warnings.warn(
                f"The model cannot be judged on the rows of client number {failure.client} of "
                f"clients_, which are left out ({failure.reason}).",
                RuntimeWarning,
                stacklevel=2,
            )

    @abstractmethod
    def logits(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        """The model with these parameters, (p,), as a function of rows (n, ...)."""
