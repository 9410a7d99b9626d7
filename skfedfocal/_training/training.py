"""A training of many rounds: when to stop, and which model to keep."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from skfedfocal._random import panel
from skfedfocal._training.failures import FederatedTrainingError, records, warn_without
from skfedfocal._training.federation import Federation, Round
from skfedfocal._training.rounds import run_round
from skfedfocal._training.state import TrainingState
from skfedfocal.engines import (
    Engine,
    Failure,
    Model,
    TooFewClients,
    Traffic,
    Unanswered,
    ValidationLoss,
)

_PANEL_SIZE = 1000  # clients, at least, whose rows validate every model


@dataclass(frozen=True)
class Patience:
    """How long to wait for the validation loss to fall, and by how much it must."""

    n_rounds: int
    tol: float


class Keeper(Protocol):
    """Where a training is written down after each round, to go on from after a crash."""

    def save(self, state: TrainingState) -> Any:
        """Write down a complete round."""


class Account(Protocol):
    """What a training may release, and has: written down before each release."""

    def charged(self, state: TrainingState) -> TrainingState:
        """The state with the coming round's release in its ledger."""

    def kept(self, state: TrainingState) -> TrainingState:
        """The state with the account as it is."""

    def spent(self, report: Round) -> Round:
        """The report with what had been spent when the round ended."""


class Training:
    """Rounds with their history; at any time `model` is the one to keep.

    Parameters
    ----------
    federation : Federation
        The parts.
    state : TrainingState
        Where the training begins.
    average_rounds : int
        The model is the mean of the global models after the last so many rounds.
    patience : Patience or None
        Whether to stop early; the model is then the one of the best validation loss.
    keeper : Keeper or None
        Where to write each round to.
    account : Account or None
        Of a private training.
    """

    def __init__(
        self,
        federation: Federation,
        state: TrainingState,
        average_rounds: int,
        patience: Patience | None,
        keeper: Keeper | None = None,
        account: Account | None = None,
    ):
        self.federation = federation
        self.state = state
        self._average_rounds = average_rounds
        self._patience = patience
        self._keeper = keeper
        self._account = account

    def rounds(self, engine: Engine, until: int) -> Iterator[Round]:
        """Train until there are that many rounds, or until patience ends."""
        least: tuple[float, TrainingState] = (np.inf, self.state)
        while self.goes_on(until):
            if self._account is not None:
                self.state = self._account.charged(self.state)
                if self._keeper is not None:
                    self._keeper.save(self.state)
            before = self.state
            try:
                server, report = run_round(self.federation, before.server, engine)
                good = least[1].server.theta
                ends = server.n_rounds == until and self._account is None  # it looks at rows
                if ends and not engine.can_use(server.theta, good):
                    raise FederatedTrainingError(  # which a next round would have found
                        f"Round {until}: the model gives numbers that are not finite. The training "
                        "diverged; lower learning_rate, or the server's."
                    )
            except FederatedTrainingError as error:
                failed = self._failed(before, error.failures)
                # The models just before the end are finite, but useless; that of least loss is not.
                kept = replace(least[1], recent=()) if error.diverged else before
                self.state = replace(kept, failures=failed, privacy=before.privacy)
                raise
            except TooFewClients as error:  # nothing is wrong with the model so far
                raise FederatedTrainingError(str(error)) from error
            # The loss is that of the model that was sent; where it is unknown, the last is kept.
            if report.n_selected and not report.loss >= least[0]:
                least = report.loss, before
            failed = self._failed(before, report.failures)
            self._warn(before, report)
            report = replace(report, failures=())  # whose errors hold on to all that they met
            self.state = replace(
                before, server=server, recent=self._recent(before), failures=failed
            )
            if self._patience is not None:
                report = self._watch(engine, report)
            if self._account is not None:
                report = self._account.spent(report)
                self.state = self._account.kept(self.state)  # with the next round's clip norm
            self.state = replace(self.state, history=(*before.history, report))
            if self._keeper is not None:
                self._keeper.save(self.state)
            yield report

    def goes_on(self, until: int) -> bool:
        """Whether there is another round, where there are to be that many in all."""
        return self.state.server.n_rounds < until and not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether patience has ended."""
        return self._patience is not None and self.state.n_waited >= self._patience.n_rounds

    def model(self) -> Tensor:
        """The global model to keep, of shape (p,)."""
        state = self.state
        if self._patience is not None and state.best is not None:
            return state.best
        if not state.recent:
            return state.server.theta
        return torch.stack((*state.recent, state.server.theta)).mean(0)

    def _failed(self, before: TrainingState, new: Sequence[Failure]) -> tuple[Any, ...]:
        """Who failed until now."""
        ids, number = self.federation.client_ids, before.server.n_rounds + 1
        return (*before.failures, *records(new, number, ids))

    def _warn(self, before: TrainingState, report: Round) -> None:
        """Warn of clients that failed for the first time."""
        if report.failures:
            known = {record["client"] for record in before.failures}
            warn_without(report.failures, report.round, self.federation.client_ids, known)

    def _recent(self, before: TrainingState) -> tuple[Tensor, ...]:
        """The models after earlier rounds that count in the mean with the next one."""
        models = (
            before.recent if before.server.n_rounds == 0 else (*before.recent, before.server.theta)
        )
        return models[len(models) - min(len(models), self._average_rounds - 1) :]

    def _watch(self, engine: Engine, report: Round) -> Round:
        """Validate the model that the round ended with: always on the same rows."""
        assert self._patience is not None
        began, state = time.perf_counter(), self.state
        loss = self._validation_loss(engine)
        if loss < state.best_loss - self._patience.tol:
            self.state = replace(state, best=state.server.theta, best_loss=loss, n_waited=0)
        else:
            self.state = replace(state, n_waited=state.n_waited + 1)
        asked, engine.asked = engine.asked, Traffic()
        return replace(
            report,
            validation_loss=loss,
            bytes_down=report.bytes_down + asked.down,
            bytes_up=report.bytes_up + asked.up,
            seconds=report.seconds + time.perf_counter() - began,
        )

    def _validation_loss(self, engine: Engine) -> float:
        """Mean over the rows held out; NaN where not all of them could be asked."""
        federation, server = self.federation, self.state.server
        size = max(_PANEL_SIZE, federation.n_selected)
        clients = panel(federation.plan.seed, server.stats.n_clients, size)
        model = Model(server.theta, federation.plan)
        try:
            loss, weight = engine.ask(ValidationLoss(), clients, model)
        except Unanswered as error:  # the loss on other rows would be no comparison
            warnings.warn(
                f"Round {server.n_rounds}: no validation loss, for {error}.",
                RuntimeWarning,
                stacklevel=4,
            )
            return float("nan")
        return float(loss / weight) if weight > 0 else float("nan")
