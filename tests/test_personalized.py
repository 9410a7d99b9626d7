"""Models of the clients' own: each is the global one, trained on by that client's rows alone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfedfocal import (
    ClientColumn,
    FederatedClassifier,
    FedFocalClassifier,
    PersonalizedClassifier,
    load_model,
    save_model,
)
from skfedfocal._data.clients import ClientLayout
from skfedfocal._training.personal import _choice, folds, row_weights
from skfedfocal.metrics import client_report, client_scores


def opposite(n=120, seed=0, names=("a", "b", "c")):
    """Clients of which the second calls the same things by opposite names."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n * len(names), 2)).astype(np.float32)
    clients = np.repeat(names, n)
    y = (X[:, 0] > 0.3) ^ (clients == names[1])
    order = rng.permutation(len(y))
    return X[order], y[order], clients[order]


GLOBAL = FedFocalClassifier((8,), n_rounds=15, random_state=0)


@pytest.fixture(scope="module")
def fitted():
    X, y, clients = opposite()
    return PersonalizedClassifier(GLOBAL, random_state=0).fit(X, y, clients=clients)


def test_finds_what_a_global_model_cannot(fitted):
    X, y, clients = opposite(seed=1)
    assert fitted.score(X, y) < 0.8
    assert fitted.score(X, y, clients=clients) > 0.9
    mine = clients == "b"
    assert fitted.score(X[mine], y[mine], clients=clients[mine]) > 0.9


def test_unknown_clients_have_the_global_model(fitted):
    X, _, _ = opposite(seed=1)
    wanted = fitted.estimator_.predict_proba(X)
    np.testing.assert_array_equal(fitted.predict_proba(X), wanted)
    np.testing.assert_array_equal(fitted.predict_proba(X, clients=["new"] * len(X)), wanted)
    assert fitted.client_estimator("new") is fitted.estimator_


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "decision_function"]
)
def test_each_row_is_said_by_its_client_s_model(fitted, method):
    X, _, clients = opposite(seed=2)
    clients = np.where(np.arange(len(X)) % 7 == 0, "new", clients)
    found = getattr(fitted, method)(X, clients=clients)
    for client in np.unique(clients):
        rows = clients == client
        wanted = getattr(fitted.client_estimator(client), method)(X[rows])
        np.testing.assert_allclose(found[rows], wanted, rtol=1e-5, atol=1e-6)


def test_order_of_rows_and_names_of_clients_are_of_no_consequence():
    X, y, clients = opposite(40)
    one = PersonalizedClassifier(GLOBAL, random_state=0).fit(X, y, clients=clients)
    renamed = np.unique(clients, return_inverse=True)[1] + 10
    two = clone(one).fit(X, y, clients=renamed)
    np.testing.assert_array_equal(one.shares_, two.shares_)
    np.testing.assert_array_equal(one.thetas_, two.thetas_)


def test_a_client_s_model_depends_on_its_own_rows_and_the_global_model_alone():
    X, y, clients = opposite(40)
    inner = clone(GLOBAL).fit(X, y, clients=clients)
    frozen = PersonalizedClassifier(FrozenEstimator(inner), random_state=0)
    one = clone(frozen).fit(X, y, clients=clients)
    others = clients != one.clients_[0]
    rng = np.random.default_rng(5)
    X_changed, y_changed = X.copy(), y.copy()
    X_changed[others] = rng.normal(size=(others.sum(), 2))
    y_changed[others] = rng.permutation(y[others])
    two = clone(frozen).fit(X_changed, y_changed, clients=clients)
    np.testing.assert_array_equal(one.validation_losses_[0], two.validation_losses_[0])
    mine = one.client_estimator(one.clients_[0]).theta_
    np.testing.assert_array_equal(mine, two.client_estimator(two.clients_[0]).theta_)


