"""A search that is interrupted, refused, or whose folds leave clients without rows."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles import federation
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold

from skfedfocal import FedFocalClassifier, FedFocalClassifierCV
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.rows import FederatedRows
from skfedfocal._estimators import classifier_cv
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal._training import standing
from skfedfocal._training.assembly import Setup, assemble
from skfedfocal._training.parts import resolve_parts
from skfedfocal._training.search import Run, balanced_accuracy, right
from skfedfocal._training.state import TrainingState
from skfedfocal.engines import ManyFederations, VectorizedEngine

X, y, CLIENTS = federation([9, 4, 14, 6, 8])
SETTINGS = {"hidden_layer_sizes": (3,), "n_rounds": 8, "random_state": 0}


@pytest.mark.parametrize("n_selected", [1, 2])
@pytest.mark.parametrize("racing", [True, False])
@pytest.mark.parametrize("selection", ["uniform", "focal", "category_coverage"])
def test_folds_by_client_with_few_clients_in_a_round(n_selected, racing, selection):
    """Whoever is selected but held out altogether has nothing to train on."""
    clf = FedFocalClassifierCV(
        **SETTINGS,
        gammas=(0.0, 1.0),
        cv=GroupKFold(3),
        clients_per_round=n_selected,
        racing=racing,
        selection=selection,
    ).fit(X, y, clients=CLIENTS)
    assert np.isfinite(clf.cv_results_["mean_test_score"]).all()
    assert clf.n_iter_ == 8


@pytest.mark.parametrize("params", [{}, {"momentum": 0.5}, {"weight_decay": 0.1}], ids=str)
@pytest.mark.parametrize("strategy", ["fedavg", "fedprox"])
def test_candidates_do_train_side_by_side(monkeypatch, strategy, params):
    """Clients have unequal numbers of rows, so that some are done before others of a block."""

    def alone(*args):
        raise AssertionError("by itself")

    monkeypatch.setattr(ManyFederations, "_alone", alone)
    monkeypatch.setattr(ManyFederations, "train", ManyFederations._side_by_side)
    clf = FedFocalClassifierCV(
        **SETTINGS, gammas=(0.0, 1.0), cv=2, batch_size=3, strategy=strategy, **params
    ).fit(X, y, clients=CLIENTS)
    assert np.isfinite(clf.cv_results_["mean_test_score"]).all()


def interrupted_in(monkeypatch, kind, number):
    """Ctrl-C in that call of `train`, after its first replies."""
    train, calls = kind.train, [0]

    def dies(self, *args):
        calls[0] += 1
        for reply in train(self, *args):
            if calls[0] == number:
                raise KeyboardInterrupt
            yield reply

    monkeypatch.setattr(kind, "train", dies)


def interrupted_at(monkeypatch, number):
    """Ctrl-C in that judgement; returns the models that were judged."""
    judge, seen = classifier_cv.balanced_accuracy, []

    def watched(run, *args):
        if len(seen) + 1 == number:
            raise KeyboardInterrupt
        seen.append((run.candidate, run.state.server.theta.numpy().copy()))
        return judge(run, *args)

    monkeypatch.setattr(classifier_cv, "balanced_accuracy", watched)
    return seen


@pytest.mark.parametrize("number", [7, 8, 10])
def test_interrupt_in_the_search_keeps_the_leaders_model(monkeypatch, number):
    """All candidates have been judged on both folds once."""
    clf = FedFocalClassifierCV(**{**SETTINGS, "n_rounds": 12}, gammas=(1.0, 0.0, 5.0), cv=2)
    seen = interrupted_at(monkeypatch, number)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y, clients=CLIENTS)
    assert len(seen) == number - 1
    assert clf.classes_.tolist() == [0, 1, 2]
    assert clf.best_params_["gamma"] == [1.0, 0.0, 5.0][clf.best_index_]
    assert np.isfinite(clf.cv_results_["mean_test_score"]).all()
    assert clf.predict(X).shape == y.shape
    assert clf.loss_.gamma == clf.gamma_


@pytest.mark.parametrize("number", [1, 2, 6])
def test_interrupt_before_all_are_judged_leaves_nothing(monkeypatch, number):
    clf = FedFocalClassifierCV(**{**SETTINGS, "n_rounds": 12}, gammas=(1.0, 0.0, 5.0), cv=2)
    interrupted_at(monkeypatch, number)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y, clients=CLIENTS)
    assert not hasattr(clf, "theta_")
    assert not hasattr(clf, "best_params_")


def test_interrupt_in_the_final_training_keeps_the_last_round(monkeypatch):
    clf = FedFocalClassifierCV(**SETTINGS, gammas=(1.0, 5.0), cv=2)
    chosen = clone(clf).fit(X, y, clients=CLIENTS)
    interrupted_in(monkeypatch, VectorizedEngine, 4)
    # The folds are of more clients than a block here has, and would train by this engine too.
    monkeypatch.setattr(ManyFederations, "train", ManyFederations._side_by_side)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y, clients=CLIENTS)
    monkeypatch.undo()
    assert clf.best_params_ == chosen.best_params_
    assert clf.n_iter_ == len(clf.history_["loss"]) == 3
    straight = FedFocalClassifier(**{**SETTINGS, "n_rounds": 3}, gamma=chosen.gamma_)
    np.testing.assert_array_equal(clf.theta_, straight.fit(X, y, clients=CLIENTS).theta_)


@pytest.mark.parametrize(
    "params",
    [
        {"early_stopping": True, "average_rounds": 2},
        {"aggregation": "krum"},  # beside client focusing
        {"gammas": (1.0, -1.0)},
        {"class_weights": ("balanced", {0: -1.0})},
        {"class_weights": ("balanced", "unknown")},
        {"gammas": ()},
    ],
    ids=str,
)
def test_parameters_that_cannot_go_together_are_found_before_any_training(monkeypatch, params):
    def never(*args):
        raise AssertionError("trained")

    monkeypatch.setattr(standing, "train_together", never)
    clf = FedFocalClassifierCV(**SETTINGS, cv=2, **params)
    with pytest.raises(InvalidParameterError):
        clf.fit(X, y, clients=CLIENTS)
    with pytest.raises(InvalidParameterError):  # before the rows are looked at
        clf.fit(None, None)


@pytest.mark.parametrize("n_classes", [3, 4])  # the fourth has no row at all
def test_a_candidates_score_is_that_on_all_rows_held_out(n_classes):
    """By the predictions on all held-out rows, as if they lay in one place."""
    clf = FedFocalClassifier(**{**SETTINGS, "n_rounds": 2}, class_weight=None, client_gamma=0)
    clf.partial_fit(X, y, clients=CLIENTS, classes=np.arange(n_classes))
    layout = ClientLayout.from_ids(CLIENTS, len(X))
    keep = np.random.default_rng(0).random(len(X)) < 0.5
    kind, device = torch.float32, torch.device("cpu")
    rows = FederatedRows(X, y, None, layout.restrict(keep), n_classes, kind, device)
    parts = resolve_parts(clf, clf.loss_, None)
    engine = VectorizedEngine(clf.module_, rows)
    setup = Setup(np.arange(n_classes), layout.ids, X.shape[1:], None, seed=0)
    federation, server, population = assemble(clf, parts, engine, clf.module_, setup, (None, 0))
    server = replace(server, theta=torch.from_numpy(clf.theta_))
    run = Run(0, 0, federation, TrainingState(server), population)
    many = SimpleNamespace(engines=[engine])
    found, _ = balanced_accuracy(run, right(run, many, rows), many, rows)
    held_out, predicted = y[keep], clf.predict(X[keep])
    assert found == pytest.approx(balanced_accuracy_score(held_out, predicted))
