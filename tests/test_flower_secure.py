"""Secure sums over sites: the numbers of one process, drop-outs at every exchange, refusals."""

from __future__ import annotations

import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("flwr")
pytest.importorskip("cryptography")

from flwr.app import ConfigRecord, RecordDict

from skfedfocal import FederatedTrainingError, FedFocalClassifier
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal.flower import (
    SimulatedSites,
    SiteError,
    export_app,
    federate,
    make_client_app,
    read_export,
)
from skfedfocal.flower import _secure_site as site_half
from skfedfocal.flower._messages import (
    KEYS_HAVE,
    SECURE_KEYS,
    SECURE_UNMASK,
    TRAIN,
    UNMASK_HAS,
    BadReply,
    checked,
    read_facts,
    write_facts,
)
from skfedfocal.privacy import SecureAggregation
from skfedfocal.privacy._secure import SecureSumError, SessionServer

SITES = ("east", "north", "south", "up", "west")


def double_mlp(n_features, n_classes):
    return torch.nn.Sequential(
        torch.nn.Linear(n_features, 5), torch.nn.Tanh(), torch.nn.Linear(5, n_classes)
    ).double()


@pytest.fixture(scope="module")
def table():
    X, y = load_breast_cancer(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(y))[:150]
    X, y = X[rows, :6], y[rows]
    return (X - X.mean(0)) / X.std(0), y, np.repeat(SITES, [20, 40, 30, 25, 35])


def by_site(table):
    X, y, site = table
    return {name: (X[site == name], y[site == name]) for name in np.unique(site)}


def classifier(**params):
    usual = {"n_rounds": 3, "learning_rate": 0.05, "random_state": 7, "engine": "loop"}
    usual |= {"module": double_mlp, "secure_aggregation": True}
    return FedFocalClassifier(**(usual | params))


def grid_of(table, **options):
    return SimulatedSites(by_site(table), module=double_mlp, **options)


class WithDropped(FedFocalClassifier):
    """In one process, with clients that vanish as `dropped` has it."""

    dropped: dict

    def _engine_for(self, module, rows, setup):
        engine = super()._engine_for(module, rows, setup)
        engine.dropped = self.dropped
        return engine


# -- the numbers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"client_gamma": 0, "class_weight": None},
        {"class_weight": "local"},
        {"class_weight": "estimated"},
        {"clients_per_round": 3},
        {"strategy": "fedadam"},
        {"secure_aggregation": SecureAggregation(min_clients=4, threshold=0.7, bound=50.0)},
    ],
    ids=str,
)
def test_the_fit_is_that_of_one_process(table, params):
    X, y, site = table
    ours = federate(grid_of(table), classifier(**params))
    theirs = classifier(**params).fit(X, y, clients=site)
    assert_array_equal(ours.theta_, theirs.theta_)
    assert ours.history_.keys() == theirs.history_.keys()
    for name in ours.history_.keys() - {"seconds"}:
        assert_array_equal(ours.history_[name], theirs.history_[name], err_msg=name)
    plain = classifier(**params).set_params(secure_aggregation=False).fit(X, y, clients=site)
    assert_allclose(ours.theta_, plain.theta_, rtol=0, atol=1e-10)


def test_early_stopping_validates_by_sums(table):
    X, y, site = table
    params = {"early_stopping": True, "n_rounds": 6, "n_iter_no_change": 2}
    ours = federate(grid_of(table), classifier(**params))
    theirs = classifier(**params).fit(X, y, clients=site)
    assert_allclose(ours.theta_, theirs.theta_, rtol=0, atol=1e-12)
    assert_allclose(ours.history_["validation_loss"], theirs.history_["validation_loss"])


def test_the_scaler_is_fitted_from_sums(table):
    X = table[0]
    ours = federate(grid_of(table), make_pipeline(StandardScaler(), classifier()))
    scaler = StandardScaler().fit(X)
    assert_allclose(ours[0].mean_, scaler.mean_, rtol=1e-12, atol=1e-14)
    assert_allclose(ours[0].scale_, scaler.scale_, rtol=1e-12)


