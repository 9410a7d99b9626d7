"""Noise that no one can foretell: Gaussian values and Poisson draws from an AES keystream."""

from __future__ import annotations

import math
import os
import threading
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._data.memory import Memory
from skfedfocal._random import noise_key

# Bytes of keystream at a time, which bounds the memory that is held beside the result.
_CHUNK = 1 << 20
_ZEROS = bytes(_CHUNK)
_REFINED = 1 << 10


class NoiseSource:
    r"""Random numbers for privacy, of a key that is new each time or made from a seed.

    A pair of words of an AES-256-CTR keystream becomes a pair of normal values by Box and Muller,
    :math:`\sqrt{-2 \ln u}\,(\cos 2\pi v, \sin 2\pi v)`. Whoever can foretell the noise can take it
    off again, so that neither a seed that others know nor a generator whose state shows in its
    values will do.

    Parameters
    ----------
    *seed : int
        None given: the key comes from the operating system, and nothing can be repeated. Otherwise
        a seed and counters (round, client), of which the stream is a function: for experiments
        only, since it protects nothing from whoever knows the seed.

    Notes
    -----
    u has 63 random bits where it is small, so that values end at 9.3 standard deviations, beyond
    which lies 1e-20 of a normal law. As with every Gaussian in floating point, the last bits of a
    noisy value are not covered by the proof [1]_: release sums, and round what is published.

    A source may be used by several threads, refuses to be copied and takes a new key in a forked
    process, since two sources with one key would make the same noise twice.

    References
    ----------
    .. [1] I. Mironov, "On significance of the least significant bits for differential privacy",
       CCS 2012.

    Examples
    --------
    >>> from skfedfocal.privacy import NoiseSource
    >>> NoiseSource().normal((2, 3)).shape
    torch.Size([2, 3])
    >>> NoiseSource(0, 7).normal(2).equal(NoiseSource(0, 7).normal(2))
    True
    """

    def __init__(self, *seed: int):
        self._seed = seed
        self._memory = Memory()
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._keystream = _keystream(noise_key(*self._seed) if self._seed else os.urandom(32))
        self._buffer = bytearray()

    def normal(
        self,
        shape: int | tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        deviation: float = 1.0,
        *,
        out: Tensor | None = None,
    ) -> Tensor:
        """Draw independent normal values of mean 0.

        Parameters
        ----------
        shape : int or tuple of int
            Of the result.
        dtype : torch.dtype, default=torch.float32
            Floating type. Of the values that are narrower than single precision, each is a
            rounded one of single precision.
        deviation : float, default=1.0
            Their standard deviation.
        out : Tensor or None, default=None
            Contiguous tensor of this shape and type on the CPU, to be overwritten.

        Returns
        -------
        values : Tensor
            `out`, where given.
        """
        values = torch.empty(shape, dtype=dtype) if out is None else out
        wide = dtype if dtype in (torch.float32, torch.float64) else torch.float32
        flat = values.view(-1)
        step = _CHUNK // wide.itemsize
        with self._lock:
            for start in range(0, len(flat), step):
                part = flat[start : start + step]
                fit = part if part.dtype == wide else torch.empty(len(part), dtype=wide)
                self._box_muller(fit, deviation)
                if fit is not part:
                    part.copy_(fit)
        return values

    def bernoulli(self, n: int, probability: float) -> NDArray[np.bool_]:
        """Draw who is in a Poisson sample.

        Parameters
        ----------
        n : int
            Number of units.
        probability : float
            Of each to be in the sample, independently, in [0, 1]; kept to 2**-64.

        Returns
        -------
        included : ndarray of shape (n,)
            Of bool.
        """
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be in [0, 1]; got {probability!r}.")
        if probability in (0, 1):
            return np.full(n, bool(probability))
        limit = np.uint64(int(probability * 2.0**64))
        included = np.empty(n, bool)
        step = _CHUNK // 8
        with self._lock:
            for start in range(0, n, step):
                part = included[start : start + step]
                words = np.frombuffer(self._bytes(8 * len(part)), np.uint64, len(part))
                np.less(words, limit, out=part)
        return included

    def _box_muller(self, out: Tensor, deviation: float) -> None:
        """Fill a contiguous vector that fits the buffer."""
        half = (len(out) + 1) // 2
        rest = len(out) - half
        single = out.dtype == torch.float32
        kind, bits = (torch.int32, 31) if single else (torch.int64, 63)
        words = self._words(2 * half, kind)
        words[:half].bitwise_and_(2**bits - 1)  # without the sign: each value equally likely
        radius = out[:half].copy_(words[:half])
        angle = self._memory.tensor("angle", (half,), out.dtype).copy_(words[half:])
        if single:
            self._refine(radius)
        radius.mul_(2.0**-bits).clamp_(min=2.0**-64).log_().mul_(-2 * deviation**2).sqrt_()
        angle.mul_(math.pi * 2.0**-bits)
        torch.sin(angle[:rest], out=out[half:]).mul_(radius[:rest])
        radius.mul_(angle.cos_())

    def _refine(self, radius: Tensor) -> None:
        """Give the smallest words 32 more bits: they make the tails, where 31 are too coarse."""
        if radius.min() < _REFINED:
            small = (radius < _REFINED).nonzero()[:, 0]
            more = self._words(len(small), torch.int32).to(radius.dtype)
            radius[small] += more.mul_(2.0**-32).add_(0.5)

    def _words(self, n: int, kind: torch.dtype) -> Tensor:
        """Return the next n words of keystream, in the buffer."""
        return torch.frombuffer(self._bytes(n * kind.itemsize), dtype=kind, count=n)

    def _bytes(self, n: int) -> bytearray:
        """Overwrite the buffer with the next n bytes of keystream."""
        if os.getpid() != self._process and not self._seed:
            self._start()
        if len(self._buffer) < n:
            self._buffer = bytearray(n)
        self._keystream.update_into(memoryview(_ZEROS)[:n], memoryview(self._buffer)[:n])
        return self._buffer

    def __reduce__(self) -> NoReturn:
        raise TypeError("A NoiseSource cannot be copied: two copies would make the same noise.")


def _keystream(key: bytes) -> Any:
    """Return an encryptor whose output, for zeros, is the keystream."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError as error:
        raise ImportError(
            "Noise for privacy needs the package cryptography: pip install 'skfedfocal[privacy]'."
        ) from error
    # A key is used for one stream only, so the counter may begin at zero.
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
