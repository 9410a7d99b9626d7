"""A training of many rounds: when to stop, and which model to keep."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._rounds import Federation, Round, run_rounds
from skfedfocal.engines import Engine


@dataclass(frozen=True)
class Patience:
    """How long to wait for the validation loss to fall, and by how much it must."""

    n_rounds: int
    tol: float


class Checkpoint(Protocol):
    """Where a training is written down after each round, to go on from after a crash."""

    def restore(self, federation: Federation) -> tuple[Federation, list[Round]]:
        """The federation as of the last round written down, and the rounds until then."""

    def save(self, federation: Federation, history: list[Round]) -> None:
        """Write down a complete round."""


class Training:
    """Rounds with their history; at any time `model` is the one to keep.

    Parameters
    ----------
    federation : Federation
        Where training begins.
    average_rounds : int
        The model is the mean of the global models after the last so many rounds.
    patience : Patience or None
        Whether to stop early; the model is then the one of the best validation loss.
    checkpoint : Checkpoint or None
        Where to go on from, and to write each round to.
    """

    def __init__(
        self,
        federation: Federation,
        average_rounds: int,
        patience: Patience | None,
        checkpoint: Checkpoint | None = None,
    ):
        self.federation = federation
        self.history: list[Round] = []
        self._checkpoint = checkpoint
        if checkpoint is not None:
            self.federation, self.history = checkpoint.restore(federation)
        self._patience = patience
        self._recent: deque[Tensor] = deque(maxlen=average_rounds)
        self._best: tuple[float, Tensor] = (np.inf, federation.theta)
        self._n_waited = 0

    def rounds(self, engine: Engine, n_rounds: int) -> Iterator[Round]:
        """Train until there are that many rounds, or until patience ends."""
        if len(self.history) >= n_rounds:  # a checkpoint had them all
            return
        for federation, report in run_rounds(self.federation, engine):
            sent = self.federation.theta  # what this round's validation loss is about
            self.federation = federation
            self.history.append(report)
            self._recent.append(federation.theta)
            if self._checkpoint is not None:
                self._checkpoint.save(federation, self.history)
            yield report
            if len(self.history) == n_rounds or self._is_over(report.validation_loss, sent):
                return

    def model(self) -> Tensor:
        """The global model to keep, of shape (p,)."""
        if self._patience is not None and np.isfinite(self._best[0]):
            return self._best[1]
        if len(self._recent) <= 1:
            return self.federation.theta
        return torch.stack(tuple(self._recent)).mean(0)

    def table(self) -> dict[str, NDArray[np.float64]]:
        """History by column."""
        names = list(vars(self.history[0]))
        if self._patience is None:
            names.remove("validation_loss")
        return {name: np.array([getattr(r, name) for r in self.history]) for name in names}

    def _is_over(self, validation_loss: float, sent: Tensor) -> bool:
        if self._patience is None:
            return False
        if validation_loss < self._best[0] - self._patience.tol:
            self._best = (validation_loss, sent)
            self._n_waited = 0
        else:
            self._n_waited += 1
        return self._n_waited >= self._patience.n_rounds
