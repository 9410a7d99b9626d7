"""FedFocalClassifierCV beside GridSearchCV: ``python -m benchmarks.search [--data DIR]``.

Both search five gammas over the same three folds, with refit, in one process with one thread. Heart
disease has 4 clients, UCI HAR (three of six classes cut to 3 % of their rows) has 30. Printed are
CPU seconds, their ratio, and by how much the gamma that FedFocalClassifierCV chose falls short of
the best in the grid search's own scores. Without the data folder it takes scikit-learn's breast
cancer with 4 clients.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.preprocessing import StandardScaler

from benchmarks._package import folds_of
from skfedfocal import FedFocalClassifier, FedFocalClassifierCV, iid_partition

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
Federation = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def federations(data: Path) -> Iterator[tuple[str, Federation, int]]:
    """Name, rows and rounds of each set."""
    if not data.is_dir():
        X, y = load_breast_cancer(return_X_y=True)
        yield "breast cancer, 4 clients", (X, y, iid_partition(y, 4, random_state=0)), 30
        return
    heart = np.load(data / "heart_disease.npz")
    yield "heart disease, 4 clients", (heart["X"], heart["y"], heart["client"]), 30
    har = np.load(data / "uci_har.npz")
    rare = np.isin(har["y"], (1, 3, 5))
    keep = ~rare | (np.random.default_rng(0).random(len(rare)) < 0.03)
    yield "UCI HAR cut, 30 clients", (har["X"][keep], har["y"][keep], har["client"][keep]), 30


def compare(federation: Federation, n_rounds: int, seed: int, racing: bool) -> tuple[float, ...]:
    """CPU seconds of both searches, and what the choice falls short of the grid's best."""
    X, y, clients = federation
    X = StandardScaler().fit_transform(X).astype(np.float32)
    settings = {"n_rounds": n_rounds, "random_state": seed}

    began = time.process_time()
    searched = FedFocalClassifierCV(gammas=GAMMAS, cv=3, racing=racing, **settings)
    searched.fit(X, y, clients=clients)
    ours = time.process_time() - began

    codes = np.searchsorted(searched.classes_, y)
    folds = folds_of(searched.seed_, clients, codes, len(searched.classes_), 3)
    began = time.process_time()
    grid = GridSearchCV(
        FedFocalClassifier(**settings), {"gamma": list(GAMMAS)}, cv=PredefinedSplit(folds)
    ).fit(X, y, clients=clients)
    theirs = time.process_time() - began
    scores = grid.cv_results_["mean_test_score"]
    return ours, theirs, scores.max() - scores[GAMMAS.index(searched.gamma_)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, federation, n_rounds in federations(options.data):
        compare(federation, 1, 0, True)  # imports and first uses
        for racing in (True, False):
            seeds = range(options.seeds)
            runs = np.array([compare(federation, n_rounds, seed, racing) for seed in seeds])
            ours, theirs, short = runs.T
            ratios = ours / theirs
            print(
                f"{name}, {'racing' if racing else 'all rounds'}: {np.median(ours):.2f} s against "
                f"{np.median(theirs):.2f} s, ratio {np.median(ratios):.2f} ({ratios.min():.2f} to "
                f"{ratios.max():.2f}); the choice falls short by {short.mean():.4f} on average, "
                f"{short.max():.4f} at most"
            )


if __name__ == "__main__":
    main()
