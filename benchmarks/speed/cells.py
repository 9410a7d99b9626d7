"""How figures are written on the page: each is a dict of median, min, max and n, or missing."""

from __future__ import annotations

from typing import Any


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def duration(value: dict[str, Any] | None) -> str:
    if value is None:
        return ""
    median = value["median"]
    return f"{median:.2f} s" if median >= 1 else f"{median * 1e3:.3g} ms"


def number(value: dict[str, Any] | None, form: str) -> str:
    return "" if value is None else format(value["median"], form)


def with_range(value: dict[str, Any] | None) -> str:
    if value is None:
        return ""
    median, low, high = (_short(value[name]) for name in ("median", "min", "max"))
    return median if value["n"] == 1 else f"{median} ({low} – {high})"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
