"""A whole grid search over gamma, as a user writes it."""

from __future__ import annotations

import time


def search(
    n_jobs: int,
    gammas: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 5.0),
    n_folds: int = 5,
    n_rounds: int = 30,
) -> dict[str, float]:
    """Seconds of two searches, one after the other: the second finds the workers running.

    On scikit-learn's breast-cancer data, dealt to four clients.
    """
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from skfedfocal import FedFocalClassifier, iid_partition

    X, y = load_breast_cancer(return_X_y=True)
    clients = iid_partition(y, 4, random_state=0)
    model = make_pipeline(StandardScaler(), FedFocalClassifier(n_rounds=n_rounds, random_state=0))
    grid = {"fedfocalclassifier__gamma": list(gammas)}
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        chosen = GridSearchCV(model, grid, cv=n_folds, n_jobs=n_jobs)
        chosen.fit(X, y, fedfocalclassifier__clients=clients)
        seconds.append(time.perf_counter() - began)
    return {
        "search_s": seconds[0],
        "search_again_s": seconds[1],
        "n_fits": len(gammas) * n_folds + 1,
        "balanced_accuracy": float(chosen.best_score_),
    }
