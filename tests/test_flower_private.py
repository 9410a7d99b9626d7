"""Private trainings over sites: the numbers of one process, noise, drop-outs, budgets, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chi2
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("flwr")
pytest.importorskip("cryptography")
pytest.importorskip("dp_accounting")

from test_private_beside import MARK, Brittle, interrupt, steps
from test_private_training import data

from skfedfocal import FederatedTrainingError, FedFocalClassifier
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal.flower import SimulatedSites, SiteError, export_app, federate
from skfedfocal.flower._messages import read_facts
from skfedfocal.privacy import (
    ClientLevelDP,
    ExampleLevelDP,
    SecureAggregation,
)

N = 6
CLASSES = [0, 1, 2]
SEEDED = {"noise": "seeded", "delta": 1e-4}
rows_local = ExampleLevelDP(2.0, **SEEDED)
rows_server = ExampleLevelDP(2.0, trust="server", **SEEDED)
rows_shared = ExampleLevelDP(2.0, trust="distributed", **SEEDED)
clients_server = ClientLevelDP(0.3, sampling_rate=0.7, noise="seeded")
clients_shared = ClientLevelDP(0.3, trust="distributed", noise="seeded")
clients_adaptive = clone(clients_shared).set_params(clip_norm="adaptive")
fixed = [rows_local, rows_server, rows_shared, clients_server, clients_shared]
every_trust = pytest.mark.parametrize(
    "privacy",
    [*fixed, clients_adaptive, clone(clients_server).set_params(clip_norm="adaptive")],
    ids=lambda p: f"{p.unit}-{p.trust}",
)
# Those that protect from the server.
from_all = pytest.mark.parametrize(
    "privacy", [rows_local, rows_shared, clients_shared], ids=lambda p: f"{p.unit}-{p.trust}"
)


def by_site(n_sites=N):
    X, y, clients = data(n_sites)
    return {f"site{k}": (X[clients == k], y[clients == k]) for k in range(n_sites)}


def in_one_process(n_sites=N):
    X, y, clients = data(n_sites)
    return X, y, np.array([f"site{k}" for k in clients])


def classifier(privacy, **params):
    options = {"hidden_layer_sizes": (8,), "n_rounds": 3, "random_state": 0, "engine": "loop"}
    options["secure_aggregation"] = privacy.trust == "distributed"
    return FedFocalClassifier(privacy=privacy, **(options | params))


def secret(privacy):
    return clone(privacy).set_params(noise="secure")


def train(privacy, *, grid=None, classes=CLASSES, checkpoint=None, **params):
    model = classifier(privacy, **params)
    grid = SimulatedSites(by_site()) if grid is None else grid
    return federate(grid, model, classes=classes, checkpoint=checkpoint)


# -- the numbers -------------------------------------------------------------------------------


@every_trust
@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_the_fit_is_that_of_one_process(privacy, engine):
    X, y, clients = in_one_process()
    ours = train(privacy, engine=engine)
    theirs = classifier(privacy, engine=engine).fit(X, y, clients=clients)
    if engine == "loop":
        assert_array_equal(ours.theta_, theirs.theta_)
    assert_allclose(ours.theta_, theirs.theta_, rtol=0, atol=1e-6)
    assert ours.privacy_ == theirs.privacy_
    assert ours.epsilon_ == theirs.epsilon_
    assert_array_equal(ours.class_prior_, theirs.class_prior_)
    assert_array_equal(ours.client_sizes_, theirs.client_sizes_)
    assert_array_equal(ours.clients_, theirs.clients_)
    for name in ours.history_.keys() - {"seconds", "bytes_up", "bytes_down"}:
        assert_array_equal(ours.history_[name], theirs.history_[name], err_msg=name)


@pytest.mark.parametrize("trust", ["local", "server", "distributed"])
def test_a_default_classifier_learns(trust):
    X, y, _ = data(N)
    privacy = ExampleLevelDP(target_epsilon=5.0, trust=trust)
    model = FedFocalClassifier(privacy=privacy, secure_aggregation=trust == "distributed")
    federate(SimulatedSites(by_site()), model, classes=CLASSES)
    assert model.score(X, y) > 0.6
    assert 0.99 * 5 < model.epsilon_ <= 5
    assert model.delta_ < 1 / len(y)


def test_local_steps_of_sites_with_noise_of_their_own_are_counted():
    X, y, clients = in_one_process()
    ours = train(rows_local, n_local_epochs=3)
    theirs = classifier(rows_local, n_local_epochs=3).fit(X, y, clients=clients)
    assert steps(ours) == 9
    assert_array_equal(ours.theta_, theirs.theta_)


# -- the noise ---------------------------------------------------------------------------------


@pytest.mark.parametrize("privacy", fixed, ids=lambda p: f"{p.unit}-{p.trust}")
def test_secret_noise_heeds_no_seed_and_has_its_standard_deviation(privacy):
    """Of rows so large that what is learned is nothing beside it; of clients nothing is learned."""
    z, n_hidden, options = 0.3, 64, {"hidden_layer_sizes": (64,), "n_rounds": 1}
    privacy, still = secret(privacy), {"learning_rate": 1e-30}
    if privacy.unit == "example":
        z, options["learning_rate"] = 1e4, 1.0
        privacy.set_params(noise_multiplier=z, expected_batch=100.0)
        start = train(privacy, **{**options, **still})
    else:
        z, options = 0.2, options | still
        privacy.set_params(noise_multiplier=z)
        start = train(clone(privacy).set_params(clip_norm=1e-30), **options)
    found = [train(privacy, **options).theta_.astype(float) - start.theta_ for _ in range(2)]
    honest = SecureAggregation().least_honest(N)
    divisor, shares = {
        ("example", "local"): (100 * N, N),  # the mean of all sites' own
        ("example", "server"): (100, 1),
        ("example", "distributed"): (100, N / honest),
        ("client", "server"): (0.7 * N, 1),
        ("client", "distributed"): (N, N / honest),
    }[privacy.unit, privacy.trust]
    p = len(start.theta_)
    assert p == (6 + 1) * n_hidden + 3 * (n_hidden + 1)
    for one in (*found, (found[0] - found[1]) / 2**0.5):
        square = (one**2).sum() / (z / divisor) ** 2 / shares
        assert chi2.ppf(1e-6, p) < square < chi2.ppf(1 - 1e-6, p)


# -- what is told ------------------------------------------------------------------------------


def listening(grid):
    """A grid, and what its sites say in clear text, message by message."""
    heard, answer = [], grid._answer

    def hear(message):
        reply = answer(message)
        heard.append((message.metadata.message_type, reply.content))
        return reply

    grid._answer = hear
    return grid, heard


@from_all
def test_round_0_says_the_same_of_one_row_less(privacy):
    said = []
    for less in (0, 1):
        sites = by_site()
        sites["site3"] = tuple(part[less:] for part in sites["site3"])
        grid, heard = listening(SimulatedSites(sites))
        train(secret(privacy), grid=grid, n_rounds=1)
        facts = [read_facts(c["facts"]) for kind, c in heard if kind == "query.statistics"]
        said.append(json.dumps([{k: str(v) for k, v in one.items()} for one in facts]))
        assert {one["n_rows"] for one in facts} == {1}
    assert said[0] == said[1]


@from_all
def test_sites_say_no_more_than_the_ledger_lists(privacy, tmp_path):
    grid, heard = listening(SimulatedSites(by_site()))
    train(secret(privacy), grid=grid, checkpoint=tmp_path / "checkpoint")
    kinds = Counter(kind for kind, _ in heard)
    masked = privacy.trust == "distributed"
    wanted = {"query.statistics": N, "query.ask": N, "train": 3 * N}
    wanted |= {"query.secure_keys": N, "query.secure_unmask": 4 * N} if masked else {}
    assert kinds == wanted
    for kind, content in heard:
        if kind == "train" and not masked:
            report = read_facts(content["report"])
            assert np.isnan(report["objective"][0])
            assert report["recall"] is None
        if kind == "query.statistics":
            assert "digest" not in read_facts(content["facts"])


# -- who is away, and what fails ---------------------------------------------------------------


@every_trust
@pytest.mark.filterwarnings("ignore:Round 2")
def test_a_round_goes_on_without_who_is_away_at_the_same_cost(privacy):
    whole = train(privacy)
    model = train(privacy, grid=SimulatedSites(by_site(), faults={("site3", 2): "slow"}))
    assert model.n_iter_ == 3
    assert model.privacy_ == whole.privacy_
    assert np.isfinite(model.theta_).all()


@pytest.mark.parametrize("privacy", [rows_shared, clients_shared], ids=lambda p: p.unit)
@pytest.mark.parametrize("fault", ["slow", "gone", "crash"])
def test_a_sum_with_too_little_noise_is_told_to_nobody(privacy, fault):
    """Of six, one may collude: noise made for five honest ones needs all six."""
    privacy = clone(privacy).set_params(n_honest=5)
    model = classifier(privacy)
    grid = SimulatedSites(by_site(), faults={("site3", 3): fault})
    with pytest.raises(FederatedTrainingError, match="of 6 it must be"):
        federate(grid, model, classes=CLASSES)
    assert model.n_iter_ == 2
    assert steps(model) == 3
    assert_array_equal(model.theta_, train(privacy, n_rounds=2).theta_)


@pytest.mark.parametrize("privacy", [rows_server, clients_server], ids=lambda p: p.unit)
def test_noise_alone_is_no_training(privacy):
    model = classifier(clone(privacy).set_params(sampling_rate=1.0))
    faults = {(f"site{k}", 2): "slow" for k in range(N)}
    with pytest.raises(FederatedTrainingError, match="none of the clients asked replied"):
        federate(SimulatedSites(by_site(), faults=faults), model, classes=CLASSES)
    assert (model.n_iter_, steps(model)) == (1, 2)


def marked_sites():
    sites = by_site()
    sites["site3"] = (sites["site3"][0].astype(np.float32), sites["site3"][1])
    sites["site3"][0][5, 0] = MARK
    return sites


@pytest.mark.parametrize("privacy", [rows_local, rows_server, rows_shared], ids=lambda p: p.trust)
def test_a_row_on_which_the_module_raises_ends_a_training_that_protects_rows(privacy, monkeypatch):
    interrupt(monkeypatch, 1, lambda: setattr(Brittle, "armed", True))
    Brittle.armed = False
    privacy = clone(privacy).set_params(sampling_rate=1.0)
    model = classifier(privacy, module=Brittle)
    try:
        with pytest.raises(FederatedTrainingError, match=r"'site3' \(RuntimeError, see the site"):
            federate(SimulatedSites(marked_sites(), module=Brittle), model, classes=CLASSES)
    finally:
        Brittle.armed = True
    assert (model.n_iter_, steps(model)) == (1, 2)


def test_a_protected_site_that_fails_sends_noise_alone():
    grid, heard = listening(SimulatedSites(marked_sites(), module=Brittle))
    model = train(clients_shared, grid=grid, module=Brittle)
    assert model.failures_ == []
    assert model.history_["n_failed"].tolist() == [0, 0, 0]
    assert all("error" not in content for _, content in heard)


# -- crashes -----------------------------------------------------------------------------------


@every_trust
def test_a_training_goes_on_to_the_same_bits(privacy, tmp_path, monkeypatch):
    whole = train(privacy)

    def kill():
        raise KeyboardInterrupt

    path = tmp_path / "checkpoint"
    with monkeypatch.context() as context:
        interrupt(context, 2, kill)
        with pytest.raises(KeyboardInterrupt):
            train(privacy, checkpoint=path)
    resumed = train(privacy, checkpoint=path)
    assert_array_equal(resumed.theta_, whole.theta_)
    assert steps(resumed) == 4  # the round may have been released twice


# -- refusals before anyone is asked -----------------------------------------------------------


@pytest.mark.parametrize(
    ("privacy", "options", "names"),
    [
        (rows_shared, {"secure_aggregation": False}, ["secure_aggregation=False over sites"]),
        (clients_shared, {"secure_aggregation": False}, ["secure_aggregation=False over sites"]),
        (rows_local, {"secure_aggregation": True}, ["secure_aggregation=True"]),
        (rows_server, {"secure_aggregation": True}, ["secure_aggregation=True"]),
        (rows_local, {"classes": None}, ["classes=None over sites"]),
        (rows_shared, {"classes": None}, ["classes=None over sites"]),
        (rows_local, {"piped": True}, ["steps before the classifier (StandardScaler)"]),
        (clients_server, {"piped": True}, ["steps before the classifier (StandardScaler)"]),
        (rows_local, {"early_stopping": True}, ["early_stopping"]),
        (rows_local, {"client_gamma": 1.0}, ["client_gamma"]),
        (rows_shared, {"numeric_encoding": "standard"}, ["numeric_encoding"]),
    ],
    ids=lambda value: getattr(value, "trust", None) or str(value),
)
def test_what_cannot_be_had_is_refused_by_both_names(privacy, options, names, tmp_path):
    options = dict(options)
    classes, piped = options.pop("classes", CLASSES), options.pop("piped", False)
    model = classifier(privacy, **options)
    estimator = make_pipeline(StandardScaler(), model) if piped else model
    grid = SimulatedSites(by_site())
    with pytest.raises(InvalidParameterError) as refused:
        federate(grid, estimator, classes=classes)
    for name in (f"privacy={type(privacy).__name__}(...)", *names):
        assert name in str(refused.value)
    assert grid._n_sent == 0
    with pytest.raises(InvalidParameterError):
        export_app(estimator, tmp_path / "app", save_to="model.skf", classes=classes)
    assert not (tmp_path / "app").exists()


def test_a_module_whose_rows_cannot_be_bounded_is_refused_before_label_counts():
    def dropping(n_features, n_classes):
        return torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(n_features, n_classes))

    grid, heard = listening(SimulatedSites(by_site(), module=dropping))
    with pytest.raises(ValueError, match="what one row does cannot be bounded"):
        train(rows_local, grid=grid, module=dropping)
    assert {kind for kind, _ in heard} == {"query.statistics"}


def test_labels_beyond_those_named_are_refused_at_the_site():
    with pytest.raises(SiteError, match="ValueError, see the site's own log"):
        train(rows_local, classes=[0, 1])


def test_sites_without_privacy_load_nothing_of_it():
    """A site starts a process per message, and a training that is not private pays for no other."""
    code = """
import sys, numpy as np
from skfedfocal import FedFocalClassifier
from skfedfocal.flower import SimulatedSites, federate
X, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
federate(SimulatedSites({k: (X, y) for k in "abc"}), FedFocalClassifier(n_rounds=1))
found = [m for m in sys.modules if m.startswith(("dp_accounting", "skfedfocal.privacy._"))
         or m in ("skfedfocal.flower._private_site", "skfedfocal._training.private")]
assert found == ["skfedfocal.privacy._aggregation"], found  # the parameters of secure sums
"""
    subprocess.run([sys.executable, "-c", code], check=True)
