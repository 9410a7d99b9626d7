"""Private trainings beside failing clients, checkpoints, diverging models and ids in a column."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from test_private_training import ROWS, classifier, clients_by_trust, data, every_trust, fit
from torch import nn

from skfedfocal import ClientColumn, FederatedClassifier
from skfedfocal._training import training as _training
from skfedfocal._training.failures import FederatedTrainingError
from skfedfocal.engines._in_process import InProcessEngine
from skfedfocal.privacy import ClientLevelDP, ExampleLevelDP
from skfedfocal.strategies import FedAvg

MARK = 5.5  # of rows on which a module raises


class Brittle(nn.Module):
    """Logits of a linear layer, but for rows that bear the mark while it is armed."""

    armed = True

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, x):
        if Brittle.armed and bool((x == MARK).any()):
            raise RuntimeError("a row that bears the mark")
        return self.linear(x)


@pytest.fixture
def brittle():
    Brittle.armed = True
    yield Brittle
    Brittle.armed = True


def marked(X, clients, *bad):
    """The same rows; of some clients all but the first few bear the mark."""
    X = X.astype(np.float32)
    X[np.isin(clients, bad) & (np.arange(len(X)) >= 100), 0] = MARK
    return X


def interrupt(monkeypatch, at, do):
    """Do something when a round begins."""
    run_round = _training.run_round

    def begun(federation, state, engine):
        if state.n_rounds == at:
            do()
        return run_round(federation, state, engine)

    monkeypatch.setattr(_training, "run_round", begun)


def steps(model):
    return {event["of"]: event["steps"] for event in model.privacy_["events"]}["steps"]


# ── clients that fail ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_a_client_that_fails_counts_as_zeros_in_a_sum_over_clients(brittle, engine):
    X, y, clients = data(5)
    X = marked(X, clients, 3)
    options = {"module": brittle, "n_rounds": 1, "class_weight": None, "batch_size": 999}
    privacy = ClientLevelDP(0.0, clip_norm=1e6, counts_noise=None, **ROWS)
    model = classifier(privacy, engine=engine, **options)
    with pytest.warns(RuntimeWarning, match="some clients failed") as told:
        model.fit(X, y, clients=clients)
    brittle.armed = False  # what the others do alone, from the same initial parameters
    alone = [
        FederatedClassifier(loss=model._resolve_loss(), random_state=0, **options)
        .fit(X[clients == k], y[clients == k])
        .theta_.astype(np.float64)
        for k in range(5)
    ]
    start = classifier(privacy.set_params(clip_norm=1e-30), **options).fit(X, y, clients=clients)
    wanted = sum(alone[k] - start.theta_ for k in (0, 1, 2, 4)) / 5
    np.testing.assert_allclose(model.theta_ - start.theta_, wanted, rtol=0, atol=1e-6)
    # Neither who nor how many.
    assert model.failures_ == []
    assert model.history_["n_failed"].tolist() == [0]
    assert len(told) == 1
    assert not any(character in str(told[0].message) for character in "345")


def test_failing_clients_cost_what_replying_ones_do(brittle):
    X, y, clients = data(40)
    privacy = ClientLevelDP(1.0, **ROWS)
    found = []
    for bad in ((), (3, 4)):
        model = classifier(privacy, module=brittle)
        with pytest.warns(RuntimeWarning) if bad else nullcontext():
            model.fit(marked(X, clients, *bad), y, clients=clients)
        found.append(model)
    assert found[0].privacy_ == found[1].privacy_
    assert found[0].epsilon_ == found[1].epsilon_


def test_a_module_that_raises_for_all_clients_is_not_drowned_in_noise(brittle):
    X, y, clients = data(40)
    with pytest.raises(RuntimeError, match="bears the mark"):
        classifier(ClientLevelDP(1.0), module=brittle).fit(
            marked(X, clients, *range(40)), y, clients=clients
        )


@pytest.mark.parametrize("trust", ["local", "distributed", "server"])
@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_a_client_that_fails_ends_a_training_that_protects_rows(
    brittle, monkeypatch, trust, engine
):
    X, y, clients = data()
    X = marked(X, clients, 3)
    brittle.armed = False
    interrupt(monkeypatch, 2, lambda: setattr(brittle, "armed", True))
    privacy = ExampleLevelDP(2.0, trust=trust, **ROWS)
    model = classifier(privacy, module=brittle, engine=engine)
    # Side by side, the question whether a row bears the mark is what raises.
    with pytest.raises(RuntimeError, match=r"bears the mark|data-dependent"):
        model.fit(X, y, clients=clients)
    assert model.n_iter_ == 2
    assert np.isfinite(model.theta_).all()
    assert steps(model) == 3  # the round that ended it is charged
    assert model.epsilon_ > model.history_["epsilon"][-1]
    assert model.failures_ == []


# ── models that diverge ──────────────────────────────────────────────────────────────


@every_trust
def test_a_diverged_training_keeps_its_ledger(privacy, monkeypatch):
    X, y, clients = data(40)
    step, n_steps = FedAvg.step, []

    def bursting(self, theta, aggregate, optimizer):
        found, state = step(self, theta, aggregate, optimizer)
        n_steps.append(1)
        return (found * torch.inf if len(n_steps) == 3 else found), state

    monkeypatch.setattr(FedAvg, "step", bursting)
    model = classifier(privacy)
    with pytest.raises(FederatedTrainingError, match="not finite"):
        model.fit(X, y, clients=clients)
    assert np.isfinite(model.theta_).all()
    assert steps(model) == 3


@every_trust
def test_no_model_is_tried_on_rows(privacy, monkeypatch):
    def tried(self, theta, before):
        raise AssertionError("looks at rows, and has no noise")

    monkeypatch.setattr(InProcessEngine, "can_use", tried)
    fit(privacy, 40)


# ── checkpoints ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("privacy", clients_by_trust, ids=lambda p: p.trust)
def test_a_private_training_of_clients_goes_on_from_its_checkpoint(privacy, tmp_path, monkeypatch):
    X, y, clients = data(40)
    path = tmp_path / "checkpoint"
    whole = classifier(privacy).fit(X, y, clients=clients)

    def kill():
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        interrupt(context, 2, kill)
        with pytest.raises(KeyboardInterrupt):
            classifier(privacy).fit(X, y, clients=clients, checkpoint=path)
    resumed = classifier(privacy).fit(X, y, clients=clients, checkpoint=path)
    np.testing.assert_array_equal(resumed.theta_, whole.theta_)
    assert steps(resumed) == steps(whole) + 1  # the round may have been released twice
    np.testing.assert_array_equal(resumed.class_prior_, whole.class_prior_)


# ── ids in a column ──────────────────────────────────────────────────────────────────


@every_trust
def test_ids_in_a_column_give_the_same_private_model(privacy):
    X, y, clients = data(40)
    ids = 1000 + clients
    plain = classifier(privacy).fit(X, y, clients=ids)
    column = ClientColumn(classifier(privacy), column=-1).fit(np.column_stack([X, ids]), y)
    np.testing.assert_array_equal(column.estimator_.theta_, plain.theta_)
    assert column.estimator_.epsilon_ == plain.epsilon_
    hidden = privacy.unit == "client"  # whoever is in the list took part
    assert column.clients_.tolist() == [(0 if hidden else 1000) + k for k in range(40)]
