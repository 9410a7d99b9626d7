"""What encodings of columns bring to tables: ``python -m benchmarks.encoding [--data DIR]``.

The default FedFocalClassifier with its default rounds, nothing tuned, on columns as they are in the
files, with one parameter changed: `numeric_encoding`. Beside it scikit-learn's MLPClassifier and
HistGradientBoostingClassifier(class_weight="balanced") on pooled rows. A quarter of each client's
rows is for testing. Runs are kept in results/encoding.jsonl, so that what was measured is not
measured again; encoding.csv and docs/tables.md are of whatever is there.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn.datasets
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import recall_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.page import form, render, table
from benchmarks.quality.sets import TEST_SHARE, systematic
from benchmarks.records import resumed
from skfedfocal import FedFocalClassifier, iid_partition
from skfedfocal.encodings import StandardEncoding

HERE = Path(__file__).parent
SUMMARY = HERE / "encoding.csv"
PAGE = HERE.parent / "docs" / "tables.md"
_SPLIT, _CUT, _ROWS = 11, 12, 13  # streams of random numbers


@dataclass(frozen=True)
class Table:
    """A table, whose rows are dealt to clients alike where they have none of their own."""

    file: str
    label: str = "y"
    drop: str = ""
    n_clients: int = 10
    cut: float = 1.0  # the share of the training rows of class 0 that is kept
    repeats: int = 1  # how many times as many seeds it gets


TABLES = {
    "breast cancer, one class cut to 5 %": Table(
        "sklearn:load_breast_cancer", n_clients=5, cut=0.05, repeats=2
    ),
    "wine": Table("sklearn:load_wine", n_clients=5, repeats=2),
    "heart disease": Table("heart_disease", repeats=2),
    "heart disease, 5 severities": Table("heart_disease", "y_severity", repeats=2),
    "vehicle sensors, one class cut to 10 %": Table("vehicle_sensor", cut=0.1),
    "mammography": Table("mammography"),
    "thyroid": Table("thyroid"),
    "land mines": Table("landmine"),
    "fraud, 4.3 %": Table("creditcard_fraud", drop="Time"),
    "Hastie's ten columns, one class cut to 10 %": Table("hastie", cut=0.1),
    "steps in ten columns, one class cut to 10 %": Table("steps", cut=0.1),
}


def encoded(numeric_encoding: Any) -> Callable[[int], Any]:
    return lambda seed: FedFocalClassifier(numeric_encoding=numeric_encoding, random_state=seed)


DEFAULT, BINS, BOOSTED = '"auto"', '"piecewise_linear"', "HistGradientBoosting, pooled"
WAYS: dict[str, Callable[[int], Any]] = {
    DEFAULT: encoded("auto"),
    "None, behind a StandardScaler": lambda seed: make_pipeline(
        StandardScaler(), encoded(None)(seed)
    ),
    "None, rows as they are": encoded(None),
    "StandardEncoding(bound=3)": encoded(StandardEncoding(bound=3.0)),
    BINS: encoded("piecewise_linear"),
    "MLPClassifier, pooled": lambda seed: MLPClassifier(random_state=seed),
    BOOSTED: lambda seed: HistGradientBoostingClassifier(
        class_weight="balanced", random_state=seed
    ),
}


def hastie(rng: np.random.RandomState) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ten columns, whose class is whether their squares add up to more than in the median row."""
    X, y = sklearn.datasets.make_hastie_10_2(6000, random_state=rng)
    return X, (y < 0).astype(np.int64)


def steps(rng: np.random.RandomState) -> tuple[NDArray[Any], NDArray[Any]]:
    """Ten columns, of which five have a vote each: up in every other sixth of their rows."""
    X = rng.normal(size=(6000, 10))
    ranks = X[:, :5].argsort(0).argsort(0) / len(X)
    return X, (np.floor(6 * ranks) % 2).sum(1).astype(np.int64) // 3


GENERATED = {"hastie": hastie, "steps": steps}


def rows_of(name: str, data: Path, seed: int) -> tuple[NDArray[Any], ...]:
    """Training rows, labels and clients, and test rows and labels."""
    of = TABLES[name]
    if of.file in GENERATED:
        X, y = GENERATED[of.file](np.random.RandomState([_ROWS, seed]))
        stored = {"X": X, "y": y}
    elif of.file.startswith("sklearn:"):
        X, y = getattr(sklearn.datasets, of.file.removeprefix("sklearn:"))(return_X_y=True)
        stored = {"X": X, "y": y}
    else:
        with np.load(data / f"{of.file}.npz", allow_pickle=False) as arrays:
            stored = dict(arrays)
    X, y = stored["X"], stored[of.label].astype(np.int64)
    if of.drop:
        X = X[:, stored["feature_names"] != of.drop]
    clients = stored.get("client")
    if clients is None:
        clients = iid_partition(y, of.n_clients, random_state=seed)
    clients = np.unique(clients, return_inverse=True)[1]
    is_test = systematic(y, clients, TEST_SHARE, np.random.default_rng([_SPLIT, seed]))
    kept = ~is_test
    mine = np.flatnonzero(kept & (y == 0))
    rng = np.random.default_rng([_CUT, seed])
    kept[mine] = systematic(y[mine], clients[mine], of.cut, rng)
    return X[kept], y[kept], clients[kept], X[is_test], y[is_test]


