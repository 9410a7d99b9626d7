"""The quality benchmark: its measures, its comparators, and that no test row is ever tuned on."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from benchmarks.quality import datasets, defaults, runner
from benchmarks.quality.__main__ import main
from benchmarks.quality.comparators import (
    BalancedSampling,
    CalibratedLogitsLoss,
    Climb,
    Cohort,
    RestrictedSoftmaxLoss,
    fit_round_by_round,
)
from benchmarks.quality.coverage import at_round, curve
from benchmarks.quality.datasets import Budget, Rows, Scenario, Task, systematic
from benchmarks.quality.measures import calibration_error, class_measures, probability_measures
from benchmarks.quality.methods import METHODS, Setting, claimed_population, move
from benchmarks.quality.report import (
    collect,
    difference,
    dump,
    mean_ranks,
    merge,
    page,
    records_of,
)
from benchmarks.quality.runner import Job, Results, canonical, phases, plan_of, run
from skfedfocal import FederatedClassifier
from skfedfocal.losses import CrossEntropyLoss, FocalLoss, Loss
from skfedfocal.selection import CategoryCoverage, Uniform

N_ROWS = 240


def numbered_rows(data=None):
    """Rows that carry their own number, of three classes and six clients."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, N_ROWS)
    X = rng.standard_normal((N_ROWS, 4)).astype(np.float32) + y[:, None]
    X[:, 0] = np.arange(N_ROWS)
    return Rows(X, y, rng.integers(0, 6, N_ROWS), standardise=False)


def blobs(data=None):
    rows = numbered_rows()
    return Rows(rows.X[:, 1:], rows.y, rows.clients)


TINY = Budget((4,), n_rounds=3, n_local_epochs=2, batch_size=8, clients_per_round=3)


def scenario(**kwargs):
    values = {"name": "tiny", "title": "tiny", "source": numbered_rows, "budget": TINY}
    return Scenario(**(values | kwargs))


@pytest.fixture
def task():
    rows = blobs()
    order = np.argsort(rows.clients, kind="stable")
    return Task(rows.X[order], rows.y[order], rows.clients[order], rows.X, rows.y)


@pytest.fixture
def tiny_plan(monkeypatch, tmp_path):
    """A plan over one tiny scenario with a test split per seed."""
    known = {"tiny": scenario(source=blobs, keep={2: 0.3}, resplit=True)}
    monkeypatch.setattr(datasets, "QUICK", known)
    monkeypatch.setattr(runner, "QUICK", known)
    runner._task.cache_clear()
    methods = ["fedavg", "fedavg_shifted", "climb", "fedfocal"]
    yield plan_of("quick", tmp_path, 2, methods=methods)
    runner._task.cache_clear()


# -- measures --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_class_measures_are_sklearns(seed, n_classes):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 40)])
    predicted = rng.integers(0, n_classes, len(y))
    found = class_measures(y, predicted)
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(y, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
    assert found["worst_recall"] <= found["balanced_accuracy"]


def test_log_loss_is_sklearns_under_the_population_weights():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [50, 30, 10])
    p = rng.dirichlet(np.ones(3), len(y))
    population = np.array([0.2, 0.3, 0.5])
    weight = (population / np.bincount(y))[y]
    found = probability_measures(y, p, population)
    assert found["log_loss"] == pytest.approx(log_loss(y, p, sample_weight=weight))


def test_calibration_error_is_the_gap_of_each_bin():
    hit = np.array([True, True, False, False])
    weight = np.full(4, 0.25)
    assert calibration_error(hit, np.full(4, 0.5), weight) == pytest.approx(0)
    assert calibration_error(hit, np.array([1.0, 1.0, 0.0, 0.0]), weight) == pytest.approx(0)
    assert calibration_error(hit, np.full(4, 0.9), weight) == pytest.approx(0.4)
    # Bins apart do not make up for each other.
    assert calibration_error(hit, np.array([0.0, 0.0, 1.0, 1.0]), weight) == pytest.approx(1)


# -- rows ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.99))
def test_systematic_sampling_is_proportional_in_every_class_and_client(seed, share):
    rng = np.random.default_rng(seed)
    y, clients = rng.integers(0, 4, 200), rng.integers(0, 5, 200)
    taken = systematic(y, clients, share, rng)
    for label in range(4):
        assert abs(taken[y == label].sum() - share * (y == label).sum()) <= 1
        for k in range(5):
            cell = (y == label) & (clients == k)
            assert abs(taken[cell].sum() - share * cell.sum()) <= 1


