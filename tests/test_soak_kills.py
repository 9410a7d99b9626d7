"""Trainings drawn at random, killed at random moments, go on to the uninterrupted bits."""

import multiprocessing
import os
import signal
import time
from collections import Counter

import numpy as np
import pytest
import torch
from oracles import federation
from sklearn.base import clone
from sklearn.model_selection import GroupKFold

from skfedfocal import FederatedClassifier, FedFocalClassifier, FedFocalClassifierCV
from skfedfocal.aggregation import AGGREGATORS
from skfedfocal.losses import LDAMLoss
from skfedfocal.selection import SELECTIONS
from skfedfocal.strategies import STRATEGIES

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system"),
]
N_KILLS = 50
X, y, CLIENTS = federation([20, 9, 14, 30, 8, 12, 25, 6])


def drawn(rng):
    """Any classifier: state in the strategy, selection, averaging, early stopping, the search."""

    def one_of(*values):
        return values[rng.integers(len(values))]

    kind = one_of(FedFocalClassifier, FederatedClassifier, FedFocalClassifierCV, "private")
    shared = {
        "hidden_layer_sizes": (8,),
        "strategy": one_of(*sorted(STRATEGIES)),
        "learning_rate": 0.03,
        "batch_size": int(rng.integers(3, 20)),
        "n_local_epochs": int(rng.integers(1, 3)),
        "average_rounds": int(rng.integers(1, 5)),
        "engine": one_of("loop", "vectorized"),
        "n_rounds": int(rng.integers(20, 60)),
        "random_state": int(rng.integers(100)),
    }
    if kind == "private":
        privacy = pytest.importorskip("skfedfocal.privacy")
        mechanism = one_of(
            privacy.ExampleLevelDP(2.0, noise="seeded"),  # else no two trainings are alike
            privacy.ClientLevelDP(1.0, trust="server", noise="seeded"),
        )
        return FedFocalClassifier(
            **shared,
            privacy=mechanism,
            class_weight=None,
            client_gamma=0.0,
            numeric_encoding=None,
        )
    aggregation = one_of("mean", *sorted(AGGREGATORS))
    shared |= {
        "selection": one_of(*sorted(SELECTIONS)),
        "clients_per_round": one_of(1.0, 4),
        "momentum": one_of(0.0, 0.9),
        "aggregation": aggregation,
    }
    if one_of(True, False):
        shared |= {"early_stopping": True, "average_rounds": 1, "n_iter_no_change": 30}
    if kind is FederatedClassifier:
        return FederatedClassifier(**shared, loss=one_of("cross_entropy", "focal", LDAMLoss()))
    shared["client_gamma"] = one_of(0.0, 1.0) if aggregation == "mean" else 0.0
    if kind is FedFocalClassifierCV:
        return FedFocalClassifierCV(
            **shared,
            gammas=(1.0, 0.0, 3.0),
            cv=one_of(2, GroupKFold(3)),
            racing=one_of(True, False),
        )
    return FedFocalClassifier(**shared, class_weight=one_of("balanced", "local", "estimated", None))


def train(estimator, path):
    """In a process of its own."""
    torch.set_num_threads(1)
    estimator.fit(X, y, clients=CLIENTS, checkpoint=path)


def assert_same(found, wanted, n_kills):
    np.testing.assert_array_equal(found.theta_, wanted.theta_)
    assert found.failures_ == wanted.failures_
    hidden = {"seconds"}
    if hasattr(wanted, "privacy_"):  # a round that was killed may count twice, and never not
        hidden |= {"epsilon"}
        spent = [sum(e["steps"] for e in m.privacy_["events"]) for m in (wanted, found)]
        rounds = max(e["steps"] for e in wanted.privacy_["events"]) // wanted.n_iter_
        assert spent[0] <= spent[1] <= spent[0] + n_kills * rounds
        assert found.epsilon_ >= wanted.epsilon_
    histories = [
        {name: column for name, column in fitted.history_.items() if name not in hidden}
        for fitted in (found, wanted)
    ]
    np.testing.assert_equal(*histories)
    if hasattr(wanted, "cv_results_"):
        np.testing.assert_equal(found.cv_results_, wanted.cv_results_)
        assert found.best_params_ == wanted.best_params_


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_fifty_kills_at_random_moments(tmp_path, capsys):
    """Where a training dies is drawn from all the time that it takes."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["skfedfocal._estimators.classifier_cv", "oracles"])
    rng = np.random.default_rng(0)
    ended, n_kills, n_before = Counter(), 0, 0
    while n_kills < N_KILLS:
        estimator, path = drawn(rng), tmp_path / str(sum(ended.values()))
        clone(estimator).fit(X, y, clients=CLIENTS, checkpoint=tmp_path / "warm")
        os.unlink(tmp_path / "warm")
        began = time.monotonic()
        straight = clone(estimator).fit(X, y, clients=CLIENTS, checkpoint=tmp_path / "straight")
        took = time.monotonic() - began
        os.unlink(tmp_path / "straight")
        killed = 0
        for _ in range(int(rng.integers(1, 5))):
            process = processes.Process(target=train, args=(clone(estimator), path))
            process.start()
            # From its first byte, which a process needs a while for, or a little before that.
            until = time.monotonic() + 60
            start = rng.random() < 0.1
            while not (start or path.exists() or process.exitcode is not None):
                assert time.monotonic() < until
                time.sleep(0.002)
            process.join(rng.uniform(0, took))
            if process.exitcode is None:
                process.kill()
                process.join()
                killed += 1
                n_before += not path.exists()
            assert process.exitcode in (0, -signal.SIGKILL)
            process.close()
        resumed = clone(estimator).fit(X, y, clients=CLIENTS, checkpoint=path)
        assert_same(resumed, straight, killed)
        n_kills += killed
        ended[
            type(estimator).__name__ + (", private" if hasattr(straight, "privacy_") else "")
        ] += 1
    with capsys.disabled():
        print(
            f"\n{n_kills} kills of {sum(ended.values())} trainings, {n_before} before a first file"
        )
        for name, number in sorted(ended.items()):
            print(f"{number:4d} {name}: resumed to the uninterrupted bits")
    assert len(ended) == 4
