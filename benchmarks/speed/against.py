"""Two checkouts beside each other: is any workload slower here than there?"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.speed.measure import ROOT, measure
from benchmarks.speed.plan import Task

ALLOWED = 1.05  # slower by more than this is a regression


def interleaved(todo: list[Task], there: Path, n_passes: int) -> pd.DataFrame:
    """CPU times of each task here and there; who goes first changes from pass to pass."""
    rows = []
    for number in range(n_passes):
        for task in todo:
            sides = {"here": ROOT, "there": there}
            for side in sorted(sides, reverse=bool(number % 2)):
                found = measure(task.spec, sides[side])
                figures = {name: found[name] for name in ("round_cpu_s", "cpu_s") if name in found}
                rows.append({"pass": number, "task": " ".join(task.key), "side": side, **figures})
    return pd.DataFrame(rows)


def compare(rows: pd.DataFrame) -> pd.DataFrame:
    """Ratio of CPU times here to there, pass by pass: median and range for each task."""
    wide = rows.pivot(index=["task", "pass"], columns="side")
    figures = [name for name in ("round_cpu_s", "cpu_s") if name in rows]
    ratios = pd.concat(
        {name: wide[name].here / wide[name].there for name in figures}, names=["figure"]
    )
    return ratios.groupby(["task", "figure"], sort=False).agg(["median", "min", "max"])


def report(rows: pd.DataFrame) -> tuple[str, bool]:
    """What is printed, and whether no median ratio is above what is allowed."""
    found = compare(rows)
    names = {"round_cpu_s": "CPU of a round", "cpu_s": "CPU of the process"}
    lines = [
        f"{task}: {names[figure]}, here / there: {r['median']:.3f} ({r['min']:.3f} – {r['max']:.3f})"
        for (task, figure), r in found.iterrows()
    ]
    slower = found.index[found["median"] > ALLOWED].get_level_values("task").unique()
    verdict = f"slower by more than {ALLOWED - 1:.0%}: {', '.join(slower) or 'none'}"
    return "\n".join([*lines, verdict]), not len(slower)
