"""What was measured, one JSON object a line, so that a run that was stopped goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd


def resumed(
    path: Path,
    keys: Sequence[str],
    wanted: Iterable[tuple[Any, ...]],
    measured: Callable[..., list[dict[str, Any]]],
) -> pd.DataFrame:
    """The records of a file, and of what is wanted and not there, which is measured now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    done = {tuple(record[key] for key in keys) for record in records}
    for case in wanted:
        if case in done:
            continue
        new = measured(*case)
        records += new
        with path.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in new)
    return pd.DataFrame(records)
