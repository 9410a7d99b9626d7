"""A secure sum with all clients in one process."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skfedfocal.privacy._secure._client import SecureClient
from skfedfocal.privacy._secure._crypto import new_signing_key
from skfedfocal.privacy._secure._member import Member, Message
from skfedfocal.privacy._secure._server import SecureServer
from skfedfocal.privacy._secure._session import SessionClient, SessionServer
from skfedfocal.privacy._secure._terms import Terms

M = TypeVar("M", bound=Member)

EXCHANGES = ("keys", "shares", "masked", "unmask")


class SecureSum(NamedTuple):
    """What a server has at the end of a secure sum."""

    sums: NDArray[np.float64]
    """Weighted sums over the survivors, of shape (n_values,)."""
    weight: float
    """Sum of their weights."""
    survivors: list[int]
    """Places of the clients that are in the sum."""
    words: NDArray[np.uint64]
    """The same sums as words, weight first: exact."""


def secure_sum(
    values: Sequence[ArrayLike],
    terms: Terms,
    *,
    weights: Sequence[float] | None = None,
    dropped: Mapping[str, Collection[int]] | None = None,
    session: bool = False,
    round_id: int = 0,
    context: bytes = b"",
) -> SecureSum:
    """Sum the clients' values by the true protocol, all of it in this process.

    Every key, share and mask is made as it would be between machines. It protects nothing here,
    where all secrets share a memory; it rehearses what does elsewhere.

    Parameters
    ----------
    values : list of array-like of shape (n_values,)
        One array for each client.
    terms : Terms
        What was agreed beforehand.
    weights : list of float or None, default=None
        One weight for each client; None is 1 for all.
    dropped : mapping of str to collection of int, default=None
        Clients by the exchange that they do not answer, nor any later one: ``"keys"``,
        ``"shares"``, ``"masked"``, ``"unmask"``. In a session no answer is called ``"shares"``,
        and clients dropped there join and send nothing.
    session : bool, default=False
        Whether to take `SessionClient` and `SessionServer`.
    round_id : int, default=0
        Number of the round.
    context : bytes, default=b""
        What all must see alike.

    Returns
    -------
    SecureSum
        Sums, weight, survivors and exact words.

    Raises
    ------
    SecureSumError
        If too few clients are left.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal.privacy._secure import Encoding, Terms, secure_sum
    >>> terms = Terms(encoding=Encoding(bound=8.0, n_clients=5))
    >>> values = [np.full(2, float(client)) for client in range(5)]
    >>> found = secure_sum(values, terms, dropped={"masked": [3]})
    >>> found.sums.tolist(), found.survivors
    ([7.0, 7.0], [0, 1, 2, 4])
    """
    unknown = set(dropped or {}) - set(EXCHANGES)
    if unknown:
        raise ValueError(f"dropped has {sorted(unknown)}; the exchanges are {list(EXCHANGES)}")
    weight = [1.0] * len(values) if weights is None else weights
    arrays = [np.asarray(value) for value in values]
    there = _Attendance(len(arrays), dropped or {})
    run = _session if session else _single
    total, survivors = run(arrays, weight, terms, there, round_id, context)
    sums, sum_of_weights = terms.encoding.decode(total)
    return SecureSum(sums, sum_of_weights, survivors, total)


class _Attendance:
    """Who still answers, exchange by exchange."""

    def __init__(self, n_clients: int, dropped: Mapping[str, Collection[int]]):
        self.left = list(range(n_clients))
        self.dropped = dropped

    def at(self, exchange: str, asked: Mapping[int, Any]) -> list[int]:
        gone = set(self.dropped.get(exchange, ()))
        self.left = [client for client in self.left if client in asked and client not in gone]
        return self.left


def _clients(kind: type[M], n: int, terms: Terms) -> tuple[dict[int, M], dict[int, bytes] | None]:
    """The clients, with pinned keys where the terms need them."""
    if not terms.active:
        return {i: kind(i, terms) for i in range(n)}, None
    pairs = [new_signing_key() for _ in range(n)]
    known = {i: public for i, (_, public) in enumerate(pairs)}
    clients = {
        i: kind(i, terms, signing_key=private, known_keys=known)
        for i, (private, _) in enumerate(pairs)
    }
    return clients, known


def _single(
    values: list[NDArray],
    weights: Sequence[float],
    terms: Terms,
    there: _Attendance,
    round_id: int,
    context: bytes,
) -> tuple[NDArray[np.uint64], list[int]]:
    clients, known = _clients(SecureClient, len(values), terms)
    server = SecureServer(terms, len(values[0]) if values else 0, known_keys=known)
    keys = {i: clients[i].keys(round_id) for i in there.at("keys", clients)}
    told: dict[int, Message] = server.keys(round_id, keys, context)
    shares = {i: clients[i].shares(told[i]) for i in there.at("shares", told)}
    told = server.shares(shares)
    for i in there.at("masked", told):
        server.masked(i, clients[i].masked(told[i], values[i], weights[i], context))
    told = server.survivors()
    answers = {i: clients[i].unmask(told[i]) for i in there.at("unmask", told)}
    return server.unmask(answers), list(told)


def _session(
    values: list[NDArray],
    weights: Sequence[float],
    terms: Terms,
    there: _Attendance,
    round_id: int,
    context: bytes,
) -> tuple[NDArray[np.uint64], list[int]]:
    clients, known = _clients(SessionClient, len(values), terms)
    server = SessionServer(terms, len(values[0]) if values else 0, known_keys=known)
    keys = {i: clients[i].keys(round_id) for i in there.at("keys", clients)}
    told: dict[int, Message] = server.keys(round_id, keys)
    for i in told:
        clients[i].join(told[i])
    server.begin(round_id + 1, context)
    there.at("shares", told)
    for i in there.at("masked", told):
        server.masked(i, clients[i].masked(round_id + 1, values[i], weights[i], context))
    told = server.survivors()
    answers = {i: clients[i].unmask(told[i]) for i in there.at("unmask", told)}
    return server.unmask(answers), list(told)
