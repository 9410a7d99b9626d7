"""What docs/determinism.md says is the same: on more than one set of routines, and in threads."""

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from oracles import federation
from sklearn.base import clone

from skfedfocal import FedFocalClassifier

ROOT = Path(__file__).parents[1]
X, y, CLIENTS = federation([9, 4, 14, 6, 8])
MODEL = FedFocalClassifier((6,), n_rounds=4, batch_size=5, random_state=0)
# What torch and the library under it may use; the least is there on every processor.
KERNELS = {
    "as found": {},
    "plain": {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "one thread of AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"},
}
SCRIPT = """
import json
import numpy as np
from oracles import federation
from sklearn.base import clone
from test_determinism import MODEL

X, y, clients = federation([9, 4, 14, 6, 8])
one = clone(MODEL).fit(X, y, clients=clients)
again = clone(MODEL).fit(X, y, clients=clients)
renamed = clone(MODEL).fit(X, y, clients=[f"client {c}" for c in clients])
parts = clone(MODEL).set_params(n_rounds=2, warm_start=True)
parts.fit(X, y, clients=clients).fit(X, y, clients=clients)
loop = clone(MODEL).set_params(engine="loop").fit(X, y, clients=clients)
same = {
    name: bool(np.array_equal(one.theta_, other.theta_))
    for name, other in {"again": again, "renamed": renamed, "parts": parts}.items()
}
print(json.dumps({
    "same": same,
    "engines": float(np.abs(one.predict_proba(X) - loop.predict_proba(X)).max()),
    "theta": one.theta_.tolist(),
    "probabilities": one.predict_proba(X).tolist(),
}))
"""


@pytest.fixture(scope="module")
def found():
    """What the script says with each set of routines, each in a process of its own."""
    paths = [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    answers = {}
    for name, variables in KERNELS.items():
        environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(paths)}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        answers[name] = json.loads(run.stdout)
    return answers


def test_on_every_kernel_the_same_things_are_equal(found):
    here = clone(MODEL).fit(X, y, clients=CLIENTS).theta_.tolist()
    assert found["as found"]["theta"] == here
    for name, answer in found.items():
        assert all(answer["same"].values()), name
        assert answer["engines"] < 1e-4, name


def test_kernels_differ_by_rounding(found):
    wanted = found["as found"]["probabilities"]
    for name, answer in found.items():
        np.testing.assert_allclose(answer["probabilities"], wanted, atol=1e-4, err_msg=name)


def test_fits_in_threads_are_those_one_after_the_other():
    def fit(seed):
        return clone(MODEL).set_params(random_state=seed).fit(X, y, clients=CLIENTS).theta_

    seeds = [0, 1, 2, 3] * 5
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fit, seeds))
    for seed, theta in zip(seeds[:4], together[:4], strict=True):
        np.testing.assert_array_equal(theta, fit(seed))
    for seed, theta in zip(seeds, together, strict=True):
        np.testing.assert_array_equal(theta, together[seed])


def test_weights_in_other_units_train_the_same_model():
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    one = clone(MODEL).fit(X, y, clients=CLIENTS, sample_weight=weight)
    for factor in (2.0**-10, 2.0**20):
        two = clone(MODEL).fit(X, y, clients=CLIENTS, sample_weight=factor * weight)
        np.testing.assert_array_equal(two.theta_, one.theta_)


def test_tests_that_pages_name_are_there():
    for page in (ROOT / "docs").glob("*.md"):
        named = re.findall(r"`(tests/\w+\.py)::(\w+)`", page.read_text(encoding="utf-8"))
        for path, name in named:
            assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8"), (page.name, name)
