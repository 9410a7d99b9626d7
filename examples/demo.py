"""
FedAvg beside Fed-Focal on imbalanced data
==========================================

Trains the same model twice by federated averaging, once plainly and once with Fed-Focal Loss, and
compares them on test rows that keep their natural class frequencies. Without arguments it takes two
data sets that scikit-learn ships, cut to an imbalance and split over clients; with ``--data`` it
takes yours.

A file of your own is either an npz with arrays ``X`` and ``y`` and, where there are such,
``class_names``, ``client`` (whose row it is) and ``split`` (1 for test rows), or a csv or parquet
table with one named column of labels. What the file does not say is decided by
these rules, and printed:

- no clients: a Dirichlet partition (alpha 0.5) over 20 clients;
- no ``split``, or one that leaves a client without training rows: every fourth row of each class
  of each client is a test row;
- no imbalance, that is, no class with less than a tenth of the rows of the largest: every second
  class (1, 3, 5, ... counted from 0) is cut to 3 % of its training rows.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.impute import SimpleImputer
from sklearn.metrics import f1_score, recall_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skfedfocal import FedFocalClassifier, dirichlet_partition
from skfedfocal.datasets import load_federation

METHODS = {"FedAvg": {"gamma": 0, "class_weight": None, "client_gamma": 0}, "Fed-Focal": {}}
RARE = 0.1  # of the rows of the largest class: a class with fewer is rare
MAX_SHOWN = 20  # classes in the table and in the picture, the rarest first


# -- data --------------------------------------------------------------------------------------


@dataclass
class Dataset:
    """Rows of all clients, and how they came to be as they are."""

    name: str
    X: NDArray
    y: NDArray  # class numbers
    class_names: list[str]
    clients: NDArray | None = None
    is_test: NDArray | None = None
    n_clients: int = 20  # where there are no natural ones
    cut: str = "auto"
    n_rounds: int = 100
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> NDArray:
        """Training rows by class."""
        return np.bincount(self.y[~self.is_test], minlength=len(self.class_names))

    @property
    def n_training_clients(self) -> int:
        return len(np.unique(self.clients[~self.is_test]))

    @property
    def rare(self) -> NDArray:
        """The rare classes, the rarest first."""
        by_count = np.argsort(self.counts, kind="stable")
        return by_count[self.counts[by_count] < RARE * self.counts.max()]


def shipped() -> list[Dataset]:
    """Two data sets that come with scikit-learn."""
    digits, cancer = load_digits(), load_breast_cancer()
    return [
        Dataset("Digits", digits.data, digits.target, list("0123456789"), cut="2,5,8:0.05"),
        Dataset(
            "Breast cancer",
            cancer.data,
            cancer.target,
            cancer.target_names.tolist(),
            n_clients=8,
            cut="malignant:0.05",
        ),
    ]


def read(path: str, target: str | None, client: str | None) -> Dataset:
    """A file of the user's."""
    is_table = not path.lower().endswith(".npz")
    try:
        file = load_federation(path, target=target, client=client, as_frame=is_table)
    except (ImportError, OSError, ValueError) as error:
        stop(str(error).rstrip("."))
    X = as_numbers(path, file.data) if is_table else file.data.reshape(len(file.data), -1)
    classes, y = np.unique(file.target, return_inverse=True)
    if len(classes) < 2:
        stop(f"{path}: there must be at least two classes; all labels are {classes[0]!r}")
    if len(classes) > max(MAX_SHOWN, len(y) // 100):
        stop(f"{path}: the labels have {len(classes)} distinct values, which are not classes")
    names, split = file.target_names, file.extras.get("split")
    if names is None or len(names) != len(classes) or target not in (None, "y"):
        names = classes
    return Dataset(
        Path(path).stem,
        X,
        y,
        list(map(str, names)),
        None if file.clients is None else np.asarray(file.clients),
        None if split is None else split == 1,
        n_rounds=40,
    )


def as_numbers(path: str, features: Any) -> NDArray:
    """A column for each text value."""
    import pandas as pd

    for column in features.select_dtypes(exclude="number"):
        if features[column].nunique() > 50:
            stop(
                f"{path}: column {column!r} has {features[column].nunique()} distinct texts, which "
                "looks like an identifier; leave it out"
            )
    return pd.get_dummies(features, dtype=float).to_numpy(np.float64)


def stop(message: str) -> NoReturn:
    raise SystemExit(f"demo.py: {message}.")


def prepare(data: Dataset, seed: int) -> Dataset:
    """Give the data what they lack of clients, test rows and imbalance."""
    rng = np.random.default_rng(seed)
    notes = []
    clients, is_test = data.clients, data.is_test
    if clients is None:
        n_clients = max(1, min(data.n_clients, len(data.y) // 5))
        clients = dirichlet_partition(data.y, n_clients, random_state=seed)
        notes.append(f"no natural clients: Dirichlet partition (alpha 0.5) over {n_clients}")
    if is_test is not None and set(clients[is_test]) <= set(clients[~is_test]):
        notes.append("test rows as the file's split says")
    else:
        number = np.unique(clients, return_inverse=True)[1]
        by_client_and_class = np.lexsort((rng.random(len(data.y)), data.y, number))
        is_test = np.zeros(len(data.y), bool)
        is_test[by_client_and_class[3::4]] = True
        notes.append("test rows: every fourth of each class of each client")
    data = replace(data, clients=clients, is_test=is_test)
    keep, note = cut_classes(data, rng)
    return replace(
        data,
        X=data.X[keep],
        y=data.y[keep],
        clients=clients[keep],
        is_test=is_test[keep],
        notes=(*notes, note),
    )


def cut_classes(data: Dataset, rng: np.random.Generator) -> tuple[NDArray, str]:
    """Which rows stay, and what was done."""
    keep = np.ones(len(data.y), bool)
    if data.cut == "none" or (data.cut == "auto" and len(data.rare)):
        return keep, "classes as frequent as the data have them"
    if data.cut == "auto":
        classes, share = np.arange(1, len(data.class_names), 2), 0.03
        which = "no class was rare, so every second one is cut:"
    else:
        classes, share = parse_cut(data)
        which = "cut:"
    for c in classes:
        rows = rng.permutation(np.flatnonzero((data.y == c) & ~data.is_test))
        keep[rows[max(1, round(share * len(rows))) :]] = False
    names = ", ".join(data.class_names[c] for c in classes)
    return keep, f"{which} {names} to {share:.0%} of the training rows"


def parse_cut(data: Dataset) -> tuple[list[int], float]:
    """Classes, by name or number, and share from a text like ``1,3,5:0.03``."""
    names, _, share = data.cut.rpartition(":")
    numbers = {name: c for c, name in enumerate(data.class_names)}
    classes = []
    for name in filter(None, map(str.strip, names.split(","))):
        if name not in numbers and not (name.isdecimal() and int(name) < len(numbers)):
            stop(f"--cut: no class {name!r}; there are {', '.join(numbers)}")
        classes.append(numbers[name] if name in numbers else int(name))
    try:
        value = float(share)
    except ValueError:
        value = 0.0
    if not classes or not 0 < value <= 1:
        stop(f"--cut {data.cut} must read like 1,3,5:0.03, classes and the share that stays")
    return classes, value


# -- training ----------------------------------------------------------------------------------


@dataclass
class Result:
    """How one method did on the test rows."""

    rounds: list[int]
    balanced_accuracy: list[float]  # by round
    recalls: NDArray  # by class, after the last round; NaN for classes without test rows
    macro_f1: float


def train(data: Dataset, method: str, learning_rate: float, seed: int) -> Result:
    """Fit in stages and score after each; the stages add up to one uninterrupted fit."""
    model = Pipeline(
        [
            *([("impute", SimpleImputer())] if has_gaps(data.X) else []),
            ("scale", StandardScaler()),
            (
                "clf",
                FedFocalClassifier(
                    **METHODS[method],
                    learning_rate=learning_rate,
                    warm_start=True,
                    random_state=seed,
                ),
            ),
        ]
    )
    test, rows = data.is_test, ~data.is_test
    stages = np.unique(np.linspace(0, data.n_rounds, min(data.n_rounds, 20) + 1).astype(int))
    scores = []
    bar(f"{data.name}, {method}", 0, data.n_rounds)
    for begin, end in pairwise(stages):
        model.set_params(clf__n_rounds=int(end - begin))
        model.fit(data.X[rows], data.y[rows], clf__clients=data.clients[rows])
        predicted = model.predict(data.X[test])
        recalls = recall_score(
            data.y[test],
            predicted,
            labels=range(len(data.class_names)),
            average=None,
            zero_division=np.nan,
        )
        scores.append(float(np.nanmean(recalls)))
        bar(f"{data.name}, {method}", end, data.n_rounds, f"balanced accuracy {scores[-1]:.3f}")
    macro_f1 = f1_score(data.y[test], predicted, average="macro")
    return Result(stages[1:].tolist(), scores, recalls, macro_f1)


def has_gaps(X: NDArray) -> bool:
    return X.dtype.kind == "f" and bool(np.isnan(X).any())


def bar(text: str, done: int, total: int, score: str = "") -> None:
    """Progress on standard error, apart from the table."""
    filled = "#" * (30 * done // total)
    end = "\n" if done == total else ""
    sys.stderr.write(f"\r{text:<28} [{filled:<30}] round {done}/{total}  {score}{end}")
    sys.stderr.flush()


# -- report ------------------------------------------------------------------------------------


def table(data: Dataset, results: dict[str, Result], learning_rate: float) -> str:
    """What the data are, and the methods side by side."""
    n_test = int(data.is_test.sum())
    lines = [
        f"{data.name}: {len(data.y) - n_test:,} training rows of {data.n_training_clients} "
        f"clients, {n_test:,} test rows, {len(data.class_names)} classes",
        *(f"  {note}" for note in data.notes),
        f"  {data.n_rounds} rounds, learning_rate={learning_rate}; FedAvg is gamma=0, "
        "class_weight=None, client_gamma=0, all else the same",
        "",
    ]
    rows = [
        ("balanced accuracy", [r.balanced_accuracy[-1] for r in results.values()]),
        ("macro-F1", [r.macro_f1 for r in results.values()]),
        *(
            (
                f"recall of {data.class_names[c]} ({data.counts[c]} training rows)",
                [r.recalls[c] for r in results.values()],
            )
            for c in data.rare[:MAX_SHOWN]
        ),
    ]
    width = max(len(name) for name, _ in rows)
    lines.append(" " * width + "".join(f"{name:>11}" for name in results) + f"{'gain':>9}")
    for name, values in rows:
        if np.isnan(values).any():
            lines.append(f"{name:<{width}}  (no test rows)")
            continue
        gain = f"{values[-1] - values[0]:>+9.3f}"
        lines.append(f"{name:<{width}}" + "".join(f"{v:>11.3f}" for v in values) + gain)
    if len(data.rare) > MAX_SHOWN:
        lines.append(f"... and {len(data.rare) - MAX_SHOWN} more rare classes")
    return "\n".join(lines)


# Vermilion and blue of the palette of Okabe and Ito, which colour-blind readers tell apart; and a
# ring against a dot, which stay apart in grey and where they coincide.
STYLES = {
    "FedAvg": {"color": "#D55E00", "marker": "o", "mfc": "none", "zorder": 3},
    "Fed-Focal": {"color": "#0072B2", "marker": "o", "mfc": "#0072B2", "zorder": 2},
}
SIZES = {"FedAvg": 10.0, "Fed-Focal": 6.5}
GREY = "#6b6b6b"
TITLE = {"loc": "left", "fontsize": 10, "color": GREY}


def draw(runs: list[tuple[Dataset, dict[str, Result]]], path: str) -> None:
    """Recall by class on the left, balanced accuracy by round on the right."""
    heights = [max(3.0, 1.6 + 0.26 * min(len(data.class_names), MAX_SHOWN)) for data, _ in runs]
    figure = Figure(figsize=(10.5, sum(heights)), layout="constrained", dpi=150)
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.06)
    bands = figure.subfigures(len(runs), 1, height_ratios=heights, squeeze=False)[:, 0]
    for band, (data, results) in zip(bands, runs, strict=True):
        n_train, n_clients = int((~data.is_test).sum()), data.n_training_clients
        band.suptitle(
            f"{data.name}: {n_train:,} training rows of {n_clients} clients",
            x=0.012,
            ha="left",
            weight="bold",
        )
        left, right = band.subplots(1, 2, width_ratios=(1.15, 1))
        draw_recalls(left, data, results)
        draw_rounds(right, results, chance=1 / np.isfinite(results["FedAvg"].recalls).sum())
        band.legend(*left.get_legend_handles_labels(), loc="upper right", ncols=2, frameon=False)
    figure.savefig(path)


def draw_recalls(axes: Axes, data: Dataset, results: dict[str, Result]) -> None:
    rarest = np.argsort(data.counts, kind="stable")[:MAX_SHOWN]
    places = np.arange(len(rarest))
    recalls = np.array([r.recalls[rarest] for r in results.values()])
    axes.hlines(places, recalls.min(0), recalls.max(0), color="#c8c8c8", lw=2.5, zorder=1)
    for name, values in zip(results, recalls, strict=True):
        axes.plot(values, places, ls="", ms=SIZES[name], mew=1.8, label=name, **STYLES[name])
    share = data.counts / data.counts.sum()
    axes.set_yticks(
        places, [f"{shorten(data.class_names[c], 24)}  ({share[c]:.1%})" for c in rarest]
    )
    for tick, c in zip(axes.get_yticklabels(), rarest, strict=True):
        tick.set_weight("bold" if c in data.rare else "normal")
    shown = "" if len(rarest) == len(share) else f"; the {MAX_SHOWN} rarest of {len(share)} classes"
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.7, len(rarest) - 0.3))
    axes.set_xlabel(f"(share of the training rows; rare classes bold{shown})", color=GREY)
    axes.set_title("Recall by class", **TITLE)
    axes.grid(axis="x", color="#e6e6e6")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)


