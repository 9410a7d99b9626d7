"""Rounds: federated averaging against training written by hand, and rounds that go wrong."""

import re
import sys
import warnings

import numpy as np
import pytest
import torch
from oracles import (
    cnn64,
    fedavg,
    federation,
    gradient_descent,
    local_sgd,
    mlp64,
    vector,
)
from sklearn.exceptions import NotFittedError
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from skfedfocal import FederatedClassifier, FederatedTrainingError, FedFocalClassifier
from skfedfocal._data.clients import ClientStats
from skfedfocal._disclosure import RECALLS
from skfedfocal._local import LocalPlan
from skfedfocal._training.federation import Federation, ServerState
from skfedfocal._training.rounds import begin
from skfedfocal.aggregation import WeightedMean
from skfedfocal.losses import CrossEntropyLoss, LogitAdjustedLoss
from skfedfocal.selection import SELECTIONS, Uniform
from skfedfocal.strategies import FedAvg, FedProx

# Rows that are too large on purpose also tell of their scale.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The first round's loss:UserWarning", "ignore:X has the value:UserWarning"
)

SIZES = [3, 1, 40, 7, 2, 21]
ENGINES = ["loop", "vectorized"]
every_engine = pytest.mark.parametrize("engine", ENGINES)


def plain_fedavg(module, **options):
    """The estimator whose settings are those of plain FedAvg."""
    values = {
        "gamma": 0,
        "class_weight": None,
        "client_gamma": 0,
        "n_rounds": 4,
        "batch_size": 7,
        "learning_rate": 0.1,
        "random_state": 3,
    }
    return FedFocalClassifier(module=module, **{**values, **options})


def select(seed, n_clients=6, n_selected=3, n_rounds=0, selection=None, stats=None, theta=None):
    """The cohort of the round of that number."""
    federation = Federation(
        plan=LocalPlan(CrossEntropyLoss(), None, None, 1, 32, 0.1, 0.0, 0.0, 0.0, seed),
        selection=selection or Uniform(),
        aggregator=WeightedMean(),
        strategy=FedAvg(),
        n_selected=n_selected,
        min_clients=1,
        client_ids=np.arange(n_clients),
    )
    state = ServerState(
        theta=torch.zeros(1) if theta is None else theta,
        stats=stats or ClientStats(np.ones(n_clients)),
        n_rounds=n_rounds,
    )
    return begin(federation, state).cohort


def cohorts(seed, n_clients, n_selected, n_rounds):
    """Who takes part in each round."""
    return [select(seed, n_clients, n_selected, round_).tolist() for round_ in range(n_rounds)]


# ── equal to what is written by hand ─────────────────────────────────────────────────


