"""The summary that the page is made from.

accuracy.csv has balanced accuracy in percent, a row for each leg, statistic and method, a column
for each set; means.csv probabilities and costs of each method, means over sets. defaults.csv and
coverage.csv are of the commands of these names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.machine import describe

from .methods import BASE
from .sets import SETS

KINDS = {
    "own": "`predict_proba`, where it is meant for",
    "raw": "raw softmax, same place",
    "balanced": "`predict_proba`, classes equally frequent",
    "uniform": "posterior for equally frequent classes",
    "natural": "posterior for the training population",
}
COSTS = {"mib": "MiB both ways", "seconds": "CPU seconds of a training"}


def summarise(records: Iterable[dict[str, Any]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy by set, and means over sets of all else."""
    frame, by_set = pd.DataFrame(records), ["leg", "set"]
    index = [*by_set, "seed"]
    values = 100 * frame.pivot(index=index, columns="method", values="balanced_accuracy")
    statistics = {
        "mean": values.groupby(by_set).mean(),
        "sd": values.groupby(by_set).std(),
        # standard error of the paired difference to the default
        "se": values.sub(values[BASE], axis=0).groupby(by_set).sem(),
    }
    accuracy = pd.concat(statistics, names=["statistic"]).stack(future_stack=True).unstack("set")
    accuracy = accuracy.reorder_levels(["leg", "statistic", "method"]).sort_index()
    names = [f"{kind}_{m}" for m in ("log_loss", "ece", "classwise_ece") for kind in KINDS]
    others = frame[frame.leg == "default"].reindex(columns=["method", "set", *names, *COSTS])
    return accuracy, others.groupby(["method", "set"]).mean().groupby("method").mean()


def keep(found: pd.DataFrame, means: pd.DataFrame, facts: dict[str, Any], folder: Path) -> None:
    """Write the summary; sets and methods that were not run stay as they are.

    Means over sets, and what is said of the machine, change only with a run of all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = accuracy(folder)
    if kept.columns.isin(found.columns).all() and kept.index.isin(found.index).all():
        means.to_csv(folder / "means.csv", float_format="%.4g")
        facts = {**facts, "n_sets": found.shape[1], "machine": describe()}
        (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    elif (seeds := json.loads((folder / "facts.json").read_text())["n_seeds"]) != facts["n_seeds"]:
        raise SystemExit(f"The other sets have {seeds} seeds, not {facts['n_seeds']}.")
    joined = found.combine_first(kept)
    known = [name for name in SETS if name in joined]
    joined[known].to_csv(folder / "accuracy.csv", float_format="%.3f")


def accuracy(folder: Path) -> pd.DataFrame:
    """The accuracy that is kept in a folder; empty where there is none."""
    index, path = ["leg", "statistic", "method"], folder / "accuracy.csv"
    if path.exists():
        return pd.read_csv(path, index_col=index)
    return pd.DataFrame(index=pd.MultiIndex.from_arrays([[], [], []], names=index))
