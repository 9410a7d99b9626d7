"""The speed benchmark does what it says: its sums, its loops, its records and its page."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks" / "speed").is_dir():
    pytest.skip("benchmarks are not part of the source distribution", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks.speed import baselines, bounds, child, ours, plan, report  # noqa: E402
from benchmarks.speed.clock import Clock  # noqa: E402
from benchmarks.speed.grid_search import Grid, search  # noqa: E402
from benchmarks.speed.limit import limit  # noqa: E402
from benchmarks.speed.measure import MeasurementError, measure  # noqa: E402
from benchmarks.speed.models import build  # noqa: E402
from benchmarks.speed.summary import Records, summarise  # noqa: E402
from benchmarks.speed.workloads import W1, W2, W3, cool, load, prepare  # noqa: E402
from skfedfocal import FederatedClassifier  # noqa: E402

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


def test_limits_are_the_flops_at_the_rates():
    found = limit(TINY, seconds=0.02, sizes=(64,))
    assert found["limit_s"] == pytest.approx(TINY.flops_per_round() / found["gflops_best"] / 1e9)
    assert 0 < found["gflops_median"] <= found["gflops_best"]
    assert len(found["gflops_by_shape"]) == len(TINY.products())
    assert found["limit_together_s"] > 0


def test_sequential_loop_trains_as_the_package_does(data_dir):
    # With one batch a client and all clients in, neither shuffles nor selection matter.
    workload = replace(TINY, per_round=TINY.n_clients, batch_size=100, learning_rate=0.5)
    data = load(workload, data_dir)
    start = build(workload)
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
    theta = torch.cat([p.detach().flatten() for p in trained.parameters()]).numpy()
    before = torch.cat([p.detach().flatten() for p in start.parameters()]).numpy()
    np.testing.assert_allclose(theta, package.theta_, atol=1e-5)
    assert np.abs(theta - before).max() > 1e-3


@pytest.mark.parametrize(
    "contender",
    [
        ours.fed_focal,
        ours.cross_entropy,
        baselines.sequential,
        baselines.centralised,
        baselines.sklearn_mlp,
    ],
)
def test_contenders_report_each_round(contender, data_dir):
    found = contender(TINY, load(TINY, data_dir), "cpu")
    assert len(found["rounds_cpu_s"]) == len(found["rounds_wall_s"]) == TINY.n_rounds
    assert min(found["rounds_wall_s"]) > 0
    assert 0 <= found["accuracy"] <= 1
    assert 0 <= found["balanced_accuracy"] <= 1


def test_images_go_through_the_convolutions(tmp_path):
    workload = replace(
        W3, n_clients=2, per_round=1, rows=(4, 4), n_rounds=1, n_test=20, batch_size=4
    )
    prepare(workload, tmp_path)
    data = load(workload, tmp_path)
    assert data.X.shape == (8, 1, 28, 28)
    assert len(ours.fed_focal(workload, data, "cpu")["rounds_cpu_s"]) == 1


@pytest.mark.parametrize("storage", ["int8", "csr"])
def test_many_clients_repeat_the_rows_of_the_first(storage, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.speed.workloads._SCALE_BASE", 4)
    few = replace(TINY, n_clients=4, rows=(5, 5), storage=storage, n_features=30)
    many = replace(few, n_clients=12)
    for workload in (few, many, few):  # the file grows and is then used in part
        prepare(workload, tmp_path)
    cool(many, tmp_path)
    base, data = load(few, tmp_path), load(many, tmp_path)
    assert data.n_bytes > data.n_bytes_mapped == (60 * 30 if storage == "int8" else 0)
    assert base.X.shape == (20, 30)
    for start in (0, 20, 40):
        np.testing.assert_array_equal(
            data.features(start, start + 20), load(few, tmp_path).features(0, 20)
        )
        np.testing.assert_array_equal(data.y[start : start + 20], base.y)
    assert np.unique(data.clients()).size == 12
    assert np.abs(base.features(0, 20)).max() > 1
    for contender in (ours.fed_focal, baselines.sequential):
        assert len(contender(many, data, "cpu")["rounds_cpu_s"]) == many.n_rounds


@pytest.mark.parametrize("contender", ["fed_focal", "sequential"])
def test_measurement_in_a_process_of_its_own(contender, data_dir):
    spec = {"workload": asdict(TINY), "data_dir": str(data_dir), "device": "cpu"}
    found = measure({"contender": contender, **spec})
    rounds = found["rounds_cpu_s"][1:]
    assert found["round_cpu_s"] == np.median(rounds)
    assert found["cpu_s"] > sum(rounds)
    assert found["wall_s"] > sum(found["rounds_wall_s"])
    assert 50 < found["rss_mb"] < 5000
    assert found["data_bytes"] == load(TINY, data_dir).n_bytes


def test_measurement_that_fails_says_why():
    with pytest.raises(MeasurementError, match="n_jokes"):
        measure({"contender": "grid", "grid": {"gammas": [], "n_jokes": 1}})


def test_grid_search_and_prediction(data_dir):
    found = search(Grid(gammas=(0.0, 2.0), n_folds=2, n_rounds=1))
    assert found["n_fits"] == 5
    assert found["balanced_accuracy"] > 0.5
    predicted = ours.prediction(TINY, load(TINY, data_dir), "cpu", n_repeats=2)
    assert predicted["n_rows"] == len(load(TINY, data_dir).X)
    assert predicted["predict_proba_to_module"] > 0


# -- records ---------------------------------------------------------------------------------


def _record(number, workload, contender, **figures):
    return {"pass": number, "workload": workload, "contender": contender, **figures}


def test_ratios_are_taken_within_passes():
    # The machine is ten times slower in the second pass; the ratio does not see it.
    records = [
        _record(p, "W1", contender, round_cpu_s=cpu * slow)
        for p, slow in enumerate((1, 10, 1))
        for contender, cpu in (("fed_focal", 2.0), ("sequential", 16.0))
    ]
    found = summarise(records)
    ratio = found["workloads"]["W1"]["sequential"]["fed_focal_to_this"]["round_cpu_s"]
    assert ratio == {"median": 0.125, "min": 0.125, "max": 0.125, "n": 3}
    target = found["targets"][0]
    assert target["met"] is True
    assert target["value"] == ratio
    assert {t["met"] for t in found["targets"][1:]} == {None}


def test_ratio_needs_both_sides_of_a_pass():
    records = [
        _record(0, "W1", "fed_focal", round_cpu_s=1.0),
        _record(1, "W1", "fed_focal", round_cpu_s=3.0),
        _record(1, "W1", "sequential", round_cpu_s=1.0),
    ]
    cells = [("W1", name, "round_cpu_s") for name in ("fed_focal", "sequential")]
    assert Records(records).ratio(*cells)["median"] == 3.0
    assert Records(records[:1]).ratio(*cells) is None
    assert summarise(records)["targets"][0]["met"] is False


def test_whole_process_is_judged_by_the_most_frugal_other():
    costs = {"fed_focal": 4.0, "sequential": 8.0, "fedjax": 3.0, "sklearn_mlp": 1.0}
    records = [_record(0, "W1", name, cpu_s=cost) for name, cost in costs.items()]
    (target,) = (t for t in summarise(records)["targets"] if "whole process: CPU" in t["what"])
    assert "fedjax" in target["what"]
    assert target["value"]["median"] == pytest.approx(4 / 3)
    assert target["met"] is False


def test_memory_is_counted_beyond_the_data():
    sizes = {"rss_mb": 900.0, "data_bytes": 600 * 2**20, "mapped_bytes": 500 * 2**20}
    found = summarise([_record(0, "W2x1000000", "fed_focal", **sizes)])["targets"]
    beyond = {t["what"]: (t["value"]["median"], t["met"]) for t in found if t["value"]}
    assert sorted(beyond.values()) == [(300, True), (800, False)]


def test_what_bounds_a_target_is_said_where_it_is_missed():
    costs = {"imports": 250.0, "fed_focal": 300.0, "fedjax": 200.0, "sequential": 400.0}
    records = [_record(0, "W1", name, rss_mb=mb, cpu_s=1.0) for name, mb in costs.items()]
    found = summarise(records)
    (line,) = bounds.section(found["workloads"], found["targets"]).splitlines()[2:]
    assert "250 MB" in line
    assert "200 MB" in line
    less = summarise([_record(0, "W1", n, rss_mb=300.0) for n in ("fed_focal", "fedjax")])
    assert bounds.section(less["workloads"], less["targets"]) == ""


def test_run_takes_turns_and_resumes(tmp_path):
    todo = plan.chosen(
        plan.tasks(False, [], None), ["W1", "W2"], ["limit", "fed_focal", "sequential"]
    )
    path = tmp_path / "records.jsonl"
    order = [(n, t.workload, t.contender) for n, t in plan.missing(path, todo, 2)]
    names = [(w, c) for w in ("W1", "W2") for c in ("limit", "fed_focal", "sequential")]
    assert order == [(n, *name) for n in (0, 1) for name in names]
    for number, workload, contender in order[:8]:
        plan.append(path, _record(number, workload, contender))
    left = [(n, t.workload, t.contender) for n, t in plan.missing(path, todo, 2)]
    assert left == order[8:]
    plan.forget(path, [t for t in todo if t.workload == "W2"])
    assert {r["workload"] for r in plan.read(path)} == {"W1"}


def test_unknown_names_are_refused():
    tasks = plan.tasks(True, [], None)
    with pytest.raises(ValueError, match="No workload \\['W9'\\]"):
        plan.chosen(tasks, ["W9"], [])
    with pytest.raises(ValueError, match="No contender \\['nobody'\\]"):
        plan.chosen(tasks, ["W1"], ["nobody"])
    scale = plan.chosen(tasks, ["scale"], [])
    assert {t.workload for t in scale} == {"W2x1000", "W2x1000-csr"}


# -- the page --------------------------------------------------------------------------------


def test_page_says_what_was_found_and_what_was_not(data_dir, tmp_path, monkeypatch):
    data, records = load(TINY, data_dir), []
    for contender in ("fed_focal", "sequential"):
        spec = {"contender": contender, "workload": asdict(TINY), "data_dir": str(data_dir)}
        found = child.run({**spec, "device": "cpu"})
        records.append(_record(0, "W2", contender, round_cpu_s=0.5, round_wall_s=0.5, **found))
    records.append(_record(0, "W2", "limit", **limit(TINY, seconds=0.02, sizes=(64,))))
    records.append(_record(0, "W2", "prediction", **ours.prediction(TINY, data, "cpu", 1)))
    process = {"cpu_s": 1.0, "rss_mb": 300.0, "wall_s": 1.0}
    for storage in ("int8", "csr"):
        name = f"W2x1000{'-csr' if storage == 'csr' else ''}"
        records.append(_record(0, name, "fed_focal", round_cpu_s=0.1, data_bytes=1e6, **process))
    grid = search(Grid(gammas=(0.0, 2.0), n_folds=2, n_rounds=1))
    records.append(_record(0, "grid", "n_jobs=1", **grid, **process))
    from benchmarks.speed.machine import describe

    summary = summarise(records)
    results = {"quick": True, "date": "2020-01-01", "device": "cpu", "machine": describe()}
    results = json.loads(json.dumps({**results, **summary}))
    monkeypatch.setattr(report, "HERE", tmp_path)
    page = report.render(results)
    cells = [line.split(" | ") for line in page.splitlines()]
    what = "CPU of a round, to the sequential PyTorch loop's"
    assert [f"| W2: {what}", "≤ 0.25", "1", "**not met** |"] in cells
    assert [f"| W1: {what}", "≤ 0.143", "–", "not measured |"] in cells
    for section in (
        "## W2\n",
        "## W2 with up to",
        "## A grid search",
        "## Prediction",
        "quick run",
    ):
        assert section in page
    assert "Where the time goes" not in page
    (tmp_path / "profile.md").write_text("## Where the time goes\n\nHere.\n")
    assert report.render(results).endswith("## Where the time goes\n\nHere.\n")
    assert "sequential" in report.short(results)


def test_machine_is_described_without_its_name():
    import platform

    from benchmarks.speed.machine import describe

    found = describe()
    assert found["cores"] >= 1
    assert found["torch"] == torch.__version__ or found["torch"] in torch.__version__
    assert platform.node() not in map(str, found.values())
