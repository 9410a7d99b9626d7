"""The speed benchmark does what it says: its sums, its loops, its records and its page."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("jinja2")
pytest.importorskip("benchmarks.speed", reason="not part of the source distribution")

from benchmarks.machine import describe
from benchmarks.page import table
from benchmarks.speed import against, baselines, history, ours, plan, report, targets
from benchmarks.speed.__main__ import main
from benchmarks.speed.clock import Clock
from benchmarks.speed.data import load, prepare
from benchmarks.speed.grid_search import search
from benchmarks.speed.limit import limit
from benchmarks.speed.measure import ROOT, MeasurementError, measure
from benchmarks.speed.models import build
from benchmarks.speed.summary import read, summarise, write
from benchmarks.speed.workloads import W1, W2, W3
from skfedfocal import FederatedClassifier

TINY = replace(
    W2,
    n_clients=6,
    per_round=3,
    rows=(5, 12),
    n_features=20,
    n_classes=3,
    hidden=4,
    batch_size=4,
    n_rounds=3,
    n_test=30,
    generator={"n_informative": 8},
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    prepare(TINY, folder)
    return folder


@pytest.mark.parametrize("workload", [W1, W2, W3], ids=lambda w: w.name)
def test_flops_are_those_that_torch_counts(workload):
    from torch.utils.flop_counter import FlopCounterMode

    model = build(workload)
    rows = torch.zeros(workload.batch_size, *workload.row_shape)
    with FlopCounterMode(display=False) as counter:
        model(rows).sum().backward()
    per_row = counter.get_total_flops() / workload.batch_size
    assert workload.flops_per_round() == pytest.approx(per_row * workload.rows_per_round)


@pytest.mark.soak
def test_limits_are_the_flops_at_the_rates():
    found = limit(TINY, seconds=0.02, sizes=(64,))
    wanted = TINY.flops_per_round() / found["gflops_best"] / 1e9
    assert found["round_cpu_s"] == pytest.approx(wanted)
    assert 0 < found["gflops_median"] <= found["gflops_best"]
    assert found["limit_together_s"] > 0


def test_sequential_loop_trains_as_the_package_does(data_dir):
    # With one batch a client and all clients in, neither shuffles nor selection matter.
    workload = replace(TINY, per_round=TINY.n_clients, batch_size=100, learning_rate=0.5)
    data, start = load(workload, data_dir), build(workload)
    package = FederatedClassifier(
        module=start,
        batch_size=100,
        learning_rate=0.5,
        n_rounds=workload.n_rounds,
        engine="loop",
        device="cpu",
        random_state=0,
    ).fit(data.X, data.y, clients=data.clients())
    trained = baselines.fedavg(workload, data, build(workload), "cpu", Clock())
    theta, before = (
        torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()
        for model in (trained, start)
    )
    np.testing.assert_allclose(theta, package.theta_, atol=1e-5)
    assert np.abs(theta - before).max() > 1e-3


@pytest.mark.parametrize(
    "contender",
    [
        ours.default,
        ours.unfocused,
        ours.cross_entropy,
        baselines.sequential,
        baselines.centralised,
        baselines.sklearn_mlp,
    ],
)
def test_contenders_report_a_round_and_how_good_they_are(contender, data_dir):
    found = contender(TINY, load(TINY, data_dir), "cpu")
    assert min(found["round_wall_s"], found["round_cpu_s"]) > 0
    assert 0 <= found["accuracy"] <= 1
    assert 0 <= found["balanced_accuracy"] <= 1


def test_the_headline_is_the_classifier_at_its_defaults():
    told = {"n_clients", "clients_per_round", "n_rounds", "batch_size", "learning_rate"}
    told |= {"selection", "device", "random_state", "hidden_layer_sizes", "module"}
    for workload in (W1, W3):
        assert set(ours.settings(workload, "cpu")) <= told


def test_a_clock_is_read_once_a_round(data_dir):
    ours.default(TINY, load(TINY, data_dir), "cpu")
    assert len(ours._clock.spans()) == TINY.n_rounds
    clock = Clock()
    clock.readings = [(0.0, 0.0), (9.0, 9.0), (10.0, 9.5), (13.0, 10.0)]
    assert clock.steady() == {"round_wall_s": 2.0, "round_cpu_s": 0.5}  # the first warms up


def test_images_go_through_the_convolutions(tmp_path):
    workload = replace(W3, n_clients=2, per_round=1, rows=(4, 4), n_rounds=1, n_test=20)
    prepare(workload, tmp_path)
    data = load(workload, tmp_path)
    assert data.X.shape == (8, 1, 28, 28)
    assert ours.default(workload, data, "cpu")["round_cpu_s"] > 0


@pytest.mark.parametrize("storage", ["int8", "csr"])
def test_many_clients_repeat_the_rows_of_the_first(storage, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.speed.data.SCALE_BASE", 4)
    few = replace(TINY, n_clients=4, rows=(5, 5), storage=storage, n_features=30)
    many = replace(few, n_clients=12)
    for workload in (few, many, few):  # the file grows and is then used in part
        prepare(workload, tmp_path)
    base, data = load(few, tmp_path), load(many, tmp_path)
    assert data.n_bytes > data.n_bytes_mapped == (60 * 30 if storage == "int8" else 0)
    assert base.X.shape == (20, 30)
    for start in (0, 20, 40):
        copied = data.features(start, start + 20)
        np.testing.assert_array_equal(copied, base.features(0, 20))
        np.testing.assert_array_equal(data.y[start : start + 20], base.y)
    assert np.unique(data.clients()).size == 12
    assert np.abs(base.features(0, 20)).max() > 1
    for contender in (ours.default, baselines.sequential):
        assert contender(many, data, "cpu")["round_cpu_s"] > 0


# -- processes -------------------------------------------------------------------------------


def _task(contender, data_dir):
    spec = {"workload": asdict(TINY), "data_dir": str(data_dir), "device": "cpu"}
    return plan.Task("W2", contender, {"contender": contender, **spec})


def test_measurement_in_a_process_of_its_own(data_dir):
    found = _task("default", data_dir).run()
    assert found["cpu_s"] > found["round_cpu_s"] * TINY.n_rounds
    assert found["wall_s"] > found["round_wall_s"]
    assert 50 < found["rss_mb"] < 5000
    assert found["data_mb"] == load(TINY, data_dir).n_bytes / 2**20
    assert found["beyond_data_mb"] == found["rss_mb"] - found["data_mb"]


def test_measurement_that_fails_says_why():
    with pytest.raises(MeasurementError, match="n_jokes"):
        measure({"contender": "grid", "grid": {"gammas": [], "n_jokes": 1}})


@pytest.mark.soak
def test_the_package_measured_is_that_of_the_checkout(data_dir, tmp_path):
    # A checkout without a package would be measured by way of another that is installed.
    with pytest.raises(MeasurementError, match=r"not of|No module"):
        measure(_task("default", data_dir).spec, tmp_path)


def test_two_checkouts_take_turns(data_dir):
    rows = against.interleaved([_task("prepare", data_dir)], ROOT, 2)
    assert rows.side.tolist() == ["here", "there", "there", "here"]
    assert (rows.cpu_s > 0).all()
    assert rows.round_cpu_s.isna().all()
    assert "W2 prepare: CPU of the process, here to there" in against.report(rows)[0]


@pytest.mark.parametrize(("slower", "fine"), [(1.04, True), (1.06, False)])
def test_a_checkout_that_is_slower_fails(slower, fine):
    # The machine is ten times slower in the second pass; the ratio does not see it.
    rows = [
        {"pass": p, "task": "W1 default", "side": side, "round_cpu_s": slow * by, "cpu_s": slow}
        for p, slow in enumerate((1, 10, 1))
        for side, by in (("here", slower), ("there", 1.0))
    ]
    text, found = against.report(pd.DataFrame(rows))
    assert found is fine
    assert f"CPU of a round, here to there: {slower:.3f} ({slower:.3f} – {slower:.3f})" in text
    assert f"slower here: {'none' if fine else 'W1 default'}." in text


def test_grid_search_and_prediction(data_dir):
    found = search(1, gammas=(0.0, 2.0), n_folds=2, n_rounds=1)
    assert found["n_fits"] == 5
    assert found["balanced_accuracy"] > 0.5
    predicted = ours.prediction(TINY, load(TINY, data_dir), "cpu", n_repeats=2)
    assert predicted["predict_proba_to_module"] > 0


# -- records, targets and the page -----------------------------------------------------------


def _record(number, workload, contender, **figures):
    return {
        "pass": number, "workload": workload, "contender": contender, "commit": "abc", **figures
    }  # fmt: skip


def _two(cpu=2.0, loop=16.0, slow=(1, 10, 1)):
    return [
        _record(p, "W1", contender, round_cpu_s=s * by, round_wall_s=s * by, cpu_s=s * by)
        for p, s in enumerate(slow)
        for contender, by in (("default", cpu), ("sequential", loop))
    ]


def test_ratios_are_taken_within_passes():
    found = summarise(_two())
    ours = found.loc[("W1", "default")]
    assert ours[["cpu_to_loop", "cpu_to_loop_min", "cpu_to_loop_max"]].tolist() == [0.125] * 3
    assert ours[["round_cpu_s", "passes"]].tolist() == [2, 3]
    judged = targets.judge(found)
    assert judged.verdict.iloc[0] == "met"
    assert set(judged.verdict.iloc[1:]) == {"not measured"}


def test_ratio_needs_both_sides_of_a_pass():
    records = [r for r in _two() if (r["pass"], r["contender"]) != (1, "sequential")]
    records[2]["round_cpu_s"] = 99.0
    assert summarise(records).loc[("W1", "default"), "cpu_to_loop_max"] == 0.125


def test_rows_that_are_not_measured_again_stay(tmp_path):
    path = tmp_path / "summary.csv"
    peer = [
        _record(0, "W1", "fedjax", round_cpu_s=4.0),
        _record(0, "W1", "sequential", round_cpu_s=8.0),
    ]
    write(summarise(peer), path)
    later = write(summarise([{**r, "commit": "def"} for r in _two()]), path)
    assert later.loc[("W1", "sequential"), "round_cpu_s"] == 16
    assert later.loc[("W1", "fedjax"), "cpu_to_loop"] == 0.5  # to the loop of its own run
    shown = report.contenders(later, "W1")
    assert shown.loc["FedJAX †", "FedFocalClassifier's CPU, to its"] == "0.25"
    judged = targets.judge(later)
    assert judged.loc["W1: CPU of a round, to FedJAX's", ["value", "met"]].tolist() == [0.25, True]


def test_every_target_can_be_missed():
    """A package three times as slow, or as large, or two processes as slow as six, misses each."""
    judged = targets.judge(read())
    assert judged.value.notna().all()
    assert (judged.value > 0).all()
    worse = judged.value.div(3).where(judged.sense == "≥", judged.value.mul(3))
    assert not targets.met(judged.assign(value=worse)).any()


def test_history_grows_by_the_default_rows(tmp_path):
    path = tmp_path / "history.csv"
    for _ in range(2):
        history.append(summarise(_two()), path, date="2020-01-01")
    assert history.read(path).to_numpy().tolist() == [["abc", "2020-01-01", "W1", 0.125, 2.0]] * 2


def test_the_page_is_that_of_the_summary():
    assert report.page() == report.PAGE.read_text()


def test_committed_figures_are_small():
    folder = ROOT / "benchmarks"
    files = [p for ending in ("csv", "json") for p in folder.glob(f"*/*.{ending}")]
    assert len(files) > 5
    assert sum(p.stat().st_size for p in files) < 60_000


def test_a_table_has_no_text_for_missing_cells():
    frame = pd.DataFrame({"b": [1.5, np.nan]}, index=pd.Index(["x", "y"], name="a"))
    assert table(frame) == "| a | b |\n| --- | --- |\n| x | 1.5 |\n| y |  |"


# -- the command -----------------------------------------------------------------------------


def test_run_takes_turns_and_resumes(tmp_path):
    tasks = plan.tasks(False, [], tmp_path)
    todo = plan.chosen(tasks, ["W1", "W2"], ["limit", "default", "sequential"])
    path = tmp_path / "records.jsonl"
    order = [(n, *t.key) for n, t in plan.missing(path, todo, 2)]
    names = [(w, c) for w in ("W1", "W2") for c in ("limit", "default", "sequential")]
    assert order == [(n, *name) for n in (0, 1) for name in names]
    plan.append(path, *(_record(*key) for key in order[:8]))
    assert [(n, *t.key) for n, t in plan.missing(path, todo, 2)] == order[8:]
    plan.forget(path, [t for t in todo if t.workload == "W2"])
    assert {r["workload"] for r in plan.read(path)} == {"W1"}


def test_only_the_named_workloads_are_run(tmp_path):
    tasks = plan.tasks(True, [], tmp_path)
    assert {t.workload for t in plan.chosen(tasks, ["W1", "W3"], [])} == {"W1", "W3"}
    assert {t.workload for t in plan.chosen(tasks, ["scale"], [])} == {"W2x1000", "W2x1000-csr"}
    with pytest.raises(SystemExit, match=r"No workload \['W9'\]"):
        plan.chosen(tasks, ["W9"], [])
    with pytest.raises(SystemExit, match=r"No contender \['nobody'\]"):
        plan.chosen(tasks, ["W1"], ["nobody"])


@pytest.mark.soak
def test_command_line(tmp_path, monkeypatch, data_dir):
    monkeypatch.setattr("benchmarks.speed.__main__.RESULTS", tmp_path)
    monkeypatch.setattr(plan, "QUICK", [replace(TINY, name="W1"), TINY])
    options = ["--quick", "--only", "W2", "--data-dir", str(data_dir)]
    assert main([*options, "--history"]) == 0
    folder = tmp_path / "speed-scratch"
    text = (folder / "performance.md").read_text()
    assert "quick run" in text
    assert "## W2\n" in text
    assert "## W1\n" not in text
    assert text == report.page(folder, quick=True)
    assert history.read(folder / "history.csv").workload.tolist() == ["W2"]


def test_machine_is_described_without_its_name():
    found = describe()
    assert found["cores"] >= 1
    assert found["versions"]["torch"] in torch.__version__
    assert platform.node() not in map(str, found.values())
