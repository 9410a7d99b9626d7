"""The benchmark of secure sums measures what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("benchmarks are not part of the source distribution", allow_module_level=True)
sys.path.insert(0, str(ROOT))
pytest.importorskip("cryptography")

from benchmarks.secure_sum import measure, training  # noqa: E402
from skfedfocal.privacy._secure._shamir import SHARE_BYTES  # noqa: E402


@pytest.mark.parametrize("mode", ["single", "signed", "session"])
@pytest.mark.parametrize("n", [5, 40])
def test_all_that_a_client_sends_is_counted(mode, n):
    cost = measure(mode, n, n_values=100, repeats=2)
    k, words, sealed = cost.neighbors, 8 * 101, 12 + 16
    assert k == {5: 4, 40: cost.neighbors}[n]
    shares = k * (8 + sealed + (1 if mode == "session" else 2) * SHARE_BYTES)
    answer = (k + 1) * (8 + SHARE_BYTES)
    keys = {"single": 64, "signed": 128, "session": 0}[mode]
    commitment = 32
    assert cost.bytes_up == words + shares + answer + keys + commitment
    assert cost.seconds >= 0
    assert cost.needed >= 0


def test_both_trainings_are_of_the_same_model():
    cost = training(n_clients=4, per_round=3, n_rounds=2, repeats=1)
    assert 0 < cost.apart < 1e-5  # not the same fit twice
    assert min(cost.plain, cost.secure) > 0
