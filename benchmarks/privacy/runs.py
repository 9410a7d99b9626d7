"""Which cases there are, and their scores: kept one a line, so that a run can be resumed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.privacy.cases import (
    EPSILONS,
    FIXED,
    METHODS,
    PRIVATE_SETS,
    RATES,
    Case,
    Setting,
    score,
)

TUNING = ((0, 0), (1, 0))  # seeds and folds whose validation rows choose for all
BARE = ("default", "DP-FedAvg")  # methods that are also shown without privacy
TRUSTS = ("distributed", "local")  # in which the default is also shown, as it was tuned


class Scores:
    """Scores by case: looked up where they are known, made where they are not.

    Parameters
    ----------
    path : Path
        File of the scores.
    data : Path or None
        Folder of the data sets; None only looks up.
    most_seeds : int
        Seeds of a cell, where the set has more.
    """

    def __init__(self, path: Path, data: Path | None, most_seeds: int):
        self.path, self.data, self.most_seeds = path, data, most_seeds
        lines = path.read_text().splitlines() if path.exists() else []
        self.known = {_key(*json.loads(line)[:-1]): json.loads(line)[-1] for line in lines}

    def of(self, cases: Sequence[Case]) -> list[float]:
        """The scores of some cases."""
        for case in cases:
            if _key(*case) not in self.known:
                if self.data is None:
                    raise LookupError(f"{case} was not run.")
                self.known[_key(*case)] = found = score(case, self.data)
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a") as file:  # one write a line: other processes append too
                    file.write(json.dumps([*case, found]) + "\n")
        return [self.known[_key(*case)] for case in cases]

    def best(self, name: str, method: str, epsilon: float, seed: int) -> Any:
        """The setting of the best mean on validation rows; the first of equals.

        Where each seed has test rows of its own it chooses by itself, else the first few for all.
        """
        chosen = PRIVATE_SETS[name]
        grid: Sequence[Any] = RATES if np.isinf(epsilon) else chosen.grid
        tuning = ((seed, 0), (seed, 1)) if chosen.scenario.resplit else TUNING
        means = [
            np.mean(self.of([Case(name, method, epsilon, s, *place) for place in tuning]))
            for s in grid
        ]
        return grid[int(np.argmax(means))]

    def cell(self, name: str, method: str, epsilon: float, trust: str) -> dict[str, Any]:
        """Mean, standard error and setting of a cell of the table, from test rows."""
        seeds = range(min(self.most_seeds, PRIVATE_SETS[name].n_seeds))
        settings = [
            None if method == FIXED else self.best(name, method, epsilon, seed) for seed in seeds
        ]
        cases = zip(settings, seeds, strict=True)
        found = self.of([Case(name, method, epsilon, s, seed, None, trust) for s, seed in cases])
        error = np.std(found, ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.nan
        told = sorted({_told(setting) for setting in settings})
        return {
            "set": name,
            "method": method,
            "trust": trust,
            "epsilon": epsilon,
            "mean": round(float(np.mean(found)), 4),
            "error": round(float(error), 4),
            "n_seeds": len(found),
            "settings": "; ".join(told),
        }


def cells(names: Sequence[str]) -> Iterator[tuple[str, str, float, str]]:
    """Set, method, epsilon and trust of every cell."""
    for name in names:
        for method in BARE:
            yield name, method, np.inf, "server"
        for method in (*METHODS, FIXED):
            for epsilon in EPSILONS:
                yield name, method, epsilon, "server"
        for trust in TRUSTS if PRIVATE_SETS[name].unit == "example" else ():
            for epsilon in EPSILONS:
                yield name, "default", epsilon, trust


def _cell(path: Path, data: Path, most_seeds: int, cell: tuple[str, str, float, str]) -> None:
    torch.set_num_threads(1)
    Scores(path, data, most_seeds).cell(*cell)
    print(*cell, flush=True)


def measure(
    names: Sequence[str], path: Path, data: Path, most_seeds: int, n_processes: int
) -> None:
    """Make all scores that are missing."""
    todo = list(cells(names))
    # What was tuned for the server's noise is what the other trusts use: tuned cells come first.
    for part in ([c for c in todo if c[3] == "server"], [c for c in todo if c[3] != "server"]):
        with ProcessPoolExecutor(n_processes) as pool:
            for done in [pool.submit(_cell, path, data, most_seeds, cell) for cell in part]:
                done.result()


def summary(names: Sequence[str], path: Path, most_seeds: int) -> pd.DataFrame:
    """A row for each cell whose scores are there."""
    scores, rows = Scores(path, None, most_seeds), []
    for cell in cells(names):
        try:
            rows.append(scores.cell(*cell))
        except LookupError:
            continue
    return pd.DataFrame(rows)


def _told(setting: Setting | float | None) -> str:
    """A setting in words."""
    if isinstance(setting, Setting):
        return f"rate {setting.learning_rate:g}, clip {setting.clip_norm:g}"
    return "" if setting is None else f"rate {setting:g}"


def _key(*parts: Any) -> str:
    return json.dumps([list(p) if isinstance(p, tuple) else p for p in parts])
