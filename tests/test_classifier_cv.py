"""FedFocalClassifierCV: against scikit-learn's grid search over the same folds."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, GroupKFold, PredefinedSplit
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

from skfedfocal import FedFocalClassifier, FedFocalClassifierCV, dirichlet_partition
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal._training.folds import stratified_folds
from skfedfocal._training.search import Run, balanced_accuracy, race, right
from skfedfocal._training.standing import clearly_better
from skfedfocal.engines import LoopEngine
from skfedfocal.losses import CrossEntropyLoss

GAMMAS = (0.0, 1.0, 3.0)


def mlp(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 8), nn.Tanh(), nn.Linear(8, n_classes)).double()


@pytest.fixture
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    keep = np.r_[np.flatnonzero(y == 1), np.flatnonzero(y == 0)[:30]]
    X, y, clients = X[keep], y[keep], dirichlet_partition(y[keep], 6, random_state=0)
    # Client by client, so that clients first appear in the same order in every part of the rows.
    order = np.argsort(clients, kind="stable")
    return X[order], y[order], clients[order]


def folds_of(model, y, clients):
    layout = ClientLayout.from_ids(clients, len(y))
    _, codes = np.unique(y, return_inverse=True)
    return stratified_folds(model.seed_, layout, codes, codes.max() + 1, model.cv)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clients_per_round": 0.5, "strategy": "fedadam"},
        {"client_gamma": 1.0, "class_weights": ("local",)},
        {"n_local_epochs": 2, "momentum": 0.5, "hidden_layer_sizes": ()},
    ],
)
def test_scores_are_those_of_a_grid_search_over_the_same_folds(cancer, settings):
    X, y, clients = cancer
    wanted = {"n_rounds": 4, "random_state": 3, "module": mlp, **settings}
    model = FedFocalClassifierCV(gammas=GAMMAS, cv=3, racing=False, **wanted)
    model.fit(X, y, clients=clients)
    class_weight = wanted.pop("class_weights", ("balanced",))[0]
    grid = GridSearchCV(
        FedFocalClassifier(class_weight=class_weight, **wanted),
        {"gamma": list(GAMMAS)},
        cv=PredefinedSplit(folds_of(model, y, clients)),
    ).fit(X, y, clients=clients)
    for fold in range(3):
        np.testing.assert_allclose(
            model.cv_results_[f"split{fold}_test_score"],
            grid.cv_results_[f"split{fold}_test_score"],
            atol=1e-12,
        )
    # The best, or the first where that does not lead it by more than two standard errors.
    scores = np.array([grid.cv_results_[f"split{fold}_test_score"] for fold in range(3)])
    lead = scores[:, grid.best_index_] - scores[:, 0]
    clear = lead.mean() > 2 * lead.std(ddof=1) / np.sqrt(3)
    assert model.best_index_ in ([0, grid.best_index_] if clear else [0])
    assert model.gamma_ == GAMMAS[model.best_index_]
    chosen = grid.estimator.set_params(gamma=model.gamma_).fit(X, y, clients=clients)
    np.testing.assert_allclose(model.theta_, chosen.theta_, atol=1e-10)
    np.testing.assert_allclose(model.predict_proba(X), chosen.predict_proba(X), atol=1e-10)


def test_candidates_of_any_module_train_as_by_themselves():
    X, y = load_digits(return_X_y=True)
    X, y = X[:120].reshape(-1, 1, 8, 8) / 16, y[:120]
    clients = np.arange(120) % 3
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 10)).double()
    model = FedFocalClassifierCV(
        gammas=(0.0, 2.0), cv=2, racing=False, module=module, n_rounds=2, random_state=0
    ).fit(X, y, clients=clients)
    fold = folds_of(model, y, clients)
    for gamma, row in zip((0.0, 2.0), range(2), strict=True):
        for f in range(2):
            alone = FedFocalClassifier(gamma=gamma, module=module, n_rounds=2, random_state=0)
            alone.fit(X[fold != f], y[fold != f], clients=clients[fold != f])
            score = alone.score(X[fold == f], y[fold == f])
            found = model.cv_results_[f"split{f}_test_score"][row]
            np.testing.assert_allclose(found, score, atol=1e-12)


def test_a_gamma_for_each_class_is_searched_too():
    X, y = load_digits(return_X_y=True)
    X, y = X[y < 3] / 16, y[y < 3]
    clients = np.arange(len(y)) // 200
    gammas = ([0.0, 1.0, 2.0], 1.0, [5.0, 1.0, 0.0])
    settings = {"module": mlp, "n_rounds": 3, "random_state": 0}
    model = FedFocalClassifierCV(gammas=gammas, cv=2, racing=False, **settings)
    model.fit(X, y, clients=clients)
    fold = folds_of(model, y, clients)
    for row, gamma in enumerate(gammas):
        np.testing.assert_array_equal(model.cv_results_["param_gamma"][row], gamma)
        for f in range(2):
            alone = FedFocalClassifier(gamma=gamma, **settings)
            alone.fit(X[fold != f], y[fold != f], clients=clients[fold != f])
            score = alone.score(X[fold == f], y[fold == f])
            found = model.cv_results_[f"split{f}_test_score"][row]
            np.testing.assert_allclose(found, score, atol=1e-12)

    array = FedFocalClassifierCV(gammas=np.array(gammas[::2]), cv=2, **settings)
    array.fit(X, y, clients=clients)
    np.testing.assert_array_equal(array.gamma_, gammas[::2][array.best_index_])
    np.testing.assert_array_equal(array.best_params_["gamma"], array.gamma_)
    chosen = FedFocalClassifier(gamma=array.gamma_, **settings).fit(X, y, clients=clients)
    np.testing.assert_array_equal(array.predict_proba(X), chosen.predict_proba(X))
    with pytest.raises(ValueError, match="gamma has 2 entries but there are 3 classes"):
        FedFocalClassifierCV(gammas=[[1.0, 2.0]], **settings).fit(X, y, clients=clients)


@pytest.mark.parametrize("agreement", [0.0, 0.7, 0.95])
def test_variance_of_a_lead_is_that_of_rows_drawn_anew(agreement):
    """Of two candidates that are right on the same rows mostly, whose scores vary together."""
    counts, recalls, rng = np.array([300, 80, 30]), [0.8, 0.6, 0.5], np.random.default_rng(0)
    y = np.repeat(np.arange(3), counts)
    layout = ClientLayout.from_ids(rng.integers(4, size=len(y)), len(y))
    module = nn.Linear(6, 3, bias=False)
    plan = LocalPlan(CrossEntropyLoss(), None, None, 1, 32, 0.1, 0.0, 0.0, 0.0, 0)
    left = torch.eye(3, 6)  # the module decides for what one half of a row says
    runs = [
        Run(i, 0, SimpleNamespace(plan=plan), as_state(half.flatten()), None)
        for i, half in enumerate([left, left.roll(3, 1)])
    ]
    leads, variances = [], []
    for _ in range(400):
        hits = rng.random((2, len(y))) < np.repeat(recalls, counts)
        hits[1] = np.where(rng.random(len(y)) < agreement, hits[0], hits[1])
        found = np.where(hits, y, (y + 1) % 3)
        X = np.concatenate([np.eye(3, dtype=np.float32)[one] for one in found], axis=1)
        rows = FederatedRows(X, y, None, layout, 3, torch.float32, torch.device("cpu"))
        many = SimpleNamespace(engines=[LoopEngine(module, rows)])
        first = right(runs[0], many, rows)
        score, _ = balanced_accuracy(runs[0], first, many, rows)
        other, variance = balanced_accuracy(runs[1], first, many, rows)
        assert score == pytest.approx(balanced_accuracy_score(y, found[0]))
        assert other == pytest.approx(balanced_accuracy_score(y, found[1]))
        leads.append(other - score)
        variances.append(variance)
    a_row_more = np.sum(1.0 / counts**2) / 9  # as if in each class one row more were in doubt
    assert 0.85 * np.var(leads) < np.mean(variances) < 1.2 * np.var(leads) + a_row_more


def as_state(theta):
    return SimpleNamespace(server=SimpleNamespace(theta=theta))


@pytest.mark.parametrize(
    ("lead", "chance", "clear"),
    [
        ([0.05, 0.06, 0.04], [1e-5, 1e-5, 1e-5], True),
        ([0.05, 0.06, 0.04], [4e-3, 4e-3, 4e-3], False),  # all folds agree, but on a few rows
        ([0.25, 0.01, -0.1], [1e-5, 1e-5, 1e-5], False),  # many rows, but the folds disagree
        ([0.05], [1e-5], True),
        ([0.05], [4e-3], False),
        ([0.0, 0.0], [0.0, 0.0], False),
    ],
)
def test_a_lead_is_clear_by_folds_and_by_rows(lead, chance, clear):
    assert clearly_better(np.array(lead), np.array(chance)) == clear


def test_class_weights_are_searched_too(cancer):
    X, y, clients = cancer
    model = FedFocalClassifierCV(
        gammas=(0.0, 2.0),
        class_weights=(None, "balanced", {1: 0.5}),
        n_rounds=3,
        racing=False,
        random_state=0,
    ).fit(X, y, clients=clients)
    assert len(model.cv_results_["mean_test_score"]) == 6
    best = model.cv_results_["rank_test_score"].argmin()
    assert model.best_params_ == {
        "gamma": model.cv_results_["param_gamma"][best],
        "class_weight": model.cv_results_["param_class_weight"][best],
    }
    assert model.best_score_ == model.cv_results_["mean_test_score"].max()


LISTS = {
    "learning_rate": ("learning_rates", (0.1, 0.02, 0.3)),
    "logit_adjustment": ("logit_adjustments", (0.6, 0.0, 1.0)),
    "client_gamma": ("client_gammas", (1.0, 0.0)),
}


@pytest.mark.parametrize("names", [["learning_rate"], ["client_gamma"], list(LISTS)])
def test_other_parameters_are_searched_as_a_grid_search_would(cancer, names):
    X, y, clients = cancer
    wanted = {"n_rounds": 3, "random_state": 3, "module": mlp}
    lists = dict(LISTS[name] for name in names)
    model = FedFocalClassifierCV(gammas=(1.0,), cv=2, racing=False, **lists, **wanted)
    model.fit(X, y, clients=clients)
    grid = GridSearchCV(
        FedFocalClassifier(gamma=1.0, **wanted),
        {name: LISTS[name][1] for name in names},
        cv=PredefinedSplit(folds_of(model, y, clients)),
        scoring="balanced_accuracy",
        refit=False,
    ).fit(X, y, clients=clients)
    by_params = {
        tuple(params[name] for name in names): score
        for params, score in zip(
            grid.cv_results_["params"], grid.cv_results_["mean_test_score"], strict=True
        )
    }
    found = zip(*(model.cv_results_[f"param_{name}"] for name in names), strict=True)
    expected = [by_params[tuple(values)] for values in found]
    assert len(expected) == len(by_params)
    np.testing.assert_allclose(model.cv_results_["mean_test_score"], expected, atol=0.02)


def test_what_was_chosen_is_what_is_trained(cancer):
    """Steps of a hundredth learn nothing in three rounds, and their lead is clear."""
    X, y, clients = cancer
    wanted = {"n_rounds": 3, "random_state": 3, "module": mlp, "gammas": (1.0,)}
    lists = {"learning_rates": (1e-4, 0.1), "client_gammas": (1.0, 0.0)}
    model = FedFocalClassifierCV(**lists, **wanted).fit(X, y, clients=clients)
    assert model.best_params_["learning_rate"] == 0.1
    assert model.get_params()["learning_rate"] == 0.1
    chosen = {name: model.best_params_[name] for name in ("learning_rate", "client_gamma")}
    del wanted["gammas"]
    alone = FedFocalClassifier(gamma=1.0, **chosen, **wanted).fit(X, y, clients=clients)
    np.testing.assert_array_equal(model.theta_, alone.theta_)
    slow = FedFocalClassifierCV(**{**lists, "learning_rates": (1e-4,)}, gammas=(1.0,), n_rounds=3)
    slow.set_params(random_state=3, module=mlp).fit(X, y, clients=clients)
    assert slow.best_params_["learning_rate"] == 1e-4
    assert np.abs(slow.theta_ - model.theta_).max() > 0.01


def test_one_who_leads_a_race_proves_it_over_all_rounds(cancer):
    X, y, clients = cancer
    model = FedFocalClassifierCV(
        gammas=(1.0,), learning_rates=(1e-4, 0.1, 0.05), n_rounds=12, random_state=3
    ).fit(X, y, clients=clients)
    n_rounds = model.cv_results_["n_rounds"]
    assert model.best_index_ in (1, 2)
    assert n_rounds[0] == n_rounds[model.best_index_] == 12
    assert n_rounds[3 - model.best_index_] < 12
    alike = FedFocalClassifierCV(gammas=(1.0, 1.0, 1.0), n_rounds=12, random_state=3).fit(
        X, y, clients=clients
    )  # where nobody leads, nobody need
    assert alike.best_index_ == 0
    assert alike.cv_results_["n_rounds"].max() < 12


def test_a_splitter_may_hold_out_whole_clients(cancer):
    X, y, clients = cancer
    model = FedFocalClassifierCV(
        gammas=(0.0, 2.0), cv=GroupKFold(3), n_rounds=3, racing=False, module=mlp, random_state=1
    ).fit(X, y, clients=clients)
    numbers = ClientLayout.from_ids(clients, len(y)).codes()
    splits = list(GroupKFold(3).split(X, y, groups=numbers))
    grid = GridSearchCV(
        FedFocalClassifier(n_rounds=3, module=mlp, random_state=1), {"gamma": [0.0, 2.0]}, cv=splits
    ).fit(X, y, clients=clients)
    assert model.gamma_ in (0.0, 2.0)
    assert model.cv_results_["mean_test_score"].shape == (2,)
    # Client numbers differ where whole clients are missing, so only the shuffles do.
    np.testing.assert_allclose(
        model.cv_results_["mean_test_score"], grid.cv_results_["mean_test_score"], atol=0.15
    )


def test_a_race_takes_fewer_rounds_and_ranks_those_first_that_came_furthest(cancer):
    X, y, clients = cancer
    model = FedFocalClassifierCV(gammas=(0, 0.5, 1, 2, 5), n_rounds=20, random_state=0)
    model.fit(X, y, clients=clients)
    rounds, rank = model.cv_results_["n_rounds"], model.cv_results_["rank_test_score"]
    assert sorted(rounds) == [3, 3, 6, 9, 9]
    assert rounds[rank.argmin()] == 9
    assert (np.diff(rounds[np.argsort(rank)]) <= 0).all()
    assert model.n_iter_ == 20


def test_race_ends_with_one_candidate():
    for n_candidates in range(2, 40):
        stages = race(n_candidates, 100)
        assert stages[-1][1] == 1
        left = [n_candidates, *(n for _, n in stages)]
        assert all(b == (a + 1) // 2 for a, b in pairwise(left))
        assert sum(n for n, _ in stages) < 100
        assert {n for n, _ in race(n_candidates, 1)} == {1}  # no stage is empty, nor longer


def test_folds_are_even_on_each_client_and_in_each_class():
    rng = np.random.default_rng(0)
    y, clients = rng.integers(0, 3, 400), rng.integers(0, 7, 400)
    fold = stratified_folds(5, ClientLayout.from_ids(clients, 400), y, 3, 4)
    for client in range(7):
        for label in range(3):
            counts = np.bincount(fold[(clients == client) & (y == label)], minlength=4)
            assert counts.max() - counts.min() <= 1


def test_folds_use_every_fold_where_clients_have_single_rows():
    y = np.arange(60) % 2
    fold = stratified_folds(0, ClientLayout.from_ids(np.arange(60), 60), y, 2, 3)
    assert (np.bincount(fold, minlength=3) == 20).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"gammas": ()},
        {"gammas": (1.0, -1.0)},
        {"class_weights": ()},
        {"learning_rates": ()},
        {"learning_rates": (0.1, 0.0)},
        {"client_gammas": (1.0, -1.0)},
        {"logit_adjustments": (0.5, 1.5)},
        {"class_weights": ("balanced", "even")},
        {"cv": 1},
    ],
)
def test_wrong_parameters_are_refused(cancer, wrong):
    X, y, clients = cancer
    with pytest.raises(InvalidParameterError):
        FedFocalClassifierCV(**wrong).fit(X, y, clients=clients)


def test_it_has_no_partial_fit():
    assert not hasattr(FedFocalClassifierCV(), "partial_fit")
