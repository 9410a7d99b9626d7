"""The quality benchmark: its measures, its comparators, and that no test row is ever tuned on."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import SKLEARN
from sklearn.metrics import balanced_accuracy_score, log_loss

pytest.importorskip("jinja2")
pytest.importorskip("benchmarks.quality", reason="not part of the source distribution")

from benchmarks.quality import coverage, defaults, length
from benchmarks.quality.__main__ import main
from benchmarks.quality.losses import CalibratedLogitsLoss, RestrictedSoftmaxLoss
from benchmarks.quality.measures import (
    balanced_accuracy,
    calibration_error,
    claimed_population,
    move,
    probability_measures,
)
from benchmarks.quality.methods import BASE, METHODS, common, one_client
from benchmarks.quality.rounds import (
    BalancedSampling,
    Climb,
    Cohort,
    fit_round_by_round,
)
from benchmarks.quality.runner import Runner, read
from benchmarks.quality.sets import SETS, Scenario, Task, systematic
from skfedfocal import FederatedClassifier, FedFocalClassifier
from skfedfocal.losses import CrossEntropyLoss, FocalLoss, Loss

N_ROWS = 240
BUDGET = {"hidden_layer_sizes": (4,), "n_rounds": 3, "n_local_epochs": 2, "batch_size": 8}
SEED = st.integers(0, 2**32 - 1)


@pytest.fixture
def data(tmp_path):
    """A folder with a set of three classes and six clients; its first feature numbers the rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, N_ROWS)
    X = rng.standard_normal((N_ROWS, 4)).astype(np.float32) + y[:, None]
    X[:, 0] = 255 * np.arange(N_ROWS)
    np.savez(tmp_path / "tiny.npz", X=X, y=y, client=rng.integers(0, 6, N_ROWS))
    X[:, 0] = 0
    np.savez(tmp_path / "blobs.npz", X=X, y=y, client=rng.integers(0, 6, N_ROWS))
    return tmp_path


def scenario(**values):
    values = {"title": "a tiny set", "file": "tiny", "pixels": True, **BUDGET, **values}
    return Scenario(name="tiny", **values)


@pytest.fixture
def tiny(monkeypatch):
    """A small set with a test split per seed, which the commands know as well."""
    found = scenario(
        file="blobs", pixels=False, cut={"2": 0.3}, resplit=True, clients_per_round=3, role="quick"
    )
    monkeypatch.setitem(SETS, "tiny", found)
    return found


@pytest.fixture
def task(data):
    with np.load(data / "blobs.npz") as rows:
        order = np.argsort(rows["client"], kind="stable")
        X, y, clients = (rows[name][order] for name in ("X", "y", "client"))
    return Task(X, y, clients, X, y)


# -- measures --------------------------------------------------------------------------------


@given(SEED, st.integers(2, 5))
def test_balanced_accuracy_is_that_of_sklearn(seed, n_classes):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 40)])
    predicted = rng.integers(0, n_classes, len(y))
    assert balanced_accuracy(y, predicted) == pytest.approx(balanced_accuracy_score(y, predicted))
    assert balanced_accuracy(np.zeros(2, int), np.array([0, 1])) == 0.5


def test_log_loss_is_that_of_sklearn_under_the_population_weights():
    rng = np.random.default_rng(0)
    y, p = np.repeat([0, 1, 2], [50, 30, 10]), rng.dirichlet(np.ones(3), 90)
    population = np.array([0.2, 0.3, 0.5])
    weight = (population / np.bincount(y))[y]
    found = probability_measures(y, p, population)
    assert found["log_loss"] == pytest.approx(log_loss(y, p, sample_weight=weight))


@pytest.mark.parametrize(
    ("confidence", "error"),
    [([0.5] * 4, 0), ([1, 1, 0, 0], 0), ([0.9] * 4, 0.4), ([0, 0, 1, 1], 1)],
)
def test_calibration_error_is_the_gap_of_each_bin(confidence, error):
    hit = np.array([True, True, False, False])
    found = calibration_error(hit, np.array(confidence, float), np.full(4, 0.25))
    assert found == pytest.approx(error)


# -- rows ------------------------------------------------------------------------------------


@given(SEED, st.floats(0.01, 0.99))
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
def test_what_is_tuned_never_sees_a_test_row(data, resplit):
    tiny = scenario(cut={"1": 0.2}, resplit=resplit)
    tests = [set(tiny.task(data, seed).X_test[:, 0]) for seed in range(3)]
    for seed in range(3):
        whole, fold = tiny.task(data, seed), tiny.task(data, seed, fold=0)
        training, validation = set(fold.X[:, 0]), set(fold.X_test[:, 0])
        assert not training & validation
        assert training | validation == set(whole.X[:, 0])
        # Seed 0 chooses for all seeds where they share the test rows, each for itself otherwise.
        chooses_for = [seed] if resplit else range(3)
        assert not any((training | validation) & tests[k] for k in chooses_for)
    assert (tests[0] == tests[1]) == (not resplit)


