"""Trainings that are too many or too large for every run: `make soak` does them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import federation, mlp64

from skfedfocal import FedFocalClassifier
from skfedfocal.strategies import FedProx

pytestmark = pytest.mark.soak

PARAMETERS = st.fixed_dictionaries(
    {
        "gamma": st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]),
        "class_weight": st.sampled_from([None, "balanced", "local", {0: 0.0, 2: 4.0}]),
        "logit_adjustment": st.sampled_from([0.0, 0.6, 1.0]),
        "client_gamma": st.sampled_from([0.0, 1.0, 3.0]),
        "strategy": st.sampled_from(["fedavg", FedProx(0.3), "fedadam"]),
        "selection": st.sampled_from(["uniform", "focal", "category_coverage"]),
        "clients_per_round": st.sampled_from([0.3, 1.0]),
        "n_rounds": st.integers(1, 4),
        "n_local_epochs": st.integers(1, 3),
        "batch_size": st.integers(1, 30),
        "momentum": st.sampled_from([0.0, 0.9]),
        "weight_decay": st.sampled_from([0.0, 0.01]),
        "average_rounds": st.integers(1, 2),
        "random_state": st.integers(0, 9),
    }
)


@settings(deadline=None, max_examples=300, database=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    width=st.sampled_from([4, 20]),
    parameters=PARAMETERS,
)
def test_engines_agree_on_any_training(sizes, width, parameters):
    X, y, clients = federation([*sizes, 3], (width,))  # 3 more rows, so that there are 3 classes
    y[-3:] = [0, 1, 2]
    module = mlp64(width, hidden=(width,))
    by_loop, by_block = (
        FedFocalClassifier(module=module, learning_rate=0.03, engine=engine, **parameters).fit(
            X, y, clients=clients
        )
        for engine in ("loop", "vectorized")
    )
    np.testing.assert_allclose(by_block.theta_, by_loop.theta_, rtol=0, atol=1e-6)
    np.testing.assert_allclose(by_block.history_["loss"], by_loop.history_["loss"], atol=1e-6)
    np.testing.assert_allclose(by_block.predict_proba(X), by_loop.predict_proba(X), atol=1e-6)


MILLION = """
import numpy as np
from pathlib import Path
from skfedfocal import FedFocalClassifier

def peak():
    status = Path("/proc/self/status").read_text()
    return next(int(s.split()[1]) for s in status.splitlines() if s.startswith("VmHWM")) / 1024

rng = np.random.default_rng(0)
clients = np.arange(1_000_000).repeat(2)
y = rng.integers(0, 3, len(clients), dtype=np.int8)
X = rng.integers(-9, 9, (len(clients), 24), dtype=np.int8)
X[:, 0] = 20 * y
FedFocalClassifier(n_rounds=1, random_state=0).fit(X[:99], y[:99], clients=clients[:99])
before = peak()
model = FedFocalClassifier(clients_per_round=100, n_rounds=30, random_state=0)
model.fit(X, y, clients=clients)
print(peak() - before, model.score(X[:2000], y[:2000]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_million_clients_train_in_bounded_memory():
    found = subprocess.run(
        [sys.executable, "-c", MILLION], capture_output=True, text=True, check=True
    )
    megabytes, score = map(float, found.stdout.split())
    assert megabytes < 400
    assert score > 0.6  # a third by chance
