"""All that is drawn at random, each from a stream of its own: functions of a seed and a counter.

What is drawn depends on the seed and on what it is drawn for (round, epoch, client), never on the
order of calls nor on who else takes part; and the process's own generators stay as they were.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

# Streams by spawn key: the cohort, the random layers of a client, and who validates of many.
_COHORT = 1
_LAYERS = 2
_PANEL = 3
# Epochs of `shuffled_places` that training never reaches: who validates, and in which fold.
VALIDATION = 1 << 31
FOLDS = (1 << 31) + 1

_SORTED_TOGETHER = 1 << 20  # clients, so that their rank fits above the random bits
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def shuffled_places(
    seed: int, round_: int, epoch: int, clients: NDArray[np.int64], sizes: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Permutation of each client's places ``0..size-1``, one after the other.

    A client's permutation is a function of (seed, round, epoch, client) alone: not of who else
    takes part, nor of the order of calls.
    """
    if len(sizes) > _SORTED_TOGETHER:
        halves = np.array_split(np.arange(len(sizes)), 2)
        return np.concatenate(
            [shuffled_places(seed, round_, epoch, clients[half], sizes[half]) for half in halves]
        )
    stream = np.array([seed], np.uint64)  # an array, for which overflow is not worth a warning
    for part in (round_, epoch):
        stream = _mix(stream + _GOLDEN * np.array([part + 1], np.uint64))
    by_client = _mix(stream + _GOLDEN * (clients.astype(np.uint64) + np.uint64(1)))
    members = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
    starts = np.cumsum(sizes) - sizes
    places = np.arange(len(members)) - np.repeat(starts, sizes)
    draws = _mix(np.repeat(by_client, sizes) + _GOLDEN * places.astype(np.uint64))
    # One sort for all clients: the client's rank on top, 44 random bits below.
    order = np.argsort((members << np.uint64(44)) | (draws >> np.uint64(20)))
    return places[order]


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finaliser of SplitMix64: a counter becomes 64 random bits."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def cohort_generator(seed: int, round_: int) -> np.random.Generator:
    """For the selection of a round, counted from 0."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_COHORT, round_)))


def layers_seed(seed: int, round_: int, client: int) -> int:
    """Seed of a client's random layers (dropout) in a round."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_LAYERS, round_, int(client)))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


_borrowing = threading.RLock()  # a factory may train a model of its own


@contextmanager
def borrowed_generator(seed: int | None = None) -> Iterator[None]:
    """Use torch's generator of the process, seeded, and leave it as it was.

    For layers that know no other, in a module of one's own. One thread at a time: the others would
    draw from the same stream.
    """
    with _borrowing, torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def _begin_anew() -> None:
    """In the child of a fork nobody is left to release the lock."""
    global _borrowing
    _borrowing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def validation_generator(seed: int) -> np.random.Generator:
    """For the rounding of how many rows validate."""
    return np.random.default_rng([seed, VALIDATION])


def panel(seed: int, n_clients: int, size: int) -> NDArray[np.int64]:
    """Clients who validate every round's model: all, or so many of them drawn once."""
    if n_clients <= size:
        return np.arange(n_clients)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PANEL,)))
    return np.sort(rng.choice(n_clients, size, replace=False))


def noise_key(*counters: int) -> bytes:
    """Key of 32 bytes for the noise of an experiment: a seed and what it is drawn for."""
    return hashlib.sha256(repr(("noise", *map(int, counters))).encode()).digest()
