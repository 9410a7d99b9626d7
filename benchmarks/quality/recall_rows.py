"""What it does to the model that clients estimate their recall on some of their rows.

``python -m benchmarks.quality.recall_rows`` trains the default classifier on sets whose clients
have many rows and differ, with several bounds on the rows of the recall, and without client
focusing, all at its default learning rate. It prints the balanced accuracy on held-out training
rows: that of the exact recall, and the difference of the others to it with its standard error over
seeds. ``--only`` names sets of sets.toml instead; nothing is written.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks._package import rows_of_recall
from benchmarks.page import table
from skfedfocal import FedFocalClassifier

from .cli import parsed, wanted
from .measures import balanced_accuracy
from .methods import common
from .sets import SETS, Scenario, Task

EXACT = "all rows"
VARIANTS: dict[str, tuple[Any, dict[str, Any]]] = {
    EXACT: (lambda: rows_of_recall(1 << 40), {}),
    "as it is": (nullcontext, {}),
    "16 rows": (lambda: rows_of_recall(16), {}),
    "no focusing": (nullcontext, {"client_gamma": 0}),
}
TEN = {
    "partition": {"kind": "dirichlet", "n_clients": 10, "alpha": 0.5, "min_rows": 10},
    "clients_per_round": 1.0,
    "n_local_epochs": 1,
}
LARGE = [
    SETS["har"],
    replace(SETS["fraud_truncated"], **TEN, title="fraud, 10 clients, Dirichlet 0.5"),
    replace(SETS["mnist_half_dirichlet"], **TEN, n_rounds=40, title="MNIST, half cut, 10 clients"),
    replace(
        SETS["mnist_tail_dirichlet"], **TEN, n_rounds=40, title="MNIST, linear tail, 10 clients"
    ),
]


def accuracies(task: Task, scenario: Scenario, seed: int) -> dict[str, float]:
    """Balanced accuracy of each variant, in percent."""
    found = {}
    for name, (how, own) in VARIANTS.items():
        model = FedFocalClassifier(**common(scenario, 0.1, seed), **own)
        with how():
            model.fit(task.X, task.y, clients=task.clients)
        found[name] = 100 * balanced_accuracy(task.y_test, model.predict(task.X_test))
    return found


def row(scenario: Scenario, seeds: range, data: Any) -> dict[str, str]:
    """The line of a set: means over seeds, and of the paired differences their standard error."""
    found, sizes = [], []
    for seed in seeds:
        task = scenario.task(data, seed, fold=0)
        sizes.append(np.unique(task.clients, return_counts=True)[1])
        found.append(accuracies(task, scenario, seed))
    frame = pd.DataFrame(found)
    gap = frame.drop(columns=EXACT).sub(frame[EXACT], axis=0)
    shown = {name: f"{gap[name].mean():+.2f} ({gap[name].sem():.2f})" for name in gap}
    median = f"{np.median(np.concatenate(sizes)):.0f}"
    return {"rows of a client": median, EXACT: f"{frame[EXACT].mean():.1f}", **shown}


def main(arguments: list[str] | None = None) -> None:
    options = parsed("python -m benchmarks.quality.recall_rows", __doc__, arguments)
    torch.set_num_threads(1)
    rows = {}
    for scenario in wanted(options) if options.only or options.quick else LARGE:
        rows[scenario.title] = row(scenario, range(options.seeds * scenario.repeats), options.data)
        print(scenario.title, rows[scenario.title], flush=True)
    print(table(pd.DataFrame.from_dict(rows, orient="index").rename_axis("set")))


if __name__ == "__main__":
    main()
