"""What a secure sum costs a client: ``python -m benchmarks.secure_sum``.

Printed is the CPU time of one client's whole round (median over a few clients), beside the time
that its key agreements, derivations and keystreams take alone, measured right after it, and the
ratio of the two; and all bytes that it sends, beside those of its values in single precision.
``signed`` also checks the neighbours' signatures, which are not among what is measured alone;
``session`` is a later round of a session, which has no key agreement.

``--training`` prints what secure sums cost a whole training in one process, where one machine does
the work of all clients and of the server: CPU time of fits with and without, in turns.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from benchmarks.speed.workloads import W1
from skfedfocal import FedFocalClassifier
from skfedfocal.privacy._secure import Encoding, SecureClient, SecureServer, Terms
from skfedfocal.privacy._secure._group import size_of
from skfedfocal.privacy._secure._session import SessionClient, SessionServer

MODES = ("single", "signed", "session")
CHUNK = 1 << 17


class Cost(NamedTuple):
    """Of one client and round."""

    neighbors: int
    threshold: int
    seconds: float
    needed: float
    ratio: float
    bytes_up: int


def needed(n_agreements: int, n_derivations: int, n_keystreams: int, n_bytes: int) -> float:
    """CPU seconds of nothing but so many key agreements, derivations and keystreams."""
    own = X25519PrivateKey.generate()
    peer = X25519PrivateKey.generate().public_key().public_bytes_raw()
    zeros, buffer, key = bytes(CHUNK), bytearray(CHUNK + 16), os.urandom(32)
    start = time.process_time()
    for _ in range(n_agreements):
        own.exchange(X25519PublicKey.from_public_bytes(peer))
    for _ in range(n_derivations):
        HKDF(SHA256(), 32, None, b"about").derive(key)
    for _ in range(n_keystreams):
        cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
        for done in range(0, n_bytes, CHUNK):
            cipher.update_into(memoryview(zeros)[: n_bytes - done], buffer)
    return time.process_time() - start


def measure(mode: str, n_clients: int, n_values: int, repeats: int) -> Cost:
    """Costs of a client among `n_clients`, all of which survive."""
    terms = Terms(encoding=Encoding(bound=8.0, n_clients=n_clients, max_weight=1e4))
    values = np.random.default_rng(0).normal(size=n_values).astype(np.float32)
    found = (_session if mode == "session" else _single)(
        terms, n_clients, values, repeats, mode == "signed"
    )
    k, t = terms.neighbors_and_threshold(n_clients)
    spent, alone, sent = zip(*found, strict=True)
    ratio = median(a / b for a, b in zip(spent, alone, strict=True))
    return Cost(k, t, median(spent), median(alone), ratio, max(sent))


def _single(terms, n, values, repeats, signed):
    signing = [Ed25519PrivateKey.generate() for _ in range(n)] if signed else []
    known = {i: key.public_key().public_bytes_raw() for i, key in enumerate(signing)} or None
    clients = [
        SecureClient(
            i,
            terms,
            known_keys=known,
            signing_key=signing[i].private_bytes_raw() if signed else None,
        )
        for i in range(n)
    ]
    server = SecureServer(terms, len(values), known_keys=known)
    spent, sent = [0.0] * n, [0] * n

    def timed(i, step, *arguments):
        start = time.process_time()
        answer = step(*arguments)
        spent[i] += time.process_time() - start
        sent[i] += size_of(answer)
        return answer

    told = server.keys(0, {i: timed(i, c.keys, 0) for i, c in enumerate(clients)})
    told = server.shares({i: timed(i, c.shares, told[i]) for i, c in enumerate(clients)})
    found = []
    for i in range(repeats):
        timed(i, clients[i].masked, told[i], values, 100.0)
        timed(i, clients[i].unmask, {"survivors": list(range(n))})
        k = len(told[i]["shares"])
        found.append((spent[i], needed(2 * k, 2 * k, k + 1, 8 * len(values)), sent[i]))
    return found


def _session(terms, n, values, repeats, _):
    clients = [SessionClient(i, terms) for i in range(n)]
    server = SessionServer(terms, len(values))
    told = server.keys(0, {i: c.keys(0) for i, c in enumerate(clients)})
    cohort = server._cohort
    watched = set(range(repeats)).union(*map(cohort.neighbors, range(repeats)))
    for i in watched:
        clients[i].join(told[i])
    found, uploads = [], {}
    for i in watched:
        start = time.process_time()
        uploads[i] = clients[i].masked(1, values if i < repeats else [], 100.0)
        spent = time.process_time() - start
        if i < repeats:
            k = len(uploads[i]["shares"])
            alone = needed(0, k, k + 1, 8 * len(values))
            found.append([spent, alone, size_of(uploads[i])])
        del uploads[i]["masked"]
    for i in range(repeats):
        shares = {peer: uploads[peer]["shares"][i] for peer in cohort.neighbors(i)}
        told_now = {"round_id": 1, "survivors": list(range(n)), "shares": shares}
        start = time.process_time()
        answer = clients[i].unmask(told_now)
        found[i][0] += time.process_time() - start
        found[i][2] += size_of(answer)
    return found


class TrainingCost(NamedTuple):
    """Of a round, all clients and the server together: CPU seconds, medians over fits."""

    plain: float
    secure: float
    apart: float
    """Largest difference of a parameter between the two models."""


def training(n_clients: int, per_round: int, n_rounds: int, repeats: int) -> TrainingCost:
    """Costs of training a model of W1's size, each client with W1's rows on average."""
    n = n_clients * round(W1.rows_per_round / W1.per_round)
    rng = np.random.default_rng(0)
    y = rng.integers(W1.n_classes, size=n)
    X = rng.normal(size=(n, W1.n_features)).astype(np.float32)
    X[np.arange(n), y] += 2
    clients = rng.permutation(np.arange(n) % n_clients)
    spent: dict[bool, list[float]] = {False: [], True: []}
    thetas = {}
    for _ in range(repeats):
        for secure, times in spent.items():
            model = FedFocalClassifier(
                (W1.hidden,),
                clients_per_round=per_round,
                n_rounds=n_rounds,
                batch_size=W1.batch_size,
                learning_rate=W1.learning_rate,
                secure_aggregation=secure,
                random_state=0,
            )
            start = time.process_time()
            thetas[secure] = model.fit(X, y, clients=clients).theta_
            times.append((time.process_time() - start) / n_rounds)
    apart = float(np.abs(thetas[True] - thetas[False]).max())
    return TrainingCost(median(spent[False]), median(spent[True]), apart)


def print_training(n_rounds: int, repeats: int) -> None:
    """A table by cohort, of W1 and of cohorts that change from round to round."""
    print("| clients | a round | CPU ms a round, plain | secure | ratio | apart |")
    print("|---|---|---|---|---|---|")
    for n_clients, per_round in ((10, 10), (W1.n_clients, W1.n_clients), (100, 100), (100, 10)):
        cost = training(n_clients, per_round, n_rounds, repeats)
        print(
            f"| {n_clients} | {per_round} | {1e3 * cost.plain:.1f} | {1e3 * cost.secure:.1f} "
            f"| {cost.secure / cost.plain:.2f} | {cost.apart:.0e} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--values", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=5, help="clients that are measured")
    parser.add_argument("--training", action="store_true", help="what a training costs instead")
    parser.add_argument("--rounds", type=int, default=10, help="of a training")
    options = parser.parse_args()
    if options.training:
        print_training(options.rounds, options.repeats)
        return
    print("| clients | k | t | values | round | client ms | needed ms | ratio | sent / float32 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for n_clients in options.clients:
        for n_values in options.values:
            for mode in MODES:
                cost = measure(mode, n_clients, n_values, min(options.repeats, n_clients))
                print(
                    f"| {n_clients} | {cost.neighbors} | {cost.threshold} | {n_values} | {mode} "
                    f"| {1e3 * cost.seconds:.2f} | {1e3 * cost.needed:.2f} | {cost.ratio:.2f} "
                    f"| {cost.bytes_up / (4 * n_values):.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
