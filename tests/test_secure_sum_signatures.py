"""Secure sums with pinned keys: who is not known, or has not signed, takes no part."""

from __future__ import annotations

import pytest

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from secure_rounds import SIZE, N, exact, joined, shared, terms, values

from skfedfocal.privacy._secure import (
    SecureClient,
    SecureServer,
    SecureSumError,
    SessionClient,
    SessionServer,
    secure_sum,
)


def signers(n=N):
    private = [Ed25519PrivateKey.generate() for _ in range(n)]
    known = {i: key.public_key().public_bytes_raw() for i, key in enumerate(private)}
    return [key.private_bytes_raw() for key in private], known


@pytest.mark.parametrize("n", [N, 40])
def test_signed_sums_are_exact(n):
    private, known = signers(n)
    clients, server, told = shared(n, known_keys=known, signing_keys=private)
    for i, client in clients.items():
        server.masked(i, client.masked(told[i], values(n)[i]))
    told = server.survivors()
    total = server.unmask({i: client.unmask(told[i]) for i, client in clients.items()})
    assert total.tolist() == exact(terms(n), values(n), range(n))
    assert server.left_out == {}


def forged(keys, private, kind):
    """Client 5's keys as one who lacks its signing key might send them."""
    message = SecureClient(5, terms(), signing_key=private[4]).keys(1)
    if kind == "unsigned":
        message["signature"] = b""
    if kind == "another round":
        message = SecureClient(5, terms(), signing_key=private[5]).keys(2)
    if kind == "another client":
        message = SecureClient(4, terms(), signing_key=private[5]).keys(1)
    return keys | {5: message}


@pytest.mark.parametrize("kind", ["unsigned", "another key", "another round", "another client"])
def test_unsigned_and_unknown_keys_are_refused(kind):
    private, known = signers()
    clients = [SecureClient(i, terms(), signing_key=private[i], known_keys=known) for i in range(N)]
    keys = forged({i: client.keys(1) for i, client in enumerate(clients)}, private, kind)
    # An honest server leaves the client out; what a careless one passes on, clients refuse.
    server = SecureServer(terms(), SIZE, known_keys=known)
    assert server.keys(1, keys)[0]["ids"] == list(range(N - 1))
    assert "unsigned" in server.left_out[5]
    told = SecureServer(terms(), SIZE).keys(1, keys)[0]
    told = told | {"signatures": {i: message["signature"] for i, message in keys.items()}}
    with pytest.raises(SecureSumError, match="unsigned"):
        clients[0].shares(told)


@pytest.mark.parametrize("kind", [SecureClient, SessionClient])
def test_clients_whose_key_is_not_pinned_are_refused(kind):
    private, known = signers()
    clients = {i: kind(i, terms(), signing_key=private[i], known_keys=known) for i in range(N)}
    serving = SecureServer if kind is SecureClient else SessionServer
    keys = {i: client.keys(1) for i, client in clients.items()}
    told = serving(terms(), SIZE, known_keys=known).keys(1, keys)[0]
    del known[3]  # the mapping that the clients look into
    join = clients[0].shares if kind is SecureClient else clients[0].join
    with pytest.raises(SecureSumError, match="unknown"):
        join(told)
    server = serving(terms(), SIZE, known_keys=known)
    assert 3 not in server.keys(1, keys)
    assert "unknown" in server.left_out[3]


def test_unknown_clients_are_refused_wherever_they_stand_on_the_ring():
    n = 40
    private, known = signers(n)
    clients, server, told = joined(n, known_keys=known, signing_keys=private)
    far = (set(range(1, n)) - set(server._cohort.neighbors(0))).pop()
    del known[far]
    with pytest.raises(SecureSumError, match=rf"clients \[{far}\] are unknown"):
        clients[0].shares(told[0])


@pytest.mark.parametrize("session", [False, True])
def test_an_active_server_is_met_with_signatures_and_more_survivors(session):
    agreed = terms(7, active=True)  # six of seven
    found = secure_sum(values(7), agreed, dropped={"masked": [6]}, session=session)
    assert found.words.tolist() == exact(agreed, values(7), range(6))
    with pytest.raises(SecureSumError, match="below the threshold of 6"):
        secure_sum(values(7), agreed, dropped={"masked": [5, 6]}, session=session)
    with pytest.raises(ValueError, match="known_keys"):
        (SessionClient if session else SecureClient)(0, agreed)