@every_engine
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize(
    "local",
    [
        {},
        {"n_epochs": 3, "batch_size": 1000, "learning_rate": 0.3},
        {"n_epochs": 2, "batch_size": 5, "momentum": 0.9, "weight_decay": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("n_selected", [6, 2])
def test_plain_settings_are_fedavg_by_hand(engine, kind, local, n_selected):
    row_shape, module = ((5,), mlp64()) if kind == "mlp" else ((2, 6, 6), cnn64())
    X, y, clients = federation(SIZES, row_shape)
    local = {"batch_size": 7, **local}
    options = {"n_local_epochs" if k == "n_epochs" else k: v for k, v in local.items()}
    clf = plain_fedavg(module, clients_per_round=n_selected, engine=engine, **options)
    clf.fit(X, y, clients=clients)
    groups = cohorts(clf.seed_, 6, n_selected, 4)
    theta, losses = fedavg(module, X, y, clients, groups, clf.seed_, **local)
    np.testing.assert_allclose(clf.theta_, theta, rtol=0, atol=1e-10)
    np.testing.assert_allclose(clf.history_["loss"], losses, rtol=0, atol=1e-10)
    assert np.abs(theta - vector(module)).max() > 1e-2


@every_engine
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_fed_focal_is_its_formula_by_hand(engine, share):
    X, y, clients = federation(SIZES)
    y[(y == 2) & (np.arange(len(y)) % 3 > 0)] = 0  # one class rarer than the others
    module = mlp64()
    clf = plain_fedavg(
        module, gamma=2.0, class_weight="balanced", logit_adjustment=share, engine=engine
    )
    clf.fit(X, y, clients=clients)
    balanced = len(y) / (3 * np.bincount(y))  # over all clients
    theta, losses = fedavg(
        module,
        X,
        y,
        clients,
        [range(6)] * 4,
        clf.seed_,
        batch_size=7,
        gamma=2.0,
        class_weight=balanced ** (1 - share),
        shift=-share * np.log(balanced),
    )
    np.testing.assert_allclose(clf.theta_, theta, rtol=0, atol=1e-10)
    np.testing.assert_allclose(clf.history_["loss"], losses, rtol=0, atol=1e-10)


@every_engine
def test_one_full_batch_step_is_gradient_descent(engine):
    X, y, clients = federation(SIZES)
    clf = plain_fedavg(mlp64(), n_rounds=5, batch_size=1000, learning_rate=0.3, engine=engine)
    by_hand = gradient_descent(mlp64(), X, y, n_steps=5, learning_rate=0.3)
    np.testing.assert_allclose(clf.fit(X, y, clients=clients).theta_, by_hand, rtol=0, atol=1e-12)
    # So whose rows are whose makes no difference.
    np.testing.assert_allclose(clf.fit(X, y).theta_, by_hand, rtol=0, atol=1e-12)


@every_engine
@pytest.mark.parametrize("clients", [None, "one id"])
def test_one_client_is_centralised_sgd(engine, clients):
    X, y, _ = federation([60])
    options = {"momentum": 0.9, "weight_decay": 0.05, "learning_rate": 0.05}
    clf = plain_fedavg(mlp64(), n_rounds=1, n_local_epochs=4, engine=engine, **options)
    clf.fit(X, y, clients=None if clients is None else [clients] * 60)
    module = mlp64()
    local_sgd(module, X, y, seed=clf.seed_, round_=0, client=0, n_epochs=4, batch_size=7, **options)
    np.testing.assert_allclose(clf.theta_, vector(module), rtol=0, atol=1e-10)


@every_engine
def test_fedprox_of_mu_zero_is_fedavg(engine):
    X, y, clients = federation(SIZES)
    thetas = [
        plain_fedavg(mlp64(), strategy=strategy, n_local_epochs=2, engine=engine)
        .fit(X, y, clients=clients)
        .theta_
        for strategy in ("fedavg", FedAvg(), FedProx(mu=0))
    ]
    np.testing.assert_array_equal(thetas[1], thetas[0])
    np.testing.assert_array_equal(thetas[2], thetas[0])


@every_engine
@pytest.mark.parametrize("mu", [0.5, 3.0])
def test_fedprox_is_its_objective_by_hand(engine, mu):
    X, y, clients = federation(SIZES)
    clf = plain_fedavg(mlp64(), strategy=FedProx(mu=mu), n_local_epochs=3, engine=engine)
    clf.fit(X, y, clients=clients)
    theta, losses = fedavg(
        mlp64(), X, y, clients, [range(6)] * 4, clf.seed_, batch_size=7, n_epochs=3, mu=mu
    )
    np.testing.assert_allclose(clf.theta_, theta, rtol=0, atol=1e-10)
    np.testing.assert_allclose(clf.history_["loss"], losses, rtol=0, atol=1e-10)


def test_a_larger_mu_keeps_clients_nearer_to_the_global_model():
    X, y, clients = federation(SIZES)
    moved = [
        np.linalg.norm(
            plain_fedavg(mlp64(), strategy=FedProx(mu=mu), n_rounds=1, n_local_epochs=5)
            .fit(X, y, clients=clients)
            .theta_
            - vector(mlp64())
        )
        for mu in (0.0, 0.5, 2.0, 8.0)
    ]
    assert (np.diff(moved) < 0).all()


@every_engine
def test_client_focusing_weighs_by_recall(engine):
    X, y, clients = federation(SIZES)
    clf = plain_fedavg(mlp64(), client_gamma=2.0, n_rounds=1, engine=engine)
    clf.fit(X, y, clients=clients)
    focal = WeightedMean()
    predicted = mlp64()(torch.as_tensor(X)).argmax(1).numpy()
    weights, models = [], []
    for k, n_k in enumerate(SIZES):
        rows = clients == k
        recall = np.mean([(predicted[rows & (y == c)] == c).mean() for c in np.unique(y[rows])])
        smoothed = (n_k * recall + focal.smoothing / 2) / (n_k + focal.smoothing)
        weights.append(n_k * max(1 - smoothed, focal.floor) ** 2)
        module = mlp64()
        local_sgd(module, X[rows], y[rows], seed=clf.seed_, round_=0, client=k, batch_size=7)
        models.append(vector(module))
    by_hand = np.average(models, axis=0, weights=weights)
    np.testing.assert_allclose(clf.theta_, by_hand, rtol=0, atol=1e-10)
    unfocused = np.average(models, axis=0, weights=SIZES)
    assert np.abs(unfocused - by_hand).max() > 1e-6


@every_engine
@pytest.mark.parametrize("logit_adjustment", [0, 0.6, 1])
def test_mean_recall_of_the_clients_is_the_balanced_accuracy(engine, logit_adjustment):
    reported = []

    class Watching(Uniform):
        needs = frozenset({RECALLS})

        def select(self, stats, n_selected, rng):
            reported.append(stats.recall.copy())
            return super().select(stats, n_selected, rng)

    X, y, clients = federation(SIZES)
    clf = FedFocalClassifier(
        module=mlp64(),
        logit_adjustment=logit_adjustment,
        selection=Watching(),
        learning_rate=1e-12,  # so that the fitted model decides as the one that was sent
        n_rounds=2,
        engine=engine,
    ).fit(X, y, clients=clients)
    weight = [clf.class_weight_[y[clients == k]].sum() for k in range(len(SIZES))]
    mean = np.average(reported[1], weights=weight)
    assert mean == pytest.approx(balanced_accuracy_score(y, clf.predict(X)), rel=1e-6)


@every_engine
def test_gamma_zero_is_cross_entropy(engine):
    X, y, clients = federation(SIZES)
    options = {
        "module": mlp64(),
        "n_rounds": 3,
        "class_weight": "balanced",
        "client_gamma": 0,
        "engine": engine,
        "random_state": 0,
    }
    focal = FedFocalClassifier(gamma=0, logit_adjustment=0, **options).fit(X, y, clients=clients)
    plain = FederatedClassifier(loss="cross_entropy", **options).fit(X, y, clients=clients)
    np.testing.assert_allclose(focal.theta_, plain.theta_, rtol=0, atol=1e-12)
    np.testing.assert_allclose(focal.predict_proba(X), plain.predict_proba(X), atol=1e-12)


@every_engine
def test_gamma_zero_and_the_whole_shift_is_logit_adjustment(engine):
    X, y, clients = federation(SIZES)
    y[(y == 2) & (np.arange(len(y)) % 3 > 0)] = 0
    options = {"module": mlp64(), "n_rounds": 3, "engine": engine, "random_state": 0}
    options["client_gamma"] = 0
    focal = FedFocalClassifier(gamma=0, logit_adjustment=1, **options).fit(X, y, clients=clients)
    published = FederatedClassifier(loss=LogitAdjustedLoss(), **options).fit(X, y, clients=clients)
    np.testing.assert_allclose(focal.theta_, published.theta_, rtol=0, atol=1e-12)
    np.testing.assert_allclose(focal.predict_proba(X), published.predict_proba(X), atol=1e-12)


@every_engine
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_class_weights_are_sample_weights(engine, share):
    X, y, clients = federation(SIZES)
    weights = np.array([1.0, 3.0, 0.5])
    options = {"n_local_epochs": 2, "engine": engine}
    by_class = plain_fedavg(
        mlp64(), class_weight=dict(enumerate(weights)), logit_adjustment=share, **options
    ).fit(X, y, clients=clients)
    by_row = plain_fedavg(mlp64(), **options)
    if share == 0:
        by_row.fit(X, y, sample_weight=weights[y], clients=clients)
        np.testing.assert_allclose(by_class.theta_, by_row.theta_, rtol=0, atol=1e-12)
    # What counts of weights is their ratio.
    scaled = plain_fedavg(
        mlp64(), class_weight=dict(enumerate(7 * weights)), logit_adjustment=share, **options
    ).fit(X, y, clients=clients)
    np.testing.assert_allclose(by_class.theta_, scaled.theta_, rtol=0, atol=1e-12)


@every_engine
def test_a_client_whose_rows_weigh_nothing_changes_nothing(engine):
    X, y, clients = federation(SIZES)
    y[clients == 0] = 0
    options = {"class_weight": {0: 0.0}, "logit_adjustment": 0.5, "batch_size": 1000}
    everyone = plain_fedavg(mlp64(), engine=engine, **options).fit(X, y, clients=clients)
    some = clients != 0  # the same rounds without it: one batch of all, so shuffles do not matter
    others = plain_fedavg(mlp64(), engine=engine, **options).fit(
        X[some], y[some], clients=clients[some]
    )
    np.testing.assert_allclose(everyone.theta_, others.theta_, rtol=0, atol=1e-12)
    alone = plain_fedavg(mlp64(), engine=engine, clients_per_round=1, n_rounds=8, **options)
    alone.fit(X, y, clients=clients)
    n_met = cohorts(alone.seed_, 6, 1, 8).count([0])
    assert n_met > 0
    assert np.isfinite(alone.theta_).all()
    assert (alone.history_["loss"] == 0).sum() == n_met


@every_engine
def test_new_names_of_clients_change_nothing(engine):
    X, y, clients = federation(SIZES)
    clf = plain_fedavg(mlp64(), clients_per_round=0.5, engine=engine)
    theta = clf.fit(X, y, clients=clients).theta_
    names = np.array(["røst", "a", "zz", "", "B", "m"])
    for renamed in (names[clients], -clients, clients * 0.5, names[clients].astype(object)):
        np.testing.assert_array_equal(clf.fit(X, y, clients=renamed).theta_, theta)


@every_engine
def test_resumed_training_is_uninterrupted_training(engine):
    X, y, clients = federation(SIZES)
    options = {"clients_per_round": 3, "momentum": 0.5, "engine": engine}
    whole = plain_fedavg(mlp64(), n_rounds=5, **options).fit(X, y, clients=clients)
    warm = plain_fedavg(mlp64(), n_rounds=2, warm_start=True, **options)
    warm.fit(X, y, clients=clients).set_params(n_rounds=3).fit(X, y, clients=clients)
    by_round = plain_fedavg(mlp64(), **options)
    for _ in range(5):
        by_round.partial_fit(X, y, clients=clients)
    for clf in (warm, by_round):
        assert clf.n_iter_ == 5
        np.testing.assert_array_equal(clf.theta_, whole.theta_)
        np.testing.assert_array_equal(clf.history_["round"], [1, 2, 3, 4, 5])
        np.testing.assert_array_equal(clf.history_["loss"], whole.history_["loss"])


def test_history_has_a_row_for_each_round():
    X, y, clients = federation(SIZES)
    clf = plain_fedavg(mlp64(), n_rounds=3, clients_per_round=2).fit(X, y, clients=clients)
    history = clf.history_
    assert {len(column) for column in history.values()} == {3}
    np.testing.assert_array_equal(history["round"], [1, 2, 3])
    np.testing.assert_array_equal(history["n_selected"], [2, 2, 2])
    np.testing.assert_array_equal(history["n_failed"], [0, 0, 0])
    np.testing.assert_array_equal(history["bytes_down"], [2 * clf.theta_.nbytes] * 3)
    assert (history["bytes_up"] > history["bytes_down"]).all()  # scalars beside the update
    assert (history["seconds"] > 0).all()


# ── selection ────────────────────────────────────────────────────────────────────────


def test_selection_is_drawn_from_seed_and_round_alone():
    first = [select(1, 20, 5, round_) for round_ in range(6)]
    assert len({tuple(cohort) for cohort in first}) == 6
    # Not from the order of calls, the global generators, the model or what came before.
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    stats = ClientStats(np.arange(1.0, 21.0))
    stats.recall[:] = 0.5
    theta = torch.full((7,), 9.0)
    for round_ in (5, 0, 3, 3, 1, 4, 2):
        np.testing.assert_array_equal(select(1, 20, 5, round_), first[round_])
        other = select(1, 20, 5, round_, stats=stats, theta=theta)
        np.testing.assert_array_equal(other, first[round_])
    assert not np.array_equal(select(2, 20, 5, 0), first[0])


@pytest.mark.parametrize("name", sorted(SELECTIONS))
def test_selection_repeats_itself_given_the_same_stats(name):
    counts = np.random.default_rng(0).integers(1, 9, (20, 3)).astype(float)
    stats = ClientStats(counts.sum(1), counts)
    stats.recall[:] = np.linspace(0, 1, 20)
    options = {"selection": SELECTIONS[name](), "stats": stats}
    before = select(1, 20, 5, 7, **options)
    np.testing.assert_array_equal(select(1, 20, 5, 7, **options), before)
    np.testing.assert_array_equal(select(1, 20, 5, 7, theta=torch.ones(3), **options), before)


# ── rounds that go wrong ─────────────────────────────────────────────────────────────


@every_engine
def test_a_diverging_training_says_so_and_keeps_the_model_of_least_loss(engine):
    X, y, clients = federation(SIZES)
    module = mlp64(hidden=(6, 4), activation=nn.ELU)
    good = plain_fedavg(module, n_rounds=3, engine=engine).fit(X, y, clients=clients)
    clf = plain_fedavg(module, n_rounds=3, engine=engine, warm_start=True)
    clf.fit(X, y, clients=clients).set_params(learning_rate=1e20, n_rounds=200)
    with (
        warnings.catch_warnings(
            action="ignore", category=RuntimeWarning
        ),  # some fail before all do
        pytest.raises(FederatedTrainingError, match="lower learning_rate") as error,
    ):
        clf.fit(X, y, clients=clients)
    # The first wild round began with the good model; what came after it is finite, but useless.
    assert int(re.match(r"Round (\d+): ", str(error.value))[1]) > 4
    assert clf.n_iter_ == len(clf.history_["loss"]) == 3
    np.testing.assert_array_equal(clf.theta_, good.theta_)
    assert np.isfinite(clf.predict_proba(X)).all()


@every_engine
def test_divergence_in_the_first_round_leaves_no_model(engine):
    X, y, clients = federation(SIZES)
    clf = plain_fedavg(mlp64(), learning_rate=1e305, n_local_epochs=5, engine=engine)
    with pytest.raises(FederatedTrainingError, match=r"Round 1: 0 of 6 .*not finite"):
        clf.fit(X, y, clients=clients)
    with pytest.raises(NotFittedError):
        clf.predict(X)


@every_engine
def test_divergence_in_the_first_round_keeps_the_model_of_an_earlier_fit(engine):
    X, y, clients = federation(SIZES)
    clf = plain_fedavg(mlp64(), engine=engine).fit(X, y, clients=clients)
    theta, predicted = clf.theta_.copy(), clf.predict(X)
    clf.set_params(learning_rate=1e305, n_local_epochs=5)
    with pytest.raises(FederatedTrainingError, match=r"Round 1: 0 of 6 .*not finite"):
        clf.fit(X, y, clients=clients)
    np.testing.assert_array_equal(clf.theta_, theta)
    np.testing.assert_array_equal(clf.predict(X), predicted)
    assert clf.n_iter_ == 4


def poisoned(bad):
    """A federation in which one client's rows are finite, but its second pass over them is not."""
    X, y, clients = federation(SIZES)
    X[clients == bad] *= 1e300
    return X, y, clients


@pytest.mark.filterwarnings("ignore:X has the value:UserWarning")
@every_engine
def test_a_non_finite_update_is_left_out_and_counted(engine):
    X, y, clients = poisoned(bad=5)
    clf = plain_fedavg(mlp64(), n_rounds=3, n_local_epochs=2, engine=engine)
    said = r"Round 1 goes on without 5 \(number 5 of clients_: its update is not finite\)"
    with pytest.warns(RuntimeWarning, match=said) as caught:
        clf.fit(X, y, clients=clients)
    assert sum(w.category is RuntimeWarning for w in caught) == 1
    assert [(f["round"], f["client"]) for f in clf.failures_] == [(1, 5), (2, 5), (3, 5)]
    np.testing.assert_array_equal(clf.history_["n_failed"], [1, 1, 1])
    np.testing.assert_array_equal(clf.history_["n_selected"], [6, 6, 6])
    assert np.isfinite(clf.history_["loss"]).all()
    # The model is the one of the others.
    good = clients != 5
    others = plain_fedavg(mlp64(), n_rounds=3, n_local_epochs=2, engine=engine)
    others.fit(X[good], y[good], clients=clients[good])
    np.testing.assert_allclose(clf.theta_, others.theta_, rtol=0, atol=1e-12)
    np.testing.assert_allclose(clf.history_["loss"], others.history_["loss"], atol=1e-12)


@pytest.mark.filterwarnings("ignore:X has the value:UserWarning")
@pytest.mark.parametrize("bad", [0, 2])
def test_engines_leave_out_the_same_clients(bad):
    X, y, clients = poisoned(bad)
    fits = []
    for engine in ENGINES:
        clf = plain_fedavg(mlp64(), n_rounds=3, n_local_epochs=2, engine=engine)
        with pytest.warns(RuntimeWarning, match="goes on without"):
            fits.append(clf.fit(X, y, clients=clients))
    for clf in fits:
        np.testing.assert_array_equal(clf.history_["n_failed"], [1, 1, 1])
        np.testing.assert_allclose(clf.theta_, fits[0].theta_, rtol=0, atol=1e-9)


# ── interruptions ────────────────────────────────────────────────────────────────────


class Interrupted(nn.Module):
    """Counts its training passes, over all copies of it, and interrupts one of them."""

    passes_left = 0

    def __init__(self):
        super().__init__()
        self.inner = mlp64()

    def forward(self, x):
        if self.training:
            if type(self).passes_left == 0:
                raise KeyboardInterrupt
            type(self).passes_left -= 1
        return self.inner(x)


def test_interruption_in_a_round_keeps_the_last_complete_round():
    X, y, clients = federation(SIZES)
    passes_a_round = sum(-(-n // 7) for n in SIZES)
    Interrupted.passes_left = 3 * passes_a_round + 4  # in the fourth round, after some clients
    clf = plain_fedavg(Interrupted(), n_rounds=50, engine="loop")
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y, clients=clients)
    whole = plain_fedavg(mlp64(), n_rounds=3, engine="loop").fit(X, y, clients=clients)
    assert clf.n_iter_ == len(clf.history_["loss"]) == 3
    np.testing.assert_array_equal(clf.theta_, whole.theta_)
    np.testing.assert_array_equal(clf.predict_proba(X), whole.predict_proba(X))


def test_interruption_in_the_first_round_keeps_an_earlier_model():
    X, y, clients = federation(SIZES)
    Interrupted.passes_left = 10**6
    clf = plain_fedavg(Interrupted(), engine="loop").fit(X, y, clients=clients)
    theta = clf.theta_.copy()
    Interrupted.passes_left = 2
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y, clients=clients)
    np.testing.assert_array_equal(clf.theta_, theta)
    assert clf.n_iter_ == 4
    assert clf.predict(X).shape == y.shape


class InterruptingTerminal:
    """Where progress is written, until somebody presses ctrl-C there."""

    def __init__(self, n_rounds):
        self.rounds_left = n_rounds

    def write(self, text):
        if "round" in text:
            self.rounds_left -= 1
        if self.rounds_left == 0:
            raise KeyboardInterrupt
        return len(text)

    def flush(self):
        pass


@every_engine
def test_interruption_between_rounds_keeps_a_usable_model_to_go_on_from(engine, monkeypatch):
    X, y, clients = federation(SIZES)
    clf = plain_fedavg(mlp64(), n_rounds=50, engine=engine, clients_per_round=3, verbose=1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", InterruptingTerminal(2))
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, y, clients=clients)
    assert clf.n_iter_ == len(clf.history_["loss"]) == 2
    assert clf.predict_proba(X).shape == (len(y), 3)
    clf.set_params(warm_start=True, n_rounds=3, verbose=0).fit(X, y, clients=clients)
    whole = plain_fedavg(mlp64(), n_rounds=5, engine=engine, clients_per_round=3)
    np.testing.assert_array_equal(clf.theta_, whole.fit(X, y, clients=clients).theta_)


@pytest.mark.parametrize(
    ("engine", "module", "way"),
    [
        ("loop", mlp64, "one client after the other"),
        ("vectorized", mlp64, "linear layers stacked"),
        ("vectorized", cnn64, "one client after the other, in place"),
    ],
)
def test_lines_of_rounds_begin_with_how_clients_are_trained(capsys, engine, module, way):
    X, y, clients = federation(SIZES, (5,) if module is mlp64 else (2, 6, 6))
    plain_fedavg(module(), n_rounds=2, engine=engine, verbose=2).fit(X, y, clients=clients)
    first, *rounds = capsys.readouterr().out.splitlines()
    assert way in first
    assert [line.split(":")[0] for line in rounds] == ["round 1", "round 2"]
