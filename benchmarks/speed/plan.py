"""What is measured: which contenders on which workloads, pass by pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.speed import workloads
from benchmarks.speed.grid_search import Grid
from benchmarks.speed.measure import measure
from benchmarks.speed.peers import PEERS, measure_peer
from benchmarks.speed.workloads import Workload

LABELS = {
    "fed_focal": "FedFocalClassifier, client_gamma=0",
    "focusing": "FedFocalClassifier, with client focusing",
    "threads": "FedFocalClassifier, client_gamma=0, a thread for each core",
    "cross_entropy": "FederatedClassifier, cross-entropy",
    "sequential": "sequential PyTorch FedAvg loop",
    "centralised": "centralised PyTorch SGD",
    "sklearn_mlp": "scikit-learn MLPClassifier.partial_fit, centralised",
    "fedjax": "FedJAX",
    "pfl": "pfl-research",
    "fluke": "fluke",
    "fedlab": "FedLab",
    "blazefl": "BlazeFL",
    "flwr": "Flower simulation (Ray)",
    "imports": "import of torch and scikit-learn alone",
}


@dataclass(frozen=True)
class Task:
    """One measurement of a pass.

    Attributes
    ----------
    workload : str
        Name of the workload, or "grid".
    contender : str
        "limit", "prediction", a key of `LABELS`, or for the grid search "n_jobs=…".
    settings : Workload or Grid
        What exactly is run.
    """

    workload: str
    contender: str
    settings: Workload | Grid

    def run(self, data_dir: Path, device: str) -> dict[str, Any]:
        if self.contender in PEERS:
            return measure_peer(self.contender, self.workload)
        if isinstance(self.settings, Grid):
            return measure({"contender": "grid", "grid": asdict(self.settings)})
        workloads.cool(self.settings, data_dir)
        spec = {"workload": asdict(self.settings), "data_dir": str(data_dir), "device": device}
        return measure({"contender": self.contender, **spec})


def tasks(quick: bool, peers: list[str], heart_path: str | None) -> list[Task]:
    """All measurements of one pass, in order."""
    found = []
    for workload in workloads.QUICK if quick else workloads.FULL:
        contenders = _contenders(workload, quick)
        if not workload.scaled and not quick:
            contenders += [p for p in peers if workload.name in PEERS[p]]
        found += [Task(workload.name, contender, workload) for contender in contenders]
    grid = Grid(heart_path=heart_path)
    if quick:
        grid = replace(grid, gammas=(0.0, 2.0), n_folds=2, n_rounds=3)
    found += [Task("grid", f"n_jobs={n}", replace(grid, n_jobs=n)) for n in (1, 2)]
    return found


def _contenders(workload: Workload, quick: bool) -> list[str]:
    if workload.scaled or (quick and workload.name != "W1"):  # quick: everything once
        return ["fed_focal", "sequential"]
    mlp = workload.kind == "mlp"
    return [
        "limit",
        "fed_focal",
        "focusing",
        "threads",
        *(["cross_entropy"] if mlp else []),
        "sequential",
        "centralised",
        *(["sklearn_mlp"] if mlp else []),
        *(["imports"] if workload.name == "W1" else []),
        "prediction",
    ]


def chosen(all_tasks: list[Task], only: list[str], contenders: list[str]) -> list[Task]:
    """The tasks of the named workloads and contenders; no names mean all.

    "scale" stands for all W2x… workloads, "grid" for the grid search.
    """
    known = {t.workload for t in all_tasks} | {"scale"}
    unknown = set(only) - known
    if unknown:
        raise ValueError(f"No workload {sorted(unknown)}; there are {sorted(known)}.")
    found = [
        t
        for t in all_tasks
        if not only or t.workload in only or ("scale" in only and t.workload.startswith("W2x"))
    ]
    unknown = set(contenders) - {t.contender for t in found}
    if unknown:
        raise ValueError(
            f"No contender {sorted(unknown)}; there are {sorted({t.contender for t in found})}."
        )
    return [t for t in found if not contenders or t.contender in contenders]


def prepare_data(todo: list[Task], data_dir: Path) -> None:
    """Write the data files, in processes of their own."""
    done: set[str] = set()
    for task in todo:
        if isinstance(task.settings, Workload) and task.workload not in done:
            done.add(task.workload)
            spec = {"workload": asdict(task.settings), "data_dir": str(data_dir)}
            measure({"contender": "prepare", **spec})


# -- the file of records: one JSON object a line ----------------------------------------------


def read(path: Path) -> list[dict[str, Any]]:
    """All records of the file; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def append(path: Path, record: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def forget(path: Path, todo: list[Task]) -> None:
    """Drop the records of the tasks, which are to be measured anew."""
    names = {(t.workload, t.contender) for t in todo}
    kept = [r for r in read(path) if (r["workload"], r["contender"]) not in names]
    path.write_text("".join(json.dumps(record) + "\n" for record in kept))


def missing(path: Path, todo: list[Task], n_passes: int) -> Iterator[tuple[int, Task]]:
    """Passes and tasks that have no record: pass by pass, so that contenders take turns."""
    have = {(r["pass"], r["workload"], r["contender"]) for r in read(path)}
    for number in range(n_passes):
        for task in todo:
            if (number, task.workload, task.contender) not in have:
                yield number, task
