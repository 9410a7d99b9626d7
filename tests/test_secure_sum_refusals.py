"""What clients and servers of secure sums refuse, each by name."""

from __future__ import annotations

import pytest

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
    SecureClient,
    SecureServer,
    SecureSumError,
    SessionClient,
    SessionServer,
)
from skfedfocal.privacy._secure._shamir import SHARE_BYTES

# -- refusals: order and replay ----------------------------------------------------------------


def test_no_step_is_answered_twice_or_out_of_turn():
    clients, _, told = joined()
    with pytest.raises(SecureSumError, match="answered once"):
        clients[0].masked({"shares": {}}, values()[0])
    clients[0].shares(told[0])
    with pytest.raises(SecureSumError, match="answered once"):
        clients[0].shares(told[0])
    clients, _, told = shared()
    clients[0].masked(told[0], values()[0])
    with pytest.raises(SecureSumError, match="answered once"):
        clients[0].masked(told[0], values()[0])


def test_a_repeated_question_does_not_end_the_round():
    clients, server = in_session()
    told = session_upload(clients, server, 2)
    with pytest.raises(SecureSumError, match="answered once"):
        clients[0].masked(2, values()[0])
    total = server.unmask({i: clients[i].unmask(message) for i, message in told.items()})
    assert total.tolist() == exact(terms(), values(), range(N))


@pytest.mark.parametrize("round_id", [-1, 6, 7])
def test_rounds_not_above_the_last_are_refused(round_id):
    for kind in (SecureClient, SessionClient):
        with pytest.raises(SecureSumError, match="not above the last, 7"):
            kind(0, terms(), last_round=7).keys(round_id)
        client = kind(0, terms())
        client.keys(7)
        with pytest.raises(SecureSumError, match="not above the last, 7"):
            client.keys(round_id)
    clients, _ = in_session()
    clients[0].masked(7, values()[0])
    clients[0]._step = "masked"  # as after an answer
    with pytest.raises(SecureSumError, match="not above the last, 7"):
        clients[0].masked(round_id, values()[0])


def test_the_server_takes_one_upload_of_those_asked_until_it_closes():
    clients, server, told = shared()
    texts = {i: clients[i].masked(told[i], values()[i]) for i in range(N)}
    for i in range(N - 1):
        server.masked(i, texts[i])
    with pytest.raises(SecureSumError, match="already sent"):
        server.masked(0, texts[0])
    with pytest.raises(SecureSumError, match="not asked"):
        server.masked(N, texts[0])
    told = server.survivors()
    with pytest.raises(SecureSumError, match="not asked"):
        server.masked(N - 1, texts[N - 1])
    answers = {i: clients[i].unmask(told[i]) for i in told}
    assert server.unmask(answers).tolist() == exact(terms(), values(), range(N - 1))
    with pytest.raises(SecureSumError, match="no round"):
        server.unmask(answers)


def test_shares_of_one_round_do_not_open_in_another():
    clients, server = in_session()
    old = session_upload(clients, server, 2)
    now = session_upload(clients, server, 3)
    with pytest.raises(SecureSumError, match="replayed"):
        clients[0].unmask(now[0] | {"shares": old[0]["shares"]})
    with pytest.raises(SecureSumError, match="not the one under way"):
        clients[1].unmask(old[1])


# -- refusals: views ---------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["member", "context", "terms", "round"])
def test_no_share_opens_where_views_differ(change):
    agreed = [terms(), terms(threshold=5)] if change == "terms" else [terms(), terms()]
    clients = {i: SecureClient(i, agreed[i == 0]) for i in range(N)}
    keys = {i: client.keys(1) for i, client in clients.items()}
    told = SecureServer(terms(), SIZE).keys(1, keys, b"model")
    if change == "member":
        del keys[N - 1]
        told[0] = SecureServer(terms(), SIZE).keys(1, keys, b"model")[0]
    if change == "context":
        told[0] = told[0] | {"context": b"another"}
    if change == "round":
        with pytest.raises(SecureSumError, match="another round"):
            clients[0].shares(told[0] | {"round_id": 2})
        return
    shares = {i: clients[i].shares(told[i])["shares"] for i in clients}
    inbox = {"shares": {i: shares[i][0] for i in range(1, N - 1)}}
    with pytest.raises(SecureSumError, match="another view"):
        clients[0].masked(inbox, values()[0], context=told[0]["context"])


