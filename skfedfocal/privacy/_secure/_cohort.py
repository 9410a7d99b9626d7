"""The cohort as each member sees it: who is in, with which keys, and who neighbours whom."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skfedfocal.privacy._secure._crypto import KEY_BYTES, digest, keystream
from skfedfocal.privacy._secure._refusal import SecureSumError
from skfedfocal.privacy._secure._terms import Terms


@dataclass(frozen=True)
class Cohort:
    """Members, public keys and what follows from them.

    Two members who are told different cohorts, contexts or terms have different views, and then
    no share of one opens at the other.

    Parameters
    ----------
    terms : Terms
        What was agreed beforehand.
    round_id : int
        Number of the round, or of the one that opens a session.
    context : bytes
        What else all must see alike: a hash of the model, the plan of the round.
    ids : tuple of int
        Clients, ascending.
    keys : bytes
        Their public keys, one client after the other.
    """

    terms: Terms
    round_id: int
    context: bytes
    ids: tuple[int, ...]
    keys: bytes

    def __post_init__(self) -> None:
        if any(a >= b for a, b in zip(self.ids, self.ids[1:], strict=False)):
            raise SecureSumError("the cohort is not a list of distinct clients in order")
        if self.ids and not 0 <= self.ids[0] <= self.ids[-1] < 2**63:
            raise SecureSumError("ids of clients must be in 0..2^63-1")
        self.terms.neighbors_and_threshold(len(self.ids))  # refuses what does not fit
        if len(self.keys) not in (KEY_BYTES * len(self.ids), 2 * KEY_BYTES * len(self.ids)):
            raise SecureSumError("the public keys have the wrong length")

    @cached_property
    def view(self) -> bytes:
        """Hash of all that members must see alike."""
        ids = np.array(self.ids, "<u8").tobytes()
        head = self.terms.to_bytes(), self.round_id.to_bytes(8, "little"), self.context
        return digest(b"view", *head, ids, self.keys)

    @cached_property
    def n_neighbors(self) -> int:
        """Neighbours of each member, k."""
        return self.terms.neighbors_and_threshold(len(self.ids))[0]

    @cached_property
    def threshold(self) -> int:
        """Shares that rebuild a secret, t."""
        return self.terms.neighbors_and_threshold(len(self.ids))[1]

    @cached_property
    def place(self) -> dict[int, int]:
        """Place of each member in `ids`."""
        return {member: i for i, member in enumerate(self.ids)}

    @cached_property
    def _ring(self) -> tuple[list[int], list[int]]:
        """Places in the order of the ring, and where on the ring each place is."""
        order = np.argsort(keystream(self.view, len(self.ids)), kind="stable")
        where = np.empty_like(order)
        where[order] = np.arange(len(order))
        return order.tolist(), where.tolist()

    def neighbors(self, member: int) -> list[int]:
        """Members with whom a member masks: the k nearest on a ring that the view shuffles."""
        n, k = len(self.ids), self.n_neighbors
        if k == n - 1:
            return [other for other in self.ids if other != member]
        order, where = self._ring
        at = where[self.place[member]]
        steps = [*range(-(k // 2), 0), *range(1, k // 2 + 1)]
        return sorted(self.ids[order[(at + step) % n]] for step in steps)

    def holders(self, member: int) -> list[int]:
        """Members that hold shares of a member's secrets: its neighbours and itself, in order."""
        if self.n_neighbors == len(self.ids) - 1:
            return list(self.ids)
        return sorted([*self.neighbors(member), member])

    def keys_of(self, member: int) -> list[bytes]:
        """A member's public keys."""
        size = len(self.keys) // len(self.ids)
        own = self.keys[size * self.place[member] : size * (self.place[member] + 1)]
        return [own[i : i + KEY_BYTES] for i in range(0, size, KEY_BYTES)]

    def check_survivors(self, survivors: Sequence[int]) -> set[int]:
        """The survivors as a set, or a refusal where they are too few for their sum to be shown."""
        alive = set(survivors)
        least = self.terms.least_survivors(len(self.ids))
        if len(alive) != len(survivors) or not alive <= self.place.keys():
            raise SecureSumError("the survivors are not distinct members of the cohort")
        if len(alive) < least:
            raise SecureSumError(f"{len(alive)} survivors are below the threshold of {least}")
        return alive

    def check_holders(self, member: int, answering: Collection[int]) -> None:
        """Refuse where too few of those who hold a member's shares are left."""
        left = sum(holder in answering for holder in self.holders(member))
        if left < self.threshold:
            raise SecureSumError(
                f"{left} holders of the shares of client {member} are left, "
                f"below the threshold of {self.threshold}"
            )
