"""The targets (targets.csv): bounds on figures of the default classifier, or on ratios of two."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.speed.summary import cell, with_range

TARGETS = pd.read_csv(Path(__file__).with_name("targets.csv"), index_col="what")


def judge(rows: pd.DataFrame) -> pd.DataFrame:
    """Each target with what was found, in words, and whether it is met."""
    judged = TARGETS.copy()
    above, below = (judged[side].map(lambda at: _value(rows, at)) for side in ("above", "below"))
    judged["value"] = above / below.where(judged.below.notna(), 1.0)
    judged["met"] = met(judged)
    judged["target"] = judged.sense + judged.bound.map(" {:.3g}".format)
    alone = judged.above.where(judged.below.isna(), "")
    spans = [with_range(rows, *at.split("/")) if at else "" for at in alone]
    judged["found (range)"] = [
        span or ("–" if pd.isna(value) else f"{value:.3g}")
        for span, value in zip(spans, judged.value, strict=True)
    ]
    verdict = judged.met.map({True: "met", False: "**not met**"})
    judged["verdict"] = verdict.where(judged.value.notna(), "not measured")
    return judged


def met(judged: pd.DataFrame) -> pd.Series:
    """Whether values keep their bounds; False where there is no value."""
    least = judged.sense == "≥"
    return judged.value.ge(judged.bound).where(least, judged.value.le(judged.bound))


def _value(rows: pd.DataFrame, at: object) -> float:
    """A figure of the summary by its place, "workload/contender/figure"."""
    return cell(rows, *at.split("/")) if isinstance(at, str) else float("nan")
