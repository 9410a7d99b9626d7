"""Only compare CPU times with another checkout; fails where one is higher here by over 5 percent.

Runs are interleaved, each in a process of its own: a b b a a b.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.speed.measure import ROOT, measure
from benchmarks.speed.plan import Task

ALLOWED = 1.05
NAMES = {"round_cpu_s": "CPU of a round", "cpu_s": "CPU of the process"}


def interleaved(todo: list[Task], there: Path, n_passes: int) -> pd.DataFrame:
    """CPU times of each task here and there; who goes first changes from pass to pass."""
    rows = []
    for number in range(n_passes):
        for task in todo:
            sides = {"here": ROOT, "there": there}
            for side in sorted(sides, reverse=bool(number % 2)):
                found = measure(task.spec, sides[side])
                figures = {name: found.get(name) for name in NAMES}
                rows.append({"pass": number, "task": " ".join(task.key), "side": side, **figures})
                print(*rows[-1].values(), flush=True)
    return pd.DataFrame(rows)


def report(rows: pd.DataFrame) -> tuple[str, bool]:
    """Ratios here to there, taken pass by pass; and whether no median is above what is allowed."""
    wide = rows.pivot(index=["task", "pass"], columns="side").astype(float)
    ratios = pd.concat({name: wide[name].here / wide[name].there for name in NAMES}, names=["name"])
    found = ratios.dropna().groupby(["task", "name"]).agg(["median", "min", "max"])
    lines = [
        f"{task}: {NAMES[name]}, here to there: {median:.3f} ({low:.3f} – {high:.3f})"
        for (task, name), median, low, high in found.itertuples()
    ]
    slower = found.index[found["median"] > ALLOWED].get_level_values("task").unique()
    lines.append(f"More than {ALLOWED - 1:.0%} slower here: {', '.join(slower) or 'none'}.")
    return "\n".join(lines), slower.empty
