"""The benchmark of encodings measures what it says; its page is that of its summary."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("benchmarks.encoding", reason="not part of the source distribution")

import pandas as pd

from benchmarks.encoding import (
    BINS,
    DEFAULT,
    GENERATED,
    PAGE,
    SUMMARY,
    TABLES,
    WAYS,
    measured,
    page,
    rows_of,
    summarise,
)


@pytest.fixture(scope="module")
def summary():
    return pd.read_csv(SUMMARY)


def test_the_page_is_that_of_the_summary(summary):
    assert page(summary) == PAGE.read_text(encoding="utf-8")


def test_the_summary_has_every_table_in_every_way(summary):
    found = list(zip(summary["set"], summary["way"], strict=True))
    assert found == [(name, way) for name in TABLES for way in WAYS]
    assert summary["accuracy"].between(0, 100).all()


def test_raw_columns_are_within_half_a_point_of_scaled_ones(summary):
    """Of the default, as the page says."""
    gap = summary[summary["way"] == "None, behind a StandardScaler"]["difference"]
    assert gap.max() <= 0.5


def test_bins_are_the_best_where_single_columns_have_steps(summary):
    found = summary.set_index(["set", "way"])["difference"]
    assert found["steps in ten columns, one class cut to 10 %", BINS] > 5


@pytest.mark.parametrize("name", GENERATED)
def test_generated_classes_are_alike_in_number(name):
    _, y = GENERATED[name](np.random.RandomState(0))
    assert 0.4 < y.mean() < 0.6


@pytest.mark.parametrize("name", ["wine", "breast cancer, one class cut to 5 %"])
def test_rows_are_split_within_each_client(name, tmp_path):
    X, y, clients, X_test, y_test = rows_of(name, tmp_path, seed=0)
    assert len(X) == len(y) == len(clients)
    assert set(map(tuple, X)).isdisjoint(map(tuple, X_test))
    assert len(np.unique(clients)) == 5
    assert set(y_test) == set(y)


def test_a_run_is_that_of_its_seed_and_summarised_by_pairs(tmp_path):
    ways = (DEFAULT, BINS)
    runs = [measured("wine", way, tmp_path, seed) for way in ways for seed in (0, 1)]
    assert runs[0] == measured("wine", DEFAULT, tmp_path, 0)
    found = summarise(pd.DataFrame(runs)).set_index("way")
    gaps = [runs[2 + seed]["accuracy"] - runs[seed]["accuracy"] for seed in (0, 1)]
    assert found.loc[BINS, "difference"] == pytest.approx(np.mean(gaps))
    assert found.loc[BINS, "se"] == pytest.approx(np.std(gaps, ddof=1) / np.sqrt(2))
    assert found.loc[DEFAULT, "difference"] == 0
