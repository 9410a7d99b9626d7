"""How the classifier's defaults were chosen: the same with one parameter changed, on held-out rows.

``python -m benchmarks.quality.defaults`` trains each variant on each set, with its whole budget of
rounds and with a fifth of it, on the training rows less a quarter, and measures on that quarter;
test rows are out of sight. The learning rate is the same for all variants: the middle one of the
grid, or that which the default classifier chose most often in the records of the comparison.
Records are kept in results/defaults.jsonl, so that a run can be resumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.page import form

from .cli import parsed, wanted
from .measures import measure
from .methods import BASE, DEFAULT, METHODS, Own, common
from .runner import LEARNING_RATES, Record, read, train
from .sets import SETS, Scenario

HERE = Path(__file__).parent
SHARES = {"all rounds": 1.0, "a fifth of them": 0.2}
CHANGES: tuple[Own, ...] = (
    {},
    *({"logit_adjustment": share} for share in (0.0, 0.5, 0.6, 0.75, 1.0)),
    *({"gamma": gamma} for gamma in (0.0, 0.5, 2.0)),
    *({"client_gamma": gamma} for gamma in (0.0, 0.5)),
)
CASE = ("leg", "set", "variant", "seed")


def variants() -> dict[str, dict[str, Any]]:
    """Parameters of each variant by what is changed, in words; the default first."""
    found: dict[str, dict[str, Any]] = {"the default": DEFAULT}
    for change in CHANGES:
        if {**DEFAULT, **change} not in found.values():
            words = ", ".join(f"{name} {value:g}" for name, value in change.items())
            found[words] = {**DEFAULT, **change}
    return found


def rate_of(name: str, comparison: Path) -> float:
    """The learning rate for all variants on a set."""
    chosen = [
        r["learning_rate"]
        for r in read(comparison)
        if (r["set"], r["method"], r["fold"]) == (name, BASE, None)
    ]
    middle = LEARNING_RATES[len(LEARNING_RATES) // 2]
    return float(pd.Series(chosen).mode()[0]) if chosen else middle


def run(
    scenarios: list[Scenario], n_seeds: int, data: Path, path: Path, comparison: Path
) -> Iterator[Record]:
    """All records; what has none in the file yet is trained."""
    known = {tuple(r[name] for name in CASE): r for r in read(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    for scenario in scenarios:
        rate = rate_of(scenario.name, comparison)
        for seed in range(n_seeds * scenario.repeats):
            for leg, share in SHARES.items():
                for words, own in variants().items():
                    case = (leg, scenario.name, words, seed)
                    if case not in known:
                        found = _measured(scenario, share, rate, own, seed, data)
                        known[case] = {**dict(zip(CASE, case, strict=True)), **found}
                        with path.open("a") as file:
                            file.write(json.dumps(known[case]) + "\n")
                    yield known[case]


def _measured(
    scenario: Scenario, share: float, rate: float, own: Own, seed: int, data: Path
) -> dict[str, float]:
    task = scenario.task(data, seed, fold=0)
    shorter = replace(scenario, n_rounds=max(1, round(share * scenario.n_rounds)))
    model, _ = train(METHODS[BASE], task, common(shorter, rate, seed), own)
    if model is None:
        raise RuntimeError(f"{own} diverged on {scenario.name} at learning rate {rate}.")
    found = measure(METHODS[BASE], model, own, task)
    return {"accuracy": 100 * found["balanced_accuracy"], "log_loss": found["balanced_log_loss"]}


def summarise(records: Iterator[Record]) -> pd.DataFrame:
    """By leg, statistic and variant: a column for each set; `se` is of the paired difference."""
    frame = pd.DataFrame(records).set_index([*CASE])
    mean = frame.groupby(["leg", "variant", "set"]).mean()
    accuracy = frame.accuracy.unstack("variant")
    gap = accuracy.sub(accuracy["the default"], axis=0).groupby(["leg", "set"]).sem().stack()
    mean["se"] = gap.reorder_levels(["leg", "variant", "set"])
    return mean.stack().rename_axis(["leg", "variant", "set", "statistic"]).unstack("set")


def section(path: Path) -> dict[str, pd.DataFrame] | None:
    """Tables of the results page; None where there is no file."""
    if not path.exists():
        return None
    found = pd.read_csv(path, index_col=["leg", "variant", "statistic"])
    columns = {}
    for leg in SHARES:
        accuracy, loss, se = (
            found.loc[leg].xs(name, level="statistic").loc[[*variants()]]
            for name in ("accuracy", "log_loss", "se")
        )
        gap = accuracy - accuracy.loc["the default"]
        error = np.sqrt((se**2).sum(axis=1)) / se.shape[1]
        text = form(gap.mean(axis=1), "+.1f") + " (" + form(error, ".1f") + "), "
        columns[f"balanced accuracy, {leg}"] = form(accuracy.mean(axis=1), ".1f")
        columns[f"difference, {leg}"] = text + form(gap.min(axis=1), "+.1f")
        columns[f"log-loss, {leg}"] = form(loss.mean(axis=1), ".3f")
    shown = pd.DataFrame(columns).rename_axis("changed")
    shown.loc["the default", [f"difference, {leg}" for leg in SHARES]] = "–"
    first = found.loc[next(iter(SHARES))].xs("accuracy", level="statistic")
    return {"n_sets": first.shape[1], "variants": shown, "left_out": leave_sets_out(first)}


def leave_sets_out(accuracy: pd.DataFrame) -> pd.DataFrame:
    """For the sets of each file: what the other sets would choose, and what it gives on these."""
    rows = {}
    by_file = accuracy.columns.to_series().map(lambda name: SETS[name].file)
    for file, columns in accuracy.T.groupby(by_file):
        sets = columns.index
        chosen = accuracy.drop(columns=sets).mean(axis=1).idxmax()
        gap = (accuracy.loc[chosen, sets] - accuracy.loc["the default", sets]).mean()
        rows[f"{file} ({len(sets)})"] = {
            "chosen without it": chosen,
            "minus the default": f"{gap:+.2f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("left out (sets)")


def main(arguments: list[str] | None = None) -> None:
    options = parsed("python -m benchmarks.quality.defaults", __doc__, arguments)
    torch.set_num_threads(1)
    records = run(
        wanted(options),
        options.seeds,
        options.data,
        options.results / "defaults.jsonl",
        options.results / "quality.jsonl",
    )
    folder = options.results if options.quick or options.only else HERE
    summarise(records).to_csv(folder / "defaults.csv", float_format="%.4g")


if __name__ == "__main__":
    main()
