"""What a site insists on: a ledger of its own, written first, and refusals whoever asks."""

from __future__ import annotations

import importlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

pytest.importorskip("flwr")
pytest.importorskip("cryptography")
pytest.importorskip("dp_accounting")

from test_flower_private import (
    CLASSES,
    N,
    by_site,
    classifier,
    clients_adaptive,
    clients_shared,
    listening,
    rows_local,
    rows_server,
    rows_shared,
    secret,
    steps,
)
from test_private_steps import repeatable

from skfedfocal import FederatedTrainingError, FedFocalClassifier
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal.flower import SimulatedSites, SiteError, export_app, federate, make_client_app
from skfedfocal.flower._messages import TRAIN, read_facts, write_facts
from skfedfocal.privacy import ClientLevelDP, Ledger, PrivacyBudget, SecureAggregation
from skfedfocal.privacy._accounting import Event
from skfedfocal.privacy._budget import PrivacyRefusal, _at_least

TERMS = SecureAggregation()


def insisting(tmp_path, budget, secure=False):
    """Sites with a budget, each with its own ledger."""
    rows = by_site()
    app = make_client_app(
        lambda config: rows[config["site"]], secure_aggregation=secure, privacy=budget
    )
    paths = {name: {"ledger-path": str(tmp_path / f"{name}.json")} for name in rows}
    return SimulatedSites(paths, app=app)


def ledger_of(tmp_path, site):
    return Ledger.from_plain(json.loads((tmp_path / f"{site}.json").read_text()))


# -- the ledger --------------------------------------------------------------------------------


@repeatable
@given(
    events=st.lists(
        st.builds(
            Event,
            st.floats(0.5, 50),
            st.sampled_from([0.3, 1.0]),
            st.integers(1, 4),
            st.sampled_from(["steps", "label_counts"]),
        ),
        min_size=1,
        max_size=4,
    ),
    limit=st.floats(0.5, 10),
)
def test_what_is_spent_is_within_the_budget_and_written_down(events, limit, tmp_path_factory):
    path = tmp_path_factory.mktemp("site") / "ledger.json"
    budget, written = PrivacyBudget(limit, 1e-5), Ledger("example")
    for event in events:
        after = written.merged(Ledger("example", [event]))
        if after.epsilon(1e-5) > limit:
            before = path.read_bytes() if path.exists() else None
            with pytest.raises(PrivacyRefusal, match="the site's budget is"):
                budget.charge(event, path)
            assert (path.read_bytes() if path.exists() else None) == before
            continue
        assert budget.charge(event, path) == after.epsilon(1e-5) <= limit
        written = after
        found = Ledger.from_plain(json.loads(path.read_text()))
        assert found == written


@repeatable
@given(st.floats(0.5, 20), st.sampled_from([0.01, 0.3, 1.0]), st.sampled_from([1e-6, 1e-3]))
def test_one_release_spends_no_less_than_is_said_without_composing(z, rate, delta):
    event = Event(z, rate)
    assert _at_least(event, delta) <= Ledger("example", [event]).epsilon(delta) * 1.001 + 1e-6
    if rate == 1:
        assert _at_least(event, delta) == pytest.approx(Ledger("example", [event]).epsilon(delta))


def test_releases_at_one_time_are_all_counted(tmp_path):
    budget = PrivacyBudget(1e6, 1e-5, ledger=tmp_path / "ledger.json")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: budget.charge(Event(3.0)), range(20)))
    found = Ledger.from_plain(json.loads((tmp_path / "ledger.json").read_text()))
    assert [event.steps for event in found.events] == [20]


def test_a_ledger_of_another_unit_is_refused(tmp_path):
    path = tmp_path / "ledger.json"
    PrivacyBudget(9.0, 1e-5).charge(Event(3.0), path)
    with pytest.raises(ValueError, match="unit"):
        PrivacyBudget(9.0, 1e-5, unit="client").charge(Event(3.0), path)


@pytest.mark.parametrize(
    "wrong", [{"epsilon": 0}, {"delta": 1.0}, {"unit": "rows"}, {"ledger": 3}], ids=str
)
def test_wrong_parameters_are_refused_when_the_app_is_made(wrong):
    budget = PrivacyBudget(**({"epsilon": 1.0, "delta": 1e-5} | wrong))
    with pytest.raises(InvalidParameterError, match=next(iter(wrong))):
        make_client_app(privacy=budget)


# -- trainings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("privacy", "unit"),
    [
        (rows_local, "example"),
        (rows_shared, "example"),
        (clients_shared, "client"),
        (clients_adaptive, "client"),
    ],
)
def test_sites_write_down_what_the_server_does(privacy, unit, tmp_path):
    masked = privacy.trust == "distributed"
    grid = insisting(tmp_path, PrivacyBudget(1e3, 1e-4, unit), TERMS if masked else False)
    options = {"secure_aggregation": TERMS} if masked else {}
    model = federate(grid, classifier(secret(privacy), **options), classes=CLASSES)
    told = Ledger.from_plain(model.privacy_)
    for site in by_site():
        own = ledger_of(tmp_path, site)
        assert own.unit == told.unit
        for mine, theirs in zip(own.events, told.events, strict=True):
            assert (mine.of, mine.steps) == (theirs.of, theirs.steps)
            assert mine.sampling_rate == theirs.sampling_rate
            assert mine.noise_multiplier == pytest.approx(theirs.noise_multiplier)


