"""Which rows make each local batch: drawn by counter, laid out for many clients at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skfedfocal._random import shuffled_places


@dataclass(frozen=True)
class Block:
    """Clients that train side by side, and their batches in the order of steps.

    In step s the first ``alive[s]`` clients take a batch of up to ``width[s]`` rows; their rows are
    ``start[s]:start[s + 1]`` of `places` and `share`, client by client.

    Attributes
    ----------
    members : ndarray of shape (m,)
        Client numbers, those with most steps first.
    positions : ndarray of shape (m,)
        Where in the cohort each of them stood.
    alive, width : ndarray of shape (n_steps,)
    start : ndarray of shape (n_steps + 1,)
    places : ndarray of shape (start[-1],)
        Place of each row in the client-by-client order; for padding the client's own first, so that
        no client's model ever meets another's rows.
    share : ndarray of shape (start[-1],)
        Weight of each row in the mean over its batch; 0 for padding.
    """

    members: NDArray[np.int64]
    positions: NDArray[np.int64]
    alive: NDArray[np.int64]
    width: NDArray[np.int64]
    start: NDArray[np.int64]
    places: NDArray[np.int64]
    share: NDArray[np.float64]

    @property
    def n_steps(self) -> int:
        return len(self.alive)

    def steps(self) -> NDArray[np.int64]:
        """The step of each row."""
        return np.repeat(np.arange(self.n_steps), np.diff(self.start))

    def owners(self) -> NDArray[np.int64]:
        """Position within `members` of the client of each row."""
        return np.concatenate(
            [np.repeat(np.arange(k), w) for k, w in zip(self.alive, self.width, strict=True)]
        )


def schedule(
    clients: NDArray[np.int64],
    offsets: NDArray[np.int64],
    *,
    seed: int,
    round_: int,
    n_epochs: int,
    batch_size: int,
    block_size: int,
    numbers: NDArray[np.int64] | None = None,
) -> Iterator[Block]:
    """Lay out a round's local training in blocks of clients of like size.

    Clients are sorted by size, so that those of a block need about the same number of steps and
    little is padded. Where `numbers` are given, clients shuffle as the clients of these numbers.
    """
    sizes = offsets[clients + 1] - offsets[clients]
    by_size = np.argsort(-sizes, kind="stable")
    numbers = clients if numbers is None else numbers
    for chunk in _chunks(sizes[by_size], block_size):
        here = by_size[chunk]
        yield from _blocks(
            clients[here],
            here,
            numbers[here],
            sizes[here],
            offsets,
            seed,
            round_,
            n_epochs,
            batch_size,
            block_size,
        )


def poisson_schedule(
    clients: NDArray[np.int64],
    offsets: NDArray[np.int64],
    *,
    n_steps: int,
    block_size: int,
    sampler: Callable[[NDArray[np.int64]], Callable[[NDArray[np.int64]], NDArray[np.bool_]]],
) -> Iterator[Block]:
    """Lay out steps that take every row by chance, each row of a batch with share 1.

    Clients of like size share a block, as in `schedule`. A step in which a client has no row is
    padding alone, since whether a client has any must not show.

    Parameters
    ----------
    clients : ndarray of shape (m,)
        The cohort.
    offsets : ndarray of shape (n_clients + 1,)
        Where each client's rows begin.
    n_steps : int
        Number of steps of every client.
    block_size : int
        Clients that train side by side.
    sampler : callable
        From the members of a block to a function from their sizes to who is in the next step, one
        client's rows after the other's.
    """
    sizes = offsets[clients + 1] - offsets[clients]
    by_size = np.argsort(-sizes, kind="stable")
    for lo in range(0, len(clients), block_size):
        here = by_size[lo : lo + block_size]
        members, m = clients[here], len(here)
        draw, owners = sampler(members), np.repeat(np.arange(m), sizes[here])
        own_first = offsets[members]
        steps = [_drawn(own_first, sizes[here], owners, draw(sizes[here])) for _ in range(n_steps)]
        width = np.array([len(places) // m for places, _ in steps])
        yield Block(
            members,
            here,
            np.full(n_steps, m),
            width,
            np.concatenate([[0], np.cumsum(m * width)]),
            np.concatenate([places for places, _ in steps]),
            np.concatenate([share for _, share in steps]),
        )


def _drawn(
    begins: NDArray[np.int64],
    sizes: NDArray[np.int64],
    owners: NDArray[np.int64],
    taken: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Places and shares of one step of a block, padded to the largest batch."""
    m = len(sizes)
    rows = np.flatnonzero(taken)
    owner = owners[rows]
    n_taken = np.bincount(owner, minlength=m)
    width = max(1, int(n_taken.max()))
    slot = owner * width + np.arange(len(rows)) - (np.cumsum(n_taken) - n_taken)[owner]
    places, share = np.repeat(begins, width), np.zeros(m * width)
    places[slot] = begins[owner] + rows - (np.cumsum(sizes) - sizes)[owner]
    share[slot] = 1.0
    return places, share