@pytest.mark.parametrize("change", ["member", "context"])
def test_no_share_opens_in_a_session_where_views_differ(change):
    clients, _, told = joined(kinds=(SessionClient, SessionServer))
    fewer = {i: {"keys": clients[i]._kept["public"]} for i in range(N - 1)}
    if change == "member":
        told[0] = SessionServer(terms(), SIZE).keys(1, fewer)[0]
    for i, client in clients.items():
        client.join(told[i])
    context = {0: b"another"} if change == "context" else {}
    uploads = {i: c.masked(2, values()[i], context=context.get(i, b"")) for i, c in clients.items()}
    shares = {i: uploads[i]["shares"][0] for i in range(1, N - 1)}
    message = {"round_id": 2, "survivors": list(range(N - 1)), "shares": shares}
    with pytest.raises(SecureSumError, match="another view"):
        clients[0].unmask(message)


def test_values_for_another_context_are_not_sent():
    clients, _, told = shared(context=b"hash of the model")
    with pytest.raises(SecureSumError, match="context"):
        clients[0].masked(told[0], values()[0], context=b"hash of another model")
    assert clients[1].masked(told[1], values()[1], context=b"hash of the model")["masked"]


def test_a_changed_share_does_not_open():
    clients, _, told = shared()
    sealed = told[0]["shares"][1]
    for bad in (sealed[:-1] + bytes([sealed[-1] ^ 1]), sealed[:-1], sealed[:10], b""):
        client = SecureClient(0, terms())
        client.restore(clients[0].state())
        with pytest.raises(SecureSumError, match="share"):
            client.masked({"shares": told[0]["shares"] | {1: bad}}, values()[0])


def test_cohorts_that_do_not_fit_are_refused():
    for change, message in (
        ({"ids": [0, 1, 1, 3, 4, 5]}, "distinct"),
        ({"ids": [1, 2, 3, 4, 5, 6]}, "not in the cohort"),
        ({"ids": list(range(N - 1))}, "wrong length"),
        ({"ids": [0, 1], "keys": bytes(128)}, "below min_clients"),
        ({"keys": bytes(64 * N)}, "another key for this client"),
        ({"ids": [-1, *range(N - 1)]}, "ids of clients"),
    ):
        clients, _, told = joined()
        with pytest.raises(SecureSumError, match=message):
            clients[0].shares(told[0] | change)
    clients, _, told = joined()
    with pytest.raises(SecureSumError, match="malformed"):
        clients[0].shares({"round_id": 1})
    clients, _, _ = joined()
    with pytest.raises(SecureSumError, match="malformed"):
        clients[0].shares(None)
    clients, _, told = joined(n=5, agreed=terms(5))
    clients[0].terms = terms(4)
    with pytest.raises(SecureSumError, match="overflow"):
        clients[0].shares(told[0])


def test_a_public_key_of_small_order_is_refused():
    clients, _, told = joined()
    own = told[0]["keys"][:64]
    with pytest.raises(SecureSumError, match="not valid"):
        clients[0].shares(told[0] | {"keys": own + bytes(64 * (N - 1))})


