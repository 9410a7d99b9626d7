"""Early stopping: every model is judged on the same rows, also the last; the best is kept."""

import numpy as np
import pytest
import torch
from oracles import federation, mlp64
from sklearn.base import clone
from sklearn.datasets import load_digits

from skfedfocal import FederatedClassifier, FedFocalClassifier, dirichlet_partition
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.validation import validation_rows
from skfedfocal._training.training import Training
from skfedfocal.engines import ValidationLoss

X, y, CLIENTS = federation([12, 9, 14, 10, 8])
SETTINGS = {
    "module": mlp64(hidden=(3,)),
    "early_stopping": True,
    "validation_fraction": 0.3,
    "random_state": 0,
}


def held_out(seed):
    layout = ClientLayout.from_ids(CLIENTS, len(y))
    return validation_rows(seed, layout, y, 3, SETTINGS["validation_fraction"])


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
@pytest.mark.parametrize("n_rounds", [1, 2, 7])
def test_validation_loss_is_that_of_the_model_that_the_round_ended_with(engine, n_rounds):
    """By hand, on the rows held out; among all clients, whoever trained."""
    clf = FederatedClassifier(
        **SETTINGS, n_rounds=n_rounds, clients_per_round=2, engine=engine, n_iter_no_change=99
    ).fit(X, y, clients=CLIENTS)
    rows = held_out(clf.seed_)
    last = mlp64(hidden=(3,))
    torch.nn.utils.vector_to_parameters(
        torch.as_tensor(clf.training_state_["theta"]), last.parameters()
    )
    with torch.no_grad():
        logits = last(torch.as_tensor(X[rows]))
        loss = torch.nn.functional.cross_entropy(logits, torch.as_tensor(y[rows])).item()
    assert clf.history_["validation_loss"][-1] == pytest.approx(loss, rel=1e-9)
    # And it is not trained on them.
    assert clf.client_sizes_.sum() == (~rows).sum()


def test_the_model_kept_is_that_of_least_validation_loss():
    clf = FederatedClassifier(
        **SETTINGS, n_rounds=40, learning_rate=1.0, n_local_epochs=3, n_iter_no_change=99, tol=0.0
    ).fit(X, y, clients=CLIENTS)
    best = int(np.argmin(clf.history_["validation_loss"]))
    assert 0 < best < 39  # it has turned
    until_then = clone(clf).set_params(n_rounds=best + 1).fit(X, y, clients=CLIENTS)
    np.testing.assert_array_equal(clf.theta_, until_then.theta_)
    np.testing.assert_array_equal(clf.theta_, until_then.training_state_["theta"])


def test_one_round_gives_the_model_after_it():
    clf = FederatedClassifier(**SETTINGS, n_rounds=1).fit(X, y, clients=CLIENTS)
    initial = torch.nn.utils.parameters_to_vector(mlp64(hidden=(3,)).parameters())
    assert np.abs(clf.theta_ - initial.detach().numpy()).max() > 1e-3
    np.testing.assert_array_equal(clf.theta_, clf.training_state_["theta"])


def test_partial_fit_is_refused():
    clf = FederatedClassifier(**SETTINGS)
    with pytest.raises(ValueError, match=r"partial_fit .*early_stopping=False"):
        clf.partial_fit(X, y, clients=CLIENTS)
    assert not hasattr(clf, "theta_")


@pytest.mark.parametrize(
    ("losses", "n_iter_no_change", "tol", "n_rounds", "kept"),
    [
        ([5, 4, 3, 2, 1], 1, 0.0, 5, 5),
        ([5, 4, 4, 4, 1], 2, 0.0, 4, 2),  # equal is no fall
        ([5, 4, 4, 3, 3, 3, 1], 2, 0.0, 6, 4),
        ([5, 4.5, 4.1, 3.0], 2, 1.0, 3, 1),  # falls, but by less than tol from the best
        ([5, 4.5, 3.9, 3.8, 3.7], 2, 1.0, 5, 3),
        ([5, 6, 7, 1], 3, 0.0, 4, 4),
        ([5, 6, 7, 1], 2, 0.0, 3, 1),
        ([5, 5.5, 4.9], 1, 0.5, 2, 1),
        ([5, np.nan, 4, np.nan, np.nan], 2, 0.0, 5, 3),
    ],
)
def test_patience_by_hand(monkeypatch, losses, n_iter_no_change, tol, n_rounds, kept):
    def scripted(training, engine):
        return losses[training.state.server.n_rounds - 1]

    monkeypatch.setattr(Training, "_validation_loss", scripted)
    clf = FederatedClassifier(
        **SETTINGS, n_rounds=len(losses), n_iter_no_change=n_iter_no_change, tol=tol
    ).fit(X, y, clients=CLIENTS)
    assert clf.n_iter_ == len(clf.history_["loss"]) == n_rounds
    np.testing.assert_array_equal(clf.history_["validation_loss"], losses[:n_rounds])
    until_then = clone(clf).set_params(n_rounds=kept).fit(X, y, clients=CLIENTS)
    np.testing.assert_array_equal(clf.theta_, until_then.training_state_["theta"])


