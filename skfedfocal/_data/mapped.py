"""Rows that lie in a file mapped into memory: the kernel is told which are wanted, and how long.

Left to itself it reads on at each first touch, far beyond one client's rows, and counts as the
process's memory all that was ever touched.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
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
    read_only : bool
        Whether nobody can write to it.
    """

    def __init__(self, mapping: mmap.mmap, start: int, row_bytes: int, read_only: bool):
        self.mapping = mapping
        self.start = start
        self.row_bytes = row_bytes
        self.read_only = read_only

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
        start = X.ctypes.data - whole.ctypes.data
        return cls(owner, start, X.strides[0], read_only=not whole.flags.writeable)

    @contextlib.contextmanager
    def at_hand(self, rows: NDArray[np.int64]) -> Iterator[None]:
        """Have the pages of these rows read, all at once and no others; let go of them at the end.

        It is advice: where the kernel does not take it, rows are read when they are touched.
        """
        pages = self.ranges(rows)
        self._advise(mmap.MADV_WILLNEED, pages)
        yield
        if self.read_only:  # what a process wrote to its own copy would be lost
            self._advise(mmap.MADV_DONTNEED, pages)

    def _advise(self, advice: int, pages: list[tuple[int, int]]) -> None:
        with contextlib.suppress(OSError):
            for lo, hi in pages:
                self.mapping.madvise(advice, lo, hi - lo)

    def ranges(self, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Bytes from and to, in whole pages, that hold the rows; apart and in order."""
        if len(rows) == 0:
            return []
        begin = self.start + np.sort(rows) * self.row_bytes
        first, end = begin // mmap.PAGESIZE, -(-(begin + self.row_bytes) // mmap.PAGESIZE)
        apart = np.flatnonzero(first[1:] > end[:-1])
        lo = first[np.append(0, apart + 1)] * mmap.PAGESIZE
        hi = np.minimum(end[np.append(apart, len(end) - 1)] * mmap.PAGESIZE, len(self.mapping))
        return list(zip(lo.tolist(), hi.tolist(), strict=True))