def test_full_way_is_plain_training_of_the_client_from_the_global_model():
    """By an independent computation: SGD by torch on the client's rows, weighed by class."""
    X, y, clients = opposite(60)
    inner = FedFocalClassifier(
        (8,), n_rounds=10, batch_size=10**6, gamma=0.0, logit_adjustment=0.0, random_state=0
    ).fit(X, y, clients=clients)
    model = PersonalizedClassifier(
        FrozenEstimator(inner), shares=[1.0], n_epochs=7, learning_rate=0.5, random_state=0
    ).fit(X, y, clients=clients)
    place = list(model.clients_).index("b")
    assert model.shares_[place] == 1.0
    mine = clients == "b"
    rows, labels = torch.as_tensor(X[mine]), torch.as_tensor(y[mine].astype(int))
    weight = (1 / torch.bincount(labels))[labels]
    module = inner.module_
    twin = type(module)(*[torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)])
    twin.load_state_dict(module.state_dict())
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.5)
    for _ in range(7):
        optimizer.zero_grad()
        losses = torch.nn.functional.cross_entropy(twin(rows), labels, reduction="none")
        ((losses * weight).sum() / weight.sum()).backward()
        optimizer.step()
    wanted = torch.cat([p.detach().reshape(-1) for p in twin.parameters()]).numpy()
    found = model.client_estimator("b").theta_
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("class_weight", ["balanced", "local", None])
def test_engines_agree(class_weight):
    X, y, clients = opposite(30)
    models = [
        PersonalizedClassifier(
            clone(GLOBAL).set_params(engine=engine, class_weight=class_weight), random_state=0
        ).fit(X, y, clients=clients)
        for engine in ("loop", "vectorized")
    ]
    np.testing.assert_array_equal(models[0].shares_, models[1].shares_)
    np.testing.assert_allclose(models[0].thetas_, models[1].thetas_, rtol=1e-4, atol=1e-5)


