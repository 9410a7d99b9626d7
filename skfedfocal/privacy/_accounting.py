"""What a series of noisy releases spends: epsilon by the tightest accountant that applies."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

ACCOUNTANTS = ("auto", "pld", "rdp")
STEPS = "steps"

_MOST_STEPS = 1_000_000  # to be composed as distributions: ten times more take a minute
# The share that the discretisation of losses may add to epsilon, always upwards: as a rule, and
# where keeping to it would cost more than the accountant's own interval does.
_TOLERANCE = 5e-5
_LONG_TOLERANCE = 1e-3
_DEFAULT_INTERVAL = 1e-4  # of the accountant itself
_COARSEST = 1e-3
_CURVE = 64  # epsilons of a long training that are computed
_POINTS = 30_000  # of one step's privacy loss, beyond which a finer interval is too dear


@dataclass(frozen=True)
class Event:
    """Equal Gaussian releases, each of a fresh random sample of the units.

    Attributes
    ----------
    noise_multiplier : float
        Standard deviation of the noise over the most that one unit can change the released sum,
        at least 0; 0 is no noise, for which epsilon is infinite.
    sampling_rate : float, default=1.0
        Chance of each unit to be in a release, independently of the others, in (0, 1].
    steps : int, default=1
        Number of releases, at least 1.
    of : str, default="steps"
        What is released: "steps" of training, "label_counts", "moments", or any other word.
    """

    noise_multiplier: float
    sampling_rate: float = 1.0
    steps: int = 1
    of: str = STEPS

    def __post_init__(self) -> None:
        z, q = self.noise_multiplier, self.sampling_rate
        if not (math.isfinite(z) and z >= 0):
            raise ValueError(f"noise_multiplier must be finite and at least 0; got {z!r}.")
        if not 0 < q <= 1:
            raise ValueError(f"sampling_rate must be in (0, 1]; got {q!r}.")
        if self.steps != int(self.steps) or self.steps < 1:
            raise ValueError(f"steps must be a whole number, at least 1; got {self.steps!r}.")

    @property
    def sampler(self) -> str:
        """Return "all" where every unit is in every release, else "poisson"."""
        return "all" if self.sampling_rate == 1 else "poisson"


def epsilon_of(events: Sequence[Event], delta: float, accountant: str = "auto") -> float:
    """Return the epsilon, at this delta, of all events together."""
    check_delta(delta)
    if not events:
        return 0.0
    if any(event.noise_multiplier == 0 for event in events):
        return math.inf
    method = method_for(events, accountant)
    if method == "gaussian":
        return gaussian_epsilon(gaussian_mu(events), delta)
    if method == "rdp":
        return _rdp(events).get_epsilon(delta)
    return _composed(tuple(events), delta)


@lru_cache(maxsize=256)
def _composed(events: tuple[Event, ...], delta: float) -> float:
    """Epsilon by the privacy loss: kept, since folds and seeds of a search ask for the same."""
    # The guarantee never needs less than 0, which rounding in the accountant can give.
    return max(0.0, float(privacy_loss(events).get_epsilon_for_delta(delta)))


def method_for(events: Sequence[Event], accountant: str) -> str:
    """Return what an epsilon comes from: "gaussian" (the closed form), "pld" or "rdp"."""
    sampled = [event.steps for event in events if event.sampling_rate < 1]
    if not sampled:
        return "gaussian"
    if accountant == "auto":
        return "rdp" if sum(sampled) > _MOST_STEPS else "pld"
    return accountant


def epsilon_curve(
    before: Sequence[Event], event: Event, n: int, delta: float, accountant: str = "auto"
) -> list[float]:
    """Epsilon after each of n equal releases, on top of earlier ones.

    Parameters
    ----------
    before : sequence of Event
        Earlier releases.
    event : Event
        The release that is repeated.
    n : int
        How often.
    delta : float
        In (0, 1).
    accountant : str, default="auto"
        As of `Ledger`.

    Returns
    -------
    epsilons : list of float
        Of length n. Where n is large only some are computed, and between them stands the next
        one, which is an upper bound.
    """
    places = sorted({math.ceil((i + 1) * n / _CURVE) for i in range(_CURVE)} if n else set())
    steps = [Event(event.noise_multiplier, event.sampling_rate, k * event.steps) for k in places]
    events = [[*before, step] for step in steps]
    if not events:
        return []
    if method_for(events[-1], accountant) == "pld" and min(e.noise_multiplier for e in events[-1]):
        found = _composed_curve(tuple(events[-1]), tuple(places), event, tuple(before), delta)
    else:
        found = [epsilon_of(each, delta, accountant) for each in events]
    return [found[bisect.bisect_left(places, k)] for k in range(1, n + 1)]


@lru_cache(maxsize=64)
def _composed_curve(
    whole: tuple[Event, ...],
    places: tuple[int, ...],
    event: Event,
    before: tuple[Event, ...],
    delta: float,
) -> list[float]:
    """The curve from one distribution that grows, all of it on the grid that the whole needs."""
    interval = _interval(whole)
    total = privacy_loss(before, interval) if before else None
    parts: dict[int, Any] = {}
    found, last = [], 0
    for place in places:
        more = (place - last) * event.steps
        if more not in parts:
            step = Event(event.noise_multiplier, event.sampling_rate, more)
            parts[more] = privacy_loss([step], interval)
        total = parts[more] if total is None else total.compose(parts[more])
        found.append(max(0.0, float(total.get_epsilon_for_delta(delta))))
        last = place
    return found


def check_delta(delta: float, n_units: int | None = None) -> None:
    """Refuse a delta that promises nothing.

    Parameters
    ----------
    delta : float
        Must be in (0, 1) and, where `n_units` is given, below ``1 / n_units``.
    n_units : int or None, default=None
        Number of rows or clients.

    Raises
    ------
    ValueError
        With the reason.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1); got {delta!r}.")
    if n_units is not None and delta * n_units >= 1:
        raise ValueError(
            f"delta={delta:g} must be below 1 / {n_units}, one over the number of protected units: "
            "publishing one of them at random, whole, would meet such a promise."
        )


