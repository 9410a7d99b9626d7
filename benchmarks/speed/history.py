"""A few workloads over time, so that a regression can be seen: history.csv."""

from __future__ import annotations

import datetime
from pathlib import Path

import pandas as pd

HISTORY = Path(__file__).with_name("history.csv")
WORKLOADS = ("W1", "W2", "W3")
COLUMNS = ["commit", "date", "workload", "to_loop", "round_cpu_s"]


def read(path: Path = HISTORY) -> pd.DataFrame:
    """Rows in the order in which they were appended."""
    return (
        pd.read_csv(path, dtype={"commit": str}) if path.exists() else pd.DataFrame(columns=COLUMNS)
    )


def append(found: pd.DataFrame, path: Path = HISTORY, date: str | None = None) -> pd.DataFrame:
    """Add the default classifier's rows of a summary; returns what was added."""
    rows = found[found.index.isin([(w, "default") for w in WORKLOADS])].reset_index()
    rows = rows.rename(columns={"cpu_to_loop": "to_loop"})
    rows["date"] = date or datetime.date.today().isoformat()
    added = rows[COLUMNS].dropna().sort_values("workload")
    added.to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.4g")
    return added
