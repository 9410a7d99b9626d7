"""Blocks side by side on threads, as long as that is faster than one after the other."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

Work = TypeVar("Work")
Reply = TypeVar("Reply")

_TRIAL = 32  # rounds after which the slower way is tried again


class Crew:
    """Does a round's pieces of work on one thread or on several, whichever was faster of late.

    Whether other cores are idle changes while a training runs, and only the clock tells. Replies
    come in the order of the pieces, so that nothing but time depends on it.

    Parameters
    ----------
    n_threads : int
        The most threads to use.
    """

    def __init__(self, n_threads: int):
        self.n_threads = n_threads
        self._n_rounds = 0
        self._seconds: dict[int, float] = {}  # of a piece, by number of threads

    def run(self, pieces: Iterator[Work], work: Callable[[Work], Reply]) -> Iterator[Reply]:
        """Yield the reply to each piece of work, in order."""
        first = list(islice(pieces, 2))
        n_threads = self.choose() if len(first) > 1 else 1
        began, n_pieces = time.perf_counter(), 0
        for reply in _in_order(first, pieces, work, n_threads):
            yield reply
            n_pieces += 1
        if len(first) > 1:
            self._n_rounds += 1
            self._seconds[n_threads] = (time.perf_counter() - began) / n_pieces

    def choose(self) -> int:
        """How many threads to use now."""
        if self.n_threads == 1 or self._n_rounds < 2:  # the first round is slow in any case
            return 1
        slower = max((1, self.n_threads), key=lambda n: self._seconds.get(n, 0.0))
        if self.n_threads not in self._seconds:
            return self.n_threads
        faster = self.n_threads if slower == 1 else 1
        return slower if self._n_rounds % _TRIAL == 0 else faster


def _in_order(
    first: list[Work], rest: Iterator[Work], work: Callable[[Work], Reply], n_threads: int
) -> Iterator[Reply]:
    if n_threads == 1:
        for piece in first:
            yield work(piece)
        for piece in rest:
            yield work(piece)
        return
    # A thread has settings of its own in the libraries underneath.
    pool = ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[Reply]] = deque(pool.submit(work, piece) for piece in first)
    try:
        for piece in rest:
            if len(waiting) > n_threads:  # no more replies in memory than that
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, piece))
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