def measured(name: str, way: str, data: Path, seed: int) -> dict[str, Any]:
    """Balanced accuracy, and log-loss if all classes were equally frequent, on the test rows."""
    X, y, clients, X_test, y_test = rows_of(name, data, seed)
    model, given = WAYS[way](seed), {}
    if "pooled" not in way:
        last = "fedfocalclassifier__" if hasattr(model, "steps") else ""
        given = {f"{last}clients": clients}
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        warnings.filterwarnings("ignore", "The first round's loss", UserWarning)
        model.fit(X, y, **given)
    classes = np.unique(y_test)
    recall = recall_score(y_test, model.predict(X_test), labels=classes, average="macro")
    p = np.maximum(model.predict_proba(X_test)[np.arange(len(y_test)), y_test], 1e-12)
    losses = [-np.log(p[y_test == label]).mean() for label in classes]
    found = {"accuracy": 100 * float(recall), "log_loss": float(np.mean(losses))}
    return {"set": name, "way": way, "seed": seed, **found}


def measure(data: Path, n_seeds: int, results: Path) -> pd.DataFrame:
    """All runs, those that are there already and the others; every set's first seed first."""
    wanted = (
        (name, way, seed)
        for seed in range(n_seeds * max(of.repeats for of in TABLES.values()))
        for name, of in TABLES.items()
        for way in WAYS
        if seed < n_seeds * of.repeats
    )
    return resumed(
        results / "encoding.jsonl",
        ("set", "way", "seed"),
        wanted,
        lambda name, way, seed: [measured(name, way, data, seed)],
    )


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Means by set and way; `se` is of the paired difference to the default."""
    by = runs.pivot_table(index=["set", "seed"], columns="way", values=["accuracy", "log_loss"])
    gap = by["accuracy"].sub(by["accuracy"][DEFAULT], axis=0).groupby("set")
    mean = by.groupby("set").mean().stack("way", future_stack=True)
    mean["difference"], mean["se"] = gap.mean().stack(), gap.sem().stack()
    mean["n_seeds"] = gap.count().stack()
    order = pd.MultiIndex.from_product([TABLES, WAYS], names=["set", "way"])
    return mean.reindex(order).dropna(subset="accuracy").reset_index()


def page(summary: pd.DataFrame) -> str:
    """Markdown of docs/tables.md, from the summary alone."""
    cells = summary.set_index(["way", "set"])
    columns = [name for name in TABLES if name in set(summary["set"])]
    ways = [way for way in WAYS if way in set(summary["way"])]
    accuracy, gap, se, loss = (
        cells[name].unstack("set").reindex(index=ways, columns=columns)
        for name in ("accuracy", "difference", "se", "log_loss")
    )
    shown = accuracy.map("{:.1f}".format)
    others = [way for way in ways if way != DEFAULT]
    written = gap.map("{:+.1f}".format) + ", SE " + se.map("{:.1f}".format)
    shown.loc[others] = shown.loc[others] + " (" + written.loc[others] + ")"
    real = [name for name in columns if TABLES[name].file not in GENERATED]
    words = {
        "minus the default": (gap, "+.1f", pd.DataFrame.mean),
        "at worst": (gap, "+.1f", pd.DataFrame.min),
        "at best": (gap, "+.1f", pd.DataFrame.max),
        "log-loss": (loss, ".3f", pd.DataFrame.mean),
    }
    both = pd.DataFrame(
        {
            word: form(of(found[real], axis=1), spec) + (" (" + form(of(found, axis=1), spec) + ")")
            for word, (found, spec, of) in words.items()
        }
    ).rename_axis("numeric_encoding")
    return render(
        HERE / "encoding.md.j2",
        both=both,
        shown=shown.T.rename_axis("set"),
        losses=loss.map("{:.3f}".format).T.rename_axis("set"),
        n_seeds=sorted(set(summary["n_seeds"].astype(int))),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    options = parser.parse_args(arguments)
    if not options.page:
        torch.set_num_threads(1)
        runs = measure(options.data, options.seeds, options.results)
        summarise(runs).to_csv(SUMMARY, index=False, float_format="%.5g")
    summary = pd.read_csv(SUMMARY)
    PAGE.write_text(page(summary))
    print(table(summary.set_index(["set", "way"])["difference"].unstack("set").round(1)))


if __name__ == "__main__":
    main()
