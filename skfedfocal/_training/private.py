"""A private training's account: what it may release, has released, and what that has spent.

Imported only where a training is private.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skfedfocal._data.clients import ClientStats
from skfedfocal._local import LocalPlan
from skfedfocal._training.assembly import Setup
from skfedfocal._training.federation import Federation, Round
from skfedfocal._training.parts import Parts
from skfedfocal._training.settlement import account_of, rounds_within, settled
from skfedfocal._training.state import TrainingState
from skfedfocal.engines import Engine
from skfedfocal.engines._noisy_sum import MaskedSumEngine, NoisySumEngine
from skfedfocal.privacy._clipping import split_noise
from skfedfocal.privacy._counts import NoisyLabelCounts, plausible
from skfedfocal.privacy._ledger import Ledger
from skfedfocal.privacy._mechanism import Mechanism
from skfedfocal.privacy._plan import PrivacyPlan, PrivateStep
from skfedfocal.selection import Selection

_COUNTS = 3  # the stream of noise on label counts; others are those of the engines
_STEP_NOISE = 0.02  # standard deviation of a parameter's share of it; docs/decisions.md


class PoissonSelection(Selection):
    """Each client by a coin of its own, which nobody can foretell.

    Parameters
    ----------
    step : PrivateStep
        Gives the chance, and whether it is secret.
    """

    def __init__(self, step: PrivateStep):
        self.step = step

    def select(
        self, stats: ClientStats, n_selected: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        rate = self.step.sampling_rate
        if not self.step.secure:
            return np.flatnonzero(rng.random(stats.n_clients) < rate)
        return np.flatnonzero(self.step.source(0).bernoulli(stats.n_clients, rate))


@dataclass
class PrivateTraining:
    """The private part of a training, from its plan to its ledger.

    Attributes
    ----------
    mechanism : Mechanism
        Checked.
    plan : PrivacyPlan
        Its parameters, settled.
    ledger : Ledger
        All releases so far.
    counts : ndarray of shape (n_clients, n_classes) or (1, n_classes), or None
        Noisy label counts: of each client where each adds noise of its own, else of all.
    n_rounds : int
        Rounds that the budget allows now.
    n_clients : int
        Number of clients.
    epsilons : list of float
        What will have been spent after each of these rounds.
    n_colluders : int or None
        Under secure sums, clients that may know their own noise and take it off; None without.
    shortens : bool
        Whether steps are as much shorter as the noise asks for.
    sums : NoisySumEngine, MaskedSumEngine or None
        Where the clip norm is that of the coming round.
    """

    mechanism: Mechanism
    plan: PrivacyPlan
    ledger: Ledger
    counts: NDArray[np.float64] | None
    n_rounds: int
    n_clients: int
    epsilons: list[float]
    n_colluders: int | None = None
    shortens: bool = False
    sums: NoisySumEngine | MaskedSumEngine | None = None

    # -- before the first round ----------------------------------------------------------------

    @classmethod
    def open(
        cls,
        parts: Parts,
        settings: Any,
        engine: Engine,
        setup: Setup,
        before: Mapping[str, Any] | None,
        n_rounds: int,
        *,
        adds_rows: bool = False,
    ) -> PrivateTraining:
        """Settle the noise, charge the label counts and ask for them.

        Parameters
        ----------
        parts : Parts
            With the mechanism.
        settings : estimator
            Whose `n_rounds` a new budget is made for.
        engine : Engine
            Where the clients are.
        setup : Setup
            What the training is about.
        before : mapping or None
            Packed state to go on from.
        n_rounds : int
            Rounds that are wanted now.
        adds_rows : bool, default=False
            Whether the rows are others than before.
        """
        mechanism, n_clients = parts.privacy, len(setup.client_ids)
        assert isinstance(mechanism, Mechanism)
        account = account_of(before)
        ledger = Ledger(mechanism.unit)
        if account is not None:
            ledger = Ledger.from_plain(account["ledger"])
        counted = "federated" in (parts.class_weight.counts, parts.loss.counts)
        n_colluders = None
        if parts.secure is not None:
            n_colluders = parts.secure.n_colluders(n_clients)
            if mechanism.n_honest is None:
                mechanism.n_honest = parts.secure.least_honest(n_clients)
        plan = settled(
            mechanism, settings, engine, ledger, account, counted=counted, adds_rows=adds_rows
        )
        if plan.step.within is not None and account is not None:
            plan = replace(plan, step=plan.step.clipped_at(account["clip_norm"]))
        counts = None if account is None else account["counts"]
        asks = plan.counts_event is not None and (
            counts is None or adds_rows or not _same_clients(before, setup, mechanism.unit)
        )
        fixed = [*ledger.events, *([plan.counts_event] if asks and plan.counts_event else [])]
        allowed, epsilons = rounds_within(
            mechanism.target_epsilon, fixed, plan, n_rounds, ledger.accountant
        )
        if allowed < n_rounds:
            warnings.warn(
                f"The budget target_epsilon={mechanism.target_epsilon:g} allows {allowed} of "
                f"{n_rounds} more rounds; the last allowed model is kept.",
                UserWarning,
                stacklevel=6,
            )
        found = cls(mechanism, plan, ledger, counts, allowed, n_clients, epsilons, n_colluders)
        found.shortens = settings.learning_rate == "auto"
        if asks and (allowed or counts is None):
            found.counts = found._released_counts(engine, setup)
        return found

    def _released_counts(self, engine: Engine, setup: Setup) -> NDArray[np.float64]:
        event, noise, step = self.plan.counts_event, self.plan.counts, self.plan.step
        assert event is not None
        assert noise is not None
        self.ledger.record(event)
        n_before = sum(e.steps for e in self.ledger.events if e.of == event.of)
        seed = None if step.secure else (setup.seed, _COUNTS, n_before)
        query = NoisyLabelCounts(
            len(setup.classes),
            noise.client_noise,
            noise.bound if step.unit == "client" else None,
            seed,
        )
        if self.mechanism.trust == "local":
            return engine.ask_each(query)
        total = engine.ask(query)
        if noise.server_noise:
            source = step.source(setup.seed, _COUNTS, n_before)
            total = total + noise.server_noise * source.normal(len(total), torch.float64).numpy()
        return total[None]

    # -- what the rest of a training takes from it ---------------------------------------------

    @property
    def label_counts(self) -> NDArray[np.float64] | None:
        """Rows of each class as the noisy counts have them, or None."""
        if self.counts is None:
            return None
        return plausible(self.counts.sum(0), self._counts_deviation(self.n_clients))

    def _counts_deviation(self, n_clients: int) -> float:
        """Standard deviation of the noise on the rows of a class at so many clients."""
        noise = self.plan.counts
        assert noise is not None
        return noise.deviation(n_clients)

    def local(self, plan: LocalPlan) -> LocalPlan:
        """The plan of clients, who clip rows where rows are protected."""
        if self.mechanism.unit == "client":
            return plan
        denominators, rate = self._denominators(), plan.learning_rate
        rate = min(rate, self._longest(denominators)) if self.shortens else rate
        own = replace(plan, private=self.plan.step, denominators=denominators)
        return replace(own, learning_rate=rate)

    def _longest(self, denominators: NDArray[np.float64]) -> float:
        """Longest step whose noise is small."""
        noise = self.plan.step.total.deviation(self.n_clients)
        divisor = denominators.sum() if self.mechanism.trust == "local" else denominators[0]
        return float(_STEP_NOISE * divisor / noise) if noise else np.inf

    def _denominators(self) -> NDArray[np.float64]:
        """What each client divides by: its own expected batch, or that of all together."""
        rows = None if self.counts is None else self.counts.sum(1)
        if self.plan.step.denominator > 0 or rows is None:
            return np.full(self.n_clients, self.plan.step_for().denominator)
        assert self.counts is not None
        # A number of rows within its own noise says nothing, and too small a one is a long step.
        together = self.n_clients if len(self.counts) == 1 else 1
        deviation = self._counts_deviation(together) * self.counts.shape[1] ** 0.5
        found = [self.plan.step_for(max(float(n), deviation)).denominator for n in rows]
        return np.broadcast_to(found, self.n_clients).astype(np.float64)

    def federation(self, federation: Federation) -> Federation:
        """The federation, with clients drawn by chance where clients are protected."""
        if self.mechanism.unit == "example":
            return federation
        return replace(
            federation,
            selection=PoissonSelection(self.plan.step),
            n_expected=round(self.plan.step.denominator),
        )

    def engine(self, engine: Engine, federation: Federation) -> Engine:
        """The engine, of which only a noisy sum is seen unless each client has its own noise."""
        plan, step = federation.plan, self.plan.step
        if self.mechanism.trust == "local":
            return engine
        if self.n_colluders is not None:
            return self._masked(engine, plan.seed)
        scale = 1.0
        if plan.denominators is not None:
            scale = plan.learning_rate / float(plan.denominators[0])
        least, least_of_count = self.plan.noise_multiplier * step.clip_norm, 0.0
        if step.within is not None:
            of_sum, least_of_count = split_noise(self.plan.noise_multiplier, step.denominator)
            least = of_sum * step.clip_norm
        self.sums = NoisySumEngine(
            engine,
            step,
            scale=scale,
            least_noise=least,
            least_of_count=least_of_count,
            seed=plan.seed,
        )
        return self.sums

    def _masked(self, engine: Engine, seed: int) -> Engine:
        """The engine of secure sums, whose clients add their noise before they mask."""
        assert self.n_colluders is not None
        assert self.mechanism.n_honest is not None
        engine.share_noise(self.plan.step, seed)
        needed = self.mechanism.n_honest + self.n_colluders
        self.sums = MaskedSumEngine(engine, self.plan.step, needed, seed)
        return self.sums

    # -- round by round ------------------------------------------------------------------------

    def charged(self, state: TrainingState) -> TrainingState:
        """The state with the coming round's release in its ledger."""
        self.ledger.record(self.plan.round_event)
        return self.kept(state)

    def kept(self, state: TrainingState) -> TrainingState:
        """The state with the account as it is, in plain values."""
        account = {
            "ledger": self.ledger.to_plain(),
            "delta": self.plan.delta,
            "noise_multiplier": self.plan.noise_multiplier,
            "counts": self.counts,
            "clip_norm": (self.plan if self.sums is None else self.sums).step.clip_norm,
        }
        return replace(state, privacy=account)

    def spent(self, report: Round) -> Round:
        """The report with what had been spent when the round ended."""
        return replace(report, epsilon=self.epsilons.pop(0))


def _same_clients(before: Mapping[str, Any] | None, setup: Setup, unit: str) -> bool:
    if before is None:
        return False
    if unit == "client":  # of whom only the number is kept
        return len(before["clients"]) == len(setup.client_ids)
    return np.array_equal(before["clients"], setup.client_ids)
