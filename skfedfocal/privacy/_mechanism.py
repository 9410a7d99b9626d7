"""What the mechanisms have in common: delta, the noise that is enough, and who adds it."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import ClassVar

from skfedfocal._component import Component
from skfedfocal._sklearn import Interval, InvalidParameterError, StrOptions
from skfedfocal.privacy._accounting import Event, check_delta
from skfedfocal.privacy._calibration import calibrate, gaussian_of
from skfedfocal.privacy._ledger import Ledger
from skfedfocal.privacy._plan import NoisySum

POSITIVE = Interval(Real, 0, None, closed="neither")
CONSTRAINTS = {
    "noise_multiplier": [Interval(Real, 0, None, closed="left"), None],
    "target_epsilon": [POSITIVE, None],
    "delta": [Interval(Real, 0, 1, closed="neither"), None],
    "sampling_rate": [Interval(Real, 0, 1, closed="right")],
    "counts_noise": [POSITIVE, StrOptions({"auto"}), None],
    "n_honest": [Interval(Integral, 1, None, closed="left"), None],
    "noise": [StrOptions({"secure", "seeded"})],
}


# Of the budget, as squared means of Gaussians, in which releases add up: for label counts.
_COUNTS_SHARE = 0.1
_LEAST_EPSILON = 1e-3  # that they take a share of, however little the steps spend
# Where noise is given: not of the rounds that are to come, so that stages are like the whole.
_STEPS_BESIDE = 100


class Mechanism(Component):
    """Base of the differentially private mechanisms; use one of them."""

    unit: ClassVar[str]

    noise_multiplier: float | None
    target_epsilon: float | None
    delta: float | None
    sampling_rate: float
    counts_noise: float | str | None
    trust: str
    n_honest: int | None
    noise: str

    def check_params(self) -> None:
        super().check_params()
        if (self.noise_multiplier is None) == (self.target_epsilon is None):
            raise InvalidParameterError(
                f"{type(self).__name__} takes exactly one of noise_multiplier and target_epsilon; "
                f"got {self.noise_multiplier!r} and {self.target_epsilon!r}."
            )

    def _settle_delta(self, n_units: int | None) -> float:
        if self.delta is None:
            if n_units is None:
                raise ValueError(
                    f"{type(self).__name__} needs delta where the number of protected units is "
                    "not known; take less than one over that number."
                )
            # Of the order of magnitude only: an exact number of rows would be a release.
            return 10.0 ** -(math.floor(math.log10(n_units)) + 1)
        check_delta(self.delta, n_units)
        return self.delta

    def _settle_noise(
        self, n_steps: int, delta: float, counts: Event | None, previous: Ledger
    ) -> tuple[float, float]:
        """Return the noise multiplier of a step, and what all releases together spend."""
        whole = previous.merged(Ledger(self.unit, [counts] if counts else []))
        z = self.noise_multiplier
        if z is None:
            assert self.target_epsilon is not None
            z = calibrate(
                self.target_epsilon,
                delta,
                steps=n_steps,
                sampling_rate=self.sampling_rate,
                spent=whole,
            )
        whole.add(z, sampling_rate=self.sampling_rate, steps=n_steps)
        return z, whole.epsilon(delta)

    def _sum(self, noise_multiplier: float, bound: float, n_honest: int) -> NoisySum:
        """Return a sum whose noise is added where the trust is."""
        noise = noise_multiplier * bound
        if self.trust == "server":
            return NoisySum(bound, 0.0, noise)
        return NoisySum(bound, noise / math.sqrt(n_honest if self.trust != "local" else 1), 0.0)

    def _counts_event(self, n_releases: int, delta: float) -> Event | None:
        """Return all releases of label counts together."""
        if not n_releases or self.counts_noise is None:
            return None
        noise = self.counts_noise
        if isinstance(noise, str):
            noise = self._counts_share(delta) * math.sqrt(n_releases)
        return Event(float(noise), steps=n_releases, of="label_counts")

    def _counts_share(self, delta: float) -> float:
        """Return the noise of one release of label counts that takes its share of the budget."""
        epsilon = self.target_epsilon
        if epsilon is None:
            assert self.noise_multiplier is not None
            if self.noise_multiplier == 0:
                return 0.0
            steps = Event(self.noise_multiplier, float(self.sampling_rate), _STEPS_BESIDE)
            epsilon = max(Ledger(self.unit, [steps]).epsilon(delta), _LEAST_EPSILON)
        return 1 / (gaussian_of(epsilon, delta) * math.sqrt(_COUNTS_SHARE))


def honest_clients(n_honest: int | None, n_clients: int) -> int:
    """Return the number of clients whose share of the noise counts."""
    if n_honest is None:
        return max(1, n_clients - 1)
    if n_honest > n_clients:
        raise ValueError(f"n_honest={n_honest} is more than there are clients: {n_clients}.")
    return n_honest
