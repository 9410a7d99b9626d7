"""Servers and sites that die during a training: the uninterrupted model, or an error that says so.

A SuperLink, a proxy and three SuperNodes, each a process; what is killed is killed by SIGKILL.
`SKFEDFOCAL_KILLS` is how many kills at random moments there are, `SKFEDFOCAL_AWAY` for how many
seconds the SuperLink is away.
"""

import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("flwr")
pytest.importorskip("pandas")

from real_sites import everyone, import_example, processes_of, servers

from skfedfocal import load_model
from skfedfocal._plain import read_plain
from skfedfocal.flower import SimulatedSites, federate

pytestmark = [
    pytest.mark.flower,
    pytest.mark.soak,
    pytest.mark.skipif(os.name != "posix", reason="the example's processes are for POSIX systems"),
    # Without the scaler, to save its two exchanges; the short steps make up for it.
    pytest.mark.filterwarnings("ignore:The first round's loss:UserWarning"),
]
N_KILLS = int(os.environ.get("SKFEDFOCAL_KILLS", "10"))
VICTIMS = [*["flwr-serverapp"] * 6, *["flwr-clientapp"] * 2, "northside"]
SECONDS_AWAY = float(os.environ.get("SKFEDFOCAL_AWAY", "30"))


@pytest.fixture(scope="module")
def example():
    return import_example()


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    with servers(tmp_path_factory.mktemp("hospitals")) as hospitals:
        yield hospitals


@pytest.fixture
def tables(example, up):
    """All sites there, no file of another training, and the rows by site."""
    everyone(up, example.SITES)
    for name in ("checkpoint.skf", "model.skf"):
        (up.folder / name).unlink(missing_ok=True)
    X, y, clients = example.read_tables(up.data)
    return {name: (X[clients == name], y[clients == name]) for name in example.SITES}


def made(example, n_rounds, **params):
    """With state in the server's step, of which nothing may be lost."""
    classifier = example.make_estimator(n_rounds)[-1]
    return classifier.set_params(strategy="fedadam", class_weight=None, **params)


def rounds(up):
    """How many a checkpoint has."""
    path = up.folder / "checkpoint.skf"
    state = read_plain(path)["state"] if path.exists() else None
    return 0 if state is None else len(state["history"]["round"])


def ended(up, run):
    """How a run ends, which it has to by itself."""
    up.wait_until(lambda: up.status(run).startswith("finished"), f"run {run} to end", 900, 4)
    return up.status(run)


def assert_uninterrupted(up, tables, wanted, **faults):
    """The model's file, beside the same training in this process."""
    federate(SimulatedSites(tables, **faults), wanted)
    found = load_model(up.folder / "model.skf")
    assert_array_equal(found.theta_, wanted.theta_)
    for name in set(wanted.history_) - {"seconds", "bytes_up", "bytes_down"}:
        assert_array_equal(found.history_[name], wanted.history_[name], err_msg=name)


def kill(example, up, victim):
    """Kill a site, or an app when there is one; whether there was."""
    if victim in example.SITES:
        up.stop(victim, signal.SIGKILL)
        return True
    machines, until = ["superlink"] if victim == "flwr-serverapp" else example.SITES, 30
    until += time.monotonic()
    while time.monotonic() < until:
        for pid in (pid for name in machines for pid in up.apps(name, victim)):
            os.kill(pid, signal.SIGKILL)
            return True
        time.sleep(0.2)
    return False


def test_the_superlink_is_away_during_a_training(example, up, tables, capsys):
    up.export(made(example, 4), timeout=150.0)
    run = up.submit(wait=False)
    up.wait_until(lambda: rounds(up) >= 1, "a round", 900)
    up.stop("superlink")
    kept = rounds(up)
    time.sleep(SECONDS_AWAY)
    up.start_superlink()
    began = time.monotonic()
    first = ended(up, run)
    seconds = time.monotonic() - began
    everyone(up, example.SITES)
    if first != "finished:completed":  # by name, and nothing lost
        assert first == "finished:failed"
        assert kept <= rounds(up) < 4
        up.submit()
    assert_uninterrupted(up, tables, made(example, 4))
    with capsys.disabled():
        print(f"\nSuperLink away for {SECONDS_AWAY:g} s: {first} {seconds:.0f} s after its return")


