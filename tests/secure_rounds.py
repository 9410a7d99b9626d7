"""Secure sums step by step, for the tests of what is summed and of what is refused."""

from __future__ import annotations

import numpy as np

from skfedfocal.privacy._secure import (
    Encoding,
    SecureClient,
    SecureServer,
    SessionClient,
    SessionServer,
    Terms,
)

N, SIZE = 6, 3


def terms(n=N, **kwargs):
    return Terms(encoding=Encoding(2.0**20, n, fractional_bits=0), **kwargs)


def values(n=N, size=SIZE):
    return np.random.default_rng(1).integers(-1000, 1000, (n, size))


def exact(agreed, arrays, survivors):
    """Words of the sum, in Python's integers."""
    words = [agreed.encoding.encode(arrays[i]).tolist() for i in survivors]
    return [sum(column) % 2**64 for column in zip(*words, strict=True)]


# Rounds up to a step. Each returns clients, server and what the clients are told next.


def joined(
    n=N,
    agreed=None,
    kinds=(SecureClient, SecureServer),
    context=b"",
    known_keys=None,
    signing_keys=None,
):
    agreed = agreed or terms(n)
    private = signing_keys or [None] * n
    clients = {
        i: kinds[0](i, agreed, known_keys=known_keys, signing_key=private[i]) for i in range(n)
    }
    server = kinds[1](agreed, SIZE, known_keys=known_keys)
    told = server.keys(1, {i: client.keys(1) for i, client in clients.items()}, context)
    return clients, server, told


def shared(n=N, **kwargs):
    clients, server, told = joined(n, **kwargs)
    told = server.shares({i: client.shares(told[i]) for i, client in clients.items()})
    return clients, server, told


def uploaded(n=N, gone=()):
    clients, server, told = shared(n)
    for i in told.keys() - set(gone):
        server.masked(i, clients[i].masked(told[i], values(n)[i]))
    return clients, server, server.survivors()


def in_session(n=N, **kwargs):
    clients, server, told = joined(n, kinds=(SessionClient, SessionServer), **kwargs)
    for i, client in clients.items():
        client.join(told[i])
    return clients, server


def session_upload(clients, server, round_id, gone=(), context=b""):
    server.begin(round_id, context)
    for i in clients.keys() - set(gone):
        upload = clients[i].masked(round_id, values(len(clients))[i], context=context)
        server.masked(i, upload)
    return server.survivors()
