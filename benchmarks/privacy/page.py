"""The page docs/privacy.md and its picture, from the summary alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.page import render
from benchmarks.privacy.cases import EPSILONS, FIXED, METHODS, PRIVATE_SETS
from benchmarks.privacy.runs import BARE, TRUSTS

HERE = Path(__file__).parent
SUMMARY, HOSPITALS = HERE / "scores.csv", HERE / "hospitals.csv"
DOCS = HERE.parents[1] / "docs"
PAGE, PICTURE = DOCS / "privacy.md", DOCS / "privacy.svg"


def write(summary: pd.DataFrame, hospitals: pd.DataFrame) -> None:
    """Write both."""
    draw(summary, PICTURE)
    PAGE.write_text(page(summary, hospitals))


def page(summary: pd.DataFrame, hospitals: pd.DataFrame) -> str:
    """Markdown of the page."""
    return render(
        HERE / "page.md.j2",
        main=_main(summary),
        trusts=_trusts(summary),
        leads=_leads(summary),
        chosen=_chosen(summary),
        hospitals=_hospitals(hospitals),
        seeds=summary.groupby("set")["n_seeds"].max().to_dict(),
        missing=_missing(summary),
        sets=PRIVATE_SETS,
        fixed=FIXED,
        epsilons=EPSILONS,
    )


def _cells(summary: pd.DataFrame) -> pd.Series:
    """What is shown of each cell, by set, method, trust and epsilon."""
    shown = summary.apply(lambda r: f"{100 * r['mean']:.1f} ± {100 * r['error']:.1f}", axis=1)
    return shown.set_axis(pd.MultiIndex.from_frame(summary[["set", "method", "trust", "epsilon"]]))


def _main(summary: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A table for each set: methods down, epsilons across."""
    cells, found = _cells(summary), {}
    for name, chosen in PRIVATE_SETS.items():
        rows: dict[str, dict[str, Any]] = {}
        for method in (*METHODS, FIXED):
            row = {"none": cells.get((name, method, "server", float("inf")), "")}
            row |= {f"ε = {e:g}": cells.get((name, method, "server", e), "") for e in EPSILONS}
            if any(row.values()):
                rows[method] = row
        if rows:
            frame = pd.DataFrame.from_dict(rows, orient="index")
            found[chosen.title] = frame.rename_axis("method")
    return found


def _trusts(summary: pd.DataFrame) -> pd.DataFrame:
    """The default by who adds the noise."""
    cells, rows = _cells(summary), {}
    for name, chosen in PRIVATE_SETS.items():
        for trust in ("server", *TRUSTS):
            row = {f"ε = {e:g}": cells.get((name, "default", trust, e), "") for e in EPSILONS}
            if chosen.unit == "example" and any(row.values()):
                rows[f"{chosen.title}: {trust}"] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("set and trust")


def _leads(summary: pd.DataFrame) -> pd.DataFrame:
    """Points of the default over other methods, and over itself without privacy."""
    means = summary[summary["trust"] == "server"].set_index(["set", "method", "epsilon"])["mean"]
    rows = {}
    for name, chosen in PRIVATE_SETS.items():
        row = {}
        for epsilon in EPSILONS:
            default = means.get((name, "default", epsilon))
            for word, other in (
                ("over DP-FedAvg", means.get((name, "DP-FedAvg", epsilon))),
                ("over logit adjustment", means.get((name, "logit adjustment", epsilon))),
                ("over no privacy", means.get((name, "default", float("inf")))),
            ):
                known = default is not None and other is not None
                row[f"{word}, ε = {epsilon:g}"] = f"{100 * (default - other):+.1f}" if known else ""
        if any(row.values()):
            rows[chosen.title] = row
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("points of the default")
    return frame[sorted(frame.columns, key=lambda column: column.split(",")[0])]


def _chosen(summary: pd.DataFrame) -> pd.DataFrame:
    """What validation rows chose for the default."""
    own = summary[(summary["method"] == "default") & (summary["trust"] == "server")]
    found = own.pivot(index="set", columns="epsilon", values="settings")
    found = found.reindex([name for name in PRIVATE_SETS if name in found.index])
    found.columns = [f"ε = {e:g}" if e < float("inf") else "none" for e in found.columns]
    return found.rename_axis("set")


def _hospitals(found: pd.DataFrame) -> pd.DataFrame:
    """Accuracy beside what is published."""
    named = {"none": "no privacy", "server": "ε = 0.1, noise on the sum", "local": "ε = 0.1, local"}
    shown = found.apply(lambda r: f"{r['accuracy']:.3f} ± {r['deviation']:.3f}", axis=1)
    rows = {named[noise]: cell for noise, cell in zip(found["noise"], shown, strict=True)}
    frame = pd.DataFrame({"accuracy here": rows})
    frame["published"] = [".750 ± .003", ".671 ± .084, .673 ± .061, .684 ± .022", ""]
    return frame.rename_axis("training")


def _missing(summary: pd.DataFrame) -> list[str]:
    """Sets with cells that were not run."""
    have = summary.groupby("set").size().to_dict()
    n_cells = len(BARE) + len(EPSILONS) * (len(METHODS) + 1)
    of_rows = n_cells + len(EPSILONS) * len(TRUSTS)
    return [
        chosen.title
        for name, chosen in PRIVATE_SETS.items()
        if have.get(name, 0) < (of_rows if chosen.unit == "example" else n_cells)
    ]


def draw(summary: pd.DataFrame, path: Path) -> None:
    """Balanced accuracy against epsilon, a panel for each set and a line for each method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    # The same figure from the same numbers; text as text, which takes a tenth of the bytes.
    plt.rcParams.update({"svg.hashsalt": "privacy", "svg.fonttype": "none"})
    names = [name for name in PRIVATE_SETS if name in set(summary["set"])]
    n_rows, n_columns = -(-len(names) // 3), min(3, len(names))
    figure, panels = plt.subplots(
        n_rows,
        n_columns,
        figsize=(3.2 * n_columns, 3.1 * n_rows),
        layout="constrained",
        squeeze=False,
    )
    for spare in panels.flat[len(names) :]:
        spare.set_axis_off()
    for name, axes in zip(names, panels.flat, strict=False):
        rows = summary[(summary["set"] == name) & (summary["trust"] == "server")]
        for method, marker in zip((*METHODS, FIXED), "os^vD", strict=True):
            line = rows[(rows["method"] == method) & (rows["epsilon"] < float("inf"))]
            if len(line):
                x, y, error = line["epsilon"], 100 * line["mean"], 100 * line["error"]
                axes.errorbar(x, y, error, marker=marker, capsize=2, label=method)
        for method, style in zip(BARE, ("--", ":"), strict=True):
            bare = rows[(rows["method"] == method) & (rows["epsilon"] == float("inf"))]
            if len(bare):
                label = f"{method.removeprefix('DP-')}, no privacy"
                axes.axhline(100 * bare["mean"].iloc[0], color="0.4", ls=style, label=label)
        axes.set(xscale="log", xlabel="ε")
        axes.set_xticks(EPSILONS, [f"{e:g}" for e in EPSILONS])
        axes.minorticks_off()
        axes.set_title(PRIVATE_SETS[name].title.replace(", 1,000", ",\n1,000"), size=8)
    for first in panels[:, 0]:
        first.set_ylabel("balanced accuracy, percent")
    # Where a panel is left over it has the lines' names.
    panels.flat[-1].legend(*panels[0][0].get_legend_handles_labels(), fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
