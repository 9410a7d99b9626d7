"""What a private training does at each step, as plain numbers that travel with the plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from skfedfocal.privacy._accounting import Event
from skfedfocal.privacy._clipping import adapted_clip_norm
from skfedfocal.privacy._ledger import Ledger
from skfedfocal.privacy._noise import NoiseSource


@dataclass(frozen=True)
class NoisySum:
    """A sum over clients that is released with noise.

    Attributes
    ----------
    bound : float
        Most that one unit may change the sum.
    client_noise, server_noise : float
        Standard deviation of what each client, and of what the server, adds to the sum.
    """

    bound: float
    client_noise: float
    server_noise: float

    def rescaled(self, bound: float) -> NoisySum:
        """Return the same sum with another bound and noise in proportion."""
        factor = bound / self.bound
        return NoisySum(bound, factor * self.client_noise, factor * self.server_noise)

    def deviation(self, n_clients: int) -> float:
        """Return the standard deviation of a sum that so many clients add to."""
        return math.hypot(self.client_noise * math.sqrt(n_clients), self.server_noise)


@dataclass(frozen=True)
class PrivateStep:
    """One step of a private training: who is in it, the bound, the noise and the denominator.

    Attributes
    ----------
    unit : {"example", "client"}
        Whose influence is bounded: that of each row's gradient, or of each client's update.
    sampling_rate : float
        Chance of each unit to be in the step, drawn by `NoiseSource.bernoulli`.
    total : NoisySum
        The sum of clipped gradients or updates.
    denominator : float
        What the noisy sum is divided by: fixed beforehand, whoever takes part.
    secure : bool
        Whether the noise and the draws are from keys that nobody knows.
    quantile : float or None, default=None
        Of update norms that the clip norm follows; None keeps it.
    within : NoisySum or None, default=None
        The count of updates within the clip norm, for `adapted_clip_norm`.
    """

    unit: str
    sampling_rate: float
    total: NoisySum
    denominator: float
    secure: bool
    quantile: float | None = None
    within: NoisySum | None = None

    @property
    def clip_norm(self) -> float:
        """Return the norm that gradients or updates are clipped to."""
        return self.total.bound

    @property
    def noise_multiplier(self) -> float:
        """Return what one client's noise is to all that it adds it to, taken together."""
        sums = [self.total] if self.within is None else [self.total, self.within]
        if any(one.client_noise == 0 for one in sums):
            return 0.0
        return float(sum((one.bound / one.client_noise) ** 2 for one in sums) ** -0.5)

    def clipped_at(self, clip_norm: float) -> PrivateStep:
        """Return the same step with another clip norm, and noise in proportion."""
        return replace(self, total=self.total.rescaled(clip_norm))

    def after_count(self, noisy_count: float) -> PrivateStep:
        """Return the step of the next round, whose clip norm follows the quantile.

        Parameters
        ----------
        noisy_count : float
            Sum of the clients' half votes, as `within` has it.

        Returns
        -------
        step : PrivateStep
            With noise in proportion.
        """
        assert self.quantile is not None
        return self.clipped_at(
            adapted_clip_norm(self.clip_norm, noisy_count, self.denominator, self.quantile)
        )

    def source(self, seed: int, *counters: int) -> NoiseSource:
        """Return a source of noise, which heeds the seed only where that was asked for."""
        return NoiseSource() if self.secure else NoiseSource(seed, *counters)

    def to_plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> PrivateStep:
        """Make a step from the result of `to_plain`."""
        sums = {key: plain[key] and NoisySum(**plain[key]) for key in ("total", "within")}
        return cls(**{**plain, **sums})


@dataclass(frozen=True)
class PrivacyPlan:
    """A mechanism's parameters, settled for a training.

    Attributes
    ----------
    noise_multiplier : float
        Noise of a step over the most that one unit can change its sum, all that the step releases
        taken together.
    epsilon, delta : float
        What the training will have spent when it ends, earlier ones on the same data included.
    round_event : Event
        What each round releases, to be recorded before it is sent.
    counts_event : Event or None
        What the label counts release, once.
    counts : NoisySum or None
        The label counts.
    step : PrivateStep
        With a denominator of 0 where that depends on the noisy label counts: see `step_for`.
    ledger : Ledger
        Releases before this training.
    """

    noise_multiplier: float
    epsilon: float
    delta: float
    round_event: Event
    counts_event: Event | None
    counts: NoisySum | None
    step: PrivateStep
    ledger: Ledger

    def step_for(self, noisy_rows: float | None = None) -> PrivateStep:
        """Return the step with its denominator.

        Parameters
        ----------
        noisy_rows : float or None, default=None
            Rows that the sum is over, by the noisy label counts: of the site where each site has
            noise of its own, else of all.

        Returns
        -------
        step : PrivateStep
            Divided by what was fixed beforehand, or by the expected number of rows in a step.

        Raises
        ------
        ValueError
            Where the denominator rests on noisy label counts, and none are given.
        """
        if self.step.denominator > 0:
            return self.step
        if noisy_rows is None:
            raise ValueError("This step is divided by noisy label counts, which must come first.")
        return replace(self.step, denominator=self.step.sampling_rate * max(noisy_rows, 1.0))