def test_history_counts_what_validation_costs():
    clf = FederatedClassifier(**SETTINGS, n_rounds=3, clients_per_round=2)
    clf.fit(X, y, clients=CLIENTS)
    without = clone(clf).set_params(early_stopping=False).fit(X, y, clients=CLIENTS)
    n_bytes = clf.theta_.nbytes
    more_down = clf.history_["bytes_down"] - without.history_["bytes_down"]
    more_up = clf.history_["bytes_up"] - without.history_["bytes_up"]
    np.testing.assert_array_equal(more_down, [5 * n_bytes] * 3)  # to all clients, whoever trained
    np.testing.assert_array_equal(more_up, [5 * 2 * 8] * 3)  # a loss and a weight of each


def test_of_very_many_clients_the_same_ones_are_asked(monkeypatch):
    monkeypatch.setattr("skfedfocal._training.training._PANEL_SIZE", 3)
    asked = []
    judge = ValidationLoss.judge

    def watched(self, predict, rows, clients, plan):
        asked.append(clients.tolist())
        return judge(self, predict, rows, clients, plan)

    monkeypatch.setattr(ValidationLoss, "judge", watched)
    for n_selected, n_asked in ((1, 3), (4, 4)):
        asked.clear()
        clf = FederatedClassifier(**SETTINGS, n_rounds=4, clients_per_round=n_selected)
        clf.fit(X, y, clients=CLIENTS)
        assert len(asked) == 4
        assert len(set(map(tuple, asked))) == 1
        assert len(set(asked[0])) == n_asked


def test_few_clients_in_a_round_do_not_end_a_training_early():
    """A cohort's validation loss says little of another cohort's: all of them are asked."""
    digits, labels = load_digits(return_X_y=True)
    digits = digits / 16
    scores = []
    for seed in range(4):
        clients = dirichlet_partition(labels, 50, alpha=0.1, random_state=seed)
        clf = FedFocalClassifier(clients_per_round=5, n_rounds=60, random_state=seed)
        stopped = clone(clf).set_params(early_stopping=True)
        both = [c.fit(digits, labels, clients=clients) for c in (clf, stopped)]
        scores.append([fitted.score(digits, labels) for fitted in both])
    straight, stopped = np.mean(scores, axis=0)
    assert stopped > straight - 0.05


@pytest.mark.parametrize(
    ("name", "values"),  # there and back: by one of the two, all losses are larger than before
    [
        ("gamma", (5.0, 0.0)),
        ("class_weight", (None, "balanced")),
        ("class_weight", ({1: 3.0}, {1: 1.0})),
        ("logit_adjustment", (1.0, 0.0)),
        ("validation_fraction", (0.2, 0.5)),
    ],
)
@pytest.mark.parametrize("step", [1, -1])
def test_what_was_best_by_another_yardstick_is_no_longer_the_best(name, values, step):
    first, then = values[::step]
    settings = {**SETTINGS, "n_rounds": 4, "n_iter_no_change": 99, "warm_start": True}
    clf = FedFocalClassifier(**settings).set_params(**{name: first}).fit(X, y, clients=CLIENTS)
    clf.set_params(**{name: then}, learning_rate=1e-9).fit(X, y, clients=CLIENTS)
    losses = clf.history_["validation_loss"]
    assert len(losses) == 8
    assert clf.training_state_["best_loss"] == losses[4]


def test_the_best_of_the_rounds_before_stays_the_best_by_the_same_yardstick():
    settings = {**SETTINGS, "n_rounds": 4, "n_iter_no_change": 99}
    clf = FedFocalClassifier(**settings, warm_start=True).fit(X, y, clients=CLIENTS)
    clf.set_params(learning_rate=1e-9).fit(X, y, clients=CLIENTS)
    losses = clf.history_["validation_loss"]
    assert len(losses) == 8
    assert clf.training_state_["best_loss"] == losses[:4].min()  # by tol, nothing was better since
