"""One thread inside torch's operations while small models train."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class _Guard(threading.local):
    """How deep this thread is inside `one_thread`; and, shared by all, who else is."""

    depth = 0
    lock = threading.Lock()
    n_inside = 0  # threads
    allowed = 1  # the process's setting, as the first of them found it


_guard = _Guard()


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one intra-op thread; restore the process's setting afterwards.

    Splitting the small products of client models over threads costs more than it saves, and on a
    busy machine many times more. And a process that has never split one can be forked.

    Several threads may be inside at once, in any order of coming and going: torch's setting belongs
    to the thread, and what a new thread begins with to the process.
    """
    if _guard.depth == 0:
        with _Guard.lock:
            if _Guard.n_inside == 0:  # or this would find the setting of one who is inside
                _Guard.allowed = torch.get_num_threads()
            _Guard.n_inside += 1
            torch.set_num_threads(1)
    _guard.depth += 1
    try:
        yield
    finally:
        _guard.depth -= 1
        if _guard.depth == 0:
            with _Guard.lock:
                _Guard.n_inside -= 1
                torch.set_num_threads(_Guard.allowed)


def allowed_threads() -> int:
    """How many threads torch may use outside of `one_thread`."""
    with _Guard.lock:
        return _Guard.allowed if _Guard.n_inside else torch.get_num_threads()


def _begin_anew() -> None:
    """In the child of a fork there is one thread, and nobody who could release a lock."""
    _Guard.lock = threading.Lock()
    _Guard.n_inside = min(_guard.depth, 1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
