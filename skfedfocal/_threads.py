"""One thread inside torch's operations while small models train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one intra-op thread; restore the process's setting afterwards.

    Splitting the small products of client models over threads costs more than it saves, and on a
    busy machine many times more.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
