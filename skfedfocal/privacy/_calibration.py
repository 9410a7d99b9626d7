"""The noise that a target epsilon asks for, in a few calls of the accountant."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.optimize import brentq

from skfedfocal.privacy._accounting import Event, check_delta, gaussian_epsilon
from skfedfocal.privacy._ledger import Ledger

_MOST_CALLS = 14  # of the accountant for the root; one more is for what is spent already
_SLACK = 0.002  # epsilon ends between (1 - slack) of the target and the target
_MOST_NOISE = 1e6
_LEAST_NOISE = 1e-2


def calibrate(
    target_epsilon: float,
    delta: float,
    *,
    steps: int,
    sampling_rate: float = 1.0,
    spent: Ledger | None = None,
) -> float:
    r"""Noise multiplier for which a training spends a given epsilon.

    Finds the z for which `steps` releases with noise multiplier z, together with what is `spent`
    on other releases, have an epsilon of at most the target, and at least 0.998 of it.

    Parameters
    ----------
    target_epsilon : float
        Greater than 0.
    delta : float
        In (0, 1).
    steps : int
        Number of releases to be made, at least 1.
    sampling_rate : float, default=1.0
        Chance of each unit to be in a release, in (0, 1].
    spent : Ledger or None, default=None
        Releases besides, whose noise is given: earlier trainings on the same data, label counts,
        moments.

    Returns
    -------
    noise_multiplier : float
        Standard deviation of the noise over the most that one unit can change the sum.

    Raises
    ------
    ValueError
        Where no noise is enough, because what is spent already exceeds the target; the message
        names the least epsilon that can be reached.

    Examples
    --------
    >>> from skfedfocal.privacy import Ledger, calibrate
    >>> counts = Ledger("example")
    >>> counts.add(30.0, of="label_counts")
    >>> z = calibrate(3.0, 1e-5, steps=100, sampling_rate=0.3, spent=counts)
    >>> round(z, 1)
    4.3
    """
    check_delta(delta)
    if not (target_epsilon > 0 and math.isfinite(target_epsilon)):
        raise ValueError(f"target_epsilon must be finite and above 0; got {target_epsilon!r}.")
    spent = Ledger("example") if spent is None else spent
    least = spent.epsilon(delta)
    if least >= target_epsilon:
        raise _unreachable(target_epsilon, delta, least)
    planned = Event(1.0, sampling_rate, steps)  # checks its numbers

    def excess(noise: float) -> float:
        ledger = Ledger(spent.unit, list(spent.events), spent.accountant)
        ledger.add(noise, sampling_rate=planned.sampling_rate, steps=planned.steps)
        return math.log(max(ledger.epsilon(delta), 1e-12) / target_epsilon)

    noise = _root(excess, _guess(target_epsilon, delta, least, planned))
    if noise is None:
        raise _unreachable(target_epsilon, delta, least)
    return noise


def _unreachable(target: float, delta: float, least: float) -> ValueError:
    return ValueError(
        f"target_epsilon={target:g} cannot be reached: the other releases (label counts, moments, "
        f"earlier trainings) alone spend {least:.4g} at delta={delta:g}, which is the least "
        "reachable epsilon. Raise the target above it, or give those releases more noise."
    )


def _guess(target: float, delta: float, least: float, planned: Event) -> float:
    """Noise by the central limit: sampled steps add q**2 (exp(z**-2) - 1) each to mu**2."""
    wanted = gaussian_of(target, delta) ** 2 - (
        gaussian_of(least, delta) ** 2 if least > 0 else 0.0
    )
    each = max(wanted, 1e-12) / (planned.steps * planned.sampling_rate**2)
    if planned.sampling_rate == 1:
        return each**-0.5
    return math.log1p(each) ** -0.5


def gaussian_of(epsilon: float, delta: float) -> float:
    """Inverse of `gaussian_epsilon` in mu.

    Parameters
    ----------
    epsilon : float
        At least 0.
    delta : float
        In (0, 1).

    Returns
    -------
    mu : float
        Distance over noise of the one Gaussian release that spends this.
    """
    high = 1.0
    while gaussian_epsilon(high, delta) < epsilon:
        high *= 2
    low = high / 2
    while gaussian_epsilon(low, delta) > epsilon:
        low /= 2
    return float(brentq(lambda mu: gaussian_epsilon(mu, delta) - epsilon, low, high, rtol=1e-3))


def _root(excess: Callable[[float], float], guess: float) -> float | None:
    """Noise for which the excess is in (-slack, 0], by secants between bounds; both axes are logs.

    The excess falls as noise grows. Secants aim at the middle of the band, and where they fall
    outside of the known bounds, the middle of the bounds is taken.
    """
    aim = math.log1p(-_SLACK / 2)
    low, high = math.log(_LEAST_NOISE), math.log(_MOST_NOISE)
    x = min(max(math.log(guess), low), high)
    slope = -1.2  # typical of d log epsilon / d log noise
    last: tuple[float, float] | None = None
    for _ in range(_MOST_CALLS):
        y = excess(math.exp(x))
        if math.log1p(-_SLACK) <= y <= 0:
            return math.exp(x)
        low, high = (x, high) if y > 0 else (low, x)
        if last is not None and y != last[1] and math.isfinite(last[1]):
            slope = (y - last[1]) / (x - last[0])
        last = (x, y)
        step = (aim - y) / slope if slope < 0 and math.isfinite(y) else math.inf
        x += min(max(step, -1.5), 1.5)  # far off, the slope is that of another place
        if not low < x < high:
            x = (low + high) / 2
    return math.exp(high) if high < math.log(_MOST_NOISE) else None
