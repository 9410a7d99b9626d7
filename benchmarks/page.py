"""Pages: a Jinja template beside each benchmark, filled with pandas tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pandas as pd


def render(template: Path, **values: Any) -> str:
    """Markdown of a template that knows the values and the functions of this file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["duration"] = duration
    return environment.get_template(template.name).render(table=table, form=form, **values)


def table(frame: pd.DataFrame) -> str:
    """A Markdown table; the index is the first column, missing cells are empty."""
    head = [frame.index.name or "", *frame.columns]
    cells = frame.astype(object).where(frame.notna(), "")
    rows = [[name, *row] for name, row in zip(frame.index, cells.to_numpy(), strict=True)]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def form(values: pd.Series, spec: str, missing: str = "") -> pd.Series:
    """Numbers written by a format specification, and something for those that are missing."""
    return values.map(lambda v: missing if pd.isna(v) else format(v, spec)).astype(object)


def duration(seconds: float) -> str:
    """Seconds or milliseconds; nothing where there is no number."""
    if pd.isna(seconds):
        return ""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
