"""What is measured: which contenders on which workloads, pass by pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.measure import measure
from benchmarks.speed.peers import PEERS, measure_peer
from benchmarks.speed.workloads import FULL, QUICK, Workload

Record = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One measurement of a pass: what `measure` is to run, and under which name it is kept."""

    workload: str
    contender: str
    spec: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        return self.workload, self.contender

    def run(self) -> Record:
        if self.contender in PEERS:
            return measure_peer(self.contender, self.workload)
        return measure(self.spec)


def tasks(quick: bool, peers: list[str], data_dir: Path, device: str = "cpu") -> list[Task]:
    """All measurements of one pass, in order."""
    found = []
    for workload in QUICK if quick else FULL:
        spec = {"workload": asdict(workload), "data_dir": str(data_dir), "device": device}
        contenders = _contenders(workload, quick)
        if not workload.scaled and not quick:
            contenders += [p for p in peers if workload.name in PEERS[p]]
        found += [Task(workload.name, c, {"contender": c, **spec}) for c in contenders]
    shorter = {"gammas": (0.0, 2.0), "n_folds": 2, "n_rounds": 3} if quick else {}
    for n in (1, 2):
        name, grid = f"n_jobs={n}", {"n_jobs": n, **shorter}
        found.append(Task("grid", name, {"contender": name, "grid": grid}))
    return found


def _contenders(workload: Workload, quick: bool) -> list[str]:
    if workload.scaled or (quick and workload.name != "W1"):  # quick: everything once
        return ["default", "sequential"]
    found = ["limit", "default", "unfocused", "threads", "sequential", "centralised"]
    found += ["cross_entropy", "sklearn_mlp"] if workload.kind == "mlp" else []
    return [*found, *(["imports"] if workload.name == "W1" else []), "prediction"]


def chosen(all_tasks: list[Task], only: list[str], contenders: list[str]) -> list[Task]:
    """The tasks of the named workloads and contenders; no names mean all.

    "scale" stands for all W2x… workloads, "grid" for the grid search.
    """
    _known("workload", only, {t.workload for t in all_tasks} | {"scale"})
    found = [
        t
        for t in all_tasks
        if not only or t.workload in only or ("scale" in only and t.workload.startswith("W2x"))
    ]
    _known("contender", contenders, {t.contender for t in found})
    return [t for t in found if not contenders or t.contender in contenders]


def _known(kind: str, names: list[str], known: set[str]) -> None:
    if unknown := set(names) - known:
        raise SystemExit(f"No {kind} {sorted(unknown)}; there are {sorted(known)}.")


def prepare(todo: list[Task]) -> None:
    """Write the data files, in processes of their own."""
    for spec in {t.workload: t.spec for t in todo if "workload" in t.spec}.values():
        measure({**spec, "contender": "prepare"})


# -- the file of records: one JSON object a line ----------------------------------------------


def read(path: Path) -> list[Record]:
    """All records of the file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(path: Path, *records: Record) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def forget(path: Path, todo: list[Task]) -> None:
    """Drop the records of the tasks, which are to be measured anew."""
    names = {t.key for t in todo}
    kept = [r for r in read(path) if (r["workload"], r["contender"]) not in names]
    path.unlink(missing_ok=True)
    append(path, *kept)


def missing(path: Path, todo: list[Task], n_passes: int) -> Iterator[tuple[int, Task]]:
    """Passes and tasks that have no record: pass by pass, so that contenders take turns."""
    have = {(r["pass"], r["workload"], r["contender"]) for r in read(path)}
    for number in range(n_passes):
        yield from ((number, task) for task in todo if (number, *task.key) not in have)