@pytest.mark.parametrize("resplit", [False, True])
def test_what_is_tuned_never_sees_a_test_row(resplit):
    tiny = scenario(keep={1: 0.2}, resplit=resplit)
    tests = [set(tiny.task(None, seed).X_test[:, 0]) for seed in range(3)]
    for seed in range(3):
        whole = tiny.task(None, seed)
        fold = tiny.task(None, seed, fold=0)
        training, validation = set(fold.X[:, 0]), set(fold.X_test[:, 0])
        assert not training & validation
        assert training | validation == set(whole.X[:, 0])
        # Seed 0 chooses for all seeds where they share the test rows, each for itself otherwise.
        chooses_for = [seed] if resplit else range(3)
        assert not any((training | validation) & tests[k] for k in chooses_for)
    assert (tests[0] == tests[1]) == (not resplit)


def test_only_training_rows_of_cut_classes_are_cut():
    cut, whole = (scenario(keep=keep).task(None, 0) for keep in ({1: 0.2}, {}))
    np.testing.assert_array_equal(cut.X_test, whole.X_test)
    kept, all_rows = np.bincount(cut.y), np.bincount(whole.y)
    assert kept[0] == all_rows[0]
    assert kept[2] == all_rows[2]
    assert abs(kept[1] - 0.2 * all_rows[1]) <= 1


def test_seeds_differ_and_repeat():
    tiny = scenario(keep={1: 0.2})
    first, again, other = (tiny.task(None, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.X, again.X)
    assert set(first.X[:, 0]) != set(other.X[:, 0])


def test_passes_over_the_rows_equal_those_of_the_federation():
    assert Budget((4,), 30, 2, 8).passes(5) == 60
    assert Budget((4,), 30, 2, 8, clients_per_round=10).passes(100) == 6
    assert Budget((4,), 30, 2, 8, clients_per_round=0.5).passes(100) == 30


# -- comparators -----------------------------------------------------------------------------


def logits_and_labels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 4, (12,), generator=generator)


