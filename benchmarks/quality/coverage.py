"""CatFedAvg: accuracy against bytes where every client has two classes.

``python -m benchmarks.quality.coverage`` trains FedAvg on MNIST, dealt to 100 clients as shards of
two classes, with cohorts of several sizes drawn uniformly, by coverage and by balance of
categories, and with all clients. Bytes are those of ``history_``: models and scalars both ways, and
the label counts that coverage asks for. The learning rate is chosen on validation rows for FedAvg
with uniform cohorts of ten, and is the same for all. Every cell is the mean over seeds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.page import form
from skfedfocal import FederatedClassifier
from skfedfocal.selection import CategoryCoverage, Selection, Uniform

from .cli import ROOT, parsed
from .measures import balanced_accuracy
from .methods import common
from .sets import SETS, Scenario, Task

SELECTIONS: dict[str, Selection] = {
    "uniform": Uniform(),
    "cover": CategoryCoverage("cover"),
    "balance": CategoryCoverage("balance"),
}
HERE = Path(__file__).parent


def halves(
    task: Task, scenario: Scenario, selection: Selection, n_selected: int, rate: float, seed: int
) -> Iterator[dict[str, float]]:
    """Accuracy and traffic so far, after half of the rounds and after all."""
    settings = common(scenario, rate, seed)
    settings |= {"clients_per_round": n_selected, "n_rounds": scenario.n_rounds // 2}
    model = FederatedClassifier(selection=selection, warm_start=True, **settings)
    for _ in range(2):
        model.fit(task.X, task.y, clients=task.clients)
        sent = model.history_["bytes_down"].sum() + model.history_["bytes_up"].sum()
        accuracy = 100 * balanced_accuracy(task.y_test, model.predict(task.X_test))
        yield {"round": int(model.n_iter_), "accuracy": accuracy, "mib": sent / 2**20}


def measure(scenario: Scenario, sizes: tuple[int, ...], data: Path, n_seeds: int) -> pd.DataFrame:
    """Mean and deviation over seeds, by selection, cohort size and round."""
    task = scenario.task(data, 0, fold=0)
    scores = [
        [*halves(task, scenario, Uniform(), sizes[-1] // 2, rate, 0)][-1]["accuracy"]
        for rate in scenario.learning_rates
    ]
    rate = scenario.learning_rates[int(np.argmax(scores))]
    n_clients = scenario.partition["n_clients"]
    rows: list[dict[str, Any]] = []
    for seed in range(n_seeds):
        task = scenario.task(data, seed)
        for size, name in [*((s, n) for s in sizes for n in SELECTIONS), (n_clients, "uniform")]:
            case = {"clients": size, "selection": name, "learning_rate": rate, "seeds": n_seeds}
            points = halves(task, scenario, SELECTIONS[name], size, rate, seed)
            rows += [{**case, **point} for point in points]
    keys = ["clients", "selection", "learning_rate", "seeds", "round"]
    by_case = pd.DataFrame(rows).groupby(keys, sort=False)
    return by_case.mean().assign(sd=by_case.accuracy.std(ddof=0)).reset_index()


def section(path: Path) -> dict[str, Any] | None:
    """A table of the results page, and what is said above it; None where there is no file."""
    if not path.exists():
        return None
    found = pd.read_csv(path)
    columns: dict[str, Any] = {}
    for number, rows in found.groupby("round"):
        rows = rows.set_index(["clients", "selection"])
        uniform = rows.accuracy.xs("uniform", level="selection")
        gap = form(rows.accuracy - uniform.reindex(rows.index, level="clients"), "+.1f")
        gap[rows.index.get_level_values("selection") == "uniform"] = "–"
        columns[f"accuracy, round {number}"] = (
            form(rows.accuracy, ".1f") + " ± " + form(rows.sd, ".1f")
        )
        columns[f"over uniform, round {number}"] = gap
    columns["MiB"] = form(rows.mib, ".1f")
    columns["% saved"] = form(100 - 100 * rows.mib / rows.mib.max(), ".1f")
    shown = pd.DataFrame(columns, index=rows.index).reset_index("clients")
    return {
        "table": shown.rename(columns={"clients": "clients a round"}),
        "learning_rate": found.learning_rate[0],
        "n_seeds": found.seeds[0],
    }


def draw(found: pd.DataFrame, path: Path) -> None:
    """Accuracy at the last round against bytes, a line for each selection."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    # The same figure from the same numbers; text as text, which takes a tenth of the bytes.
    plt.rcParams.update({"svg.hashsalt": "coverage", "svg.fonttype": "none"})
    last = found[found["round"] == found["round"].max()]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, marker in zip(SELECTIONS, "os^", strict=True):
        line = last[last.selection == name].sort_values("mib")
        axes.errorbar(line.mib, line.accuracy, line.sd, marker=marker, capsize=2, label=name)
        for x, y, size in zip(line.mib, line.accuracy, line.clients, strict=True):
            axes.annotate(str(size), (x, y), (3, -11), textcoords="offset points", size=8)
    axes.set(xscale="log", xlabel="MiB both ways, all rounds", ylabel="accuracy, percent")
    axes.set_title("Two classes per client; numbers: clients a round", size=10)
    axes.minorticks_off()
    axes.legend(title="selection")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    options = parsed("python -m benchmarks.quality.coverage", __doc__, arguments)
    folder = options.results if options.quick else HERE
    path, name = folder / "coverage.csv", "coverage_quick" if options.quick else "coverage"
    if not options.page:
        torch.set_num_threads(1)
        sizes = (2, 5) if options.quick else (2, 5, 10, 20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # clients left out at a high rate
            found = measure(SETS[name], sizes, options.data, min(options.seeds, 3))
        folder.mkdir(parents=True, exist_ok=True)
        found.to_csv(path, index=False, float_format="%.5g")
    draw(pd.read_csv(path), (folder if options.quick else ROOT / "docs") / "coverage.svg")


if __name__ == "__main__":
    main()
