"""CatFedAvg: accuracy against bytes where every client has two classes.

``python -m benchmarks.quality.coverage --data DIR`` trains FedAvg on MNIST, dealt to 100 clients
as shards of two classes, with cohorts of several sizes drawn uniformly, by coverage and by balance
of categories, and with all clients. Bytes are those of ``history_``: models and scalars both ways,
and the label counts that coverage asks for. The learning rate is chosen on validation rows for
FedAvg with uniform cohorts of ten, and is the same for all. Every cell is the mean over seeds.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from skfedfocal import FederatedClassifier, shard_partition
from skfedfocal.selection import CategoryCoverage, Selection, Uniform

from .datasets import SCENARIOS, Budget, Scenario, Task, digits, mnist
from .measures import class_measures
from .report import dump, machine, markdown
from .runner import LEARNING_RATES

ROOT = Path(__file__).parents[2]
SELECTIONS: dict[str, Callable[[], Selection]] = {
    "uniform": Uniform,
    "cover": lambda: CategoryCoverage("cover"),
    "balance": lambda: CategoryCoverage("balance"),
}
STEP = 5  # rounds between measurements


def scenario(quick: bool) -> Scenario:
    """100 clients (quick: 10) of two shards each."""
    n_clients = 10 if quick else 100
    return Scenario(
        name="coverage",
        title="two classes per client",
        source=digits if quick else mnist,
        budget=Budget((32,), 10, 1, 20)
        if quick
        else replace(SCENARIOS["mnist_half_iid"].budget, n_rounds=40),
        n_train=None if quick else 20_000,
        partition=lambda y, seed: shard_partition(y, n_clients, random_state=seed),
    )


def curve(
    task: Task, budget: Budget, selection: Selection, n_selected: int, rate: float, seed: int
) -> list[dict[str, float]]:
    """Accuracy and bytes so far, every few rounds."""
    model = FederatedClassifier(
        budget.hidden_layer_sizes,
        selection=selection,
        clients_per_round=n_selected,
        n_rounds=STEP,
        n_local_epochs=budget.n_local_epochs,
        batch_size=budget.batch_size,
        learning_rate=rate,
        warm_start=True,
        device="cpu",
        random_state=seed,
    )
    points = []
    for _ in range(budget.n_rounds // STEP):
        model.fit(task.X, task.y, clients=task.clients)
        measures = class_measures(task.y_test, model.predict(task.X_test))
        history = model.history_
        points.append(
            {
                "round": int(model.n_iter_),
                "accuracy": measures["balanced_accuracy"],
                "bytes": float(history["bytes_down"].sum() + history["bytes_up"].sum()),
            }
        )
    return points


def measure(data: Path, n_seeds: int, quick: bool) -> dict[str, Any]:
    where = scenario(quick)
    n_clients = 10 if quick else 100
    sizes = (2, 5) if quick else (2, 5, 10, 20)
    task = where.task(data, 0, fold=0)
    scores = [
        curve(task, where.budget, Uniform(), sizes[-1] // 2, rate, 0)[-1]["accuracy"]
        for rate in LEARNING_RATES
    ]
    rate = LEARNING_RATES[int(np.argmax(scores))]
    wanted = [(name, size) for size in sizes for name in SELECTIONS] + [("uniform", n_clients)]
    rows = []
    for seed in range(n_seeds):
        task = where.task(data, seed)
        for name, size in wanted:
            points = curve(task, where.budget, SELECTIONS[name](), size, rate, seed)
            rows += [{"selection": name, "clients": size, "seed": seed, **p} for p in points]
            print(seed, name, size, round(points[-1]["accuracy"], 3), flush=True)
    return {"learning_rate": rate, "n_seeds": n_seeds, "machine": machine(), "rows": rows}


def at_round(
    table: Mapping[str, Any], number: int
) -> dict[tuple[str, int], tuple[float, float, float]]:
    """Mean accuracy, its deviation over seeds, and MiB so far, by selection and cohort size."""
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in table["rows"]:
        if row["round"] == number:
            cell = found.setdefault((row["selection"], row["clients"]), [])
            cell.append((row["accuracy"], row["bytes"] / 2**20))
    return {
        key: (float(np.mean(v, 0)[0]), float(np.std(v, 0)[0]), float(np.mean(v, 0)[1]))
        for key, v in found.items()
    }


def last_round(table: Mapping[str, Any]) -> int:
    return max(row["round"] for row in table["rows"])


def section(table: Mapping[str, Any], figure: str = "coverage.svg") -> str:
    """A section of the results page."""
    last = last_round(table)
    half = last // 2 // STEP * STEP
    early, late = at_round(table, half), at_round(table, last)
    everyone = max(late, key=lambda key: key[1])
    rows = []
    for (name, size), (_, _, traffic) in late.items():
        row = [name, str(size)]
        for cells in (early, late):
            accuracy, spread, _ = cells[name, size]
            row.append(f"{100 * accuracy:.1f} ± {100 * spread:.1f}")
            uniform = cells.get(("uniform", size))
            gain = "–" if uniform is None else f"{100 * (accuracy - uniform[0]):+.1f}"
            row.append("–" if name == "uniform" else gain)
        saved = 100 * (1 - traffic / late[everyone][2])
        rows.append([*row, f"{traffic:.1f}", f"{saved:.1f}"])
    head = ["selection", "clients a round", f"accuracy, round {half}", "over uniform"]
    head += [f"accuracy, round {last}", "over uniform", "MiB", "% saved"]
    return (
        "## CatFedAvg: accuracy against bytes\n\n"
        f"MNIST, 100 clients with about two classes each, learning rate {table['learning_rate']}, "
        f"{table['n_seeds']} seeds. Saved: against all clients in as many rounds.\n\n"
        f"![Accuracy against bytes]({figure})\n\n" + markdown(head, rows)
    )


def draw(table: Mapping[str, Any], path: Path) -> None:
    """Accuracy at the last round against bytes, a line for each selection."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "coverage"  # the same figure from the same figures
    cells = at_round(table, last_round(table))
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, marker in zip(SELECTIONS, "os^", strict=True):
        points = sorted((v[2], v[0], v[1], size) for (n, size), v in cells.items() if n == name)
        traffic, accuracy, spread, sizes = map(np.array, zip(*points, strict=True))
        axes.errorbar(traffic, 100 * accuracy, 100 * spread, marker=marker, capsize=2, label=name)
        for x, y, size in zip(traffic, accuracy, sizes, strict=True):
            axes.annotate(str(size), (x, 100 * y), (3, -11), textcoords="offset points", size=8)
    axes.set(xscale="log", xlabel="MiB both ways, all rounds", ylabel="accuracy, percent")
    axes.set_title("Two classes per client; numbers: clients a round", size=10)
    axes.legend(title="selection")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    data = os.environ.get("SKFEDFOCAL_DATA", ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.coverage")
    parser.add_argument("--data", type=Path, default=Path(data), help="folder of the data sets")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits, 10 clients")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "coverage.json")
    parser.add_argument("--figure", type=Path, default=ROOT / "docs" / "coverage.svg")
    options = parser.parse_args(arguments)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # clients left out when a rate is too high
        torch.set_num_threads(1)
        table = measure(options.data, options.seeds, options.quick)
    dump(table, options.results)
    draw(table, options.figure)
    print(section(table, options.figure.name))


if __name__ == "__main__":
    main()
