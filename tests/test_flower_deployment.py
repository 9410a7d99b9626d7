"""A real SuperLink and three real SuperNodes on the loopback interface, as examples/hospitals."""

import json
import os
import re
import runpy
import signal
import ssl
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("flwr")
pytest.importorskip("pandas")

import httpx
from real_sites import everyone, import_example, servers
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skfedfocal import ClientColumn, FedFocalClassifier, load_model
from skfedfocal._plain import read_plain
from skfedfocal.datasets import load_clients
from skfedfocal.flower import SimulatedSites, evaluate, federate, make_client_app
from skfedfocal.metrics import Evaluation
from skfedfocal.metrics import evaluate as evaluate_here
from skfedfocal.preprocessing import make_table_transformer
from skfedfocal.privacy import ExampleLevelDP

pytestmark = [
    pytest.mark.flower,
    pytest.mark.skipif(os.name != "posix", reason="the example's processes are for POSIX systems"),
]


@pytest.fixture(scope="module")
def example():
    return import_example()


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    with servers(tmp_path_factory.mktemp("hospitals")) as hospitals:
        yield hospitals


def log_of(hospitals, name):
    return (hospitals.folder / "logs" / f"{name}.log").read_text()


def test_an_unregistered_supernode_is_refused(example, up):
    example.certificates.make_site_key(up.keys, "stranger")
    ports = up.ports | {"stranger": example.free_ports(1)[0]}
    (up.folder / "ports.json").write_text(example.json.dumps(ports))
    up.start_site("stranger")
    up.wait_until(lambda: "stranger" not in up.running(), "the stranger to give up", 60)
    assert len(up.online()) == len(example.SITES)


def test_a_supernode_does_not_talk_to_a_server_of_another_authority(example, up):
    example.certificates.make_authority(up.keys, "other")
    example.certificates.make_site_key(up.keys, "misled")
    up.register("misled")
    ports = up.ports | {"misled": example.free_ports(1)[0]}
    (up.folder / "ports.json").write_text(example.json.dumps(ports))
    up.start_site("misled", "--max-retries", "1", ca="other.crt")
    up.wait_until(lambda: "misled" not in up.running(), "the misled site to give up", 60)
    assert "CERTIFICATE_VERIFY_FAILED" in log_of(up, "misled")
    assert len(up.online()) == len(example.SITES)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/list-runs",
        "/v1/control/start-run",
        "/v1/runtime/acquire-task",
        "/v1/fleet/../control/list-runs",
        "/v1/fleet/%2e%2e/control/list-runs",
        "/v1/fleet%2f..%2fcontrol/list-runs",
        "/docs",
        "/",
    ],
)
def test_the_proxy_knows_the_fleet_paths_only(up, path):
    trusted = ssl.create_default_context(cafile=str(up.keys / "ca.crt"))
    url = f"https://127.0.0.1:{up.ports['proxy']}"
    with httpx.Client(base_url=url, verify=trusted, trust_env=False) as client:
        assert client.post(path).status_code in (404, 405)
        assert client.get(path).status_code in (404, 405)


