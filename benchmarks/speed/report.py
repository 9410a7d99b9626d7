"""The page docs/performance.md, from the summary, the history and the profile that are kept."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks.page import duration, form, render
from benchmarks.speed import history, summary
from benchmarks.speed.measure import ROOT
from benchmarks.speed.targets import TARGETS, cell
from benchmarks.speed.workloads import FULL

HERE = Path(__file__).parent
PAGE = ROOT / "docs" / "performance.md"
LABELS = {
    "limit": "physical limit",
    "default": "**FedFocalClassifier**",
    "unfocused": "FedFocalClassifier, client_gamma=0",
    "threads": "FedFocalClassifier, client_gamma=0, a thread for each core",
    "cross_entropy": "FederatedClassifier, cross-entropy",
    "sequential": "sequential PyTorch FedAvg loop",
    "centralised": "centralised PyTorch SGD",
    "sklearn_mlp": "scikit-learn MLPClassifier.partial_fit, centralised",
    "fedjax": "FedJAX",
    "pfl": "pfl-research",
    "fluke": "fluke",
    "fedlab": "FedLab",
    "blazefl": "BlazeFL",
    "flwr": "Flower simulation (Ray)",
    "imports": "import of torch and scikit-learn alone",
}


def page(folder: Path = HERE, quick: bool = False) -> str:
    """The page, from the files of a folder."""
    rows = summary.read(folder / "summary.csv")
    judged = targets(rows)
    return render(
        HERE / "performance.md.j2",
        quick=quick,
        rows=rows,
        machine=json.loads((folder / "machine.json").read_text()),
        workloads=[w for w in FULL if not w.scaled and (w.name, "default") in rows.index],
        cell=partial(cell, rows),
        targets=judged,
        missed=set(judged.index[judged["_met"] == False]),  # noqa: E712 (None is neither)
        contenders=partial(contenders, rows),
        scale=scale(rows),
        grid=grid(rows),
        prediction=prediction(rows),
        history=history.read(folder / "history.csv"),
        profile=profile(folder / "profile.csv"),
    )


def targets(rows: pd.DataFrame) -> pd.DataFrame:
    """Each target with what was found; `_met` is None where it was not measured."""
    found = []
    for target in TARGETS:
        value = target.value(rows)
        met = None if pd.isna(value) else target.met(value)
        span = ""
        if target.below is None and f"{target.above[-1]}_min" in rows and met is not None:
            span = _range(rows, *target.above)
        found.append(
            {
                "": target.what,
                "target": f"{'≥' if target.at_least else '≤'} {target.bound:.3g}",
                "found (range)": span or ("–" if met is None else f"{value:.3g}"),
                "verdict": {True: "met", False: "**not met**", None: "not measured"}[met],
                "_met": met,
            }
        )
    return pd.DataFrame(found).set_index("")


def contenders(rows: pd.DataFrame, workload: str) -> pd.DataFrame:
    """The table of a workload, the fastest first."""
    found = rows.loc[workload].drop("prediction", errors="ignore")
    speed = found.round_cpu_s.fillna(found.round_wall_s)
    found = found.loc[speed.sort_values(na_position="last").index]
    earlier = found.commit != found.commit.get("sequential")
    labels = found.index.map(LABELS) + earlier.map({True: " †", False: ""})
    return pd.DataFrame(
        {
            "round CPU": found.round_cpu_s.map(duration),
            "round wall": found.round_wall_s.map(duration),
            "CPU, to the loop's (range)": [
                _range(rows, workload, c, "cpu_to_loop") for c in found.index
            ],
            "FedFocalClassifier's CPU, to its": form(
                found.cpu_to_loop.get("default") / found.cpu_to_loop, ".3g"
            ),
            "process CPU s": form(found.cpu_s, ".1f"),
            "process wall s": form(found.wall_s, ".1f"),
            "memory MB": form(found.rss_mb, ".0f"),
            "accuracy": form(found.accuracy, ".3f"),
            "balanced accuracy": form(found.balanced_accuracy, ".3f"),
        }
    ).set_index(labels.rename(""))


def scale(rows: pd.DataFrame) -> pd.DataFrame:
    """W2 with ever more clients, beside the loop."""
    listed = [w for w in FULL if w.scaled and (w.name, "default") in rows.index]
    ours = rows.reindex([(w.name, "default") for w in listed])
    loop = rows.reindex([(w.name, "sequential") for w in listed])
    return pd.DataFrame(
        {
            "clients": [f"{w.n_clients:,}" for w in listed],
            "stored as": [{"int8": "mapped file", "csr": "sparse"}[w.storage] for w in listed],
            "data MB": form(ours.data_mb, ",.0f").to_numpy(),
            "round CPU": ours.round_cpu_s.map(duration).to_numpy(),
            "round wall": ours.round_wall_s.map(duration).to_numpy(),
            "sequential loop, CPU": loop.round_cpu_s.map(duration).to_numpy(),
            "ratio (range)": [_range(rows, w.name, "default", "cpu_to_loop") for w in listed],
            "process CPU s": form(ours.cpu_s, ".1f").to_numpy(),
            "process wall s": form(ours.wall_s, ".1f").to_numpy(),
            "memory MB": form(ours.rss_mb, ",.0f").to_numpy(),
        }
    ).set_index("clients")


def grid(rows: pd.DataFrame) -> pd.DataFrame:
    """The grid search, on one process and on two."""
    names = {
        "search_s": "first search s",
        "search_again_s": "second search s",
        "cpu_s": "CPU of both s",
        "rss_mb": "memory MB (largest process)",
    }
    found = rows[rows.search_s.notna()].droplevel("workload").rename_axis("")
    shown = {
        title: form(found[name], ".0f" if name == "rss_mb" else ".1f")
        for name, title in names.items()
    }
    return pd.DataFrame(shown, index=found.index)


def prediction(rows: pd.DataFrame) -> pd.DataFrame:
    """Prediction beside the bare module."""
    found = rows[rows.module_cpu_s.notna()].droplevel("contender").rename_axis("")
    ratios = {
        f"{short} to module": [
            _range(rows, w, "prediction", f"{method}_to_module") for w in found.index
        ]
        for short, method in (("predict", "predict"), ("proba", "predict_proba"))
    }
    times = {
        "bare module, CPU": found.module_cpu_s.map(duration),
        "predict_proba, CPU": found.predict_proba_cpu_s.map(duration),
    }
    return pd.DataFrame({**times, **ratios}, index=found.index)


def profile(path: Path) -> dict[str, pd.DataFrame]:
    """The largest operations of each workload that was profiled."""
    if not path.exists():
        return {}
    found = pd.read_csv(path)
    found["share"] = form(found["share"], ".1%")
    return {
        workload: rows.drop(columns="workload").set_index("operation")
        for workload, rows in found.groupby("workload")
    }


def _range(rows: pd.DataFrame, workload: str, contender: str, figure: str) -> str:
    """A median and its range over the passes, where it is known."""
    value, low, high = (
        cell(rows, workload, contender, name) for name in (figure, f"{figure}_min", f"{figure}_max")
    )
    if pd.isna(value):
        return ""
    return (
        f"{value:.3g}" if pd.isna(low) or low == high else f"{value:.3g} ({low:.3g} – {high:.3g})"
    )