def test_two_exchanges_a_round_once_the_keys_are_there(table):
    sent = Counter()
    grid = grid_of(table)
    push = grid.push_messages

    def counting(messages):
        messages = list(messages)
        sent.update({messages[0].metadata.message_type: 1})
        return push(messages)

    grid.push_messages = counting
    federate(grid, classifier(n_rounds=4))
    assert sent == {
        "query.statistics": 1,
        "query.secure_keys": 1,
        "query.ask": 1,
        "train": 4,
        "query.secure_unmask": 5,
    }


def test_what_reaches_the_server_is_noise(table):
    grid, words = grid_of(table), []
    answer = grid._answer

    def listening(message):
        reply = answer(message)
        if message.metadata.message_type == TRAIN:
            assert set(reply.content) == {"masked", "facts", "site"}
            words.append(np.frombuffer(reply.content["masked"]["words"], np.uint8))
        return reply

    grid._answer = listening
    federate(grid, classifier())
    assert len(words) == 3 * len(SITES)
    for one in words:
        bits = np.unpackbits(one)
        assert abs(bits.mean() - 0.5) < 6 * 0.5 / np.sqrt(len(bits))
    high = np.stack([one[7::8] for one in words])  # the sign byte, of plain words 0 or 255
    assert len(np.unique(high)) > 100


def test_a_second_training_of_the_same_sites_goes_on(table):
    grid = grid_of(table)
    first = federate(grid, classifier(n_rounds=2, warm_start=True))
    both = federate(grid, first)
    whole = federate(grid_of(table), classifier(n_rounds=4))
    assert_array_equal(both.theta_, whole.theta_)


# -- drop-outs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["gone", "slow", "crash", "shape"])
def test_a_round_goes_on_without_a_site_and_the_next_with_it(table, fault):
    X, y, site = table
    grid = grid_of(table, faults={("south", 2): fault})
    with pytest.warns(RuntimeWarning, match=r"Round 2 goes on without 'south'"):
        ours = federate(grid, classifier())
    assert ours.history_["n_failed"].tolist() == [0, 1, 0]
    assert [(f["round"], f["client"]) for f in ours.failures_] == [(2, "south")]
    theirs = WithDropped(**classifier().get_params())
    # The ids of one process are numbered as they come, here as the sites are: by name.
    theirs.dropped = {2: {"masked": [SITES.index("south")]}}
    assert_array_equal(ours.theta_, theirs.fit(X, y, clients=site).theta_)


def test_who_gave_no_keys_is_let_in_later(table):
    grid = grid_of(table, faults={("up", 1): "keys"})
    with pytest.warns(RuntimeWarning, match="Round 1 goes on without 'up'"):
        ours = federate(grid, classifier(class_weight=None))
    assert ours.history_["n_failed"].tolist() == [1, 0, 0]


def test_who_does_not_unmask_is_in_the_sum(table):
    X, y, site = table
    ours = federate(grid_of(table, faults={("up", 2): "unmask"}), classifier())
    assert ours.history_["n_failed"].tolist() == [0, 0, 0]
    assert_array_equal(ours.theta_, classifier().fit(X, y, clients=site).theta_)


@pytest.mark.parametrize(
    "faults",
    [
        {("up", 3): "unmask", ("west", 3): "unmask", ("east", 3): "unmask"},
        {("up", 3): "unmask", ("west", 3): "slow"},
    ],
    ids=["too few", "a pair's mask"],
)
@pytest.mark.filterwarnings("ignore:Round 3 goes on")
def test_a_lost_round_ends_the_training_with_the_model_before(table, faults):
    model = classifier()
    with pytest.raises(FederatedTrainingError, match=r"no secure sum.*'up' \(it is not"):
        federate(grid_of(table, faults=faults), model)
    assert model.n_iter_ == 2
    assert_array_equal(model.theta_, federate(grid_of(table), classifier(n_rounds=2)).theta_)


def test_too_few_uploads_end_the_training(table):
    faults = {(name, 2): "slow" for name in SITES[:3]}
    model = classifier()
    with pytest.raises(FederatedTrainingError, match="2 survivors are below"):
        federate(grid_of(table, faults=faults), model)
    assert model.n_iter_ == 1