# -- refusals: survivors -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("survivors", "message"),
    [
        ([0, 1, 2], "below the threshold of 4"),
        ([1, 2, 3, 4, 5], "do not fit"),
        ([0, 1, 2, 2], "distinct"),
        ([0, 1, 2, 9], "distinct members"),
    ],
)
def test_survivors_that_do_not_fit_are_refused(survivors, message):
    clients, _, _ = uploaded()
    with pytest.raises(SecureSumError, match=message):
        clients[0].unmask({"survivors": survivors})
    with pytest.raises(SecureSumError, match="answered once"):  # the round is over
        clients[0].unmask({"survivors": list(range(N))})
    clients, server = in_session()
    told = session_upload(clients, server, 2)[0]
    shares = {peer: told["shares"][peer] for peer in set(survivors) & told["shares"].keys()}
    with pytest.raises(SecureSumError, match=message):
        clients[0].unmask({"round_id": 2, "survivors": survivors, "shares": shares})


def test_a_survivor_who_has_not_shared_is_refused():
    clients, server, told = joined()
    sent = {i: client.shares(told[i]) for i, client in clients.items()}
    del sent[5]
    told = server.shares(sent)
    clients[0].masked(told[0], values()[0])
    with pytest.raises(SecureSumError, match="do not fit"):
        clients[0].unmask({"survivors": list(range(N))})


def test_nothing_is_sent_where_too_few_have_shared():
    clients, _, told = shared()
    few = {peer: told[0]["shares"][peer] for peer in (1, 2)}
    with pytest.raises(SecureSumError, match="holders of the shares of client 0"):
        clients[0].masked({"shares": few}, values()[0])


@pytest.mark.parametrize("session", [False, True])
def test_too_few_survivors_near_a_client_are_refused(session):
    """In a ring a majority may survive and a client still lack holders of its shares."""
    n = 40
    clients, server, *told = in_session(n) if session else shared(n)
    near = server._cohort.neighbors(0)
    gone = near[: len(near) - server._cohort.threshold + 2]
    alive = sorted(set(range(n)) - set(gone))
    if session:
        question = session_upload(clients, server, 2, gone)[0]
    else:
        clients[0].masked(told[0][0], values(n)[0])
        question = {"survivors": alive}
    with pytest.raises(SecureSumError, match="holders of the shares of client 0"):
        clients[0].unmask(question)


def test_shares_missing_in_a_session_are_refused():
    clients, server = in_session()
    told = session_upload(clients, server, 2)[0]
    del told["shares"][3]
    with pytest.raises(SecureSumError, match="do not fit"):
        clients[0].unmask(told)


# -- useless answers ---------------------------------------------------------------------------


def test_clients_with_useless_answers_count_as_vanished():
    clients = {i: SecureClient(i, terms(9)) for i in range(9)}
    server = SecureServer(terms(9), SIZE)
    keys = {i: client.keys(1) for i, client in clients.items()}
    keys[0] = {"keys": b"short"}
    told = server.keys(1, keys)
    sent = {i: clients[i].shares(told[i]) for i in told}
    del sent[1]["shares"][2]
    told = server.shares(sent)
    for i in told:
        server.masked(i, clients[i].masked(told[i], values(9)[i]))
    assert server.left_out.keys() == {0, 1}
    told = server.survivors()
    total = server.unmask({i: clients[i].unmask(told[i]) for i in told})
    assert total.tolist() == exact(terms(9), values(9), range(2, 9))


def test_values_of_another_length_are_left_out():
    clients, server, told = shared()
    server.masked(0, clients[0].masked(told[0], [1, 2]))
    assert "length" in server.left_out[0]
    for i in range(1, N):
        server.masked(i, clients[i].masked(told[i], values()[i]))
    assert 0 not in server.survivors()


@pytest.mark.parametrize("kind", ["seed", "key"])
def test_false_shares_are_noticed(kind):
    clients, server, told = uploaded(gone=[5])
    answers = {i: clients[i].unmask(told[i]) for i in told}
    owner = 1 if kind == "seed" else 5
    true = answers[0][kind][owner]
    assert len(true) == SHARE_BYTES
    # Not in the first word: key agreement ignores the lowest three bits of a key.
    answers[0][kind][owner] = true[:9] + bytes([true[9] ^ 1]) + true[10:]
    with pytest.raises(SecureSumError, match="shares do not"):
        server.unmask(answers)
