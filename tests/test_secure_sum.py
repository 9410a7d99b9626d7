"""Secure sums: the exact sum of the survivors or a refusal, and what a server sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2

pytest.importorskip("cryptography")


from secure_rounds import (
    SIZE,
    N,
    exact,
    in_session,
    joined,
    session_upload,
    shared,
    terms,
    uploaded,
    values,
)

from skfedfocal.privacy._secure import (
    Encoding,
    SecureSumError,
    Terms,
    secure_sum,
)
from skfedfocal.privacy._secure import _crypto as crypto

# -- exact or refused --------------------------------------------------------------------------


EXCHANGES = ["keys", "shares", "masked", "unmask"]


@st.composite
def rounds(draw):
    n = draw(st.sampled_from([8, 7, 6, 5, 4, 3, 2]))
    # Most clients stay, so that about half of the rounds end well.
    leaves = st.lists(st.sampled_from([None] * 12 + EXCHANGES), min_size=n, max_size=n)
    when = draw(leaves)
    dropped = {name: [i for i in range(n) if when[i] == name] for name in EXCHANGES}
    threshold = draw(st.sampled_from([None, None, None, 2, 3, 4, 5, 6]))
    row = st.lists(st.integers(-(2**20), 2**20), min_size=2, max_size=2)
    return n, dropped, threshold, draw(st.booleans()), [draw(row) for _ in range(n)]


def survivors_or_none(n, dropped, threshold, session):
    """Who is in the sum, from the rules alone; None where it must be refused."""
    cohort = set(range(n)) - set(dropped["keys"])
    t = threshold or len(cohort) // 2 + 1
    if len(cohort) < 3 or not len(cohort) / 2 < t <= len(cohort):
        return None
    sharing = cohort - set(dropped["shares"])
    survivors = sharing - set(dropped["masked"])
    answering = survivors - set(dropped["unmask"])
    if len(survivors) < max(t, 3) or len(answering) < t:
        return None
    if session and survivors != cohort and answering != survivors:
        return None  # nobody else has the seeds of those who vanished late with those before
    return sorted(survivors)


def check_round(case):
    n, dropped, threshold, session, rows = case
    agreed = terms(8, threshold=threshold)
    arrays = [np.array(row) for row in rows]
    expected = survivors_or_none(n, dropped, threshold, session)
    if expected is None:
        with pytest.raises(SecureSumError):
            secure_sum(arrays, agreed, dropped=dropped, session=session)
        return
    found = secure_sum(arrays, agreed, dropped=dropped, session=session)
    assert found.survivors == expected
    assert found.words.tolist() == exact(agreed, arrays, expected)
    assert found.sums.tolist() == sum(arrays[i] for i in expected).tolist()
    assert found.weight == len(expected)


@settings(max_examples=200)
@given(rounds())
def test_the_exact_sum_of_the_survivors_or_a_refusal(case):
    check_round(case)


@pytest.mark.soak
@settings(max_examples=1000)
@given(rounds())
def test_the_exact_sum_of_the_survivors_or_a_refusal_in_many_cases(case):
    check_round(case)


@pytest.mark.parametrize("session", [False, True])
def test_a_sum_of_two_is_refused_though_two_are_a_majority(session):
    with pytest.raises(SecureSumError, match="2 survivors are below the threshold of 3"):
        secure_sum(values(3), terms(3, threshold=2), dropped={"masked": [0]}, session=session)


@pytest.mark.parametrize("session", [False, True])
@settings(max_examples=10)
@given(data=st.data())
def test_sparse_rings_lose_nothing_either(session, data):
    n = 40
    late = st.sampled_from(["keys", "shares", "masked"] + ["unmask"] * (not session))
    dropped = {data.draw(late): data.draw(st.lists(st.integers(0, n - 1), max_size=4, unique=True))}
    assert terms(n).neighbors_and_threshold(36)[0] < 35
    found = secure_sum(values(n), terms(n), dropped=dropped, session=session)
    there = set(range(n)) - {i for name, gone in dropped.items() if name != "unmask" for i in gone}
    assert found.survivors == sorted(there)
    assert found.words.tolist() == exact(terms(n), values(n), there)


def test_weighted_means_are_those_of_numpy():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(7, 50)), rng.uniform(0, 100, 7)
    agreed = Terms(encoding=Encoding(8.0, 7, max_weight=100.0))
    found = secure_sum(x, agreed, weights=w, dropped={"masked": [2]})
    kept = [0, 1, 3, 4, 5, 6]
    np.testing.assert_allclose(found.sums, w[kept] @ x[kept], atol=agreed.encoding.error, rtol=0)
    assert found.weight == pytest.approx(w[kept].sum())


@settings(max_examples=20)
@given(st.permutations(range(N)), st.booleans())
def test_the_order_of_arrival_changes_nothing(order, session):
    if session:
        clients, server = in_session()
        server.begin(2)
        uploads = {i: client.masked(2, values()[i]) for i, client in clients.items()}
    else:
        clients, server, told = shared()
        uploads = {i: client.masked(told[i], values()[i]) for i, client in clients.items()}
    for i in order:
        server.masked(i, uploads[i])
    told = server.survivors()
    total = server.unmask({i: clients[i].unmask(told[i]) for i in reversed(order)})
    assert total.tolist() == exact(terms(), values(), range(N))


def test_a_session_sums_round_after_round():
    clients, server = in_session()
    for round_id, gone in ((2, []), (3, [0]), (5, [1, 4]), (6, [])):
        told = session_upload(clients, server, round_id, gone)
        total = server.unmask({i: clients[i].unmask(message) for i, message in told.items()})
        assert total.tolist() == exact(terms(), values(), set(clients) - set(gone))


def test_bad_values_become_zeros_of_weight_zero():
    for bad in (np.nan, np.inf, 9.0):
        x = np.ones((N, SIZE))
        x[2, 1] = bad
        found = secure_sum(x, Terms(encoding=Encoding(8.0, N)))
        assert found.survivors == list(range(N))  # not left out: that would say something of it
        assert found.weight == N - 1
        assert found.sums.tolist() == [N - 1.0] * SIZE
    clients, _, told = shared()
    clients[0].masked(told[0], [0.0, np.nan, 0.0])
    clients[1].masked(told[1], [0.0, 1.0, 0.0])
    assert clients[0].sent_zeros
    assert not clients[1].sent_zeros


# -- what the server sees ----------------------------------------------------------------------


def looks_uniform(text):
    """Monobit and chi-square tests of bytes, each failing by chance less than once in 10^9."""
    octets = np.frombuffer(text, np.uint8)
    ones, bits = int(np.unpackbits(octets).sum()), 8 * len(octets)
    counts = np.bincount(octets, minlength=256)
    statistic = ((counts - len(octets) / 256) ** 2).sum() / (len(octets) / 256)
    low, high = chi2.isf([1 - 1e-10, 1e-10], 255)
    return abs(2 * ones - bits) < 6.5 * np.sqrt(bits) and low < statistic < high


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("value", [0.0, 1e-3])
def test_masked_values_look_uniform_and_unmasked_ones_do_not(session, value):
    agreed = Terms(encoding=Encoding(8.0, N))
    x = np.full(20_000, value) + np.arange(20_000) * 1e-6 * (value > 0)
    if session:
        clients, _ = in_session(agreed=agreed)
        text = clients[0].masked(2, x)["masked"]
    else:
        clients, _, told = shared(agreed=agreed)
        text = clients[0].masked(told[0], x)["masked"]
    assert looks_uniform(text)
    assert not looks_uniform(agreed.encoding.encode(x).tobytes())


def test_both_ends_agree_on_keys_that_differ_by_peer_purpose_and_view():
    private, public = zip(*(crypto.new_key() for _ in range(3)), strict=True)
    assert crypto.public_key(private[0]) == public[0]
    labels = [b"one", b"two"]
    found = crypto.agree(private[0], public[1:], labels, b"view")
    assert found[0] == crypto.agree(private[1], [public[0]], labels, b"view")[0]
    found += crypto.agree(private[0], public[1:], labels, b"another view")
    assert len({key for pair in found for key in pair}) == 8


def test_masks_differ_by_round_client_and_run():
    clients, server = in_session()
    zeros = np.zeros(SIZE)
    uploads = []
    for round_id in (2, 3):
        server.begin(round_id)
        uploads += [client.masked(round_id, zeros)["masked"] for client in clients.values()]
    other, _ = in_session()
    uploads += [client.masked(2, zeros)["masked"] for client in other.values()]
    assert len(set(uploads)) == 3 * N


@settings(max_examples=20)
@given(st.sets(st.integers(1, N - 1), min_size=3), st.booleans())
def test_a_client_gives_one_kind_of_share_for_each_peer(others, session):
    alive = sorted({0} | others)
    if session:
        clients, server = in_session()
        told = session_upload(clients, server, 2, gone=set(range(N)) - set(alive))[0]
        answer, late = clients[0].unmask(told), "pair"
    else:
        clients, _, _ = uploaded()
        answer, late = clients[0].unmask({"survivors": alive}), "key"
    assert set(answer["seed"]) == set(alive)
    assert set(answer[late]) == set(range(N)) - set(alive)
    with pytest.raises(SecureSumError, match="answered once"):
        clients[0].unmask({"survivors": list(range(N))})


def test_a_session_tells_seeds_of_one_round_only():
    clients, server = in_session()
    seeds = []
    for round_id in (2, 3):
        told = session_upload(clients, server, round_id, gone=[5])
        seeds.append(clients[0].unmask(told[0])["pair"][5])
    assert seeds[0] != seeds[1]
    secrets = [
        secret for both in clients[0].state()["_kept"]["secrets"].values() for secret in both
    ]
    assert not set(seeds) & set(secrets)


# -- state, imports ----------------------------------------------------------------------------


def reborn(client):
    """The client as another process would find it."""
    again = type(client)(client.client_id, client.terms)
    again.restore(client.state())
    return again


def test_clients_go_on_from_their_state_at_every_step():
    clients, server, told = joined()
    for step in ("shares", "masked", "unmask"):
        clients = {i: reborn(client) for i, client in clients.items()}
        if step == "masked":
            for i, client in clients.items():
                server.masked(i, client.masked(told[i], values()[i]))
            told = server.survivors()
        else:
            answers = {i: getattr(client, step)(told[i]) for i, client in clients.items()}
            told = getattr(server, step)(answers)
    assert told.tolist() == exact(terms(), values(), range(N))
    with pytest.raises(SecureSumError, match="not above the last"):
        reborn(clients[0]).keys(1)


def test_sessions_go_on_from_their_state():
    clients, server = in_session()
    for round_id in (2, 3):
        clients = {i: reborn(client) for i, client in clients.items()}
        told = session_upload(clients, server, round_id, gone=[round_id])
        clients = {i: reborn(client) for i, client in clients.items()}
        total = server.unmask({i: clients[i].unmask(message) for i, message in told.items()})
        assert total.tolist() == exact(terms(), values(), set(range(N)) - {round_id})


def test_no_secret_is_kept_after_a_round():
    clients, _, told = uploaded()
    clients[0].unmask(told[0])
    assert clients[0].state()["_kept"] == {}
    clients[1].terms = terms(4)
    with pytest.raises(SecureSumError):
        clients[1].unmask({"survivors": []})
    assert clients[1].state()["_kept"] == {}


def test_unknown_exchanges_are_refused():
    with pytest.raises(ValueError, match="upload"):
        secure_sum(values(), terms(), dropped={"upload": [0]})
