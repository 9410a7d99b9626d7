"""A session with all its clients in one process, where values come one client after the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skfedfocal.privacy._secure._session import SessionClient, SessionServer
from skfedfocal.privacy._secure._terms import Terms

Dropped = Mapping[str, Collection[int]]


class Found(NamedTuple):
    """What the server has at the end of a round."""

    values: NDArray[np.int64]
    """Sums over the survivors, of shape (n_values,)."""
    n_useful: int
    """How many of them sent something else than zeros for want of a usable value."""
    survivors: list[int]
    """Clients that are in the sum."""


class LocalSession:
    """The clients and the server of a session, who exchange the protocol's true messages.

    Parameters
    ----------
    terms : Terms
        For integers: without fractional bits.
    members : iterable of int
        The cohort.
    opened : int
        Number of the round that opens the session; later rounds have higher ones.
    gone : collection of int, default=()
        Members that do not answer when keys are asked for.

    Attributes
    ----------
    members : list of int
        Who is in the session.
    bytes_up, bytes_down : int
        Bytes of messages since somebody last looked (`take_bytes`).

    Notes
    -----
    Between rounds each client keeps two keys for each neighbour. In a round the server keeps one
    total and the sealed shares, and no client's values.
    """

    def __init__(
        self, terms: Terms, members: Iterable[int], opened: int, gone: Collection[int] = ()
    ):
        self.bytes_up = self.bytes_down = 0
        self.clients = {k: SessionClient(k, terms) for k in members if k not in gone}
        self.server = SessionServer(terms, 0)
        told = self.server.keys(opened, {k: self._up(c.keys(opened)) for k, c in self})
        for k, client in self:
            client.join(self._down(told[k]))
        self.members = list(self.clients)

    def __iter__(self) -> Any:
        return iter(self.clients.items())

    def sum(
        self,
        round_id: int,
        values: Iterable[tuple[int, NDArray[np.int64] | None]],
        n_values: int,
        context: bytes,
        dropped: Dropped | None = None,
    ) -> Found:
        """Sum what the clients send, as it comes.

        Parameters
        ----------
        round_id : int
            Above those before.
        values : iterable of (int, ndarray or None)
            Clients and their integers, of shape (n_values,); None where they are of no use.
        n_values : int
            Values of each client.
        context : bytes
            What all must see alike.
        dropped : mapping of str to collection of int, default=None
            Clients by the exchange, "masked" or "unmask", that they do not answer.

        Raises
        ------
        SecureSumError
            If too few clients are left.
        """
        dropped = dropped or {}
        self.server.n_values = n_values
        self.server.begin(round_id, context)
        silent = {*dropped.get("masked", ())}
        for k, own in values:
            if k in silent:
                continue
            integers = np.zeros(n_values, np.int64) if own is None else own
            weight = float(own is not None)
            upload = self.clients[k].masked(round_id, integers, weight, context)
            self.server.masked(k, self._up(upload))
        told = self.server.survivors()
        silent |= {*dropped.get("unmask", ())}
        answers = {
            k: self._up(self.clients[k].unmask(self._down(told[k])))
            for k in told
            if k not in silent
        }
        total = self.server.unmask(answers).view(np.int64)
        return Found(total[1:], int(total[0]), list(told))

    def take_bytes(self) -> tuple[int, int]:
        """Bytes up and down since the last look."""
        found = self.bytes_up, self.bytes_down
        self.bytes_up = self.bytes_down = 0
        return found

    def _up(self, message: dict[str, Any]) -> dict[str, Any]:
        self.bytes_up += size_of(message)
        return message

    def _down(self, message: dict[str, Any]) -> dict[str, Any]:
        self.bytes_down += size_of(message)
        return message


def size_of(message: Any) -> int:
    """Bytes of a message: 8 for a number, such as the client that an entry is for."""
    if isinstance(message, Mapping):
        return sum(size_of(v) + 8 * isinstance(k, int) for k, v in message.items())
    if isinstance(message, list):
        return 8 * len(message)
    return len(message) if isinstance(message, bytes) else 8