def test_only_training_rows_of_cut_classes_are_cut(data):
    cut, whole = (scenario(cut=cut).task(data, 0) for cut in ({"1": 0.2}, {}))
    np.testing.assert_array_equal(cut.X_test, whole.X_test)
    kept, all_rows = np.bincount(cut.y), np.bincount(whole.y)
    assert (kept[[0, 2]] == all_rows[[0, 2]]).all()
    assert abs(kept[1] - 0.2 * all_rows[1]) <= 1


def test_seeds_differ_and_repeat(data):
    tiny = scenario(cut={"1": 0.2})
    first, again, other = (tiny.task(data, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.X, again.X)
    assert set(first.X[:, 0]) != set(other.X[:, 0])


@pytest.mark.parametrize(("share", "n_clients", "passes"), [(1.0, 5, 6), (10, 60, 1), (0.5, 9, 3)])
def test_one_client_makes_the_passes_of_the_federation(share, n_clients, passes):
    settings = one_client(common(scenario(clients_per_round=share), 0.1, 0), n_clients)
    assert settings["n_rounds"] * settings["n_local_epochs"] == passes


# -- comparators -----------------------------------------------------------------------------


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 4, (12,), generator=generator)


@pytest.mark.parametrize("loss", [RestrictedSoftmaxLoss(1.0), CalibratedLogitsLoss(0.0)])
def test_comparators_without_effect_are_cross_entropy(loss, batch):
    constants = loss.constants(torch.tensor([3.0, 0.0, 5.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(loss(*batch, constants), CrossEntropyLoss()(*batch))


def test_restricted_softmax_spares_the_classes_that_a_client_lacks(batch):
    y, counts = torch.zeros(12, dtype=torch.int64), torch.tensor([3.0, 0.0, 5.0, 0.0])
    loss = RestrictedSoftmaxLoss(0.0)
    _, gradient = loss.gradient(batch[0], y, loss.constants(counts.double()))
    assert (gradient[:, [1, 3]] == 0).all()
    assert (gradient[:, 2] > 0).all()


def test_calibrated_logits_push_rare_classes_further_and_know_their_gradient(batch):
    loss = CalibratedLogitsLoss(0.7)
    constants = loss.constants(torch.tensor([100.0, 10.0, 5.0, 1.0], dtype=torch.float64))
    assert (constants.diff() < 0).all()
    found, wanted = loss.gradient(*batch, constants), Loss.gradient(loss, *batch, constants)
    torch.testing.assert_close(found, wanted)


def test_rounds_one_by_one_are_the_fit_itself(task):
    """With all clients, their own rows and equal weights it is plain federated averaging."""
    settings = {"hidden_layer_sizes": (4,), "n_rounds": 3, "batch_size": 8, "random_state": 0}
    whole = FederatedClassifier(**settings).fit(task.X, task.y, clients=task.clients)
    rounds = fit_round_by_round(
        FederatedClassifier(**settings),
        task,
        0,
        lambda model, task, cohort: (cohort.rows, np.ones(len(cohort.rows))),
    )
    np.testing.assert_allclose(rounds.theta_, whole.theta_, rtol=1e-5, atol=1e-6)


def test_balanced_sampling_draws_classes_alike(task):
    rows = np.flatnonzero((task.y == 0) | (np.arange(len(task.y)) % 7 == 0))
    (drawn,), _ = BalancedSampling(0, n_epochs=20)(None, task, Cohort(np.array([0]), [rows]))
    assert len(drawn) == 20 * len(rows)
    assert set(drawn) <= set(rows)
    expected = len(drawn) / 3
    counts = np.bincount(task.y[drawn], minlength=3)
    assert (abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_climb_weighs_clients_that_the_model_fails(task):
    model = FederatedClassifier((4,), n_rounds=1, random_state=0).fit(task.X, task.y)
    hit = model.predict(task.X) == task.y
    cohort = Cohort(np.array([0, 1]), [np.flatnonzero(h)[:20] for h in (hit, ~hit)])
    _, weights = Climb(eta=1.0, eps=0.0)(model, task, cohort)
    assert weights[1] > weights[0]
    _, equal = Climb(eta=0.0)(model, task, cohort)
    assert equal[0] == equal[1]


@pytest.mark.parametrize("name", ["ce_federated", "logit_adjusted", "fedfocal"])
def test_posteriors_moved_here_are_those_of_the_package(task, name):
    method = METHODS[name]
    model = method.train(task, common(scenario(), 0.1, 0), **method.own[0])
    uniform = np.full(3, 1 / 3)
    moved = move(model.predict_proba(task.X), claimed_population(model, task.prior), uniform)
    np.testing.assert_allclose(moved, model.predict_posterior(task.X, "uniform"), atol=1e-5)


def test_claimed_population_is_that_of_the_weighed_rows(task):
    model = FederatedClassifier((4,), loss=FocalLoss(), n_rounds=1, class_weight={0: 2.0})
    model.fit(task.X, task.y, clients=task.clients)
    wanted = task.prior * [2, 1, 1]
    np.testing.assert_allclose(claimed_population(model, task.prior), wanted / wanted.sum())


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.name)
def test_every_method_trains_and_is_measured(tiny, data, tmp_path, method):
    record = Runner(tiny, 1, tmp_path / "r.jsonl", data).record(method, method.own[-1], 0.1, 0)
    assert 0 <= record["balanced_accuracy"] <= 1
    assert np.isfinite([value for value in record.values() if isinstance(value, float)]).all()


# -- the run ---------------------------------------------------------------------------------

SOME = [METHODS[name] for name in ("fedavg", "fedavg_shifted", "climb", "fedfocal")]


def records_of(path):
    """By what they are records of, without the time that they took."""
    return {json.dumps({**r, "seconds": 0}, sort_keys=True) for r in read(path)}


def test_a_stopped_run_goes_on_to_the_same_results(tiny, data, tmp_path):
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    Runner(tiny, 2, whole, data).run(SOME)
    lines = whole.read_text().splitlines(keepends=True)
    stopped.write_text("".join(lines[: len(lines) // 2]))
    Runner(tiny, 2, stopped, data).run(SOME)
    assert records_of(stopped) == records_of(whole)
    found = list(Runner(tiny, 2, stopped).collected(SOME))  # without data nothing is trained
    assert len(found) == 2 * 2 * len(SOME)
    # A method that lacks a seed is left out, for means are over the same seeds.
    lost = [r for r in read(stopped) if (r["method"], r["seed"], r["fold"]) != ("climb", 1, None)]
    stopped.write_text("".join(json.dumps(r) + "\n" for r in lost))
    kept = {r["method"] for r in Runner(tiny, 2, stopped).collected(SOME)}
    assert kept == {m.name for m in SOME} - {"climb"}


def test_what_is_trained_alike_is_trained_once(tiny, data, tmp_path):
    runner = Runner(tiny, 1, tmp_path / "r.jsonl", data)
    first, second = (runner.record(m, m.own[0], 0.1, 0) for m in SOME[:2])
    assert first["seconds"] == second["seconds"]
    assert first["own_log_loss"] != second["own_log_loss"]


def test_command_line(tiny, data, tmp_path):
    options = ["--quick", "--seeds", "1", "--only", "tiny", "--methods", "fedavg"]
    options += ["--data", str(data), "--results", str(tmp_path)]
    main(options)
    page = tmp_path / "quick" / "results.md"
    text = page.read_text()
    assert METHODS["fedavg"].title in text
    assert METHODS[BASE].title in text
    page.unlink()
    main([*options, "--page"])
    assert page.read_text() == text
    with pytest.raises(SystemExit, match="nowhere"):
        main([*options, "--only", "nowhere"])


# -- other commands ----------------------------------------------------------------------------


def test_defaults_are_compared_on_training_rows_alone(tiny, data, tmp_path):
    runner = Runner(tiny, 2, tmp_path / "r.jsonl", data)
    found = list(defaults.measured(runner))
    assert {r["fold"] for r in read(runner.path)} == {0}
    table = defaults.summarise(found)
    table.to_csv(tmp_path / "defaults.csv")
    shown = defaults.section(tmp_path / "defaults.csv")["variants"]
    assert list(shown.index) == list(defaults.variants())


@pytest.mark.skipif(SKLEARN < (1, 9), reason="callbacks are of scikit-learn 1.9")
def test_lengths_are_measured_within_one_training(tiny, data, tmp_path, monkeypatch):
    monkeypatch.setattr(length, "LENGTHS", (2, 4))
    monkeypatch.setattr(length, "MOST", 4)
    options = ["--seeds", "1", "--only", "tiny", "--data", str(data), "--results", str(tmp_path)]
    length.main(options)
    found = pd.read_csv(tmp_path / "length.csv", index_col=["way", "statistic"]).tiny
    task = tiny.task(data, 0, fold=0)
    for n in (2, 4):
        model = FedFocalClassifier(**{**common(tiny, length.RATE, 0), "n_rounds": n})
        model.fit(task.X, task.y, clients=task.clients)
        assert found[f"{n} rounds", "accuracy"] == pytest.approx(length.score(model, task), abs=0.1)
        model.set_params(average_rounds=n // 2).fit(task.X, task.y, clients=task.clients)
        mean = found[f"{n} rounds, {length.MEAN}", "accuracy"]
        assert mean == pytest.approx(length.score(model, task), abs=0.1)
    assert found.xs("minus best", level="statistic")[["2 rounds", "4 rounds"]].max() == 0
    assert length.section(tmp_path / "length.csv")["n_sets"] == 1


def test_coverage_counts_what_it_asks_for(data):
    scenario = SETS["coverage_quick"]
    found = coverage.measure(scenario, (2,), data, n_seeds=1)
    last = found[found["round"] == scenario.n_rounds].set_index("selection").mib
    first = found[found["round"] < scenario.n_rounds].set_index("selection").mib
    assert last["balance"] > last["uniform"].iloc[0] > first["uniform"].iloc[0]
    assert found.accuracy.between(0, 100).all()
