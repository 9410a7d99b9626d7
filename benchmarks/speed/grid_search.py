"""A whole grid search over gamma, as a user writes it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Grid:
    """A grid search: 5-fold cross-validation of each gamma, then a fit with the best.

    Attributes
    ----------
    heart_path : str or None
        File with the arrays X, y and client of the heart-disease data of four hospitals; without
        it, scikit-learn's breast-cancer data, dealt to four clients.
    """

    gammas: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 5.0)
    n_folds: int = 5
    n_rounds: int = 30
    n_jobs: int = 1
    heart_path: str | None = None

    @property
    def dataset(self) -> str:
        return "breast cancer" if self.heart_path is None else "heart disease"


def search(grid: Grid) -> dict[str, Any]:
    """Seconds of two searches, one after the other: the second finds the workers running."""
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from skfedfocal import FedFocalClassifier

    X, y, clients = _data(grid)
    model = make_pipeline(
        StandardScaler(), FedFocalClassifier(n_rounds=grid.n_rounds, random_state=0)
    )
    gammas = {"fedfocalclassifier__gamma": list(grid.gammas)}
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        chosen = GridSearchCV(model, gammas, cv=grid.n_folds, n_jobs=grid.n_jobs)
        chosen.fit(X, y, fedfocalclassifier__clients=clients)
        seconds.append(time.perf_counter() - began)
    return {
        "search_s": seconds[0],
        "search_again_s": seconds[1],
        "n_fits": len(grid.gammas) * grid.n_folds + 1,
        "balanced_accuracy": float(chosen.best_score_),
        "dataset": grid.dataset,
    }


def _data(grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if grid.heart_path is not None:
        arrays = np.load(grid.heart_path, allow_pickle=False)
        return arrays["X"], arrays["y"], arrays["client"]
    from sklearn.datasets import load_breast_cancer

    from skfedfocal import iid_partition

    X, y = load_breast_cancer(return_X_y=True)
    return X, y, iid_partition(y, 4, random_state=0)
