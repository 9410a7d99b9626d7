"""A training in stages, however it was cut, is the same to the last bit as one without."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import federation
from sklearn.base import clone

from skfedfocal import FedFocalClassifier
from skfedfocal._plain import read_plain
from skfedfocal.aggregation import AGGREGATORS
from skfedfocal.engines import LoopEngine, VectorizedEngine
from skfedfocal.selection import SELECTIONS, CategoryCoverage, FocalSelection
from skfedfocal.strategies import STRATEGIES

X, y, CLIENTS = federation([9, 4, 14, 6, 8])
N_ROUNDS = 6


@st.composite
def classifiers(draw, early_stopping=None):
    """Any strategy with any selection and aggregation, that go together."""
    aggregation = draw(st.sampled_from(sorted(AGGREGATORS)))
    if early_stopping is None:
        early_stopping = draw(st.booleans())
    return FedFocalClassifier(
        hidden_layer_sizes=(3,),
        strategy=draw(st.sampled_from(sorted(STRATEGIES))),
        selection=draw(
            st.sampled_from(
                [*sorted(SELECTIONS), FocalSelection(2.0), CategoryCoverage("balance")],
            )
        ),
        aggregation=aggregation,
        client_gamma=draw(st.sampled_from([0.0, 1.0])) if aggregation == "mean" else 0.0,
        class_weight=draw(st.sampled_from(["balanced", "local", "estimated", "effective", None])),
        clients_per_round=draw(st.sampled_from([3, 1.0])),
        momentum=draw(st.sampled_from([0.0, 0.5])),
        average_rounds=1 if early_stopping else draw(st.integers(1, 4)),
        early_stopping=early_stopping,
        validation_fraction=0.3,
        n_iter_no_change=draw(st.integers(1, 3)),
        tol=draw(st.sampled_from([0.0, 0.05])),
        learning_rate=0.05,
        batch_size=5,
        engine=draw(st.sampled_from(["loop", "vectorized"])),
        n_rounds=N_ROUNDS,
        random_state=draw(st.integers(0, 99)),
    )


def assert_same_training(found, wanted, *, without=()):
    """Bit for bit in all but the wall time, and in what a call of `partial_fit` counts."""
    np.testing.assert_array_equal(found.theta_, wanted.theta_)
    assert found.n_iter_ == wanted.n_iter_
    states = []
    for fitted in (found, wanted):
        state = {k: v for k, v in fitted.training_state_.items() if k not in without}
        assert set(state["history"]) >= {"loss", "bytes_up", "validation_loss"}
        state["history"] = {k: v for k, v in state["history"].items() if k != "seconds"}
        history = {k: v for k, v in fitted.history_.items() if k != "seconds"}
        states.append({**state, "kept": history, "prior": fitted.class_prior_})
    np.testing.assert_equal(*states)
    np.testing.assert_array_equal(found.predict_proba(X), wanted.predict_proba(X))


def straight_of(classifier):
    return clone(classifier).fit(X, y, clients=CLIENTS)


@settings(max_examples=10)
@given(classifiers(), st.lists(st.integers(1, N_ROUNDS - 1), max_size=4, unique=True))
def test_by_warm_start(classifier, cuts):
    straight = straight_of(classifier)
    # A training that early stopping has ended is over, and says so: cuts end before that.
    ends = [*sorted(c for c in cuts if c < straight.n_iter_), N_ROUNDS]
    staged = clone(classifier).set_params(warm_start=True)
    for n_rounds in np.diff(ends, prepend=0):
        staged.set_params(n_rounds=int(n_rounds)).fit(X, y, clients=CLIENTS)
    assert_same_training(staged, straight)


@settings(max_examples=10)
@given(classifiers(early_stopping=False))
def test_by_partial_fit(classifier):
    staged = clone(classifier)
    for _ in range(N_ROUNDS):
        staged.partial_fit(X, y, clients=CLIENTS)
    # The mean over equal calls is one of them, but how many they were is remembered.
    assert_same_training(staged, straight_of(classifier), without={"n_calls"})


class Killed(BaseException):
    """As a KeyboardInterrupt: nothing catches it."""


@contextmanager
def killed_in_round(number, path):
    """Die in the middle of a round, after the first replies; not before there is a file."""

    def dying(train):
        def dies(engine, task):
            for reply in train(engine, task):
                if task.round == number and path.exists():
                    raise Killed
                yield reply

        return dies

    with ExitStack() as patches:
        for engine in (LoopEngine, VectorizedEngine):
            patches.enter_context(patch.object(engine, "train", dying(engine.train)))
        yield


@settings(max_examples=10)
@given(
    classifiers(),
    st.lists(st.integers(0, N_ROUNDS - 1), min_size=1, max_size=3, unique=True),
    st.booleans(),
)
def test_by_death_and_resurrection(classifier, deaths, seeded):
    straight = straight_of(classifier)
    if not seeded:  # then the seed in the file counts, which only a first call draws
        classifier = clone(classifier).set_params(random_state=None)
    with TemporaryDirectory() as folder:
        path = Path(folder, "training")
        drawn = patch("skfedfocal._estimators.training.check_random_state", Seeded(straight.seed_))
        with nullcontext() if seeded else drawn:
            for number in sorted(deaths):
                if number >= straight.n_iter_:
                    continue
                with killed_in_round(number, path), pytest.raises(Killed):
                    clone(classifier).fit(X, y, clients=CLIENTS, checkpoint=path)
            resumed = clone(classifier).fit(X, y, clients=CLIENTS, checkpoint=path)
            # And what has ended is there again.
            again = clone(classifier).fit(X, y, clients=CLIENTS, checkpoint=path)
        for found in (resumed, again):  # rows are hashed where something needs it
            assert_same_training(found, straight, without={"data"})


class Seeded:
    """What draws the given seed once, and then never again."""

    def __init__(self, seed):
        self.seeds = [seed]

    def __call__(self, random_state):
        assert random_state is None
        return self

    def randint(self, high):
        return self.seeds.pop()


def test_warm_start_after_the_end_adds_no_round_and_says_so():
    clf = FedFocalClassifier(
        (3,), early_stopping=True, tol=1e9, n_iter_no_change=2, warm_start=True, random_state=0
    ).fit(X, y, clients=CLIENTS)
    theta, n_rounds = clf.theta_.copy(), clf.n_iter_
    assert n_rounds == 3  # the first is always the best so far
    with pytest.warns(UserWarning, match="no round was added"):
        clf.fit(X, y, clients=CLIENTS)
    np.testing.assert_array_equal(clf.theta_, theta)
    assert clf.n_iter_ == len(clf.history_["loss"]) == n_rounds


# ── processes that are killed ────────────────────────────────────────────────────────

_TRAINS = """
import sys
import numpy as np
from skfedfocal import FedFocalClassifier

