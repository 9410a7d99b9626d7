"""How the classifier's defaults were chosen: the same with one parameter changed, on held-out rows.

``python -m benchmarks.quality.defaults`` trains each variant on each set, with its whole budget of
rounds and with a fifth of it, on the training rows less a quarter, and measures on that quarter;
test rows are out of sight. The learning rate is that which the default classifier chooses, for all
variants. Records are kept in results/quality.jsonl, so that a run can be resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.page import form

from .cli import parsed, wanted
from .methods import BASE, DEFAULT, METHODS, Own
from .runner import Record, Runner
from .sets import SETS

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


def measured(runner: Runner) -> Iterator[Record]:
    """All records of a set, at the learning rate that the default classifier chooses."""
    for seed in runner.seeds:
        rate = runner.rate(METHODS[BASE], seed)
        for leg, share in SHARES.items():
            for words, own in variants().items():
                found = runner.record(METHODS[BASE], own, rate, seed, 0, share)
                case = dict(zip(CASE, (leg, runner.scenario.name, words, seed), strict=True))
                accuracy = 100 * found["balanced_accuracy"]
                yield {**case, "accuracy": accuracy, "log_loss": found["balanced_log_loss"]}


def summarise(records: list[Record]) -> pd.DataFrame:
    """By leg, statistic and variant: a column for each set; `se` is of the paired difference."""
    frame = pd.DataFrame(records).set_index([*CASE])
    mean = frame.groupby(["leg", "variant", "set"]).mean()
    accuracy = frame.accuracy.unstack("variant")
    gap = (
        accuracy.sub(accuracy["the default"], axis=0)
        .groupby(["leg", "set"])
        .sem()
        .stack(future_stack=True)
    )
    mean["se"] = gap.reorder_levels(["leg", "variant", "set"])
    return (
        mean.stack(future_stack=True)
        .rename_axis(["leg", "variant", "set", "statistic"])
        .unstack("set")
    )


def chosen_elsewhere(folder: Path = HERE) -> dict[str, Own]:
    """For each set the parameters that the other half of the sets chooses, by the best mean."""
    path = folder / "defaults.csv"
    if not path.exists():
        return {}
    found = {}
    for half, words in by_half(accuracy_of(path)).items():
        own = variants()[words]
        found |= {name: own for name, of in SETS.items() if of.half == half}
    return found


def by_half(accuracy: pd.DataFrame) -> dict[int, str]:
    """For each half of the sets the variant that is best on the other; variants by sets."""
    half = accuracy.columns.to_series().map(lambda name: SETS[name].half)
    return {
        k: accuracy.loc[:, half != k].mean(axis=1).idxmax()
        for k in sorted(set(half))
        if (half != k).any()
    }


def accuracy_of(path: Path) -> pd.DataFrame:
    """Balanced accuracy after all rounds: variants by sets."""
    found = pd.read_csv(path, index_col=["leg", "variant", "statistic"])
    accuracy = found.loc[next(iter(SHARES))].xs("accuracy", level="statistic")
    return accuracy.loc[[*variants()]]  # the default first: it wins where all are equal


def section(path: Path) -> dict[str, Any] | None:
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
    first = accuracy_of(path)
    return {
        "n_sets": first.shape[1],
        "variants": shown,
        "left_out": leave_sets_out(first),
        "by_half": chosen_by_half(first),
        "halved": halved(first),
    }


def chosen_by_half(accuracy: pd.DataFrame) -> pd.DataFrame:
    """The sets of each half, what the other chooses, and what that gives on these."""
    rows = {}
    for half, chosen in by_half(accuracy).items():
        names = [name for name in accuracy if SETS[name].half == half]
        gap = accuracy.loc[chosen, names] - accuracy.loc["the default", names]
        rows["; ".join(SETS[name].title for name in names)] = {
            "the other half chooses": chosen,
            "minus the default": f"{gap.mean():+.2f}",
            "at the least": f"{gap.min():+.2f} ({SETS[gap.idxmin()].title})",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("reported on")


def halved(accuracy: pd.DataFrame) -> pd.Series:
    """For all ways to halve the files: what one half chooses, on the other, over the default."""
    by_file = accuracy.columns.to_series().map(lambda name: SETS[name].file)
    files = sorted(set(by_file))
    gaps = []
    for half in combinations(files, len(files) // 2) if len(files) > 1 else ():
        seen = by_file.isin(half)
        chosen = accuracy.loc[:, seen].mean(axis=1).idxmax()
        rest = accuracy.loc[:, ~seen]
        gaps.append((rest.loc[chosen] - rest.loc["the default"]).mean())
    return pd.Series(gaps, dtype=float)


def leave_sets_out(accuracy: pd.DataFrame) -> pd.DataFrame:
    """For the sets of each file: what the other sets would choose, and what it gives on these."""
    rows = {}
    by_file = accuracy.columns.to_series().map(lambda name: SETS[name].file)
    for file, columns in accuracy.T.groupby(by_file):
        sets = columns.index
        others = accuracy.drop(columns=sets)
        if others.empty:
            continue
        chosen = others.mean(axis=1).idxmax()
        gap = (accuracy.loc[chosen, sets] - accuracy.loc["the default", sets]).mean()
        rows[f"{file} ({len(sets)})"] = {
            "chosen without it": chosen,
            "minus the default": f"{gap:+.2f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("left out (sets)")


def main(arguments: list[str] | None = None) -> None:
    options = parsed("python -m benchmarks.quality.defaults", __doc__, arguments)
    torch.set_num_threads(1)
    path = options.results / "quality.jsonl"
    runners = [Runner(s, options.seeds, path, options.data) for s in wanted(options)]
    records = [record for runner in runners for record in measured(runner)]
    folder = options.results if options.quick or options.only else HERE
    summarise(records).to_csv(folder / "defaults.csv", float_format="%.4g")


if __name__ == "__main__":
    main()
