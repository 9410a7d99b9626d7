"""A thousand sites of which some fail in every round: nothing is lost, and nothing grows."""

import re
import warnings
from itertools import count
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("flwr")

from skfedfocal import FedFocalClassifier
from skfedfocal.flower import SimulatedSites, federate
from skfedfocal.selection import Selection, Uniform

pytestmark = pytest.mark.soak
N_SITES, N_ROUNDS, N_SELECTED, FAULT_RATE = 1000, 200, 100, 0.05
NAMES = [f"site {k:03d}" for k in range(N_SITES)]


class Watched(SimulatedSites):
    """Notes the memory of the process whenever a round begins."""

    def get_node_ids(self):
        status = Path("/proc/self/status")
        if status.exists():
            line = next(s for s in status.read_text().splitlines() if s.startswith("VmRSS"))
            self.megabytes = [*getattr(self, "megabytes", []), int(line.split()[1]) / 1024]
        return super().get_node_ids()


def test_a_thousand_sites_with_faults_in_every_round(capsys):
    rng = np.random.default_rng(0)
    clients = np.repeat(NAMES, 12)
    y = rng.integers(0, 3, len(clients))
    X = rng.normal(size=(len(y), 5)) + 1.5 * np.eye(3, 5)[y]
    parts = zip(NAMES, np.split(X, N_SITES), np.split(y, N_SITES), strict=True)
    grid = Watched({name: (rows, labels) for name, rows, labels in parts}, fault_rate=FAULT_RATE)
    settings = {
        "hidden_layer_sizes": (8,),
        "clients_per_round": N_SELECTED,
        "n_rounds": N_ROUNDS,
        "engine": "loop",
        "random_state": 0,
    }
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = federate(grid, FedFocalClassifier(**settings))
    missed, rounds = [], count(1)

    class WithoutFailing(Selection):
        """Those that would be drawn, but for those that are known to fail in the round."""

        def select(self, stats, n_selected, rng):
            round_, drawn = next(rounds), Uniform().select(stats, n_selected, rng)
            fails = np.array([grid.fault(NAMES[k], round_) is not None for k in drawn])
            missed.extend((round_, NAMES[k]) for k in drawn[fails])
            return drawn[~fails]

    wanted = FedFocalClassifier(**settings, selection=WithoutFailing())
    wanted.fit(X, y, clients=clients)

    np.testing.assert_array_equal(found.theta_, wanted.theta_)
    np.testing.assert_array_equal(found.history_["loss"], wanted.history_["loss"])
    assert [(f["round"], f["client"]) for f in found.failures_] == missed
    assert found.history_["n_failed"].sum() == len(missed) > 0
    said = " ".join(str(w.message) for w in caught if "goes on without" in str(w.message))
    failing = {name for _, name in missed}
    times = [said.count(name) for name in NAMES]
    assert max(times) == 1
    n_more = sum(map(int, re.findall(r"; (\d+) more", said)))  # where many fail at once
    assert sum(times) + n_more == len(failing)

    with capsys.disabled():
        print(
            f"\n{N_SITES} sites, {N_ROUNDS} rounds of {N_SELECTED}: {len(missed)} replies missing, "
            f"{len(failing)} sites named, score {found.score(X, y):.3f}"
        )
    if hasattr(grid, "megabytes"):
        grown = grid.megabytes[-1] - grid.megabytes[20]
        with capsys.disabled():
            print(f"memory grew by {grown:.1f} MB from round 20 on")
        assert grown < 30
