"""The quality page: its summary, and settings reported on sets that did not choose them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("jinja2")
pytest.importorskip("benchmarks.quality", reason="not part of the source distribution")

from benchmarks.quality import defaults, report, summary
from benchmarks.quality.__main__ import of_set
from benchmarks.quality.methods import BASE, DEFAULT, ELSEWHERE, METHODS
from benchmarks.quality.sets import SETS


def test_the_page_is_that_of_the_summary():
    assert report.page() == report.PAGE.read_text()


def records(**scores):
    return [
        {"leg": "default", "set": s, "method": m, "seed": seed, "balanced_accuracy": v, "mib": 1.0}
        for s, of_set in scores.items()
        for m, values in of_set.items()
        for seed, v in enumerate(values)
    ]


def test_summary_has_ranks_differences_and_their_errors():
    scores = {"har": {BASE: [0.9, 0.8], "fedavg": [0.7, 0.7]}}
    scores["heart"] = {BASE: [0.5, 0.5], "fedavg": [0.5, 0.5]}
    accuracy, means = summary.summarise(records(**scores))
    leg = accuracy.loc["default"]
    assert report.ranks(leg.loc["mean"]).to_dict() == {BASE: 1.25, "fedavg": 1.75}
    assert leg.loc[("se", "fedavg"), "har"] == pytest.approx(5)  # of 20 and 10: deviation over √2
    assert report.overview(leg).loc["FedAvg, cross-entropy"].tolist()[2] == "-7.5 (2.5)"
    assert means.mib.tolist() == [1, 1]


def test_sets_that_are_not_run_stay_in_the_summary(tmp_path):
    both = {name: {BASE: [0.5, 0.6], "fedavg": [0.4, 0.5]} for name in ("har", "heart")}
    summary.keep(*summary.summarise(records(**both)), {"n_seeds": 2}, tmp_path)
    again = {"heart": {BASE: [0.7, 0.8], "fedavg": [0.4, 0.5]}}
    summary.keep(*summary.summarise(records(**again)), {"n_seeds": 2}, tmp_path)
    kept = summary.accuracy(tmp_path)
    assert kept.loc[("default", "mean", BASE)].tolist() == pytest.approx([55, 75])
    summary.keep(*summary.summarise(records(heart={BASE: [0.2, 0.4]})), {"n_seeds": 2}, tmp_path)
    kept = summary.accuracy(tmp_path).loc[("default", "mean")]
    assert kept.loc[BASE].tolist() == pytest.approx([55, 30])
    assert kept.loc["fedavg"].tolist() == pytest.approx([45, 45])
    with pytest.raises(SystemExit, match="2 seeds, not 3"):
        summary.keep(*summary.summarise(records(**again)), {"n_seeds": 3}, tmp_path)


def test_a_choice_is_judged_by_sets_that_it_did_not_see():
    # Without the two heart sets "x" is best, and loses two points on them.
    columns = {"har": [70, 75], "fraud": [70, 71], "heart": [80, 79], "heart_severity": [40, 37]}
    accuracy = pd.DataFrame(columns, index=["the default", "x"], dtype=float)
    found = defaults.leave_sets_out(accuracy)
    assert found.loc["heart_disease (2)"].tolist() == ["x", "-2.00"]
    assert found.loc["uci_har (1)"].tolist() == ["the default", "+0.00"]


def test_a_setting_is_chosen_on_the_half_that_does_not_report_it():
    # "x" is best on the first half and is reported on the second; the first has the default.
    first, second = (next(n for n, of in SETS.items() if of.half == half) for half in (1, 2))
    accuracy = pd.DataFrame({first: [70, 75], second: [80, 79]}, ["the default", "x"], dtype=float)
    assert defaults.by_half(accuracy) == {1: "the default", 2: "x"}
    # Of two files there are two halvings; what the first chooses loses a point on the second.
    np.testing.assert_allclose(sorted(defaults.halved(accuracy)), [-1, 0])


def test_the_page_begins_with_settings_that_other_sets_chose(tmp_path):
    """From a summary in which the one that the other half chose is two points below the default."""
    names = [name for name, of in SETS.items() if of.role == "standard"]
    scores = {method: [0.7, 0.8] for method in METHODS} | {BASE: [0.85, 0.9]}
    scores[ELSEWHERE] = [0.83, 0.88]
    found = records(**dict.fromkeys(names, scores))
    summary.keep(*summary.summarise(found), {"n_seeds": 2, "cpu_hours": 1}, tmp_path)
    variant = defaults.CASE[2]
    cases = [
        {"leg": leg, "set": name, variant: words, "seed": 0, "accuracy": 80.0, "log_loss": 1.0}
        for leg in defaults.SHARES
        for name in names
        for words in defaults.variants()
    ]
    defaults.summarise(cases).to_csv(tmp_path / "defaults.csv")
    text = report.page(tmp_path)
    lead, _, rest = text.partition("## At default settings")
    assert "the other half chooses" in lead
    assert f"below 98 % on 0 of {len(names)} sets" in lead
    claims = report.Claims(summary.accuracy(tmp_path).loc["default"].loc["mean"], ELSEWHERE)
    n, rank, place = claims.rank(True)
    assert (n, rank, place) == (1 + len(report.PUBLISHED), 1, 1)
    assert claims.behind.tolist() == pytest.approx([-10.5] * len(names))
    assert (claims.set_by_set()["the default minus it"] == "+2.0").all()
    assert "mean rank 1.0, place 1" in rest


def test_sets_of_the_same_rows_are_in_the_same_half():
    halves = {}
    for of in SETS.values():
        if of.role == "standard":
            halves.setdefault(of.file.removesuffix("_trunc"), set()).add(of.half)
    assert all(len(found) == 1 for found in halves.values())
    assert set.union(*halves.values()) == {1, 2}


def test_what_other_sets_choose_is_trained_as_such(monkeypatch):
    chosen = {**DEFAULT, "gamma": 0.5}
    monkeypatch.setattr("benchmarks.quality.__main__.chosen_elsewhere", lambda: {"har": chosen})
    mine, others = (of_set(SETS[name], list(METHODS.values())) for name in ("har", "heart"))
    assert {m.name: m.own[0] for m in mine}[ELSEWHERE] == chosen
    assert others == list(METHODS.values())
    assert [m for m in mine if m.name != ELSEWHERE] == [m for m in others if m.name != ELSEWHERE]
