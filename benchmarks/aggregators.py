"""What robust aggregation costs rare classes: ``python -m benchmarks.aggregators``.

scikit-learn's digits, three classes cut to 10 % of their training rows, over 20 clients by a
Dirichlet law, all of them honest. Printed are the mean recalls of the cut and of the other classes
on test rows, over the seeds.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import recall_score
from sklearn.model_selection import train_test_split

from benchmarks._package import aggregate_by
from skfedfocal import FedFocalClassifier, dirichlet_partition
from skfedfocal.aggregation import (
    Aggregator,
    ClippedMean,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    TrimmedMean,
    WeightedMean,
)

CUT, SHARE = (1, 4, 7), 0.1
N_CLIENTS, BAD_SHARE = 20, 0.2  # so many bad clients are to be withstood, though there are none

AGGREGATORS: dict[str, Aggregator] = {
    "mean": WeightedMean(),
    "clipped mean": ClippedMean(),
    "trimmed mean": TrimmedMean(BAD_SHARE),
    "median": CoordinateMedian(),
    "geometric median": GeometricMedian(),
    "multi-Krum": Krum(BAD_SHARE),
    "Krum": Krum(BAD_SHARE, n_keep=1),
}


def recalls(aggregator: Aggregator, seed: int) -> tuple[float, float]:
    """Mean recall of the cut classes and of the others."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, stratify=y, random_state=seed)
    rng = np.random.default_rng(seed)
    kept = ~np.isin(y, CUT) | (rng.random(len(y)) < SHARE)
    X, y = X[kept], y[kept]
    clients = dirichlet_partition(y, N_CLIENTS, alpha=0.5, min_rows=5, random_state=seed)
    model = FedFocalClassifier(
        n_rounds=60,
        client_gamma=0,
        random_state=seed,
        **aggregate_by(aggregator),
    )
    found = recall_score(y_test, model.fit(X, y, clients=clients).predict(X_test), average=None)
    cut = np.isin(np.arange(10), CUT)
    return float(found[cut].mean()), float(found[~cut].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| aggregation | cut classes | others |")
    print("|---|---|---|")
    for name, aggregator in AGGREGATORS.items():
        cut, others = np.mean([recalls(aggregator, s) for s in range(options.seeds)], axis=0)
        print(f"| {name} | {cut:.2f} | {others:.2f} |")


if __name__ == "__main__":
    main()