@pytest.mark.filterwarnings("ignore:Round:RuntimeWarning")
def test_a_site_is_killed_and_comes_back_during_a_training(example, up, tables, capsys):
    """The model is the one that a training has in which the site was not there for these rounds."""
    up.export(made(example, 6), timeout=150.0)
    run = up.submit(wait=False)
    up.wait_until(lambda: rounds(up) >= 1, "a round", 900)
    up.stop("university", signal.SIGKILL)
    everyone(up, example.SITES)
    log = f"\n{up.log(run)}" if ended(up, run) != "finished:completed" else ""
    assert not log
    missed = [(f["client"], f["round"]) for f in load_model(up.folder / "model.skf").failures_]
    assert {client for client, _ in missed} == {"university"}
    assert ("university", 6) not in missed
    assert_uninterrupted(up, tables, made(example, 6), faults=dict.fromkeys(missed, "gone"))
    with capsys.disabled():
        print(f"\na site killed after round 1 missed rounds {[r for _, r in missed]} of 6")


def test_a_killed_server_app_is_named_and_goes_on(example, up, tables):
    up.export(made(example, 3), timeout=150.0)
    with ThreadPoolExecutor(1) as pool:
        submitted = pool.submit(up.submit)
        up.wait_until(lambda: rounds(up) >= 1, "a round", 900)
        assert kill(example, up, "flwr-serverapp")
        error = submitted.exception(900)
    assert isinstance(error, RuntimeError)
    assert "ended as finished:failed (No heartbeat" in str(error)
    assert 1 <= rounds(up) < 3
    up.submit()
    assert_uninterrupted(up, tables, made(example, 3))


def test_kills_at_random_moments(example, up, tables, capsys):
    """All sites have to answer: then, whoever dies, a training goes on to the same bits."""
    rng, seen, n_trainings = np.random.default_rng(0), Counter(), 0
    while seen.total() < N_KILLS:
        for name in ("checkpoint.skf", "model.skf"):
            (up.folder / name).unlink(missing_ok=True)
        params = {"min_clients": len(example.SITES), "random_state": int(rng.integers(100))}
        up.export(made(example, 5, **params), timeout=150.0)
        status = None
        while status != "finished:completed":
            run = up.submit(wait=False)
            if seen.total() < N_KILLS:
                victim = str(rng.choice(VICTIMS))
                target = min(rounds(up) + int(rng.integers(3)), 4)
                up.wait_until(lambda target=target: rounds(up) >= target, "more rounds", 900)
                time.sleep(rng.uniform(0, 8))
                if kill(example, up, victim):
                    # A server app that was killed is submitted anew at once, as its user would.
                    status = "submitted anew" if victim == "flwr-serverapp" else ended(up, run)
                    seen[victim, status] += 1
                    with capsys.disabled():
                        print(f"\n{victim} killed, {rounds(up)} rounds kept: {status}", end="")
                    everyone(up, example.SITES)
                    continue
            status = ended(up, run)
            assert status == "finished:completed", up.log(run)
        n_trainings += 1
        assert_uninterrupted(up, tables, made(example, 5, **params))
    with capsys.disabled():
        print(f"\n{seen.total()} kills of {n_trainings} trainings, all to the uninterrupted bits")


def n_left(up, wanted):
    """Processes, when there are so many or a minute later."""
    with suppress(TimeoutError):
        up.wait_until(lambda: len(processes_of(up.folder)) == wanted, "processes to end", 60)
    return len(processes_of(up.folder))


def test_nothing_is_left_of_what_was_killed(example, up, capsys):
    """All runs end, and what stays is a server, a proxy, three sites, and what waits for work."""

    def runs():
        listed = json.loads(up.flwr("list", example.SUPERLINK, "--format", "json"))["runs"]
        return Counter(run["status"].split(":")[0] for run in listed)

    up.wait_until(lambda: set(runs()) <= {"finished"}, "all runs to end", 900, 4)
    n_waiting = up.end_apps()
    assert n_left(up, 9) == 9, "\n".join(processes_of(up.folder))
    with capsys.disabled():
        print(f"\n{n_waiting} apps waited at sites for messages of runs that had ended", end="")
    for machine in ("superlink", "university"):  # these alone, not what they have started
        os.kill(up._noted()[machine][0], signal.SIGKILL)
        up._children[machine].wait()
    assert n_left(up, 5) == 5, "\n".join(processes_of(up.folder))
