"""Rows that lie in a file mapped into memory: the kernel is told which ones come next.

Without, each first touch of a page makes it read on, far beyond one client's rows.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGE = 1 << 28  # bytes of a file; a smaller one soon lies in memory as a whole


class MappedRows:
    """Where the rows of an array are in a mapped file.

    Parameters
    ----------
    mapping : mmap.mmap
        The file.
    start : int
        Place of the first row's first byte in it.
    row_bytes : int
        From one row to the next.
    """

    def __init__(self, mapping: mmap.mmap, start: int, row_bytes: int):
        self.mapping = mapping
        self.start = start
        self.row_bytes = row_bytes

    @classmethod
    def of(cls, X: Any) -> MappedRows | None:
        """Of an array whose memory is a large mapped file, row after row; None for others."""
        owner = X
        while isinstance(owner, np.ndarray):
            owner = owner.base
        if not isinstance(owner, mmap.mmap) or not hasattr(mmap, "MADV_WILLNEED"):
            return None
        if len(owner) < _LARGE or not X.flags.c_contiguous:
            return None
        whole = np.frombuffer(owner, np.uint8)
        return cls(owner, X.ctypes.data - whole.ctypes.data, X.strides[0])

    def announce(self, rows: NDArray[np.int64]) -> None:
        """Have the pages of these rows read, all at once, and no others.

        It is advice: where the kernel does not take it, rows are read when they are touched.
        """
        with contextlib.suppress(OSError):
            for lo, hi in self.ranges(rows):
                self.mapping.madvise(mmap.MADV_WILLNEED, lo, hi - lo)

    def ranges(self, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Bytes from and to, in whole pages, that hold the rows; apart and in order."""
        if len(rows) == 0:
            return []
        begin = self.start + np.unique(rows) * self.row_bytes
        first, end = begin // mmap.PAGESIZE, -(-(begin + self.row_bytes) // mmap.PAGESIZE)
        apart = np.flatnonzero(first[1:] > end[:-1])
        lo = first[np.append(0, apart + 1)] * mmap.PAGESIZE
        hi = np.minimum(end[np.append(apart, len(end) - 1)] * mmap.PAGESIZE, len(self.mapping))
        return list(zip(lo.tolist(), hi.tolist(), strict=True))
