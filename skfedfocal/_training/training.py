"""A training of many rounds: when to stop, and which model to keep."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._training.rounds import FederatedTrainingError, Federation, Round, run_rounds
from skfedfocal.engines import Engine


@dataclass(frozen=True)
class Patience:
    """How long to wait for the validation loss to fall, and by how much it must."""

    n_rounds: int
    tol: float


class Checkpoint(Protocol):
    """Where a training is written down after each round, to go on from after a crash."""

    def restore(self, training: Training) -> None:
        """Bring the training to where it was after the last round written down, if any."""

    def save(self, training: Training) -> None:
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
        self._patience = patience
        self._recent: deque[Tensor] = deque(maxlen=average_rounds)
        self._best: tuple[float, Tensor] = (np.inf, federation.theta)
        self._n_waited = 0
        self._checkpoint = checkpoint
        if checkpoint is not None:
            checkpoint.restore(self)

    def rounds(self, engine: Engine, n_rounds: int) -> Iterator[Round]:
        """Train until there are that many rounds, or until patience ends."""
        rounds = run_rounds(self.federation, engine)
        least: tuple[float, Federation, int] = (np.inf, self.federation, 0)
        while len(self.history) < n_rounds and not self._is_over():
            try:
                federation, report = next(rounds)
            except FederatedTrainingError:
                # The models just before the end are finite, but useless; that of least loss is not.
                _, self.federation, n_good = least
                del self.history[n_good:]
                self._recent.clear()
                raise
            sent = self.federation  # what this round's losses are about
            if report.loss < least[0]:
                least = (report.loss, sent, len(self.history))
            self.federation = federation
            self.history.append(report)
            self._recent.append(federation.theta)
            self._watch(report.validation_loss, sent.theta)
            if self._checkpoint is not None:
                self._checkpoint.save(self)
            yield report

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

    def state(self) -> dict[str, Any]:
        """All that later rounds depend on, in plain values and arrays; for a checkpoint."""
        return {
            "theta": self.federation.theta,
            "state": dict(self.federation.state),
            "stats": dict(vars(self.federation.stats)),
            "history": [asdict(report) for report in self.history],
            "recent": list(self._recent),
            "best": self._best,
            "n_waited": self._n_waited,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken; what follows is the same to the last bit."""
        like = self.federation.theta
        stats = copy.copy(self.federation.stats)
        vars(stats).update(state["stats"])
        self.history = [Round(**report) for report in state["history"]]
        self.federation = replace(
            self.federation,
            theta=state["theta"].to(like),
            state={name: value.to(like) for name, value in state["state"].items()},
            stats=stats,
            n_rounds=self.history[-1].round if self.history else self.federation.n_rounds,
        )
        self._recent.extend(theta.to(like) for theta in state["recent"])
        self._best = (state["best"][0], state["best"][1].to(like))
        self._n_waited = state["n_waited"]

    def _is_over(self) -> bool:
        return self._patience is not None and self._n_waited >= self._patience.n_rounds

    def _watch(self, validation_loss: float, sent: Tensor) -> None:
        if self._patience is None:
            return
        if validation_loss < self._best[0] - self._patience.tol:
            self._best = (validation_loss, sent)
            self._n_waited = 0
        else:
            self._n_waited += 1
