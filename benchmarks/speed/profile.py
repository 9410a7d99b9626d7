"""Where the time of a round goes: ``python -m benchmarks.speed.profile`` writes profile.md.

Whole fits of W1 and W2 under torch's profiler, one thread; self CPU time by operation, as a share
of all that was recorded. The profiler's own cost falls on the small operations most.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed import ours
from benchmarks.speed.workloads import W1, W2, Workload, load, prepare
from skfedfocal import FedFocalClassifier

HERE = Path(__file__).parent
N_SHOWN = 10
N_ROUNDS = 20


def operations(workload: Workload, folder: Path) -> list[tuple[str, int, float]]:
    """Name, calls a round and share of the self CPU time, the largest first."""
    prepare(workload, folder)
    data, clients = load(workload, folder), None
    clients = data.clients()
    settings = {**ours._settings(workload, "cpu"), "n_rounds": N_ROUNDS, "selection": "uniform"}
    classifier = FedFocalClassifier(**settings)
    classifier.fit(data.X, data.y, clients=clients)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        classifier.fit(data.X, data.y, clients=clients)
    events = recorded.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    rows = [(e.key, e.count // N_ROUNDS, e.self_cpu_time_total / total) for e in events]
    return sorted(rows, key=lambda row: -row[2])[:N_SHOWN]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data-dir", type=Path, default=Path(tempfile.gettempdir()) / "skfedfocal-speed"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = [
        "## Where the time goes\n",
        "`python -m benchmarks.speed.profile`: torch's profiler over a whole `fit`, self CPU time "
        f"of the {N_SHOWN} largest operations. `aten::mm` and `aten::addmm` are the products over "
        "all rows of a block, `aten::bmm` and `aten::baddbmm_` those of each client with its own "
        "parameters.\n",
    ]
    for workload in (W1, W2):
        parts += [f"| {workload.name}: operation | calls a round | share |", "|---|---|---|"]
        for key, count, share in operations(workload, options.data_dir):
            parts.append(f"| `{key}` | {count} | {share:.1%} |")
        parts.append("")
    (HERE / "profile.md").write_text("\n".join(parts))
    print("\n".join(parts))


if __name__ == "__main__":
    main()
