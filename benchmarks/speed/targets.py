"""The targets: a bound on a figure of the default classifier, or on a ratio of two figures."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

Cell = tuple[str, str, str]  # workload, contender, figure


@dataclass(frozen=True)
class Target:
    """What is bounded: a cell of the summary, over another where there is one."""

    what: str
    bound: float
    above: Cell
    below: Cell | None = None
    at_least: bool = False

    def value(self, rows: pd.DataFrame) -> float:
        """What was found; nan where it was not measured."""
        value = cell(rows, *self.above)
        return value if self.below is None else value / cell(rows, *self.below)

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


def cell(rows: pd.DataFrame, workload: str, contender: str, figure: str) -> float:
    """A figure of the summary; nan where it was not measured."""
    return rows[figure].get((workload, contender), float("nan"))


def _targets() -> list[Target]:
    def over(workload: str, contender: str, figure: str) -> tuple[Cell, Cell]:
        return (workload, "default", figure), (workload, contender, figure)

    cpu, found = "cpu_to_loop", []
    for w, bound in (("W1", 1 / 7), ("W2", 1 / 4), ("W3", 0.85)):
        what = f"{w}: CPU of a round, to the sequential PyTorch loop's"
        found.append(Target(what, bound, (w, "default", cpu)))
    for w in ("W1", "W2"):
        what = f"{w}: CPU of a round, to FedJAX's"
        found.append(Target(what, 0.6, *over(w, "fedjax", cpu)))
    for w in ("W1", "W2"):
        ours, theirs = over(w, "flwr", "wall_to_loop")
        what = f"{w}: Flower's wall time of a round, to ours"
        found.append(Target(what, 20, theirs, ours, at_least=True))
    for w, bound in (("W1", 4), ("W2", 4), ("W3", 2.5)):
        what = f"{w}: CPU of a round, to the physical limit"
        found.append(Target(what, bound, *over(w, "limit", cpu)))
    for suffix, where in (("", "mapped file"), ("-csr", "sparse")):
        many, few = f"W2x1000000{suffix}", f"W2x1000{suffix}"
        what = f"W2, {where}: CPU of a round with 1,000,000 clients, to that with 1,000"
        cells = ((w, "default", "round_cpu_s") for w in (many, few))
        found.append(Target(what, 1.3, *cells))
        what = f"W2, {where}: memory with 1,000,000 clients beyond what lies in memory, MB"
        found.append(Target(what, 400, (many, "default", "beyond_data_mb")))
    for figure, name in (("process_to_loop", "CPU"), ("rss_mb", "memory")):
        what = f"W1, whole process: {name}, to FedJAX's"
        found.append(Target(what, 1, *over("W1", "fedjax", figure)))
    for figure, which in (("search_s", "first search"), ("search_again_s", "workers running")):
        what = f"grid search, {which}: time on one process to that on two"
        cells = (("grid", f"n_jobs={n}", figure) for n in (1, 2))
        found.append(Target(what, 1.6, *cells, at_least=True))
    for w in ("W1", "W2", "W3"):
        for method in ("predict", "predict_proba"):
            what = f"{w}: CPU of {method}, to the bare module's"
            found.append(Target(what, 1.2, (w, "prediction", f"{method}_to_module")))
    return found


TARGETS = _targets()
