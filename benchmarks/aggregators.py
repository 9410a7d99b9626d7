"""What attackers do to each aggregation, and to rare classes: ``python -m benchmarks.aggregators``.

scikit-learn's digits, three classes cut to 10 % of their training rows, over 20 clients by a
Dirichlet law. Some of the clients attack; the others are honest. Written are a summary beside this
file and the page docs/robustness.md; ``--page`` writes the page from the summary alone.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import recall_score
from sklearn.model_selection import train_test_split
from torch import Tensor

from benchmarks.page import render, table
from skfedfocal import FederatedTrainingError, FedFocalClassifier, dirichlet_partition
from skfedfocal.aggregation import (
    Aggregator,
    Bucketing,
    ClippedMean,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    TrimmedMean,
    WeightedMean,
)
from skfedfocal.engines import Engine, Failure, Task, Updates

HERE = Path(__file__).parent
SUMMARY = HERE / "aggregators.csv"
PAGE = HERE.parent / "docs" / "robustness.md"

CUT, SHARE = (1, 4, 7), 0.1
N_CLIENTS, N_ROUNDS = 20, 60
HIDDEN, LEARNING_RATE = (32,), 0.3  # with which the mean has come to rest after these rounds
SHARES = (0.1, 0.2, 0.3)
# Class weights as one would set them who knows the frequencies and need not ask the clients.
WEIGHTS = {label: 1 / SHARE if label in CUT else 1.0 for label in range(10)}
# The rules are told which share of the clients attacks, as their guarantees suppose; where nobody
# does, they are told this one. Of buckets of two clients twice as many may be bad, though more than
# nearly half of them no rule withstands.
SUPPOSED, MOST = 0.2, 0.45

AGGREGATORS: dict[str, Callable[[float], Aggregator]] = {
    "mean": lambda bad: WeightedMean(),
    "clipped mean": lambda bad: ClippedMean(),
    "trimmed mean": lambda bad: TrimmedMean(bad),
    "trimmed mean, buckets": lambda bad: Bucketing(TrimmedMean(min(2 * bad, MOST))),
    "median": lambda bad: CoordinateMedian(),
    "median, buckets": lambda bad: Bucketing(CoordinateMedian()),
    "geometric median": lambda bad: GeometricMedian(),
    "geometric median, buckets": lambda bad: Bucketing(GeometricMedian()),
    "multi-Krum": lambda bad: Krum(bad),
    "multi-Krum, buckets": lambda bad: Bucketing(Krum(min(2 * bad, MOST))),
    "Krum": lambda bad: Krum(bad, n_keep=1),
    "Krum, buckets": lambda bad: Bucketing(Krum(min(2 * bad, MOST), n_keep=1)),
}
HONEST = "mean of the honest alone"

# -- attackers -----------------------------------------------------------------------------------

Attack = Callable[[Tensor, Tensor, np.random.Generator], Tensor]


def sign_flip(own: Tensor, honest: Tensor, rng: np.random.Generator) -> Tensor:
    """Ten times the own update, turned round."""
    return -10 * own


def scaling(own: Tensor, honest: Tensor, rng: np.random.Generator) -> Tensor:
    """A hundred times the own update."""
    return 100 * own


def gaussian(own: Tensor, honest: Tensor, rng: np.random.Generator) -> Tensor:
    """Noise ten times as long as honest updates are."""
    noise = torch.as_tensor(rng.normal(size=tuple(own.shape))).to(own)
    length = 10 * honest.norm(dim=1).mean()
    return noise * length / noise.norm(dim=1, keepdim=True)


def alie(own: Tensor, honest: Tensor, rng: np.random.Generator) -> Tensor:
    """A little is enough: all at the edge of what is honest, coordinate by coordinate.

    The edge is as many standard deviations from the mean as leave enough honest clients beyond it
    to make a majority with the attackers (Baruch, Baruch and Goldberg, NeurIPS 2019).
    """
    n, n_bad = len(own) + len(honest), len(own)
    helpers = n // 2 + 1 - n_bad
    z = NormalDist().inv_cdf((n - n_bad - helpers) / (n - n_bad))
    return (honest.mean(0) - z * honest.std(0)).expand_as(own)


def unchanged(own: Tensor, honest: Tensor, rng: np.random.Generator) -> Tensor:
    """What training gives: the labels are what is wrong."""
    return own


ATTACKS: dict[str, Attack] = {
    "sign flip ×10": sign_flip,
    "scaling ×100": scaling,
    "Gaussian": gaussian,
    "label flip": unchanged,
    "label flip, weights given": unchanged,
    "ALIE": alie,
}


class AttackedEngine(Engine):
    """Clients of which some send other updates than their training gives."""

    def __init__(self, inside: Engine, bad: NDArray[np.int64], attack: Attack, seed: int):
        super().__init__()
        self.inside, self.bad, self.attack, self.seed = inside, bad, attack, seed

    @property
    def sizes(self) -> NDArray[np.float64]:
        return self.inside.sizes

    @property
    def n_rows(self) -> NDArray[np.float64]:
        return self.inside.n_rows

    def train(self, task: Task) -> Iterator[Updates | Failure]:
        replies = [r for r in self.inside.train(task) if isinstance(r, Updates)]
        clients = np.concatenate([r.clients for r in replies])
        deltas = torch.cat([r.deltas for r in replies])
        bad = torch.as_tensor(np.isin(clients, self.bad))
        rng = np.random.default_rng([self.seed, task.round])
        deltas[bad] = self.attack(deltas[bad], deltas[~bad], rng)
        yield Updates(
            clients,
            np.concatenate([r.weights for r in replies]),
            np.concatenate([r.objective for r in replies]),
            deltas,
        )

    def _answers(self, query: Any, clients: Any, model: Any) -> NDArray[np.float64]:
        return self.inside._answers(query, clients, model)


class AttackedClassifier(FedFocalClassifier):
    """Whose clients attack as the attribute `attackers` says: who, how, and the seed of it."""

    attackers: tuple[NDArray[np.int64], Attack, int]

    def _engine_for(self, *args: Any) -> Engine:
        return AttackedEngine(super()._engine_for(*args), *self.attackers)


# -- measurements --------------------------------------------------------------------------------


class Case(NamedTuple):
    """One training."""

    aggregation: str
    attack: str
    share: float
    seed: int


def recalls(case: Case) -> tuple[float, float]:
    """Mean recall of all classes, and of those that were cut, on test rows."""
    seed = case.seed
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, stratify=y, random_state=seed)
    rng = np.random.default_rng(seed)
    kept = ~np.isin(y, CUT) | (rng.random(len(y)) < SHARE)
    X, y = X[kept], y[kept]
    clients = dirichlet_partition(y, N_CLIENTS, alpha=0.5, min_rows=5, random_state=seed)
    bad = np.random.default_rng([seed, 1]).permutation(N_CLIENTS)[: round(case.share * N_CLIENTS)]
    attacks = np.isin(clients, bad)
    if case.aggregation == HONEST:
        X, y, clients, attacks = X[~attacks], y[~attacks], clients[~attacks], attacks[~attacks]
    elif case.attack.startswith("label flip"):
        y = np.where(attacks, 9 - y, y)
    model = AttackedClassifier(
        HIDDEN,
        n_rounds=N_ROUNDS,
        learning_rate=LEARNING_RATE,
        class_weight=WEIGHTS if case.attack.endswith("weights given") else "balanced",
        client_gamma=0,
        aggregation=AGGREGATORS.get(case.aggregation, AGGREGATORS["mean"])(case.share or SUPPOSED),
        random_state=seed,
    )
    attack = ATTACKS.get(case.attack, unchanged)
    ids = list(dict.fromkeys(clients.tolist()))
    model.attackers = np.array([i for i, k in enumerate(ids) if k in bad], int), attack, seed
    with warnings.catch_warnings(action="ignore"):  # whoever diverges is left out, as it should
        try:
            found = recall_score(
                y_test, model.fit(X, y, clients=clients).predict(X_test), average=None
            )
        except FederatedTrainingError:
            found = np.full(10, 0.1)  # no better than chance
    cut = np.isin(np.arange(10), CUT)
    return float(found.mean()), float(found[cut].mean())


def cases(n_seeds: int) -> list[Case]:
    """All trainings: every aggregation without attackers, and with each kind and share of them."""
    attacks = [("none", 0.0), *product(ATTACKS, SHARES)]
    honest = [Case(HONEST, "none", share, s) for share in SHARES for s in range(n_seeds)]
    return honest + [
        Case(name, attack, share, seed)
        for name, (attack, share), seed in product(AGGREGATORS, attacks, range(n_seeds))
    ]


def measure(n_seeds: int, n_processes: int) -> pd.DataFrame:
    """Mean recalls over the seeds, one row for each aggregation, attack and share."""
    todo = cases(n_seeds)
    with ProcessPoolExecutor(n_processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        found = list(pool.map(recalls, todo, chunksize=4))
    runs = pd.DataFrame(todo).join(pd.DataFrame(found, columns=["overall", "rare"]))
    by = runs.groupby(["aggregation", "attack", "share"], sort=False)[["overall", "rare"]]
    summary = by.mean().round(4)
    summary["rare_error"] = (by.std()["rare"] / math.sqrt(n_seeds)).round(4)
    return summary.assign(n_seeds=n_seeds).reset_index()


# -- the page ------------------------------------------------------------------------------------


def page(summary: pd.DataFrame) -> str:
    """Markdown of docs/robustness.md, from the summary alone."""
    honest = summary[summary["aggregation"] == HONEST].set_index("share")
    return render(
        HERE / "aggregators.md.j2",
        nobody=_without(summary),
        tables=tables_of(summary),
        best=_best(summary, honest),
        n_seeds=int(summary["n_seeds"].iloc[0]),
        n_rounds=N_ROUNDS,
        n_clients=N_CLIENTS,
        supposed=SUPPOSED,
        most=MOST,
        rare_error=f"{summary['rare_error'].median():.2f}",
    )


def tables_of(summary: pd.DataFrame) -> dict[float, pd.DataFrame]:
    """A table for each share of attackers."""
    honest = summary[summary["aggregation"] == HONEST].set_index("share")
    return {share: _table(summary, honest, share) for share in SHARES}


def _cell(overall: float, rare: float) -> str:
    return f"{overall:.2f} / {rare:.2f}"


def _without(summary: pd.DataFrame) -> pd.DataFrame:
    none = summary[(summary["attack"] == "none") & (summary["aggregation"] != HONEST)]
    shown = none.set_index("aggregation")[["overall", "rare"]]
    return shown.map("{:.2f}".format).rename(columns={"overall": "all classes", "rare": "rare"})


def _table(summary: pd.DataFrame, honest: pd.DataFrame, share: float) -> pd.DataFrame:
    some = summary[(summary["share"] == share) & (summary["attack"] != "none")]
    cells = some.assign(cell=list(map(_cell, some["overall"], some["rare"])))
    shown = cells.pivot(index="aggregation", columns="attack", values="cell")
    shown = shown.loc[list(AGGREGATORS), list(ATTACKS)]
    there = honest.loc[share]
    shown.loc[f"*{HONEST}*"] = _cell(there["overall"], there["rare"])
    return shown.rename_axis(index="aggregation", columns=None)


def _best(summary: pd.DataFrame, honest: pd.DataFrame) -> pd.DataFrame:
    """The aggregation with the best recall of rare classes, and what it lacks of the honest's."""
    rows = {}
    for attack in ATTACKS:
        row = {}
        for share in SHARES:
            some = summary[(summary["attack"] == attack) & (summary["share"] == share)]
            robust = some[some["aggregation"] != "mean"]
            best = robust.loc[robust["rare"].idxmax()]
            lead = 100 * (best["rare"] - honest.loc[share, "rare"])
            row[f"{share:.0%} attack"] = f"{best['aggregation']} ({lead:+.0f})"
        rows[attack] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("attack")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    options = parser.parse_args(arguments)
    if not options.page:
        measure(options.seeds, options.processes).to_csv(SUMMARY, index=False)
    summary = pd.read_csv(SUMMARY)
    PAGE.write_text(page(summary))
    for share, found in tables_of(summary).items():
        print(f"\n{share:.0%} of the clients attack: recall of all classes / of the rare ones\n")
        print(table(found))
    print(f"\nwrote {SUMMARY} and {PAGE}")


if __name__ == "__main__":
    main()