def test_the_ledger_is_written_before_the_reply(tmp_path):
    grid = insisting(tmp_path, PrivacyBudget(1e3, 1e-4))
    answer, seen = grid._answer, []

    def hear(message):
        reply = answer(message)
        if message.metadata.message_type == TRAIN:
            site = read_facts(reply.content["site"])["name"]
            asked = read_facts(message.content["task"])["round"] + 1
            seen.append((asked, {e.of: e.steps for e in ledger_of(tmp_path, site).events}["steps"]))
        return reply

    grid._answer = hear
    federate(grid, classifier(secret(rows_local)), classes=CLASSES)
    assert len(seen) == 3 * N
    assert all(asked == written for asked, written in seen)


def test_a_spent_budget_ends_it_whatever_the_server_has_written_down(tmp_path):
    """A server that begins anew knows nothing of what it has spent; the sites do."""
    z = classifier(secret(rows_local))
    one = federate(insisting(tmp_path, PrivacyBudget(1e3, 1e-4)), clone(z), classes=CLASSES)
    limit = ledger_of(tmp_path, "site0")
    for event in one.privacy_["events"][1:]:
        limit.add(event["noise_multiplier"], sampling_rate=event["sampling_rate"], steps=1)
    limit.add(one.privacy_["events"][0]["noise_multiplier"], of="label_counts")
    most = limit.epsilon(1e-4) * (1 + 1e-4)
    again = clone(z)
    with pytest.raises(FederatedTrainingError, match="PrivacyRefusal, see the site's own log"):
        federate(insisting(tmp_path, PrivacyBudget(most, 1e-4)), again, classes=CLASSES)
    for site in by_site():
        assert ledger_of(tmp_path, site).epsilon(1e-4) <= most
    assert again.n_iter_ == 1


def test_a_repeated_message_is_answered_with_new_noise_and_paid_for(tmp_path):
    grid = insisting(tmp_path, PrivacyBudget(1e3, 1e-4))
    answer, deltas = grid._answer, []

    def twice(message):
        reply = answer(message)
        if message.metadata.message_type == TRAIN:
            for one in (reply, answer(message)):
                deltas.append(one.content["delta"]["delta"].numpy())
        return reply

    grid._answer = twice
    federate(grid, classifier(secret(rows_local), n_rounds=1), classes=CLASSES)
    assert all(not np.array_equal(a, b) for a, b in zip(deltas[::2], deltas[1::2], strict=True))
    assert {e.of: e.steps for e in ledger_of(tmp_path, "site0").events}["steps"] == 2


# -- refusals ----------------------------------------------------------------------------------


