"""An engine around an engine: the same clients, of whom more, or less, is seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.queries import Query
from skfedfocal.engines._engine import Engine, Model, Traffic


class EngineAround(Engine):
    """An engine whose clients, whose traffic and whose limits are those of the engine within.

    Parameters
    ----------
    within : Engine
        Where the clients are.
    """

    def __init__(self, within: Engine):
        self.within = within

    @property
    def way(self) -> str:  # type: ignore[override]
        """How clients are trained, in words."""
        return self.within.way

    @property
    def asked(self) -> Traffic:
        """What questions and masks have cost since somebody last looked."""
        return self.within.asked

    @asked.setter
    def asked(self, value: Traffic) -> None:
        self.within.asked = value

    @property
    def sizes(self) -> NDArray[np.float64]:
        return self.within.sizes

    @property
    def n_rows(self) -> NDArray[np.float64]:
        return self.within.n_rows

    @property
    def tells_rows(self) -> bool:
        return self.within.tells_rows

    @property
    def clips_rows(self) -> bool:
        return self.within.clips_rows

    def _answers(
        self, query: Query, clients: NDArray[np.int64], model: Model | None
    ) -> NDArray[np.float64]:
        return self.within._answers(query, clients, model)
