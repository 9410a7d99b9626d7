"""Numbers as words of a ring in which masks are uniform: fixed point, modulo 2^64."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MOST_BITS = 62
_BLOCK = 1 << 14  # values at once: stays in the cache


class EncodingError(ValueError):
    """A value, or its weight, is outside what was agreed."""


@dataclass(frozen=True)
class Encoding:
    r"""Fixed point in the integers modulo :math:`2^{64}`, with room for the sum of all clients.

    A client with values :math:`x` and weight :math:`w` sends the integers

    .. math:: \operatorname{rint}(2^f w), \quad \operatorname{rint}(2^f w x_i).

    The weight is multiplied in before rounding, so a large weight does not enlarge the error.
    Integers with weight 1 are exact.

    Parameters
    ----------
    bound : float
        Largest ``|x|`` that may be sent, above 0.
    n_clients : int
        Most clients of a sum, at least 1.
    max_weight : float, default=1.0
        Largest weight, above 0.
    fractional_bits : int or None, default=None
        f, at least 0; None takes the most for which no sum of `n_clients` can overflow.

    Raises
    ------
    ValueError
        If a sum could overflow: ``n_clients * max_weight * max(bound, 1) * 2 ** f`` must stay
        below ``2 ** 63``.

    Notes
    -----
    Discloses nothing by itself: it is agreed before anybody sends.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal.privacy._secure import Encoding
    >>> encoding = Encoding(bound=8.0, n_clients=2)
    >>> total = encoding.encode([0.5, -1.0]) + encoding.encode([0.25, 2.0], weight=0.5)
    >>> sums, weight = encoding.decode(total)
    >>> sums.tolist(), weight
    ([0.625, 0.0], 1.5)
    """

    bound: float
    n_clients: int
    max_weight: float = 1.0
    fractional_bits: int | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.bound) and self.bound > 0):
            raise ValueError(f"bound must be finite and above 0, got {self.bound}")
        if not (isfinite(self.max_weight) and self.max_weight > 0):
            raise ValueError(f"max_weight must be finite and above 0, got {self.max_weight}")
        if self.n_clients < 1:
            raise ValueError(f"n_clients must be at least 1, got {self.n_clients}")
        # Of a client's word; the small factor is for the rounding of the product of doubles.
        largest = Fraction(max(self.bound, 1.0)) * Fraction(self.max_weight)
        largest *= 1 + Fraction(1, 2**52)
        room = Fraction((2**63 - 1) // self.n_clients) - 1
        asked = self.fractional_bits
        bits = _MOST_BITS if asked is None else asked
        while asked is None and bits >= 0 and largest * 2**bits > room:
            bits -= 1
        if not 0 <= bits <= _MOST_BITS or largest * 2**bits > room:
            raise ValueError(
                f"overflow: the sum of n_clients={self.n_clients} with bound={self.bound}, "
                f"max_weight={self.max_weight} and fractional_bits={asked} does not fit 63 bits"
            )
        object.__setattr__(self, "fractional_bits", bits)

    @property
    def bits(self) -> int:
        """The number of fractional bits, f."""
        assert self.fractional_bits is not None
        return self.fractional_bits

    @property
    def error(self) -> float:
        """Bound of the error of each decoded sum, against exact arithmetic."""
        product = 1.01 * 2.0**-52 * max(self.bound, 1.0) * self.max_weight
        return self.n_clients * (2.0 ** -(self.bits + 1) + product)

    def encode(self, values: ArrayLike, weight: float = 1.0) -> NDArray[np.uint64]:
        """Words of one client's weight and weighted values.

        Parameters
        ----------
        values : array-like of shape (n_values,)
            Numbers of at most `bound`.
        weight : float, default=1.0
            In ``[0, max_weight]``.

        Returns
        -------
        ndarray of shape (n_values + 1,)
            The weight's word first.

        Raises
        ------
        EncodingError
            If a value or the weight is not finite or beyond its bound.
        ValueError
            If the values are not one-dimensional and real.
        """
        x = np.asarray(values)
        if x.ndim != 1 or x.dtype.kind not in "biuf":
            raise ValueError(f"values must be one-dimensional and real, got {x.dtype}, {x.shape}")
        if not 0 <= weight <= self.max_weight:
            raise EncodingError(f"weight {weight} is not in 0..max_weight={self.max_weight}")
        # As Python's numbers, whose comparisons are exact; NaN compares false and so is refused.
        if x.size and not (x.max().item() <= self.bound and x.min().item() >= -self.bound):
            raise EncodingError(f"a value is not finite, or above bound={self.bound}")
        words = np.empty(len(x) + 1, np.int64)
        words[0] = round(weight * 2.0**self.bits)
        if x.dtype.kind != "f" and weight == 1:
            words[1:] = x.astype(np.int64) << self.bits
        else:
            # A power of two changes no digit: this rounds once, as the weight alone would.
            scale = weight * 2.0**self.bits
            for start in range(0, len(x), _BLOCK):
                scaled = np.multiply(x[start : start + _BLOCK], scale, dtype=np.float64)
                words[1 + start : 1 + start + _BLOCK] = np.rint(scaled, out=scaled)
        return words.view(np.uint64)

    def zeros(self, n_values: int) -> NDArray[np.uint64]:
        """Words of a client that has nothing to add: weight 0 and zeros."""
        return np.zeros(n_values + 1, np.uint64)

    def decode(self, total: NDArray[np.uint64]) -> tuple[NDArray[np.float64], float]:
        """Weighted sums of shape (n_values,) and sum of weights, from a sum of words."""
        sums = total.view(np.int64).astype(np.float64) * 2.0**-self.bits
        return sums[1:], float(sums[0])

    def decode_counts(self, total: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Exact sums of shape (n_values,) of clients that all sent integers with weight 1."""
        signed = total.view(np.int64)[1:]
        if np.any(signed & ((1 << self.bits) - 1)):
            raise ValueError("these are not sums of integers")
        return signed >> self.bits
