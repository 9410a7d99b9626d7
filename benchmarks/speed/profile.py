"""Where the time of a round goes: ``python -m benchmarks.speed.profile`` writes profile.csv.

Whole fits of W1 and W2 under torch's profiler, one thread; self CPU time by operation, as a share
of all that was recorded. The profiler's own cost falls on the small operations most.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.data import load, prepare
from benchmarks.speed.ours import settings
from benchmarks.speed.workloads import W1, W2, Workload
from skfedfocal import FedFocalClassifier

N_SHOWN, N_ROUNDS = 10, 20


def operations(workload: Workload, folder: Path) -> pd.DataFrame:
    """Calls a round and share of the self CPU time of the largest operations."""
    prepare(workload, folder)
    data, changed = load(workload, folder), {"n_rounds": N_ROUNDS, "selection": "uniform"}
    classifier = FedFocalClassifier(**{**settings(workload, "cpu"), **changed})
    classifier.fit(data.X, data.y, clients=data.clients())
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        classifier.fit(data.X, data.y, clients=data.clients())
    events = recorded.key_averages()
    rows = [(f"`{e.key}`", e.count // N_ROUNDS, float(e.self_cpu_time_total)) for e in events]
    found = pd.DataFrame(rows, columns=["operation", "calls a round", "share"])
    found["share"] /= found["share"].sum()
    return found.nlargest(N_SHOWN, "share").assign(workload=workload.name)


if __name__ == "__main__":
    torch.set_num_threads(1)
    where = Path(tempfile.gettempdir()) / "skfedfocal-speed"
    largest = pd.concat([operations(w, where) for w in (W1, W2)])
    path = Path(__file__).with_name("profile.csv")
    largest.to_csv(path, index=False, float_format="%.4f")
