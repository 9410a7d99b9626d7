"""The page docs/performance.md, from the summary, the history and the profile that are kept."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks.page import duration, form, render
from benchmarks.speed import history, summary, targets
from benchmarks.speed.measure import ROOT
from benchmarks.speed.summary import cell, with_range
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
PROCESS = {
    "process CPU s": ("cpu_s", ".1f"),
    "process wall s": ("wall_s", ".1f"),
    "memory MB": ("rss_mb", ",.0f"),
}
ROUND = {"round CPU": ("round_cpu_s", None), "round wall": ("round_wall_s", None)}
QUALITY = {"accuracy": ("accuracy", ".3f"), "balanced accuracy": ("balanced_accuracy", ".3f")}
SEARCH = {
    "first search s": ("search_s", ".1f"),
    "second search s": ("search_again_s", ".1f"),
    "CPU of both s": ("cpu_s", ".1f"),
    "memory MB (largest process)": ("rss_mb", ".0f"),
}
PREDICTION = {
    "bare module, CPU": ("module_cpu_s", None),
    "predict_proba, CPU": ("predict_proba_cpu_s", None),
}


def page(folder: Path = HERE, quick: bool = False) -> str:
    """The page, from the files of a folder."""
    rows = summary.read(folder / "summary.csv")
    judged = targets.judge(rows)
    path = folder / "profile.csv"
    profile = pd.read_csv(path).groupby("workload") if path.exists() else []
    return render(
        HERE / "performance.md.j2",
        quick=quick,
        rows=rows,
        machine=json.loads((folder / "machine.json").read_text()),
        workloads=[w for w in FULL if not w.scaled and (w.name, "default") in rows.index],
        cell=partial(cell, rows),
        targets=judged,
        missed=set(judged.index[judged.verdict == "**not met**"]),
        contenders=partial(contenders, rows),
        scale=scale(rows),
        grid=_shown(rows.query("workload == 'grid'").droplevel(0), SEARCH),
        prediction=prediction(rows),
        history=history.read(folder / "history.csv"),
        profile={name: part.drop(columns="workload") for name, part in profile},
    )


def contenders(rows: pd.DataFrame, workload: str) -> pd.DataFrame:
    """The table of a workload, the fastest first; † marks rows of another run than the loop's."""
    found = rows.loc[workload].drop("prediction", errors="ignore")
    order = found.round_cpu_s.fillna(found.round_wall_s).sort_values(na_position="last").index
    found = found.loc[order]
    loop = [with_range(rows, workload, c, "cpu_to_loop") for c in order]
    shown = _shown(found, {**ROUND, **PROCESS, **QUALITY})
    shown.insert(2, "CPU, to the loop's (range)", loop)
    ratio = found.cpu_to_loop.get("default") / found.cpu_to_loop
    shown.insert(3, "FedFocalClassifier's CPU, to its", form(ratio, ".3g"))
    earlier = found.commit != found.commit.get("sequential")
    return shown.set_index((order.map(LABELS) + earlier.map({True: " †", False: ""})).rename(""))


def scale(rows: pd.DataFrame) -> pd.DataFrame:
    """W2 with ever more clients, beside the loop."""
    listed = [w for w in FULL if w.scaled and (w.name, "default") in rows.index]
    ours, loop = (
        rows.reindex([(w.name, c) for w in listed]).droplevel(1) for c in ("default", "sequential")
    )
    shown = _shown(ours, {"data MB": ("data_mb", ",.0f"), **ROUND, **PROCESS})
    shown.insert(
        0, "stored as", ["sparse" if w.storage == "csr" else "mapped file" for w in listed]
    )
    shown.insert(4, "sequential loop, CPU", loop.round_cpu_s.map(duration))
    ratios = [with_range(rows, w.name, "default", "cpu_to_loop") for w in listed]
    shown.insert(5, "ratio (range)", ratios)
    return shown.set_index(pd.Index([f"{w.n_clients:,}" for w in listed], name="clients"))


def prediction(rows: pd.DataFrame) -> pd.DataFrame:
    """Prediction beside the bare module."""
    found = rows.query("contender == 'prediction'").droplevel(1)
    shown = _shown(found, PREDICTION)
    for name in ("predict", "predict_proba"):
        figure = f"{name}_to_module"
        shown[f"{name} to module"] = [
            with_range(rows, w, "prediction", figure) for w in found.index
        ]
    return shown


def _shown(found: pd.DataFrame, columns: dict[str, tuple[str, str | None]]) -> pd.DataFrame:
    """Columns under their titles, written by a format or as durations."""
    columns = {title: how for title, how in columns.items() if how[0] in found}
    return pd.DataFrame(
        {
            title: found[name].map(duration) if spec is None else form(found[name], spec)
            for title, (name, spec) in columns.items()
        },
        index=found.index.rename(""),
    )
