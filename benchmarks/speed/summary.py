"""From the records of all passes to one row for each contender: medians, and ratios to the loop.

A ratio to the sequential PyTorch loop is taken within each pass, whose measurements follow one
another, and then the median of the passes' ratios: so a machine that is slow for a while is slow
for both sides. Rows of different runs can be set beside each other by that ratio alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

SUMMARY = Path(__file__).with_name("summary.csv")
KEY = ["workload", "contender"]
TO_LOOP = {"cpu_to_loop": "round_cpu_s", "wall_to_loop": "round_wall_s", "process_to_loop": "cpu_s"}
WITH_RANGE = ["cpu_to_loop", "predict_to_module", "predict_proba_to_module"]


def summarise(records: list[dict[str, Any]]) -> pd.DataFrame:
    """A row for each workload and contender; figures that were not taken are missing."""
    taken = pd.DataFrame(records)
    loop = taken[taken.contender == "sequential"].set_index(["workload", "pass"])
    beside = loop.reindex(pd.MultiIndex.from_frame(taken[["workload", "pass"]]))
    for name, figure in TO_LOOP.items():
        if figure in taken:
            taken[name] = taken[figure].astype(float) / beside[figure].to_numpy(float)
    groups = taken.drop(columns="pass").groupby(KEY, sort=False)
    found = groups.median(numeric_only=True)
    for name in set(WITH_RANGE) & {*found}:
        found[f"{name}_min"], found[f"{name}_max"] = groups[name].min(), groups[name].max()
    found.insert(0, "commit", groups["commit"].last())
    found.insert(1, "passes", groups.size())
    return found


def read(path: Path = SUMMARY) -> pd.DataFrame:
    """The summary that is kept."""
    return pd.read_csv(path, index_col=KEY, dtype={"commit": str})


def write(found: pd.DataFrame, path: Path = SUMMARY) -> pd.DataFrame:
    """Keep the rows, in place of those that there were; returns all that are kept."""
    if path.exists():
        kept = read(path)
        found = pd.concat([kept[~kept.index.isin(found.index)], found])
    found.sort_index(key=_order).to_csv(path, float_format="%.5g")
    return read(path)


def _order(level: pd.Index) -> pd.Index:
    """W2 before W2x1000 before W2x10000; contenders by name."""
    return level.map(lambda name: (len(name), name)) if level.name == "workload" else level


def cell(rows: pd.DataFrame, workload: str, contender: str, figure: str) -> float:
    """A figure; nan where it was not measured."""
    return rows[figure].get((workload, contender), float("nan")) if figure in rows else float("nan")


def with_range(rows: pd.DataFrame, workload: str, contender: str, figure: str) -> str:
    """A median and its range over the passes, where it is known."""
    at = [cell(rows, workload, contender, figure + end) for end in ("", "_min", "_max")]
    if pd.isna(at[0]):
        return ""
    text = "{:.3g}" if pd.isna(at[1]) or at[1] == at[2] else "{:.3g} ({:.3g} – {:.3g})"
    return text.format(*at)
