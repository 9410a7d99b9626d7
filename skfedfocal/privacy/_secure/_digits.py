"""Numbers of any usual size as small integers, whose sums are exact."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skfedfocal.privacy._secure._encoding import EncodingError

_WIDTH = 32  # bits of a digit
_PLACES = range(96, -129, -_WIDTH)  # exponents of the digits' units
_LIMIT = 2.0 ** (_PLACES[0] + _WIDTH)
N_DIGITS = len(_PLACES)


def to_digits(values: ArrayLike) -> NDArray[np.int64]:
    r"""Digits of numbers, most significant first.

    .. math:: x = \sum_j d_j 2^{e_j}, \quad |d_j| \le 2^{32}, \quad e = 96, 64, \ldots, -128

    with an error of at most :math:`2^{-129}`. Digits are added up without carrying, so that sums
    of up to :math:`2^{30}` clients are exact whatever the scale of their values: that of a column
    is nothing that clients and server could agree on before.

    Parameters
    ----------
    values : array-like of shape (n_values,)
        Below :math:`2^{128}`.

    Returns
    -------
    ndarray of shape (n_values * 8,)

    Raises
    ------
    EncodingError
        If a value is not finite, or too large.
    """
    rest = np.array(values, np.float64)
    if not (np.abs(rest) < _LIMIT).all():
        raise EncodingError("a value is not finite, or not below 2^128")
    digits = np.empty((len(rest), N_DIGITS), np.int64)
    for j, place in enumerate(_PLACES):
        last = j == N_DIGITS - 1
        digits[:, j] = found = (np.rint if last else np.trunc)(np.ldexp(rest, -place))
        rest -= np.ldexp(found, place)  # exact: leading bits go
    return digits.reshape(-1)


def from_digits(sums: NDArray[np.int64]) -> NDArray[np.float64]:
    """Numbers from sums of digits, of shape (n_values * 8,): each rounded once."""
    least = _PLACES[-1]
    shifts = [place - least for place in _PLACES]
    found = [
        sum(digit << shift for digit, shift in zip(row, shifts, strict=True)) / 2**-least
        for row in sums.reshape(-1, N_DIGITS).tolist()
    ]
    return np.array(found, np.float64)
