"""The benchmark of personal models scores what it says; its page is that of its summary."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("benchmarks.personal", reason="not part of the source distribution")

import pandas as pd

from benchmarks import personal
from benchmarks.personal import ALONE, GLOBAL, NATURAL, OWN, PAGE, SUMMARY, WAYS
from benchmarks.quality.sets import Scenario, Task


def test_the_page_is_that_of_the_summary():
    assert personal.page(pd.read_csv(SUMMARY)) == PAGE.read_text()


def test_the_summary_has_all_ways_of_every_set():
    summary = pd.read_csv(SUMMARY)
    found = list(zip(summary["set"], summary["way"], strict=True))
    assert len(found) == len(set(found))
    assert {name for name, _ in found} <= set(NATURAL)
    for name in {name for name, _ in found}:
        assert {way for other, way in found if other == name} == set(WAYS)


def test_what_the_page_claims_holds():
    """Own models are no worse than the better of global and alone, and lose on no set."""
    by = pd.read_csv(SUMMARY).set_index(["set", "way"])["mean"].unstack("way")
    assert by[OWN].mean() >= by[[GLOBAL, ALONE]].max(axis=1).mean()
    assert (by[OWN] - by[GLOBAL]).min() >= -0.5


@pytest.fixture
def opposite(monkeypatch, tmp_path):
    """Two clients of opposite names for the same things, as a set of the benchmark."""

    def task(self, data, seed, fold=None):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(320, 2)).astype(np.float32)
        clients = np.arange(320) % 2
        y = ((X[:, 0] > 0) ^ (clients == 1)).astype(np.int64)
        half = np.arange(320) < 200
        return Task(X[half], y[half], clients[half], X[~half], y[~half], clients[~half])

    monkeypatch.setattr(Scenario, "task", task)
    monkeypatch.setattr(personal, "NATURAL", {"heart": NATURAL["heart"]})
    monkeypatch.setattr(personal, "REPEATS", {"heart": 1})
    return tmp_path


def test_scores_are_those_of_each_client_s_model_and_runs_are_kept(opposite):
    runs = personal.measure(opposite, 2, opposite)
    by = runs.set_index(["way", "seed"])["mean"].groupby("way").mean()
    assert by[GLOBAL] < 70
    assert by[OWN] > 85
    assert by[ALONE] > 85
    again = personal.measure(opposite, 2, opposite)  # nothing is measured twice
    pd.testing.assert_frame_equal(again, runs)
    summary = personal.summarise(runs).set_index("way")
    assert summary.loc[OWN, "gain"] == pytest.approx(by[OWN] - by[GLOBAL])
    assert set(summary["n_seeds"]) == {2}
