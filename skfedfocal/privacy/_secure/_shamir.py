"""Shamir's secret sharing of 32 bytes: `threshold` shares rebuild them, fewer say nothing.

No kept library offers it, so the field is our own: integers modulo the prime 2^21 - 9, and a secret
is 13 words of 20 bits, each shared by a polynomial of its own. The prime is that small so that
sums of up to 2047 products are exact in double precision, and one matrix product shares all words.
A small field is as secure as a large one: fewer shares than the threshold are independent of the
secret in any of them.

References
----------
A. Shamir, "How to share a secret", Communications of the ACM 22, 1979.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from skfedfocal.privacy._secure._refusal import SecureSumError

PRIME = 2**21 - 9
MOST_SHARES = 2047  # so many products of two field elements fit the 53 bits of a double
_BITS, _WORDS = 20, 13
_POWERS = 1 << np.arange(_BITS)
_BYTES = 3  # of a word on the wire
SHARE_BYTES = _WORDS * _BYTES


def split(secret: bytes, threshold: int, n_holders: int) -> list[bytes]:
    """Shares of 32 bytes for holders 1, 2, ..., `n_holders`."""
    coefficients = uniform((threshold, _WORDS), PRIME)
    coefficients[0] = _to_words(secret)
    words = evaluate(coefficients, n_holders, PRIME).astype("<u4")
    packed = words.view(np.uint8).reshape(n_holders, _WORDS, 4)[..., :_BYTES].tobytes()
    return [packed[i : i + SHARE_BYTES] for i in range(0, len(packed), SHARE_BYTES)]


def join(points: Sequence[int], shares: Sequence[bytes]) -> bytes:
    """The secret, from as many shares as the threshold says and the holders' numbers."""
    if any(len(share) != SHARE_BYTES for share in shares):
        raise SecureSumError("a share has the wrong length")
    words = np.zeros((len(shares), _WORDS, 4), np.uint8)
    packed = np.frombuffer(b"".join(shares), np.uint8)
    words[..., :_BYTES] = packed.reshape(len(shares), _WORDS, _BYTES)
    found = interpolate(tuple(points), words.view("<u4")[..., 0], PRIME)
    return _to_bytes(found)


def evaluate(coefficients: NDArray[np.int64], n_points: int, prime: int) -> NDArray[np.int64]:
    """Values at 1, ..., `n_points` of polynomials, one per column, constant term first."""
    products = _vandermonde(n_points, len(coefficients), prime) @ coefficients.astype(np.float64)
    return products.astype(np.int64) % prime


def interpolate(points: tuple[int, ...], values: NDArray, prime: int) -> NDArray[np.int64]:
    """Values at 0 of the polynomials of least degree through values at `points`."""
    products = _weights_at_zero(points, prime) @ values.astype(np.float64)
    return products.astype(np.int64) % prime


def uniform(shape: tuple[int, int], prime: int) -> NDArray[np.int64]:
    """Field elements from the system's generator, without the bias of a remainder."""
    size, mask = shape[0] * shape[1], (1 << (prime - 1).bit_length()) - 1
    kept = np.empty(0, np.int64)
    while len(kept) < size:
        drawn = np.frombuffer(os.urandom(4 * size), "<u4").astype(np.int64) & mask
        kept = np.concatenate([kept, drawn[drawn < prime]])
    return kept[:size].reshape(shape)


@lru_cache(maxsize=8)
def _vandermonde(n_points: int, n_terms: int, prime: int) -> NDArray[np.float64]:
    """Powers of 1, ..., `n_points` modulo the prime, as doubles that hold them exactly."""
    if n_terms > MOST_SHARES or n_points >= prime:
        raise SecureSumError(f"a threshold of {n_terms} is more than {MOST_SHARES} shares")
    points = np.arange(1, n_points + 1)
    powers = np.ones((n_points, n_terms), np.int64)
    for term in range(1, n_terms):
        powers[:, term] = powers[:, term - 1] * points % prime
    return powers.astype(np.float64)


@lru_cache(maxsize=1024)
def _weights_at_zero(points: tuple[int, ...], prime: int) -> NDArray[np.float64]:
    """Lagrange's weights: the value at 0 is their scalar product with the values at `points`."""
    x = np.array(points, np.int64)
    if len(x) > MOST_SHARES or len(set(points)) != len(x) or np.any((x < 1) | (x >= prime)):
        raise SecureSumError("the holders of shares are not distinct, or are too many")
    factors = (x[None, :] - x[:, None]) % prime
    np.fill_diagonal(factors, 1)
    above, below = np.ones_like(x), np.ones_like(x)
    for j in range(len(x)):
        others = np.where(np.arange(len(x)) == j, 1, x[j])
        above = above * others % prime
        below = below * factors[:, j] % prime
    inverse = np.array([pow(int(b), -1, prime) for b in below], np.int64)
    return (above * inverse % prime).astype(np.float64)


def _to_words(secret: bytes) -> NDArray[np.int64]:
    bits = np.zeros(_WORDS * _BITS, np.int64)
    bits[:256] = np.unpackbits(np.frombuffer(secret, np.uint8), bitorder="little")
    return bits.reshape(_WORDS, _BITS) @ _POWERS


def _to_bytes(words: NDArray[np.int64]) -> bytes:
    bits = ((words[:, None] >> np.arange(_BITS + 1)) & 1).astype(np.uint8)
    beyond = bits[:, _BITS].any() or bits[-1, 256 - (_WORDS - 1) * _BITS :].any()
    if beyond:
        raise SecureSumError("the shares do not belong together")
    return np.packbits(bits[:, :_BITS].ravel()[:256], bitorder="little").tobytes()