def test_no_run_can_be_started_through_the_proxy(example, up):
    config = up.home("intruder") / "config.toml"
    config.write_text(
        f'[superlink.proxy]\naddress = "127.0.0.1:{up.ports["proxy"]}"\n'
        f'root-certificates = "{up.keys / "ca.crt"}"\n'
    )
    up.export(example.make_estimator())
    done = example.subprocess.run(
        [Path(sys.executable).parent / "flwr", "run", up.folder / "app", "proxy"],
        env=up.environment("intruder"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "404" in done.stdout + done.stderr


def test_training_equals_the_fit_in_one_place_and_outlives_a_site(example, up):
    """Two rounds over three sites; the third loses one of them."""
    checkpoint = up.folder / "checkpoint.skf"
    up.export(example.make_estimator(3), timeout=150.0)
    run = up.submit(wait=False)

    def rounds():
        state = read_plain(checkpoint)["state"] if checkpoint.exists() else None
        return 0 if state is None else len(state["history"]["round"])

    up.wait_until(lambda: rounds() >= 2, "two rounds", 240)
    up.stop("university", signal.SIGKILL)
    after_two = read_plain(checkpoint)["state"]
    assert len(after_two["history"]["round"]) == 2
    X, y, clients = example.read_tables(up.data)
    pooled = example.fit_in_one_place(example.make_estimator(2), X, y, clients)
    assert_array_equal(after_two["theta"], pooled[-1].theta_)

    up.wait_until(lambda: up.status(run).startswith("finished"), "the run to end", 240)
    log = up.log(run)
    assert up.status(run) == "finished:completed", log
    assert "Round 3 goes on without 'university'" in log
    model = load_model(up.folder / "model.skf")
    (failure,) = model[-1].failures_
    assert (failure["round"], failure["client"]) == (3, "university")

    tables = {name: (X[clients == name], y[clients == name]) for name in example.SITES}
    rehearsal = example.make_estimator(3)
    grid = SimulatedSites(tables, faults={("university", 3): "gone"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        federate(grid, rehearsal)
    assert_array_equal(model[-1].theta_, rehearsal[-1].theta_)
    assert_array_equal(model.predict_proba(X), rehearsal.predict_proba(X))
    assert model.score(X, y) > 0.85
    assert np.isfinite(model[-1].theta_).all()


@pytest.fixture
def messy(example, up):
    """The sites' files, in the place of theirs: with gaps, spellings, dates, orders of columns."""
    write_tables = runpy.run_path(str(example.HERE.parent / "messy_tables.py"))["write_tables"]
    made = sorted(write_tables(up.folder / "messy").glob("*.csv"))
    files = {site: up.data / f"{site}.csv" for site in example.SITES}
    for source, file in zip(made[-len(files) :], files.values(), strict=True):
        file.write_text(re.sub(r"\bill\b", "diagnosis", source.read_text(), count=1))
    yield files
    example.write_tables(up.data)


@pytest.mark.soak  # some thirty exchanges, of which each starts a process at each site
def test_messy_tables_from_files_to_figures(example, up, messy):
    """Prepared, trained and judged at real sites as at simulated ones and in one place."""
    (up.folder / "checkpoint.skf").unlink(missing_ok=True)
    everyone(up, example.SITES)
    classifier = FedFocalClassifier((16,), n_rounds=2, engine="loop", random_state=0)
    pipeline = make_pipeline(make_table_transformer(), classifier)
    figures, options = up.folder / "messy.json", {"min_rows": 1, "n_bins": 20, "by_site": True}
    up.export(pipeline, timeout=900.0, evaluated="own", evaluate_to=figures, evaluation=options)
    up.submit(timeout=3600.0)
    model = load_model(up.folder / "model.skf")
    found = Evaluation.from_dict(json.loads(figures.read_text()))

    read = {"target": "diagnosis", "missing": "?", "dates": "days", "fold-case": True}
    sites = {site: {"data-path": file, **read} for site, file in messy.items()}
    grid = SimulatedSites(sites, app=make_client_app(evaluation="own"))
    simulated = federate(grid, clone(pipeline))
    data = load_clients(messy, target="diagnosis", dates="days", client_name="hospital")
    X = data.data.assign(hospital=data.clients)
    here = ClientColumn(pipeline, "hospital").fit(X, data.target)
    judged = evaluate_here(here, X, data.target, by_client=True, n_bins=20)
    for other in (simulated, here.estimator_):
        assert_array_equal(model[-1].theta_, other[-1].theta_)
        assert_array_equal(model.predict_proba(data.data), other.predict_proba(data.data))
    for other in (evaluate(grid, simulated, **options), judged):
        assert_array_equal(found.sums, other.sums)
        for site in example.SITES:
            assert_array_equal(found.clients[site].sums, other.clients[site].sums)


def test_sites_come_back_after_the_superlink_was_away(example, up):
    """Longer than a few seconds, after which they would give up if the proxy answered 500."""
    everyone(up, example.SITES)  # also one that a test has stopped
    up.stop("superlink")
    address = f"https://127.0.0.1:{up.ports['proxy']}/v1/fleet/pull"
    trusted = ssl.create_default_context(cafile=up.keys / "ca.crt")
    answers = []
    for _ in range(10):
        answers.append(httpx.post(address, verify=trusted, trust_env=False).status_code)
        time.sleep(1)
    assert set(answers) == {502}
    up.start_superlink()
    up.wait_until(lambda: len(up.online()) == len(example.SITES), "all sites again", 240)
    assert set(example.SITES) <= set(up.running())


# Without the scaler, to save its two exchanges of three sites; the short steps make up for it.
@pytest.mark.filterwarnings("ignore:The first round's loss:UserWarning")
def test_secure_sums_keep_their_state_from_message_to_message(example, up):
    """Flower starts a process for each message: keys must outlive it, in the node's Context."""
    pytest.importorskip("cryptography")

    def estimator():
        made = example.make_estimator(2)[-1]
        return made.set_params(secure_aggregation=True, class_weight=None, learning_rate=1e-5)

    (up.folder / "checkpoint.skf").unlink(missing_ok=True)  # of another training
    everyone(up, example.SITES)  # also one that a test has stopped
    figures, options = up.folder / "evaluation.json", {"min_rows": 1, "n_bins": 20}
    up.export(estimator(), timeout=150.0, evaluated="sums", evaluate_to=figures, evaluation=options)
    up.submit()
    model = load_model(up.folder / "model.skf")
    assert model.history_["n_failed"].tolist() == [0, 0]
    X, y, clients = example.read_tables(up.data)
    tables = {name: (X[clients == name], y[clients == name]) for name in example.SITES}
    rehearsal = federate(SimulatedSites(tables), estimator())
    assert_array_equal(model.theta_, rehearsal.theta_)
    assert_array_equal(model.history_["bytes_up"], rehearsal.history_["bytes_up"])
    found = Evaluation.from_dict(json.loads(figures.read_text()))
    assert_array_equal(found.sums, evaluate(SimulatedSites(tables), rehearsal, **options).sums)


@pytest.mark.filterwarnings("ignore:The first round's loss:UserWarning")
def test_a_private_training_under_secure_sums_is_the_one_that_was_rehearsed(example, up):
    """Noise shares and their keys outlive messages too; seeded here, to be compared to the bit."""
    pytest.importorskip("cryptography")
    pytest.importorskip("dp_accounting")
    X, y, clients = example.read_tables(up.data)
    tables = {name: (X[clients == name], y[clients == name]) for name in example.SITES}
    privacy = ExampleLevelDP(2.0, trust="distributed", noise="seeded", delta=1e-4)

    def estimator():
        return example.make_estimator(2)[-1].set_params(secure_aggregation=True, privacy=privacy)

    (up.folder / "checkpoint.skf").unlink(missing_ok=True)  # of another training
    everyone(up, example.SITES)  # also one that a test has stopped
    classes = sorted(set(y.tolist()))
    up.export(estimator(), timeout=150.0, classes=classes)
    up.submit()
    model = load_model(up.folder / "model.skf")
    rehearsal = federate(SimulatedSites(tables), estimator(), classes=classes)
    assert_array_equal(model.theta_, rehearsal.theta_)
    assert model.privacy_ == rehearsal.privacy_
    assert 0 < model.epsilon_ == rehearsal.epsilon_