data = np.load(sys.argv[1], allow_pickle=False)
clf = FedFocalClassifier(
    (20,), strategy="fedadam", selection="focal", clients_per_round=30, n_rounds=300,
    learning_rate=0.01, random_state=None,
).fit(data["X"], data["y"], clients=data["clients"], checkpoint=sys.argv[2])
print(clf.seed_)
history = {k: v for k, v in clf.history_.items() if k != "seconds"}
np.savez(sys.argv[3], theta=clf.theta_, **history)
"""


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system")
def test_twenty_kills_at_random_moments(tmp_path):
    """Each of 20 processes is killed somewhere; the last goes on to the end."""
    rows, labels, clients = federation([20] * 60)
    np.savez(tmp_path / "data.npz", X=rows, y=labels, clients=clients)
    path, found = tmp_path / "checkpoint", tmp_path / "found.npz"
    command = [sys.executable, "-c", _TRAINS, str(tmp_path / "data.npz"), str(path), str(found)]
    rng = random.Random(0)
    n_kills, sizes = 0, []
    while n_kills < 20:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        before = path.read_bytes() if path.exists() else b""
        while process.poll() is None and (path.read_bytes() if path.exists() else b"") == before:
            time.sleep(0.01)  # until it is at work, whatever its imports take
        time.sleep(rng.uniform(0, 0.15))
        assert process.poll() is None, process.stderr.read().decode()
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        n_kills += 1
        sizes.append(len(read_plain(path)["state"]["history"]["loss"]))  # a whole file, always
    assert sizes == sorted(sizes)
    assert sizes[-1] > 20
    done = subprocess.run(command, capture_output=True, check=True)
    straight = FedFocalClassifier(
        (20,),
        strategy="fedadam",
        selection="focal",
        clients_per_round=30,
        n_rounds=300,
        learning_rate=0.01,
    )
    seed = int(done.stdout)
    with patch("skfedfocal._estimators.training.check_random_state", Seeded(seed)):
        straight.fit(rows, labels, clients=clients)
    with np.load(found) as resumed:
        np.testing.assert_array_equal(resumed["theta"], straight.theta_)
        for name in set(resumed.files) - {"theta"}:
            np.testing.assert_array_equal(resumed[name], straight.history_[name])
