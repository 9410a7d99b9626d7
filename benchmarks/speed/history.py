"""A few workloads over time, so that a regression can be seen: history.csv."""

from __future__ import annotations

import datetime
from pathlib import Path

import pandas as pd

WORKLOADS = ("W1", "W2", "W3")
COLUMNS = ["commit", "date", "workload", "cpu_to_loop", "round_cpu_s"]


def read(path: Path) -> pd.DataFrame:
    """Rows in the order in which they were appended; none where there is no file."""
    return pd.read_csv(path, dtype={"commit": str}) if path.exists() else pd.DataFrame()


def append(found: pd.DataFrame, path: Path, date: str | None = None) -> None:
    """Add the default classifier's rows of a summary."""
    rows = found[found.index.isin([(w, "default") for w in WORKLOADS])].reset_index()
    rows["date"] = date or datetime.date.today().isoformat()
    rows = rows.reindex(columns=COLUMNS).dropna().sort_values("workload")
    rows.to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.4g")
