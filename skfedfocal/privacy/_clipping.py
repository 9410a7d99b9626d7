"""What bounds one unit's influence on a sum: clipping, and the norm that it clips to."""

from __future__ import annotations

import math

from torch import Tensor

# Adaptive clipping: start, rate and count noise as its authors recommend.
CLIP_START = 0.1
_CLIP_RATE = 0.2
_COUNT_NOISE = 1 / 20  # of the expected number of clients


def clip_factors(norms: Tensor, clip_norm: float) -> Tensor:
    """Factors ``min(1, clip_norm / norm)`` that bring vectors within a norm.

    Parameters
    ----------
    norms : Tensor
        Norms of gradients or updates, of any shape.
    clip_norm : float
        Most that a norm may be, greater than 0.

    Returns
    -------
    factors : Tensor
        1 for a zero vector, and 0 where a norm is not finite: such a vector must be replaced by
        zeros, and never left out, which its value would then decide.
    """
    # A quotient that may be infinite or not a number, since `where` takes six times as long; by a
    # tensor, since torch divides a number by way of a reciprocal, which rounds twice.
    return (norms.new_tensor(clip_norm) / norms).clamp_(max=1.0).nan_to_num_(nan=0.0)


def split_noise(noise_multiplier: float, expected: float) -> tuple[float, float]:
    r"""Divide a step's budget between the sum of updates and the count that steers the clip norm.

    Two Gaussian releases of one sample, of multipliers :math:`z_\Delta` and :math:`2 \sigma_b`
    (each client changes the count by one half), are together one of multiplier z, with
    :math:`z^{-2} = z_\Delta^{-2} + (2 \sigma_b)^{-2}`.

    Parameters
    ----------
    noise_multiplier : float
        Noise z of both together.
    expected : float
        Expected number of clients in the sum.

    Returns
    -------
    update_noise : float
        Noise multiplier of the updates: at most 1.16 z.
    count_noise : float
        Standard deviation of the noise on the count: a twentieth of the expected number, but at
        least z, below which the updates would bear most of it.
    """
    count_noise = max(_COUNT_NOISE * expected, noise_multiplier)
    if noise_multiplier == 0:
        return 0.0, 0.0
    return (noise_multiplier**-2 - (2 * count_noise) ** -2) ** -0.5, count_noise


def adapted_clip_norm(
    clip_norm: float, noisy_count: float, expected: float, quantile: float
) -> float:
    r"""Clip norm of the next round, by geometric steps towards a quantile of the update norms.

    :math:`C' = C \exp(-0.2\,(b - q))`, with b the share of clients whose update was within C.

    Parameters
    ----------
    clip_norm : float
        Of this round, greater than 0.
    noisy_count : float
        Sum over this round's clients of 1/2 where the update's norm was at most `clip_norm` and
        -1/2 where it was greater, with noise.
    expected : float
        Expected number of clients in that sum, and not the number that came.
    quantile : float
        Share of the updates that shall be within the norm, in (0, 1).

    Returns
    -------
    clip_norm : float
        Changed by a fifth at most: noise may say anything, and counts one half too many.

    References
    ----------
    .. [1] G. Andrew, O. Thakkar, B. McMahan, S. Ramaswamy, "Differentially private learning with
       adaptive clipping", NeurIPS 2021.
    """
    share = min(max(noisy_count / expected + 0.5, 0.0), 1.0)
    return clip_norm * math.exp(-_CLIP_RATE * (share - quantile))
