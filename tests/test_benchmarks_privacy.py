"""The benchmark of privacy measures what it says; its page is that of its summaries."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("benchmarks.privacy", reason="not part of the source distribution")
pytest.importorskip("dp_accounting")

import pandas as pd

from benchmarks.privacy import runs
from benchmarks.privacy.cases import EPSILONS, FIXED, PRIVATE_SETS, Case, Setting, model_of
from benchmarks.privacy.hospitals import SIZES, split
from benchmarks.privacy.page import HOSPITALS, PAGE, SUMMARY, page
from benchmarks.privacy.runs import Scores, cells
from skfedfocal.privacy import Ledger


def test_the_page_is_that_of_the_summaries():
    assert page(pd.read_csv(SUMMARY), pd.read_csv(HOSPITALS)) == PAGE.read_text()


def test_the_summary_has_cells_of_the_table_alone():
    summary = pd.read_csv(SUMMARY)
    found = set(zip(*(summary[k] for k in ("set", "method", "epsilon", "trust")), strict=True))
    assert len(found) == len(summary)
    assert found <= set(cells(list(PRIVATE_SETS)))
    assert summary["mean"].between(0, 1).all()
    assert (summary["n_seeds"] >= 3).all()


def score(case):
    """Best at the longest step, a little better on each seed, and worse on test rows."""
    return 0.1 * case.setting.learning_rate + 0.01 * case.seed - 0.05 * (case.fold is None)


def test_settings_are_chosen_on_validation_rows_and_scores_are_kept(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(runs, "score", lambda case, data: asked.append(case) or score(case))
    path = tmp_path / "scores.jsonl"
    cell = Scores(path, tmp_path, 2).cell("fraud", "default", 3.0, "server")
    best = max(setting.learning_rate for setting in PRIVATE_SETS["fraud"].grid)
    assert cell["settings"].startswith(f"rate {best:g}, ")
    assert cell["mean"] == pytest.approx(0.1 * best + 0.005 - 0.05)
    tests = [case for case in asked if case.fold is None]
    assert [case.seed for case in tests] == [0, 1]
    assert len(asked) == 2 * len(PRIVATE_SETS["fraud"].grid) + 2
    assert Scores(path, None, 2).cell("fraud", "default", 3.0, "server") == cell
    with pytest.raises(LookupError):
        Scores(path, None, 3).cell("fraud", "default", 3.0, "server")
    # Of a set whose seeds have test rows of their own, each chooses by itself.
    Scores(path, tmp_path, 2).cell("heart", "default", 3.0, "server")
    heart = [case for case in asked if case.set == "heart" and case.fold is not None]
    assert {(case.seed, case.fold) for case in heart} == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("method", ["default", FIXED])
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_a_case_spends_its_epsilon(method, epsilon):
    setting = None if method == FIXED else Setting(1.0, 1.0)
    model = model_of(Case("heart", method, epsilon, setting, 0, None))
    plan = model.privacy.plan(model.n_rounds, n_clients=4, n_rows=690)
    ledger = Ledger("example", [plan.counts_event])
    ledger.add(plan.noise_multiplier, sampling_rate=0.3, steps=model.n_rounds)
    assert ledger.epsilon(1e-3) == pytest.approx(epsilon, rel=0.003)


def test_hospitals_are_split_as_published():
    clients = np.repeat(np.arange(4), (303, 294, 123, 200))
    train, test = split(clients, 0)
    assert (len(train), len(test)) == (486, 254)
    assert not np.intersect1d(train, test).size
    found = [(int((clients[train] == k).sum()), int((clients[test] == k).sum())) for k in range(4)]
    assert tuple(found) == SIZES