def draw_rounds(axes: Axes, results: dict[str, Result], chance: float) -> None:
    axes.axhline(chance, color=GREY, lw=1, ls=(0, (2, 3)), zorder=1)
    axes.annotate("chance", (0, chance), xytext=(0, 3), textcoords="offset points", color=GREY)
    last = {name: result.balanced_accuracy[-1] for name, result in results.items()}
    near = max(last.values()) - min(last.values()) < 0.1
    for name, result in results.items():
        color = STYLES[name]["color"]
        axes.plot(result.rounds, result.balanced_accuracy, lw=2.2, color=color)
        axes.plot(
            result.rounds[-1], last[name], ms=SIZES[name], mew=1.8, clip_on=False, **STYLES[name]
        )
        aside = (7 if last[name] == max(last.values()) else -7) if near else 0
        axes.annotate(
            f"{name} {last[name]:.2f}",
            (result.rounds[-1], last[name]),
            xytext=(9, aside),
            textcoords="offset points",
            va="center",
            color=color,
            weight="bold",
            annotation_clip=False,
        )
    axes.set(xlim=(0, result.rounds[-1] * 1.01), ylim=(0, 1.03))
    axes.set_xlabel("round", color=GREY)
    axes.set_title("Balanced accuracy on the test rows", **TITLE)
    axes.grid(axis="y", color="#e6e6e6")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)


def shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


# -- command -----------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", metavar="FILE", help="npz, csv or parquet; scikit-learn's data if not given"
    )
    parser.add_argument("--target", help="csv: column of the labels; npz: their array (y)")
    parser.add_argument("--client", help="csv: column of the clients; npz: their array (client)")
    parser.add_argument(
        "--cut",
        help="classes, by name or number, to cut to a share of their training rows, as "
        "1,3,5:0.03; 'none' for no cut; by the rule above if not given",
    )
    parser.add_argument(
        "--rounds", type=int, help="federated rounds (40; 100 for the shipped data)"
    )
    parser.add_argument("--learning-rate", type=float, default=0.05, help="of local SGD (0.05)")
    parser.add_argument("--seed", type=int, default=0, help="of the split and the training (0)")
    parser.add_argument("--out", default="demo.png", help="the picture (demo.png)")
    args = parser.parse_args(argv)
    if args.rounds is not None and args.rounds < 1:
        parser.error("--rounds must be at least 1")
    if not Path(args.out).absolute().parent.is_dir():
        stop(f"there is no folder {Path(args.out).absolute().parent} for the picture")

    datasets = [read(args.data, args.target, args.client)] if args.data else shipped()
    runs = []
    for data in datasets:
        chosen = replace(data, cut=args.cut or data.cut, n_rounds=args.rounds or data.n_rounds)
        data = prepare(chosen, args.seed)
        results = {method: train(data, method, args.learning_rate, args.seed) for method in METHODS}
        print(f"\n{table(data, results, args.learning_rate)}\n")
        runs.append((data, results))
    draw(runs, args.out)
    print(f"Picture: {args.out}")


if __name__ == "__main__":
    main()
