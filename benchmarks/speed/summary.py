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
FIGURES = [
    "round_cpu_s",
    "round_wall_s",
    "cpu_s",
    "wall_s",
    "rss_mb",
    "beyond_data_mb",
    "data_mb",
    "accuracy",
    "balanced_accuracy",
    "flops_per_round",
    "gflops_best",
    "gflops_median",
    "limit_median_s",
    "limit_at_shapes_s",
    "limit_together_s",
    "module_cpu_s",
    "predict_proba_cpu_s",
    "predict_to_module",
    "predict_proba_to_module",
    "search_s",
    "search_again_s",
    "n_fits",
    "load",
]
TO_LOOP = {"cpu_to_loop": "round_cpu_s", "wall_to_loop": "round_wall_s", "process_to_loop": "cpu_s"}
WITH_RANGE = ["cpu_to_loop", "predict_to_module", "predict_proba_to_module"]


def summarise(records: list[dict[str, Any]]) -> pd.DataFrame:
    """A row for each workload and contender; figures that were not taken are missing."""
    taken = pd.DataFrame(records).reindex(columns=[*KEY, "pass", "commit", *FIGURES])
    loop = taken[taken.contender == "sequential"].set_index(["workload", "pass"])
    beside = loop.reindex(pd.MultiIndex.from_frame(taken[["workload", "pass"]]))
    for name, figure in TO_LOOP.items():
        taken[name] = taken[figure].astype(float) / beside[figure].to_numpy(float)
    groups = taken.groupby(KEY, sort=False)
    found = groups[[*FIGURES, *TO_LOOP]].median()
    for name in WITH_RANGE:
        found[f"{name}_min"], found[f"{name}_max"] = groups[name].min(), groups[name].max()
    found.insert(0, "commit", groups["commit"].last())
    found.insert(1, "passes", groups["pass"].nunique())
    return found


def read(path: Path = SUMMARY) -> pd.DataFrame:
    """The summary that is kept; empty where there is none."""
    if not path.exists():
        return summarise([])
    return pd.read_csv(path, index_col=KEY, dtype={"commit": str})


def write(found: pd.DataFrame, path: Path = SUMMARY) -> pd.DataFrame:
    """Keep the rows, in place of those that there were; returns all that are kept."""
    kept = read(path)
    kept = kept[~kept.index.isin(found.index)]
    rows = pd.concat([kept, found]) if len(kept) else found
    rows.sort_index(key=_order).to_csv(path, float_format="%.5g")
    return read(path)


def _order(level: pd.Index) -> pd.Index:
    """W2 before W2x1000 before W2x10000; contenders by name."""
    return level.map(lambda name: (len(name), name)) if level.name == "workload" else level
