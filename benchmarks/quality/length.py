"""How long to train: ``python -m benchmarks.quality.length``.

The default classifier, at its default learning rate, trains for 300 rounds on each set's training
rows less a quarter, and is measured on that quarter: as it is after 30, 100 and 300 rounds, and in
forms of which the hope is that the number of rounds need not be chosen. Every training is a line in
results/length.jsonl, so that a run can be resumed; length.csv is of whatever is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.page import form
from benchmarks.records import resumed
from skfedfocal import FedFocalClassifier
from skfedfocal.strategies import FedAvg

from .cli import parsed, wanted
from .measures import balanced_accuracy
from .methods import common
from .sets import SETS, Scenario, Task

HERE = Path(__file__).parent
LENGTHS = (30, 100, 300)
MOST = LENGTHS[-1]
MEAN = "mean of the last half"
RATE = 0.1


class Falling(FedAvg):
    """Federated averaging whose steps fall to nothing, by the same each round."""

    def start(self, theta: Tensor) -> dict[str, Tensor]:
        return {"n": torch.zeros_like(theta)}

    def step(
        self, theta: Tensor, delta: Tensor, state: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return theta + (1 - state["n"] / MOST) * delta, {"n": state["n"] + 1}


TRAININGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "falling steps": {"strategy": Falling()},
    "early stopping": {"early_stopping": True},
    "early stopping, patience 30": {"early_stopping": True, "n_iter_no_change": 30},
}


class Watch:
    """A callback that measures the model at some rounds, and the mean of the models up to them."""

    def __init__(self, task: Task):
        self.task = task
        self.total = 0.0
        self.until: dict[int, Any] = {0: 0.0}
        self.found: dict[str, float] = {}

    def setup(self, estimator: Any, context: Any) -> None: ...

    def teardown(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None: ...

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        n = fitted_estimator.n_iter_
        if n in self.until:  # the fit itself ends after its last round
            return
        self.total = self.total + fitted_estimator.theta_.astype(np.float64)
        self.until[n] = self.total
        if n in LENGTHS:
            self.found[f"{n} rounds"] = score(fitted_estimator, self.task)
            self.found[f"{n} rounds, {MEAN}"] = score(fitted_estimator, self.task, self.half(n))
        self.until = {k: v for k, v in self.until.items() if k in {m // 2 for m in LENGTHS} | {n}}

    def half(self, n: int) -> Any:
        return (self.until[n] - self.until[n // 2]) / (n - n // 2)


def score(model: FedFocalClassifier, task: Task, theta: Any = None) -> float:
    """Balanced accuracy in percent, of the model or with other parameters in its place."""
    if theta is not None:
        parameters = model.module_.parameters()
        values = torch.from_numpy(theta.astype(model.theta_.dtype))
        torch.nn.utils.vector_to_parameters(values, parameters)
    return 100 * balanced_accuracy(task.y_test, model.predict(task.X_test))


def trained(scenario: Scenario, task: Task, name: str, seed: int) -> dict[str, float]:
    """Scores of one training, by what was measured."""
    settings = {**common(scenario, RATE, seed), "n_rounds": MOST, **TRAININGS[name]}
    model = FedFocalClassifier(**settings)
    if name != "as it is":
        model.fit(task.X, task.y, clients=task.clients)
        return {f"{MOST} rounds, {name}": score(model, task)}
    watch = Watch(task)
    model.set_callbacks(watch).fit(task.X, task.y, clients=task.clients)
    return watch.found


def measured(scenarios: list[Scenario], options: Any) -> Iterator[dict[str, Any]]:
    """All records, seed by seed; those that are there are not made again."""
    of = {scenario.name: scenario for scenario in scenarios}

    def one(name: str, training: str, seed: int) -> list[dict[str, Any]]:
        task = of[name].task(options.data, seed, fold=0)
        found = trained(of[name], task, training, seed)
        return [{"set": name, "training": training, "seed": seed, "found": found}]

    cases = (
        (scenario.name, training, seed)
        for seed in range(options.seeds * max(s.repeats for s in scenarios))
        for scenario in scenarios
        if seed < options.seeds * scenario.repeats
        for training in TRAININGS
    )
    runs = resumed(options.results / "length.jsonl", ("set", "training", "seed"), cases, one)
    for record in runs.to_dict("records"):
        case = {"set": record["set"], "seed": record["seed"]}
        yield from ({**case, "way": way, "accuracy": v} for way, v in record["found"].items())


def summarise(records: list[dict[str, Any]]) -> pd.DataFrame:
    """By way and statistic a column for each set; `se` is of the difference to the best length.

    The best of 30, 100 and 300 rounds is that of the means over seeds. Only seeds that all
    trainings have are counted.
    """
    runs = pd.DataFrame(records).pivot(index=["set", "seed"], columns="way", values="accuracy")
    runs = runs.dropna()
    mean = runs.groupby("set").mean()
    best = mean[[f"{n} rounds" for n in LENGTHS]].idxmax(axis=1)
    of_best = [runs.loc[i, best[i[0]]] for i in runs.index]
    gap = runs.sub(of_best, axis=0).groupby("set")
    found = pd.concat(
        {"accuracy": mean, "minus best": gap.mean(), "se": gap.sem(), "n": gap.count()},
        names=["statistic"],
    )
    table = (
        found.stack(future_stack=True)
        .unstack("set")
        .reorder_levels(["way", "statistic"])
        .sort_index()
    )
    return table[[name for name in SETS if name in table]]


def section(path: Path) -> dict[str, Any] | None:
    """What the results page says; None where there is no file."""
    if not path.exists():
        return None
    found = pd.read_csv(path, index_col=["way", "statistic"])
    accuracy, gap, se, n = (
        found.xs(name, level="statistic") for name in ("accuracy", "minus best", "se", "n")
    )
    others = [f"{MOST} rounds, {MEAN}", *(f"{MOST} rounds, {name}" for name in TRAININGS)]
    ways = [f"{length} rounds" for length in LENGTHS]
    ways += [way for way in others if way in accuracy.index]
    error = np.sqrt((se**2).sum(axis=1)) / se.shape[1]
    shown = pd.DataFrame(
        {
            "balanced accuracy": form(accuracy.mean(axis=1), ".1f"),
            "minus the best length (SE)": form(gap.mean(axis=1), "+.1f")
            + form(error, ".1f").map(" ({})".format),
            "at the least": form(gap.min(axis=1), "+.1f")
            + gap.idxmin(axis=1).map(lambda name: f" ({SETS[name].title})"),
            "sets more than a point below": (gap < -1).sum(axis=1),
            "more than two SE as well": ((gap < -1) & (gap < -2 * se)).sum(axis=1),
        }
    )
    best = accuracy.loc[[f"{length} rounds" for length in LENGTHS]].idxmax().value_counts()
    return {
        "table": shown.loc[ways].rename_axis("trained"),
        "best": best,
        "n_sets": accuracy.shape[1],
        "n_seeds": int(n.min(axis=None)),
    }


def main(arguments: list[str] | None = None) -> None:
    options = parsed("python -m benchmarks.quality.length", __doc__, arguments)
    torch.set_num_threads(1)
    records = list(measured(wanted(options), options))
    folder = options.results if options.quick or options.only else HERE
    summarise(records).to_csv(folder / "length.csv", float_format="%.4g")


if __name__ == "__main__":
    main()