REFUSED = {
    "no privacy": (FedFocalClassifier(n_rounds=1), False, "example"),
    "the server's noise": (classifier(secret(rows_server)), False, "example"),
    "the server's noise on clients": (
        classifier(ClientLevelDP(0.2), n_rounds=1),
        False,
        "client",
    ),
    "another unit": (classifier(secret(rows_local)), False, "client"),
    "a seed that others know": (classifier(rows_local), False, "example"),
    "no noise": (
        classifier(
            secret(rows_local).set_params(
                noise_multiplier=0.0, counts_noise=None, expected_batch=100.0
            ),
            class_weight=None,
        ),
        False,
        "example",
    ),
    "secure sums alone": (
        FedFocalClassifier(n_rounds=1, secure_aggregation=TERMS),
        TERMS,
        "example",
    ),
    "terms of others": (
        classifier(secret(rows_shared), secure_aggregation=SecureAggregation(bound=9.0)),
        TERMS,
        "example",
    ),
    "no terms of its own": (classifier(secret(rows_shared)), False, "example"),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.filterwarnings("ignore:Round 1")
def test_a_site_answers_nothing_that_its_budget_does_not_cover(what, tmp_path):
    model, secure, unit = REFUSED[what]
    model = clone(model)
    grid, heard = listening(insisting(tmp_path, PrivacyBudget(50.0, 1e-4, unit), secure))
    match = "PrivacyRefusal|ValueError, see"
    with pytest.raises((SiteError, FederatedTrainingError), match=match):
        federate(grid, model, classes=CLASSES)
    told = [c for kind, c in heard if kind in ("query.ask", TRAIN, "query.secure_unmask")]
    assert all("error" in content for content in told)


def test_delta_must_suit_the_rows_of_the_site(tmp_path):
    grid = insisting(tmp_path, PrivacyBudget(50.0, 0.02))
    with pytest.raises(SiteError, match="PrivacyRefusal, see the site's own log"):
        federate(grid, classifier(secret(rows_local)), classes=CLASSES)


def test_a_budget_without_a_file_answers_nothing():
    rows = by_site()
    app = make_client_app(lambda config: rows[config["site"]], privacy=PrivacyBudget(9.0, 1e-4))
    with pytest.raises(SiteError, match="PrivacyRefusal"):
        federate(
            SimulatedSites({name: {} for name in rows}, app=app),
            classifier(secret(rows_local)),
            classes=CLASSES,
        )


@pytest.mark.parametrize(
    "change",
    [
        {"private": None},
        {"n_epochs": 5},
        {"class_weight": "local"},
        {"private.secure": False},
        {"private.total.client_noise": 1e-3},
        {"private.total.bound": 1e3},
        {"private.unit": "client"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Round 1")
def test_a_server_that_asks_for_less_noise_than_it_says_gets_nothing(change, tmp_path):
    """Of a plan that is changed on the way the site pays what it is, or answers nothing."""
    ((place, value),) = change.items()
    grid, heard = listening(insisting(tmp_path, PrivacyBudget(8.0, 1e-4)))
    answer = grid._answer

    def changing(message):
        if message.metadata.message_type == TRAIN:
            task = read_facts(message.content["task"])
            *way, last = place.split(".")
            part = task["plan"]
            for name in way:
                part = part[name]
            part[last] = value
            message.content["task"] = write_facts(task)
        return answer(message)

    grid._answer = changing
    model = classifier(secret(rows_local).set_params(noise_multiplier=3.0), n_rounds=1)
    if place == "n_epochs":  # paid for as what it is
        federate(grid, model, classes=CLASSES)
        own = {event.of: event.steps for event in ledger_of(tmp_path, "site0").events}
        assert (own["steps"], steps(model)) == (5, 1)
        return
    with pytest.raises(FederatedTrainingError, match="PrivacyRefusal"):
        federate(grid, model, classes=CLASSES)
    assert all("error" in content for kind, content in heard if kind == TRAIN)


def test_less_noise_for_others_unmasks_nothing(tmp_path):
    """What sites are told of the noise is under the masks: a server cannot tell each another."""
    grid = insisting(tmp_path, PrivacyBudget(1e3, 1e-4), TERMS)
    answer = grid._answer

    def changing(message):
        kind = message.metadata.message_type
        if kind == "query.ask":
            task = read_facts(message.content["task"])
            if task["site"] != "site0":
                task["query"].noise = 1e-3
                message.content["task"] = write_facts(task)
        return answer(message)

    grid._answer = changing
    model = classifier(secret(rows_shared), secure_aggregation=TERMS)
    with pytest.raises(SiteError, match="Round 0 failed"):
        federate(grid, model, classes=CLASSES)


def test_figures_of_a_model_have_no_noise():
    with pytest.raises(ValueError, match=r"privacy=PrivacyBudget\(.*evaluation='sums'"):
        make_client_app(privacy=PrivacyBudget(1.0, 1e-5), evaluation="sums")


# -- in an exported app ------------------------------------------------------------------------

EXPORTED = by_site()


def load_exported(config):
    return EXPORTED[config["site"]]


def test_an_exported_app_has_the_budget_that_sites_agreed_on(tmp_path, monkeypatch):
    budget = PrivacyBudget(1e3, 1e-4)
    options = {"save_to": tmp_path / "m.skf", "load_data": load_exported, "classes": CLASSES}
    export_app(classifier(secret(rows_local)), tmp_path / "app", budget=budget, **options)
    for name in ("federation", "federation.client"):  # another test's app
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "app")
    app = importlib.import_module("federation.client").app
    paths = {name: {"ledger-path": str(tmp_path / f"{name}.json")} for name in EXPORTED}
    federate(SimulatedSites(paths, app=app), classifier(secret(rows_local)), classes=CLASSES)
    for site in EXPORTED:
        assert 0 < ledger_of(tmp_path, site).epsilon(1e-4) <= 1e3
    with pytest.raises(SiteError, match="PrivacyRefusal"):
        federate(SimulatedSites(paths, app=app), FedFocalClassifier(n_rounds=1))
    for name in ("federation", "federation.client"):
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.parametrize(
    ("privacy", "more", "words"),
    [
        (None, {}, "needs a private training"),
        (rows_local, {"evaluated": "sums"}, "evaluation"),
        (rows_local, {"described": True}, "description"),
    ],
)
def test_what_sites_with_a_budget_would_refuse_is_refused_at_export(tmp_path, privacy, more, words):
    estimator = FedFocalClassifier(privacy=None if privacy is None else secret(privacy))
    options = {"save_to": "m.skf", "classes": CLASSES, "budget": PrivacyBudget(1.0, 1e-4), **more}
    with pytest.raises(ValueError, match=words):
        export_app(estimator, tmp_path / "app", **options)
    assert not (tmp_path / "app").exists()


def test_a_description_is_refused_at_export_where_sites_insist_on_secure_sums(tmp_path):
    estimator = FedFocalClassifier(secure_aggregation=True)
    with pytest.raises(ValueError, match=r"description=True cannot go with .*secure_aggregation"):
        export_app(estimator, tmp_path / "app", save_to="m.skf", described=True)
    assert not (tmp_path / "app").exists()