@pytest.mark.parametrize("loss", [RestrictedSoftmaxLoss(1.0), CalibratedLogitsLoss(0.0)])
def test_comparators_without_effect_are_cross_entropy(loss):
    logits, y = logits_and_labels()
    constants = loss.constants(torch.tensor([3.0, 0.0, 5.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(loss(logits, y, constants), CrossEntropyLoss()(logits, y))


def test_restricted_softmax_spares_the_classes_that_a_client_lacks():
    logits, _ = logits_and_labels()
    y = torch.zeros(12, dtype=torch.int64)
    counts = torch.tensor([3.0, 0.0, 5.0, 0.0], dtype=torch.float64)
    loss = RestrictedSoftmaxLoss(0.0)
    _, gradient = loss.gradient(logits, y, loss.constants(counts))
    assert (gradient[:, [1, 3]] == 0).all()
    assert (gradient[:, 2] > 0).all()


def test_gradient_of_calibrated_logits_is_autograds():
    logits, y = logits_and_labels()
    loss = CalibratedLogitsLoss(0.7)
    constants = loss.constants(torch.tensor([3.0, 9.0, 5.0, 1.0], dtype=torch.float64))
    for mine, wanted in zip(
        loss.gradient(logits, y, constants), Loss.gradient(loss, logits, y, constants), strict=True
    ):
        torch.testing.assert_close(mine, wanted)


def test_calibrated_logits_push_rare_classes_further():
    constants = CalibratedLogitsLoss().constants(torch.tensor([100.0, 10.0, 1.0]))
    assert (constants.diff() < 0).all()


def test_rounds_one_by_one_are_the_fit_itself(task):
    """With all clients, their own rows and equal weights it is plain federated averaging."""
    common = {"hidden_layer_sizes": (4,), "n_rounds": 3, "batch_size": 8, "random_state": 0}
    whole = FederatedClassifier(**common).fit(task.X, task.y, clients=task.clients)
    rounds = fit_round_by_round(
        FederatedClassifier(**common),
        task,
        0,
        lambda model, task, cohort: (cohort.rows, np.ones(len(cohort.rows))),
    )
    np.testing.assert_allclose(rounds.theta_, whole.theta_, rtol=1e-5, atol=1e-6)


def test_balanced_sampling_draws_classes_alike(task):
    rows = np.flatnonzero((task.y == 0) | (np.arange(len(task.y)) % 7 == 0))
    drawn, _ = BalancedSampling(0, n_epochs=20)(None, task, Cohort(np.array([0]), [rows]))
    assert len(drawn[0]) == 20 * len(rows)
    assert set(drawn[0]) <= set(rows)
    counts = np.bincount(task.y[drawn[0]], minlength=3)
    expected = len(drawn[0]) / 3
    assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_climb_weighs_clients_that_the_model_fails(task):
    model = FederatedClassifier((4,), n_rounds=1, random_state=0).fit(task.X, task.y)
    right = np.flatnonzero(model.predict(task.X) == task.y)[:20]
    wrong = np.flatnonzero(model.predict(task.X) != task.y)[:20]
    _, weights = Climb(eta=1.0, eps=0.0)(model, task, Cohort(np.array([0, 1]), [right, wrong]))
    assert weights[1] > weights[0]
    _, equal = Climb(eta=0.0)(model, task, Cohort(np.array([0, 1]), [right, wrong]))
    assert equal[0] == equal[1]


@pytest.mark.parametrize("name", ["ce_federated", "logit_adjusted", "fedfocal"])
def test_posteriors_moved_here_are_those_of_the_package(task, name):
    method = METHODS[name]
    model = method.train(Setting(task, TINY, 0.1, 0), **method.own[0])
    uniform = np.full(3, 1 / 3)
    moved = move(model.predict_proba(task.X), claimed_population(model, task.prior), uniform)
    np.testing.assert_allclose(moved, model.predict_posterior(task.X, "uniform"), atol=1e-5)


def test_claimed_population_without_weights_is_that_of_the_rows(task):
    model = FederatedClassifier(
        (4,), loss=FocalLoss(), n_rounds=1, random_state=0, class_weight={0: 2.0}
    ).fit(task.X, task.y, clients=task.clients)
    wanted = task.prior * [2, 1, 1]
    np.testing.assert_allclose(claimed_population(model, task.prior), wanted / wanted.sum())


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_trains_and_is_measured(tiny_plan, name):
    if runner.missing(METHODS[name]) is not None:
        pytest.skip(runner.missing(METHODS[name]))
    job = Job("tiny", name, canonical(METHODS[name].own[-1]), 0.1, 0)
    (record,) = runner.train_and_measure(tiny_plan, [job])
    assert 0 <= record["worst_recall"] <= record["balanced_accuracy"] <= 1
    numbers = [value for value in record.values() if isinstance(value, float)]
    assert np.isfinite(numbers).all()


# -- the run ---------------------------------------------------------------------------------


def without_times(results):
    return {k: {**r, "seconds": None} for k, r in results.records.items()}


def test_a_stopped_run_goes_on_to_the_same_results(tiny_plan, tmp_path):
    whole = Results(tmp_path / "whole.jsonl")
    assert run(tiny_plan, whole)
    stopped = Results(tmp_path / "stopped.jsonl")
    assert not run(tiny_plan, stopped, minutes=0)
    assert 0 < len(stopped.records) < len(whole.records)
    resumed = Results(tmp_path / "stopped.jsonl")
    assert len(resumed.records) == len(stopped.records)
    assert run(tiny_plan, resumed)
    assert without_times(resumed) == without_times(whole)
    assert without_times(Results(tmp_path / "stopped.jsonl")) == without_times(whole)
    assert not any(phases(tiny_plan, resumed))


def test_jobs_of_one_training_are_trained_once(tiny_plan):
    plain = Job("tiny", "fedavg", "{}", 0.1, 0)
    shifted = Job("tiny", "fedavg_shifted", canonical({"tau": 1.0}), 0.1, 0)
    assert plain.training == shifted.training
    first, second = runner.train_and_measure(tiny_plan, [plain, shifted])
    assert first["seconds"] == second["seconds"]
    assert first["own_log_loss"] != second["own_log_loss"]


def test_the_page_is_made_from_the_committed_file_alone(tiny_plan, tmp_path):
    results = Results()
    run(tiny_plan, results)
    table = collect(tiny_plan, results)
    dump(table, tmp_path / "results.json")
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored == json.loads(json.dumps(table))
    text = page(stored, "a command")
    for method in tiny_plan.methods:
        assert METHODS[method].title in text
    legs = {record["leg"] for record in records_of(stored)}
    assert legs == {"default", "tuned"}


def test_results_that_are_not_whole_are_left_out(tiny_plan):
    results = Results()
    run(tiny_plan, results)
    lost = next(k for k in results.records if k[1] == "climb" and k[-1] is None and k[-2] == 1)
    del results.records[lost]
    table = collect(tiny_plan, results)
    kept = {(r["leg"], r["method"]) for r in records_of(table)}
    assert ("default", "fedavg") in kept
    assert {("default", "climb"), ("tuned", "climb")} - kept


def test_command_line(tiny_plan, tmp_path):
    files = [str(tmp_path / name) for name in ("r.jsonl", "r.json", "r.md")]
    options = ["--quick", "--seeds", "1", "--methods", "fedavg", "fedfocal"]
    main([*options, "--records", files[0], "--results", files[1], "--page", files[2]])
    text = (tmp_path / "r.md").read_text()
    main(["--quick", "--report-only", "--results", files[1], "--page", files[2]])
    assert (tmp_path / "r.md").read_text() == text
    options[2] = "2"  # other seeds would be paired with those in the file
    with pytest.raises(SystemExit, match="1 seeds"):
        main([*options, "--records", files[0], "--results", files[1], "--page", files[2]])


def test_what_is_run_again_replaces_its_own_results_alone(tiny_plan):
    results = Results()
    run(tiny_plan, results)
    table = collect(tiny_plan, results)
    stale = [
        ["default", "tiny", "fedfocal", '{"gamma": 99}', *row[4:]] for row in table["rows"][:1]
    ]
    earlier = {**table, "rows": table["rows"] + stale, "cpu_hours": 1.0}
    later = {**table, "rows": [r for r in table["rows"] if r[2] == "climb"], "cpu_hours": 0.5}
    merged = merge(earlier, later)
    assert merged["cpu_hours"] == 1.5
    assert sorted(map(str, merged["rows"])) == sorted(map(str, table["rows"]))
    assert [r["method"] for r in records_of(merged)][-1] == "climb"


def test_defaults_are_compared_on_training_rows_alone(tmp_path, monkeypatch, capsys):
    seen = []

    def task(self, data, seed, fold=None):
        seen.append(fold)
        return Scenario.task(self, data, seed, fold)

    tiny = type("Seen", (Scenario,), {"task": task})(**vars(scenario(source=blobs)))
    monkeypatch.setattr(defaults, "QUICK", {"tiny": tiny})
    files = [str(tmp_path / name) for name in ("r.jsonl", "r.json")]
    command = ["--quick", "--seeds", "2", "--records", files[0], "--results", files[1]]
    defaults.main([*command, "--scenarios", "tiny"])
    assert not (tmp_path / "r.json").exists()
    assert len(seen) == 2 * 2 * len(defaults.variants())
    assert set(seen) == {0}
    defaults.main(command)  # nothing is trained again
    assert len(seen) == 2 * 2 * len(defaults.variants())
    text = capsys.readouterr().out
    assert all(title in text for title in defaults.variants().values())
    assert text.strip() == defaults.section(json.loads((tmp_path / "r.json").read_text()))


def test_a_comparison_of_defaults_keeps_its_learning_rates(tmp_path):
    comparison = defaults.RESULTS.with_name("defaults.json")
    names = [*datasets.SCENARIOS]
    kept = defaults.rates(datasets.SCENARIOS, comparison)
    rows = records_of(json.loads(comparison.read_text()))
    assert {(r["scenario"], r["learning_rate"]) for r in rows} == set(kept.items())
    assert list(defaults.rates(datasets.SCENARIOS, tmp_path / "none")) == names


def test_ranks_and_differences():
    values = {
        ("a", "x"): np.array([0.9, 0.8]),
        ("a", "y"): np.array([0.7, 0.7]),
        ("b", "x"): np.array([0.5, 0.5]),
        ("b", "y"): np.array([0.5, 0.5]),
    }
    assert mean_ranks(values, ["a", "b"], ["x", "y"]) == {"x": 1.25, "y": 1.75}
    gap, error = difference(values, ["a"], "x", "y")
    assert gap == pytest.approx(0.15)
    assert error == pytest.approx(0.05)  # of 0.2 and 0.1: deviation .0707 over sqrt 2
    assert difference(values, ["a", "b"], "x", "y")[1] == pytest.approx(0.025)


def test_coverage_counts_what_it_asks_for(task):
    budget = Budget((4,), 10, 1, 8)
    uniform, cover = (
        curve(task, budget, selection, 2, 0.1, 0)
        for selection in (Uniform(), CategoryCoverage("balance"))
    )
    assert [p["round"] for p in uniform] == [5, 10]
    assert cover[-1]["bytes"] > uniform[-1]["bytes"] > uniform[0]["bytes"]
    rows = [{"selection": "uniform", "clients": 2, "seed": s, **uniform[-1]} for s in (0, 1)]
    accuracy, spread, _ = at_round({"rows": rows}, 10)["uniform", 2]
    assert accuracy == pytest.approx(uniform[-1]["accuracy"])
    assert spread == 0