def test_clients_that_are_alike_keep_the_global_model():
    """Rows without any pattern give nobody a reason to move."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 4)), rng.integers(2, size=300)
    clients = np.arange(300) % 10
    model = PersonalizedClassifier(GLOBAL, random_state=0).fit(X, y, clients=clients)
    assert (model.shares_ == 0).mean() > 0.7
    moved = np.count_nonzero(model.shares_)
    assert model.thetas_.shape == (moved, model.estimator_.theta_.size)


def test_a_client_of_one_class_keeps_the_global_model():
    X, y, clients = opposite(40)
    y = np.where(clients == "c", True, y)
    model = PersonalizedClassifier(GLOBAL, random_state=0).fit(X, y, clients=clients)
    place = list(model.clients_).index("c")
    assert model.shares_[place] == 0
    assert np.isnan(model.validation_losses_[place]).all()
    own = clients == "c"
    wanted = model.estimator_.predict(X[own])
    np.testing.assert_array_equal(model.predict(X[own], clients=clients[own]), wanted)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    n_classes=st.integers(2, 4),
    n_folds=st.integers(2, 5),
    seed=st.integers(0, 2**31 - 1),
)
def test_folds_deal_the_rows_of_each_client_and_class_evenly(sizes, n_classes, n_folds, seed):
    rng = np.random.default_rng(seed)
    clients = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    labels = rng.integers(n_classes, size=len(clients))
    layout = ClientLayout.from_ids(clients, len(clients))
    fold = folds(seed, layout, labels, n_classes, n_folds)
    for client in np.unique(clients):
        for label in range(n_classes):
            mine = (clients == client) & (labels == label)
            counts = np.bincount(fold[mine], minlength=n_folds)
            assert counts.max() - counts.min() <= 1


@settings(max_examples=60, deadline=None)
@given(
    wanted=st.lists(st.floats(0.01, 10), min_size=3, max_size=3),
    seed=st.integers(0, 2**31 - 1),
    weighed=st.booleans(),
)
def test_rows_weigh_so_that_each_client_s_classes_do_as_is_wanted(wanted, seed, weighed):
    rng = np.random.default_rng(seed)
    clients, labels = rng.integers(4, size=40), rng.integers(3, size=40)
    sample_weight = rng.uniform(0.1, 3, size=40) if weighed else None
    layout = ClientLayout.from_ids(clients, 40)
    counts = layout.sum_by_client(None, labels, 3)
    weight = row_weights(layout, labels, sample_weight, counts, np.array(wanted))
    found = layout.sum_by_client(weight, labels, 3)
    there = counts > 0
    np.testing.assert_allclose(found[there], np.broadcast_to(wanted, found.shape)[there])


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), n=st.integers(2, 30), lead=st.floats(-0.2, 0.5))
def test_the_choice_is_never_worse_than_staying_by_less_than_two_errors(seed, n, lead):
    rng = np.random.default_rng(seed)
    stay = rng.exponential(size=n)
    losses = np.column_stack([stay, stay - lead + rng.normal(0, 0.3, n)])
    weight = rng.uniform(0.1, 2, n)
    means, place = _choice(losses, weight)
    share = weight / weight.sum()
    gain = losses[:, 0] - losses[:, 1]
    mean = share @ gain
    error = np.sqrt(sum(share[i] ** 2 * (gain[i] - mean) ** 2 for i in range(n)))
    np.testing.assert_allclose(means, [share @ losses[:, 0], share @ losses[:, 1]])
    if abs(mean - 2 * error) > 1e-9:
        assert place == int(mean > 2 * error)


def test_predict_posterior_is_about_the_client_s_own_classes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2))
    clients = np.repeat(["few", "many"], 300)
    y = X[:, 0] + rng.normal(0, 1, 600) > np.where(clients == "few", 1.5, -1.5)
    inner = clone(GLOBAL).fit(X, y, clients=clients)
    model = PersonalizedClassifier(FrozenEstimator(inner), random_state=0)
    model.fit(X, y, clients=clients)
    share = {client: y[clients == client].mean() for client in ("few", "many")}
    for client, truth in share.items():
        rows = clients == client
        own = model.predict_posterior(X[rows], clients=clients[rows])[:, 1].mean()
        balanced = model.predict_proba(X[rows], clients=clients[rows])[:, 1].mean()
        assert abs(own - truth) < abs(balanced - truth)
        place = list(model.clients_).index(client)
        np.testing.assert_allclose(model.class_priors_[place, 1], truth, atol=0.01)
    np.testing.assert_allclose(
        model.predict_posterior(X, "uniform"), inner.predict_posterior(X, "uniform")
    )


def test_in_a_pipeline_and_from_a_fitted_one():
    X, y, clients = opposite()
    X = 100 * X + 5
    pipeline = make_pipeline(StandardScaler(), GLOBAL)
    with config_context(enable_metadata_routing=True):
        inner = clone(pipeline).fit(X, y, clients=clients)
    around = PersonalizedClassifier(pipeline, random_state=0).fit(X, y, clients=clients)
    frozen = PersonalizedClassifier(FrozenEstimator(inner), random_state=0)
    frozen.fit(X, y, clients=clients)
    np.testing.assert_array_equal(around.thetas_, frozen.thetas_)
    assert around.score(X, y, clients=clients) > inner.score(X, y) + 0.1
    handed = around.client_estimator("b")
    mine = clients == "b"
    np.testing.assert_array_equal(
        handed.predict(X[mine]), around.predict(X[mine], clients=clients[mine])
    )
    as_step = make_pipeline(StandardScaler(), PersonalizedClassifier(GLOBAL, random_state=0))
    as_step.fit(X, y, personalizedclassifier__clients=clients)
    np.testing.assert_array_equal(
        as_step.predict(X, clients=clients), around.predict(X, clients=clients)
    )
    found, wanted = (client_scores(m, X, y, clients).score for m in (as_step, around))
    np.testing.assert_array_equal(found, wanted)
    assert found.min() > client_scores(inner, X, y, clients).score.min() + 0.1


def test_ids_as_a_column_reach_fit_and_predict():
    X, y, clients = opposite()
    number = np.unique(clients, return_inverse=True)[1]
    table = np.column_stack([X, number])
    model = ClientColumn(PersonalizedClassifier(GLOBAL, random_state=0), column=-1)
    wanted = PersonalizedClassifier(GLOBAL, random_state=0).fit(
        np.float64(X), y, clients=number.astype(float)
    )
    model.fit(table, y)
    np.testing.assert_array_equal(model.predict(table), wanted.predict(X, clients=number))
    np.testing.assert_array_equal(model.predict(X), wanted.predict(X))
    assert model.score(table, y) == wanted.score(X, y, clients=number)
    assert cross_val_score(model, table, y, cv=StratifiedKFold(3)).min() > 0.85


def test_scores_and_reports_by_client_are_of_the_clients_models(fitted):
    X, y, clients = opposite(seed=3)
    found = client_scores(fitted, X, y, clients)
    for client, score in zip(found.clients, found.score, strict=True):
        mine = clients == client
        assert score == fitted.client_estimator(client).score(X[mine], y[mine])
    report = client_report(fitted, X, y, clients, output_dict=True)
    assert report["clients"]["b"]["balanced accuracy"] > 0.9
    overall = fitted.score(X, y, clients=clients)
    assert report["all"]["balanced accuracy"] == pytest.approx(overall)


def test_a_client_s_estimator_goes_into_a_file_and_on_training(fitted, tmp_path):
    X, y, clients = opposite(seed=4)
    handed = fitted.client_estimator("b")
    save_model(handed, tmp_path / "b.skf")
    again = load_model(tmp_path / "b.skf")
    np.testing.assert_array_equal(again.predict_proba(X), handed.predict_proba(X))
    before = fitted.client_estimator("b").theta_.copy()
    handed.partial_fit(X[clients == "b"], y[clients == "b"])
    assert not np.array_equal(handed.theta_, before)
    np.testing.assert_array_equal(fitted.client_estimator("b").theta_, before)


def test_at_a_site_there_is_one_client(fitted):
    X, y, clients = opposite()
    mine = clients == "b"
    site = PersonalizedClassifier(FrozenEstimator(fitted.estimator_), random_state=0)
    site.fit(X[mine], y[mine])
    assert site.shares_.shape == (1,)
    own = site.client_estimator(site.clients_[0])
    np.testing.assert_array_equal(site.predict(X[mine]), own.predict(X[mine]))
    assert site.score(X[mine], y[mine]) > fitted.estimator_.score(X[mine], y[mine]) + 0.3


def test_weights_of_rows_count():
    X, y, clients = opposite(50)
    rows = np.arange(len(y)) < 40
    one = PersonalizedClassifier(GLOBAL, random_state=0).fit(
        X[rows], y[rows], clients=clients[rows]
    )
    two = clone(one).fit(X, y, clients=clients, sample_weight=rows.astype(float))
    np.testing.assert_array_equal(one.shares_, two.shares_)
    np.testing.assert_allclose(one.thetas_, two.thetas_, rtol=1e-4, atol=1e-6)


def test_other_losses_and_no_class_weights():
    X, y = load_iris(return_X_y=True)
    X, clients = (X - X.mean(0)) / X.std(0), np.arange(len(y)) % 3
    for loss in ("cross_entropy", "ldam", "logit_adjusted", "sample_dependent_focal"):
        model = PersonalizedClassifier(
            FederatedClassifier((8,), loss=loss, n_rounds=20, random_state=0), random_state=0
        ).fit(X, y, clients=clients)
        assert model.score(X, y, clients=clients) > 0.8


@pytest.mark.parametrize("shares", [[], [0.0, 0.5], [1.5], "all", [[0.5]], [np.nan]])
def test_refuses_shares_that_are_none(shares):
    X, y, clients = opposite(10)
    with pytest.raises(ValueError, match="shares"):
        PersonalizedClassifier(GLOBAL, shares=shares).fit(X, y, clients=clients)


def test_refuses_to_put_models_without_noise_beside_a_private_one():
    pytest.importorskip("dp_accounting")
    from skfedfocal.privacy import ExampleLevelDP

    X, y, clients = opposite(20)
    private = FedFocalClassifier((4,), n_rounds=2, privacy=ExampleLevelDP(noise_multiplier=1.0))
    with pytest.raises(ValueError, match="cannot go with PersonalizedClassifier"):
        PersonalizedClassifier(private).fit(X, y, clients=clients)
    private.fit(X, y, clients=clients)
    mine = clients == "a"
    own = PersonalizedClassifier(FrozenEstimator(private)).fit(X[mine], y[mine])
    np.testing.assert_array_equal(own.estimator_.theta_, private.theta_)


def test_refuses_estimators_of_other_kinds():
    X, y, clients = opposite(10)
    with pytest.raises(TypeError, match="federated classifier of skfedfocal"):
        PersonalizedClassifier(StandardScaler()).fit(X, y, clients=clients)


def test_a_failed_fit_leaves_the_estimator_as_it_was(fitted):
    X, y, clients = opposite(10)
    before = dict(vars(fitted))
    with pytest.raises(ValueError, match="NaN"):
        fitted.fit(np.where(X > 1, np.nan, X), y, clients=clients)
    assert vars(fitted).keys() == before.keys()
    assert all(vars(fitted)[name] is before[name] for name in before)