def test_a_question_needs_all(table):
    with pytest.raises(SiteError, match="no answer from 'up'"):
        federate(grid_of(table, faults={("up", 0): "keys"}), classifier())


# -- refusals ----------------------------------------------------------------------------------


def test_too_few_sites_are_refused_before_anyone_is_asked(table):
    two = {name: rows for name, rows in by_site(table).items() if name in SITES[:2]}
    grid = SimulatedSites(two, module=double_mlp)
    with pytest.raises(InvalidParameterError, match=r"2 client\(s\)"):
        federate(grid, make_pipeline(StandardScaler(), classifier()))
    assert grid._n_sent == 2  # round 0, by which it is known who there is


def insisting(table, secure):
    data = by_site(table)
    app = make_client_app(
        lambda config: data[config["site"]], module=double_mlp, secure_aggregation=secure
    )
    return SimulatedSites({name: {} for name in data}, app=app)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("asked", [False, SecureAggregation(bound=7.0)])
def test_a_site_that_insists_answers_nothing_else(table, asked, class_weight):
    model = classifier(secure_aggregation=asked, class_weight=class_weight)
    with pytest.raises((FederatedTrainingError, SiteError), match="ValueError, see the site's own"):
        federate(insisting(table, SecureAggregation(min_clients=4)), model)
    assert not hasattr(model, "theta_")


def test_a_site_that_insists_takes_part_on_its_terms(table):
    secure = SecureAggregation(min_clients=4)
    ours = federate(insisting(table, secure), classifier(secure_aggregation=secure))
    assert_array_equal(ours.theta_, federate(grid_of(table), classifier()).theta_)


