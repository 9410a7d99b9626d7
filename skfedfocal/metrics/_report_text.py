"""A report of classes as a text."""

from __future__ import annotations

from typing import Any

import numpy as np


def report_text(report: dict[str, Any], accuracy: float, digits: int) -> str:
    """In scikit-learn's form."""
    *classes, macro, weighted = report
    width = max(*map(len, report), digits)
    heads = ("precision", "recall", "f1-score", "support")

    def written(name: str, values: Any, support: float) -> str:
        cells = [f"{v:>9}" if isinstance(v, str) else f"{v:>9.{digits}f}" for v in values]
        count = "nan" if np.isnan(support) else f"{support:g}" if support % 1 else f"{support:.0f}"
        return f"{name:>{width}s}  {' '.join(cells)} {count:>9}"

    def line(name: str) -> str:
        *values, support = report[name].values()
        return written(name, values, support)

    total = report[macro]["support"]
    return "\n".join(
        [
            f"{'':>{width}s}  {' '.join(f'{head:>9}' for head in heads)}",
            "",
            *map(line, classes),
            "",
            written("accuracy", ("", "", accuracy), total),
            line(macro),
            line(weighted),
            "",
        ]
    )
