"""What a guarantee means for an attack: its success at each rate of false alarms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from skfedfocal.privacy._accounting import gaussian_mu, privacy_loss
from skfedfocal.privacy._ledger import Ledger

_MOST_EPSILON = 60.0
_N_LINES = 2000


def attack_success(ledger: Ledger, false_positive_rate: ArrayLike) -> NDArray[np.float64]:
    r"""Bound the true positive rate of any membership attack on what a ledger lists.

    An attacker who knows all but one unit, and everything that was released, says whether that
    unit took part. Among attacks that are wrong about those who did not with probability
    :math:`\alpha`, none is right about those who did with more than
    :math:`\min_\varepsilon \min(\alpha e^\varepsilon + \delta(\varepsilon),
    1 - e^{-\varepsilon} (1 - \alpha - \delta(\varepsilon)))`.

    Parameters
    ----------
    ledger : Ledger
        Of a training.
    false_positive_rate : float or array-like
        :math:`\alpha`, in [0, 1].

    Returns
    -------
    true_positive_rate : ndarray
        Of the shape of `false_positive_rate`. Where every unit is in every release, it is reached:
        :math:`\Phi(\Phi^{-1}(\alpha) + \mu)`.

    References
    ----------
    .. [1] J. Dong, A. Roth, W. Su, "Gaussian differential privacy", JRSS B, 2022.
    .. [2] B. Kulynych et al., "Attack-aware noise calibration for differential privacy", NeurIPS
       2024.

    Examples
    --------
    >>> from skfedfocal.privacy import Ledger, attack_success
    >>> ledger = Ledger("client")
    >>> ledger.add(1.0)
    >>> attack_success(ledger, [0.01, 0.1]).round(3)
    array([0.092, 0.389])
    """
    alpha = np.asarray(false_positive_rate, np.float64)
    if not ((alpha >= 0) & (alpha <= 1)).all():
        raise ValueError("false_positive_rate must be in [0, 1].")
    if not ledger.events:
        return alpha.copy()
    if any(event.noise_multiplier == 0 for event in ledger.events):
        return np.ones_like(alpha)
    if all(event.sampling_rate == 1 for event in ledger.events):
        return ndtr(ndtri(alpha) + gaussian_mu(ledger.events))
    # Every epsilon bounds the curve by a line; the least of many lines is close to it.
    epsilon, delta = _lines(ledger)
    above = alpha[..., None] * np.exp(epsilon) + delta
    below = 1 - np.exp(-epsilon) * (1 - alpha[..., None] - delta)
    return np.minimum(above, below).min(-1).clip(0, 1)


def advantage(ledger: Ledger) -> float:
    """Bound the best true minus false positive rate of any membership attack.

    Parameters
    ----------
    ledger : Ledger
        Of a training.

    Returns
    -------
    advantage : float
        In [0, 1]: delta at epsilon 0. An attacker who tosses a coin has 0.

    Examples
    --------
    >>> from skfedfocal.privacy import Ledger, advantage
    >>> ledger = Ledger("client")
    >>> ledger.add(1.0)
    >>> round(advantage(ledger), 3)
    0.383
    """
    if not ledger.events:
        return 0.0
    if any(event.noise_multiplier == 0 for event in ledger.events):
        return 1.0
    if all(event.sampling_rate == 1 for event in ledger.events):
        return float(2 * ndtr(gaussian_mu(ledger.events) / 2) - 1)
    return float(privacy_loss(ledger.events).get_delta_for_epsilon(0.0))


def _lines(ledger: Ledger) -> tuple[NDArray[np.float64], Any]:
    epsilon = np.linspace(0, _MOST_EPSILON**0.5, _N_LINES) ** 2  # closer near 0
    return epsilon, np.asarray(privacy_loss(ledger.events).get_delta_for_epsilon(epsilon))