def test_an_exported_site_insists_on_the_terms(table, tmp_path, monkeypatch):
    secure = SecureAggregation(min_clients=4, threshold=0.6)
    model = FedFocalClassifier(n_rounds=1, random_state=0, secure_aggregation=secure)
    folder = export_app(model, tmp_path / "app", save_to=tmp_path / "model")
    monkeypatch.syspath_prepend(str(folder))
    for name in ("federation", "federation.client"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from federation import client

    for name in ("federation", "federation.client"):
        monkeypatch.delitem(sys.modules, name)
    for name, (X, y) in by_site(table).items():
        np.savez(tmp_path / name, X=X, y=y)
    paths = {name: {"data-path": str(tmp_path / f"{name}.npz")} for name in SITES}
    with pytest.raises(SiteError, match="ValueError, see the site's own log"):
        federate(SimulatedSites(paths, app=client.app), FedFocalClassifier(n_rounds=1))
    back, _ = read_export(str(folder / "federation" / "server.py"))
    ours = federate(SimulatedSites(paths, app=client.app), back)
    assert ours.history_["n_failed"].tolist() == [0]


def about(number, session=1, **more):
    usual = {"session": session, "number": number, "n_clients": 3, "terms": SecureAggregation()}
    return {**usual, **more}


@pytest.fixture
def open_round():
    """Three sites that have sent the answer to a question, and what each is told next."""
    states = {k: RecordDict() for k in range(3)}
    server = SessionServer(SecureAggregation().terms(3), 8)
    answers = {k: site_half.keys(states[k], about(k)) for k in states}
    told = server.keys(1, {k: read_facts(a["facts"]) for k, a in answers.items()})

    def upload(k, round_id=2, join=True, **more):
        secure = about(k, round_id=round_id, join=told[k] if join else None, encoding=None, **more)
        task = {"query": "rows", "secure": secure}
        return site_half.answer(states[k], task, None, np.array([1.0]))

    return SimpleNamespace(states=states, server=server, upload=upload)


def survivors_of(opened):
    opened.server.begin(2, site_half.context_of(site_half.about_query("rows")))
    for k in opened.states:
        content = opened.upload(k)
        facts = read_facts(content["facts"])
        upload = {**facts, "masked": bytes(content["masked"]["words"])}
        opened.server.masked(k, upload)
    return opened.server.survivors()


def test_an_answer_is_given_once_though_the_app_begins_anew(open_round):
    told = survivors_of(open_round)
    task = about(0, told=told[0])
    # The state that a node keeps is all that lasts: a copy is what a new process finds.
    state = RecordDict(dict(open_round.states[0].items()))
    site_half.unmask(state, task)
    with pytest.raises(SecureSumError, match="each step is answered once"):
        site_half.unmask(state, task)


def test_a_refused_unmasking_is_not_tried_again(open_round):
    told = survivors_of(open_round)
    few = {**told[0], "survivors": [0, 1]}
    with pytest.raises(SecureSumError, match="below the threshold"):
        site_half.unmask(open_round.states[0], about(0, told=few))
    with pytest.raises(SecureSumError, match="each step is answered once"):
        site_half.unmask(open_round.states[0], about(0, told=told[0]))


def test_rounds_and_sessions_go_forwards_only(open_round):
    survivors_of(open_round)
    with pytest.raises(SecureSumError, match="each step is answered once"):
        open_round.upload(0, round_id=2, join=False)
    with pytest.raises(SecureSumError, match="not above the last"):
        site_half.keys(open_round.states[0], about(0, session=2))
    with pytest.raises(SecureSumError, match="session 9 is not known here"):
        open_round.upload(0, round_id=3, session=9)


def test_a_sum_about_another_model_than_the_server_says_is_none(open_round):
    """Sites make the context themselves, of what they were asked and were sent."""
    open_round.server.begin(2, b"another context")
    for k in open_round.states:
        content = open_round.upload(k)
        upload = {**read_facts(content["facts"]), "masked": bytes(content["masked"]["words"])}
        open_round.server.masked(k, upload)
    told = open_round.server.survivors()
    answers = {
        k: read_facts(site_half.unmask(open_round.states[k], about(k, told=told[k]))["facts"])
        for k in told
    }
    with pytest.raises(SecureSumError, match="do not rebuild"):
        open_round.server.unmask(answers)


@pytest.mark.parametrize(
    ("answer", "has"),
    [
        ({"keys": b""}, KEYS_HAVE),
        ({"keys": b"", "signature": ""}, KEYS_HAVE),
        ([], KEYS_HAVE),
        (None, UNMASK_HAS),
        ({"seed": {}, "pair": {}, "more": {}}, UNMASK_HAS),
        ({"seed": {"0": b""}, "pair": {}}, UNMASK_HAS),
        ({"seed": {0: "text"}, "pair": {}}, UNMASK_HAS),
    ],
)
def test_an_answer_of_another_form_is_refused(answer, has):
    with pytest.raises(BadReply):
        checked(answer, has)


@pytest.mark.parametrize("kind", [SECURE_KEYS, SECURE_UNMASK, TRAIN])
@pytest.mark.parametrize("content", [{}, {"facts": ConfigRecord({"json": "{"})}], ids=len)
def test_a_site_that_answers_nonsense_is_left_out(table, kind, content):
    grid = grid_of(table)
    answer = grid._answer

    def nonsense(message):
        reply = answer(message)
        of_west = grid.names[message.metadata.dst_node_id] == "west"
        if of_west and message.metadata.message_type == kind:
            for name in ("masked", "facts"):
                reply.content.pop(name, None)
            for name, record in content.items():
                reply.content[name] = record
        return reply

    grid._answer = nonsense
    model = classifier(class_weight=None, n_rounds=2)
    if kind == SECURE_UNMASK:
        federate(grid, model)
        assert model.history_["n_failed"].tolist() == [0, 0]
        return
    with pytest.warns(RuntimeWarning, match="'west' .*its reply cannot be read"):
        federate(grid, model)
    assert model.history_["n_failed"].tolist() == [1, 1]


def test_facts_carry_bytes():
    value = {"shares": {1: bytes(range(256)), 2: b""}}
    assert read_facts(write_facts(value)) == value


def test_parameters_are_handed_back_as_they_were(table):
    model = classifier(secure_aggregation=SecureAggregation())
    assert clone(federate(grid_of(table), model)).get_params().keys() == model.get_params().keys()
    assert isinstance(model.secure_aggregation, SecureAggregation)