# -- all units in every release: one Gaussian, in closed form --------------------------------------


def gaussian_mu(events: Sequence[Event]) -> float:
    """Distance over noise of the one Gaussian release that unsampled events amount to."""
    return math.sqrt(sum(event.steps / event.noise_multiplier**2 for event in events))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of the Gaussian mechanism whose neighbours lie `mu` standard deviations apart.

    Parameters
    ----------
    mu : float
        At least 0.
    delta : float
        In (0, 1).

    Returns
    -------
    epsilon : float
        By the analytic Gaussian mechanism (Balle, Wang 2018).
    """
    return float(_library().get_epsilon_gaussian(1 / mu, delta)) if mu > 0 else 0.0


# -- sampled releases: privacy loss distributions, or Renyi divergences ----------------------------


def privacy_loss(events: Sequence[Event], interval: float | None = None) -> Any:
    """Distribution of the privacy loss of all events, adding or removing one unit."""
    pld = _library().pld.privacy_loss_distribution
    interval = _interval(events) if interval is None else interval
    total = None
    full = [event for event in events if event.sampling_rate == 1]
    sampled = [event for event in events if event.sampling_rate < 1]
    if full:  # Gaussians compose to one, whose own loss is cheaper than their convolution
        total = pld.from_gaussian_mechanism(
            1 / gaussian_mu(full), value_discretization_interval=interval
        )
    for event in sampled:
        loss = pld.from_gaussian_mechanism(
            event.noise_multiplier,
            sampling_prob=event.sampling_rate,
            value_discretization_interval=interval,
        )
        loss = loss.self_compose(int(event.steps)) if event.steps > 1 else loss
        total = loss if total is None else total.compose(loss)
    return total


def _interval(events: Sequence[Event]) -> float:
    """Width of the grid of losses whose rounding stays within the tolerance.

    Rounding to a grid of width h adds h**2 / 12 to the variance of each step's loss, and epsilon
    grows about as the sum of the variances does. Short runs allow a grid ten times wider than the
    accountant's own; very long ones of tiny steps need a finer one, taken where that is cheap.
    """
    steps = sum(event.steps for event in events)
    moments = [(_loss_at(event), event.steps) for event in events]
    variance = sum(count * variance for (variance, _), count in moments)
    span = max(width for (_, width), _ in moments)
    wanted = math.sqrt(12 * _TOLERANCE * variance / steps)
    longest = math.sqrt(12 * _LONG_TOLERANCE * variance / steps)
    finest = min(_DEFAULT_INTERVAL, max(longest, span / _POINTS))
    return min(_COARSEST, max(wanted, finest))


def _loss_at(event: Event) -> tuple[float, float]:
    """Variance and width of the privacy loss of one release."""
    z, q = event.noise_multiplier, event.sampling_rate
    x = np.linspace(-10, 10, 2001)
    density = np.exp(-(x**2) / 2)
    log_ratio = (2 * x * z + 1) / (2 * z * z) if q == 1 else (2 * x * z - 1) / (2 * z * z)
    # log(1 - q + q e^r), without overflow where r is large.
    loss = np.logaddexp(np.log1p(-q) if q < 1 else -np.inf, np.log(q) + log_ratio)
    mean = np.average(loss, weights=density)
    return float(np.average((loss - mean) ** 2, weights=density)), float(np.ptp(loss))


def _rdp(events: Sequence[Event]) -> Any:
    library = _library()
    accountant = library.rdp.RdpAccountant()
    for event in events:
        release = library.GaussianDpEvent(event.noise_multiplier)
        if event.sampling_rate < 1:
            release = library.PoissonSampledDpEvent(event.sampling_rate, release)
        accountant.compose(release, int(event.steps))
    return accountant


def _library() -> Any:
    """Import the accountants when they are needed: they take a third of a second."""
    try:
        import dp_accounting
        from dp_accounting import pld, rdp  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "Accounting for privacy needs dp-accounting: pip install 'skfedfocal[privacy]'."
        ) from error
    return dp_accounting
