"""Private trainings: what they release, what they spend, how they go on, and what they refuse."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from torch import nn

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")

from skfedfocal import (
    FederatedClassifier,
    FedFocalClassifier,
    FedFocalClassifierCV,
    load_model,
    save_model,
)
from skfedfocal._component import InvalidParameterError
from skfedfocal._training import training as _training
from skfedfocal.losses import LogitAdjustedLoss
from skfedfocal.privacy import ClientLevelDP, ExampleLevelDP, Ledger, SecureAggregation
from skfedfocal.privacy._accounting import Event, epsilon_curve, epsilon_of
from skfedfocal.selection import Uniform

ROWS = {"noise": "seeded"}  # of mechanisms in tests that compare trainings


def data(n_clients=4, n=600):
    X, y = make_classification(
        n, 6, n_informative=4, n_classes=3, weights=[0.6, 0.3], random_state=0
    )
    return X, y, np.arange(n) % n_clients


def classifier(privacy, **params):
    options = {"hidden_layer_sizes": (8,), "n_rounds": 4, "random_state": 0, **params}
    return FedFocalClassifier(privacy=privacy, **options)


def fit(privacy, n_clients=4, **params):
    X, y, clients = data(n_clients)
    return classifier(privacy, **params).fit(X, y, clients=clients)


rows_by_trust = [ExampleLevelDP(2.0, trust=t, **ROWS) for t in ("local", "distributed", "server")]
clients_by_trust = [
    ClientLevelDP(1.0, trust="server", **ROWS),
    ClientLevelDP(1.0, trust="distributed", sampling_rate=0.5, n_honest=10, **ROWS),
    ClientLevelDP(1.0, clip_norm="adaptive", sampling_rate=0.5, **ROWS),
]
every_trust = pytest.mark.parametrize(
    "privacy", rows_by_trust + clients_by_trust, ids=lambda p: f"{p.unit}-{p.trust}"
)


# ── what comes out ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("trust", ["local", "distributed", "server"])
def test_a_default_classifier_learns_with_private_rows(trust):
    X, y, clients = data()
    privacy = ExampleLevelDP(target_epsilon=5.0, trust=trust)
    model = FedFocalClassifier(privacy=privacy, random_state=0).fit(X, y, clients=clients)
    assert model.score(X, y) > 0.6
    assert 0.99 * 5 < model.epsilon_ <= 5


def test_a_default_classifier_learns_with_private_clients():
    """Three trainings, since one in some thirty has much of its noise where it hurts."""
    X, y, clients = data(100, 3000)
    model = FedFocalClassifier(privacy=ClientLevelDP(target_epsilon=8.0), random_state=0)
    scores = [model.fit(X, y, clients=clients).score(X, y) for _ in range(3)]
    assert np.median(scores) > 0.45  # of three classes
    assert model.delta_ < 1 / 100


@every_trust
def test_what_is_reported_is_what_the_ledger_says(privacy):
    model = fit(privacy, 40)
    assert model.history_["epsilon"][-1] == pytest.approx(model.epsilon_)
    assert (np.diff(model.history_["epsilon"]) > 0).all()
    ledger = Ledger.from_plain(json.loads(json.dumps(model.privacy_)))
    assert ledger.unit == privacy.unit
    assert ledger.epsilon(model.delta_) == model.epsilon_
    counts, steps = sorted(ledger.events, key=lambda event: event.of)
    assert (counts.of, counts.steps) == ("label_counts", 1)
    assert (steps.of, steps.steps, steps.sampling_rate) == ("steps", 4, privacy.sampling_rate)
    assert steps.noise_multiplier == privacy.noise_multiplier
    # Exact numbers of rows, losses and who took part are not to be had.
    assert np.isnan(model.history_["loss"]).all()
    assert not np.isin(model.client_sizes_, np.bincount(data(40)[2])).any()
    assert len(np.unique(model.history_["n_selected"])) == 1
    if privacy.unit == "client":
        assert model.clients_.tolist() == list(range(40))
    assert "privacy" in model._repr_html_()


def test_local_steps_of_sites_with_noise_of_their_own_are_counted():
    model = fit(ExampleLevelDP(2.0, **ROWS), n_local_epochs=3)
    assert {e["of"]: e["steps"] for e in model.privacy_["events"]}["steps"] == 12


@every_trust
def test_engines_give_the_same_private_model(privacy):
    one, other = (fit(privacy, 40, engine=engine) for engine in ("loop", "vectorized"))
    np.testing.assert_allclose(one.theta_, other.theta_, rtol=0, atol=1e-4)
    assert not np.allclose(one.theta_, fit(clone(privacy).set_params(clip_norm=0.5), 40).theta_)


@every_trust
def test_secure_noise_heeds_no_seed(privacy):
    secret = clone(privacy).set_params(noise="secure")
    assert not np.array_equal(fit(secret, 40).theta_, fit(secret, 40).theta_)
    np.testing.assert_array_equal(fit(privacy, 40).theta_, fit(privacy, 40).theta_)


def test_a_round_of_nobody_is_a_round_of_noise():
    model = fit(ClientLevelDP(1.0, sampling_rate=1e-9, counts_noise=None), 40, class_weight=None)
    start = fit(ClientLevelDP(0.0, sampling_rate=1e-9, counts_noise=None), 40, class_weight=None)
    # Four rounds of noise 1 on the sum, over an expected 4e-8 clients.
    assert np.std(model.theta_ - start.theta_) == pytest.approx(2 / 4e-8, rel=0.3)


def test_sums_divide_by_expected_numbers_and_nothing_private():
    X, y, clients = data()
    plain = ExampleLevelDP(0.0, trust="server", sampling_rate=1.0, clip_norm=1e9, counts_noise=None)
    options = {"class_weight": None, "n_rounds": 1, "learning_rate": 1.0}
    start = classifier(plain.set_params(expected_batch=1e12), **options).fit(X, y, clients=clients)
    moved = [
        classifier(clone(plain).set_params(expected_batch=n), **options)
        .fit(X, y, clients=clients)
        .theta_
        - start.theta_
        for n in (600.0, 300.0)
    ]
    np.testing.assert_allclose(2 * moved[0], moved[1], rtol=0, atol=1e-5)
    # Without noise or clipping, and divided by the number of rows, it is a step of full batches.
    plain_sgd = FederatedClassifier(
        (8,), loss="focal", n_rounds=1, batch_size=600, learning_rate=1.0, random_state=0
    )
    plain_sgd.set_params(loss=classifier(None)._resolve_loss())
    wanted = plain_sgd.fit(X, y, clients=clients).theta_ - start.theta_
    np.testing.assert_allclose(moved[0], wanted, rtol=0, atol=1e-5)


def test_defaults_move_with_the_unit_of_privacy():
    rows, clients = ExampleLevelDP(1.0), ClientLevelDP(1.0)
    found = {
        unit: (model._resolve_loss().logit_adjustment, model.get_params()["logit_adjustment"])
        for unit, model in (
            (None, classifier(None)),
            ("row", classifier(rows)),
            ("client", classifier(clients)),
        )
    }
    assert found == {None: (0.6, "auto"), "row": (1.0, "auto"), "client": (0.6, "auto")}
    assert classifier(rows).get_params()["client_gamma"] == "auto"
    assert classifier(rows, logit_adjustment=0.3)._resolve_loss().logit_adjustment == 0.3


@pytest.mark.parametrize("trust", ["local", "distributed", "server"])
def test_automatic_steps_keep_their_noise_small(trust):
    X, y, clients = data()
    options = {"n_rounds": 16, "hidden_layer_sizes": (40,)}
    # Gradients are clipped to nothing beside the noise, so that noise is all that moves.
    noisy = ExampleLevelDP(4e4, clip_norm=1e-3, trust=trust, n_honest=4, **ROWS)
    model = classifier(noisy, **options).fit(X, y, clients=clients)
    still = classifier(noisy, learning_rate=1e-12, **options).fit(X, y, clients=clients)
    assert np.std(model.theta_ - still.theta_) == pytest.approx(0.02 * 4, rel=0.15)
    # With little noise they are as long as they may be.
    little = clone(noisy).set_params(noise_multiplier=40.0)
    one, other = (
        classifier(little, learning_rate=rate).fit(X, y, clients=clients).theta_
        for rate in ("auto", 4.0)
    )
    np.testing.assert_array_equal(one, other)


def test_auto_is_what_it_says_it_is():
    X, y, clients = data()
    given = {"logit_adjustment": 0.6, "client_gamma": 1.0, "learning_rate": 0.1}
    one, other = classifier(None), classifier(None, **given)
    for model in (one, other):
        model.fit(X, y, clients=clients)
    np.testing.assert_array_equal(one.theta_, other.theta_)


# ── budgets ──────────────────────────────────────────────────────────────────────────


def test_a_curve_is_that_of_each_number_of_rounds():
    for before, event in (
        ([], Event(1.5, 0.2)),
        ([Event(30.0, of="label_counts")], Event(2.0, 0.3, 2)),
        ([Event(9.0, of="label_counts")], Event(8.0)),
        ([], Event(0.0, 0.5)),
    ):
        found = epsilon_curve(before, event, 5, 1e-4)
        for n, epsilon in enumerate(found, 1):
            whole = [*before, Event(event.noise_multiplier, event.sampling_rate, n * event.steps)]
            assert epsilon == pytest.approx(epsilon_of(whole, 1e-4), rel=2e-3)
    long = epsilon_curve([], Event(4.0, 0.1), 300, 1e-5)
    assert len(long) == 300
    assert (np.diff(long) >= 0).all()
    for n in (1, 77, 150, 300):
        assert long[n - 1] >= epsilon_of([Event(4.0, 0.1, n)], 1e-5) * (1 - 1e-4)
    assert epsilon_curve([], Event(1.0), 0, 1e-5) == []


def test_partial_fits_spend_one_budget_and_stop_where_it_ends():
    X, y, clients = data()
    model = classifier(ExampleLevelDP(target_epsilon=3.0, sampling_rate=0.5, **ROWS), n_rounds=3)
    for n in (1, 2, 3):
        model.partial_fit(X, y, clients=clients)
        assert model.n_iter_ == len(model.history_["epsilon"]) == n
        assert model.history_["epsilon"][-1] == pytest.approx(model.epsilon_, rel=1e-3)
    assert 0.99 * 3 < model.epsilon_ <= 3
    theta, spent = model.theta_, model.privacy_
    with pytest.warns(UserWarning, match="target_epsilon=3 allows 0 of 1"):
        model.partial_fit(X, y, clients=clients)
    np.testing.assert_array_equal(model.theta_, theta)
    assert model.privacy_ == spent
    model.set_params(privacy__target_epsilon=3.5).partial_fit(X, y, clients=clients)
    assert model.n_iter_ == 4
    assert 3 < model.epsilon_ <= 3.5


def test_a_warm_start_goes_on_with_the_ledger_and_asks_no_counts_again():
    X, y, clients = data()
    privacy = ExampleLevelDP(2.0, **ROWS)
    model = classifier(privacy, n_rounds=2, warm_start=True)
    model.fit(X, y, clients=clients).fit(X, y, clients=clients)
    whole = classifier(privacy, n_rounds=4).fit(X, y, clients=clients)
    np.testing.assert_array_equal(model.theta_, whole.theta_)
    assert model.privacy_ == whole.privacy_
    np.testing.assert_allclose(model.history_["epsilon"], whole.history_["epsilon"], rtol=1e-3)


def test_a_warm_start_within_a_budget_stops_at_the_round_that_it_allows():
    X, y, clients = data()
    privacy = ExampleLevelDP(target_epsilon=4.0, **ROWS)
    model = classifier(privacy, n_rounds=4, warm_start=True).fit(X, y, clients=clients)
    model.set_params(privacy__target_epsilon=5.0)
    with pytest.warns(UserWarning, match="of 4 more rounds"):
        model.fit(X, y, clients=clients)
    assert 4 < model.n_iter_ < 8
    assert 4 < model.epsilon_ <= 5
    ledger = Ledger.from_plain(model.privacy_)
    steps = next(e for e in ledger.events if e.of == "steps")
    # One more would have been too much.
    ledger.record(Event(steps.noise_multiplier, steps.sampling_rate, 1))
    assert ledger.epsilon(model.delta_) > 5


def test_other_rows_are_counted_anew():
    X, y, clients = data()
    model = classifier(ExampleLevelDP(2.0, **ROWS), n_rounds=1)
    for _ in range(3):
        model.partial_fit(X, y, clients=clients)
    steps = {e["of"]: e["steps"] for e in model.privacy_["events"]}
    assert steps == {"label_counts": 3, "steps": 3}


def test_the_ledger_is_written_before_the_round_it_is_about(tmp_path, monkeypatch):
    X, y, clients = data()
    privacy = ExampleLevelDP(2.0, **ROWS)
    whole = classifier(privacy).fit(X, y, clients=clients)
    run_round, path = _training.run_round, tmp_path / "checkpoint"

    def killed(federation, state, engine):
        if state.n_rounds == 2:
            raise KeyboardInterrupt
        return run_round(federation, state, engine)

    monkeypatch.setattr(_training, "run_round", killed)
    with pytest.raises(KeyboardInterrupt):
        classifier(privacy).fit(X, y, clients=clients, checkpoint=path)
    monkeypatch.setattr(_training, "run_round", run_round)
    resumed = classifier(privacy).fit(X, y, clients=clients, checkpoint=path)
    np.testing.assert_array_equal(resumed.theta_, whole.theta_)
    # The third round may have been released twice, and is counted twice.
    assert {e["of"]: e["steps"] for e in resumed.privacy_["events"]} == {
        "label_counts": 1,
        "steps": 5,
    }
    again = classifier(privacy).fit(X, y, clients=clients, checkpoint=path)
    np.testing.assert_array_equal(again.theta_, whole.theta_)
    assert again.privacy_ == resumed.privacy_


def test_a_round_lost_in_a_crash_is_not_had_again_from_a_budget(tmp_path, monkeypatch):
    X, y, clients = data()
    privacy = ExampleLevelDP(target_epsilon=3.0, **ROWS)
    run_round, path = _training.run_round, tmp_path / "checkpoint"

    def killed(federation, state, engine):
        if state.n_rounds == 2:
            raise KeyboardInterrupt
        return run_round(federation, state, engine)

    monkeypatch.setattr(_training, "run_round", killed)
    with pytest.raises(KeyboardInterrupt):
        classifier(privacy).fit(X, y, clients=clients, checkpoint=path)
    monkeypatch.setattr(_training, "run_round", run_round)
    with pytest.warns(UserWarning, match="allows 1 of 2 more rounds"):
        resumed = classifier(privacy).fit(X, y, clients=clients, checkpoint=path)
    assert resumed.n_iter_ == 3
    assert resumed.epsilon_ <= 3


def test_private_and_other_trainings_do_not_go_on_from_one_another():
    X, y, clients = data()
    # Without an encoding of columns, which privacy does without and would be refused for first.
    model = classifier(None, warm_start=True, numeric_encoding=None).fit(X, y, clients=clients)
    with pytest.raises(ValueError, match="trained without privacy"):
        model.set_params(privacy=ExampleLevelDP(2.0)).fit(X, y, clients=clients)
    model = classifier(ExampleLevelDP(2.0), warm_start=True, numeric_encoding=None)
    model.fit(X, y, clients=clients)
    with pytest.raises(ValueError, match="trained with privacy"):
        model.set_params(privacy=None).fit(X, y, clients=clients)
    with pytest.raises(ValueError, match="unit 'example' cannot go on with unit 'client'"):
        model.set_params(privacy=ClientLevelDP(0.5)).fit(X, y, clients=clients)
    model.set_params(privacy=None, warm_start=False).fit(X, y, clients=clients)
    assert not hasattr(model, "epsilon_")
    assert not hasattr(model, "privacy_")
    assert "epsilon" not in model.history_


def test_a_private_model_outlives_the_process(tmp_path):
    X, y, clients = data()
    model = fit(ExampleLevelDP(2.0, **ROWS), warm_start=True)
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert again.privacy_ == model.privacy_
    assert again.epsilon_ == model.epsilon_
    assert repr(again.privacy) == repr(model.privacy)
    one, other = (m.fit(X, y, clients=clients) for m in (model, again))
    np.testing.assert_array_equal(one.theta_, other.theta_)
    assert one.privacy_ == other.privacy_


# ── refusals ─────────────────────────────────────────────────────────────────────────

ROW, CLIENT = ExampleLevelDP(2.0), ClientLevelDP(1.0)
SUM = ExampleLevelDP(2.0, trust="server")


@pytest.mark.parametrize(
    ("privacy", "params", "other"),
    [
        (p, params, other)
        for p in (ROW, SUM, CLIENT)
        for params, other in [
            ({"early_stopping": True}, "early_stopping=True"),
            ({"selection": "focal"}, "selection='focal'"),
            ({"selection": "category_coverage"}, "selection='category_coverage'"),
            ({"client_gamma": 0.5}, "client_gamma=0.5"),
            ({"class_weight": "estimated"}, "class_weight='estimated'"),
            ({"class_weight": "effective"}, "class_weight='effective'"),
            ({"secure_aggregation": True}, "secure_aggregation=True"),
            ({"secure_aggregation": SecureAggregation(5)}, "SecureAggregation(min_clients=5)"),
        ]
    ]
    + [
        (p, {"aggregation": name, "client_gamma": 0}, f"aggregation='{name}'")
        for p in (SUM, CLIENT)
        for name in ("median", "trimmed_mean", "krum", "geometric_median", "clipped_mean")
    ]
    + [(p, {"clients_per_round": 0.5}, "clients_per_round=0.5") for p in (SUM, CLIENT)]
    + [
        (ROW, {"class_weight": "local"}, "class_weight='local'"),
        (SUM, {"n_local_epochs": 2}, "n_local_epochs=2"),
        (SUM, {"weight_decay": 0.1}, "weight_decay=0.1"),
        (CLIENT, {"min_clients": 2}, "min_clients=2"),
        (
            ExampleLevelDP(2.0, counts_noise=None, expected_batch=9),
            {"class_weight": "balanced"},
            "class_weight='balanced'",
        ),
    ],
)
def test_what_has_no_noise_is_refused_by_both_names_before_data_are_read(privacy, params, other):
    model = classifier(privacy, **params)
    with pytest.raises(InvalidParameterError) as refused:
        model.fit(None, None)
    assert f"privacy={type(privacy).__name__}(...)" in str(refused.value)
    assert other in str(refused.value)
    classifier(privacy).check() if privacy in (ROW, SUM, CLIENT) else None


def test_what_has_noise_is_not_refused():
    classifier(ROW, aggregation="median", client_gamma=0, weight_decay=0.1, momentum=0.5).check()
    classifier(ROW, n_local_epochs=3, clients_per_round=0.5, min_clients=2).check()
    classifier(CLIENT, class_weight="local", n_local_epochs=3, selection=Uniform()).check()
    FederatedClassifier(privacy=ROW, loss="logit_adjusted").check()
    bare = ExampleLevelDP(2.0, counts_noise=None, expected_batch=9)
    FederatedClassifier(privacy=bare).check()
    fit(bare, class_weight={0: 2.0})


def test_losses_by_a_clients_own_counts_are_refused_for_rows():
    loss = LogitAdjustedLoss(counts="local")
    with pytest.raises(InvalidParameterError, match="loss=LogitAdjustedLoss"):
        FederatedClassifier(privacy=ROW, loss=loss).check()
    FederatedClassifier(privacy=CLIENT, loss=loss).check()


def test_searches_are_refused():
    search = FedFocalClassifierCV()
    search.privacy = ROW
    with pytest.raises(
        InvalidParameterError, match=r"privacy=.* cannot go with FedFocalClassifierCV"
    ):
        search.fit(*data()[:2])


def test_weights_of_rows_are_refused():
    X, y, clients = data()
    for privacy in (ROW, CLIENT):
        with pytest.raises(ValueError, match=r"privacy=.* cannot go with sample_weight"):
            classifier(privacy).fit(X, y, sample_weight=np.ones(len(y)), clients=clients)


def test_modules_whose_rows_cannot_be_told_apart_are_refused():
    X, y, clients = data()
    mixing = lambda n, c: nn.Sequential(nn.Linear(n, 8), nn.BatchNorm1d(8), nn.Linear(8, c))  # noqa: E731
    with pytest.raises(ValueError, match="batch normalisation"):
        classifier(ROW, module=mixing).fit(X, y, clients=clients)
    drawing = lambda n, c: nn.Sequential(nn.Linear(n, 8), nn.Dropout(0.1), nn.Linear(8, c))  # noqa: E731
    for engine in ("vectorized", "loop"):
        with pytest.raises(ValueError, match=r"privacy=.* cannot go with module="):
            classifier(ROW, module=drawing, engine=engine).fit(X, y, clients=clients)
    fit(CLIENT, 40, module=drawing)


def test_promises_that_are_none_are_refused():
    with pytest.raises(ValueError, match="below 1 / 600"):
        fit(ExampleLevelDP(2.0, delta=0.01))
    with pytest.raises(ValueError, match="below 1 / 40"):
        fit(ClientLevelDP(2.0, delta=0.1), 40)
    with pytest.raises(ValueError, match="ExampleLevelDP"):
        fit(ClientLevelDP(target_epsilon=3.0), 4)
    with pytest.raises(ValueError, match="least reachable"):
        fit(ExampleLevelDP(target_epsilon=0.1, counts_noise=5.0))
    with pytest.raises(InvalidParameterError, match="privacy"):
        fit("differential")
    with pytest.raises(InvalidParameterError, match="exactly one of"):
        fit(ExampleLevelDP())