def _chunks(sizes: NDArray[np.int64], block_size: int, max_rows: int = 1 << 19) -> Iterator[slice]:
    """Cut the cohort so that the layout of one piece stays small; whole blocks, or one client."""
    first = 0
    while first < len(sizes):
        n_blocks = max(1, int(max_rows // max(sizes[first] * block_size, 1)))
        yield slice(first, first + n_blocks * block_size)
        first += n_blocks * block_size


def _blocks(
    clients: NDArray[np.int64],
    positions: NDArray[np.int64],
    numbers: NDArray[np.int64],
    sizes: NDArray[np.int64],
    offsets: NDArray[np.int64],
    seed: int,
    round_: int,
    n_epochs: int,
    batch_size: int,
    block_size: int,
) -> Iterator[Block]:
    m = len(clients)
    steps = -(-sizes // batch_size)
    # Rows of client j in its step s; clients of a block are rows of these tables.
    s = np.arange(n_epochs * steps[0])
    last = (s[None] % steps[:, None]) == steps[:, None] - 1
    length = np.where(last, (sizes - batch_size * (steps - 1))[:, None], batch_size)
    length[s[None] >= n_epochs * steps[:, None]] = 0

    first = np.arange(0, m, block_size)
    width = np.maximum.reduceat(length, first, axis=0)
    alive = np.add.reduceat(length > 0, first, axis=0)
    ends = np.cumsum(alive * width, axis=1)
    start = np.concatenate([np.zeros((len(first), 1), np.int64), ends], axis=1)
    base = np.concatenate([[0], np.cumsum(start[:, -1])])

    # Every row's slot, for all blocks at once.
    j = np.repeat(np.arange(m), sizes)
    b = j // block_size
    rank = np.arange(len(j)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    batch, i = np.divmod(rank, batch_size)
    places = np.zeros(base[-1], np.int64)
    share = np.zeros(base[-1])
    for epoch in range(n_epochs):
        t = batch + epoch * steps[j]
        slot = base[b] + start[b, t] + (j - first[b]) * width[b, t] + i
        drawn = shuffled_places(seed, round_, epoch, numbers, sizes)
        places[slot] = np.repeat(offsets[clients], sizes) + drawn
        share[slot] = 1.0 / length[j, t]

    # Padding is the first row of the client whose slot it is.
    padding = np.flatnonzero(share == 0)
    places[padding] = offsets[clients[_owners(padding, base, first, start, width)]]

    for block, lo in enumerate(first):
        n_steps = int((alive[block] > 0).sum())
        flat = slice(base[block], base[block + 1])
        yield Block(
            clients[lo : lo + block_size],
            positions[lo : lo + block_size],
            alive[block, :n_steps],
            width[block, :n_steps],
            start[block, : n_steps + 1],
            places[flat],
            share[flat],
        )


def _owners(
    slots: NDArray[np.int64],
    base: NDArray[np.int64],
    first: NDArray[np.int64],
    start: NDArray[np.int64],
    width: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Client of each of the slots, which are numbered through all blocks."""
    step_starts = (base[:-1, None] + start[:, :-1]).ravel()
    step = np.searchsorted(step_starts, slots, side="right") - 1
    block, t = np.divmod(step, width.shape[1])
    place, _ = np.divmod(slots - step_starts[step], width[block, t])
    return first[block] + place
