"""The four hospitals at a budget of a tenth, split as the published figures are.

Rows to train on and to test on are as many at each hospital as in FLamby's split, drawn anew by
each seed; what is measured is accuracy. The published ones (rPDP-FL, CCS 2024, raw results of its
repository, delta 0.001): without privacy .750; epsilon 0.1 for all rows .671, .673 and .684 in
three runs; budgets between 0.1 and 5 by row, by their method, .727 to .731. Which rows are theirs
differs: they drop rows with gaps, the data set here has filled them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.preprocessing import StandardScaler

from skfedfocal import FederatedClassifier
from skfedfocal.privacy import ExampleLevelDP

# Of training and test rows: Cleveland, Hungary, Switzerland, Long Beach.
SIZES = ((199, 104), (172, 89), (30, 16), (85, 45))
EPSILON, DELTA = 0.1, 1e-3
N_TRAIN = sum(train for train, _ in SIZES)
# Settled on validation rows of other seeds; the number of rows is taken as public, as its order is.
N_ROUNDS, RATES = 20, (0.1, 0.3, 1.0)


def split(clients: Any, seed: int) -> tuple[Any, Any]:
    """Rows to train and to test on."""
    rng, train, test = np.random.default_rng(seed), [], []
    for hospital, (n_train, n_test) in enumerate(SIZES):
        rows = rng.permutation(np.flatnonzero(clients == hospital))
        train.append(rows[:n_train])
        test.append(rows[n_train : n_train + n_test])
    return np.concatenate(train), np.concatenate(test)


def accuracy(data: Any, train: Any, test: Any, seed: int, trust: str | None, rate: float) -> float:
    """Share of the test rows that a logistic regression gets right."""
    X, y, clients = data
    scaler = StandardScaler().fit(X[train])
    params: dict[str, Any] = {}
    if trust is not None:
        batch = N_TRAIN if trust == "server" else N_TRAIN / len(SIZES)
        privacy = ExampleLevelDP(
            target_epsilon=EPSILON,
            delta=DELTA,
            sampling_rate=1.0,
            trust=trust,
            counts_noise=None,
            expected_batch=batch,
        )
        params = {"privacy": privacy, "average_rounds": N_ROUNDS // 2}
    model = FederatedClassifier(
        (), n_rounds=N_ROUNDS, learning_rate=rate, batch_size=32, random_state=seed, **params
    )
    model.fit(scaler.transform(X[train]), y[train], clients=clients[train])
    return float((model.predict(scaler.transform(X[test])) == y[test]).mean())


def hospitals(folder: Path, n_seeds: int) -> pd.DataFrame:
    """Mean accuracy and its deviation over seeds, by who adds the noise."""
    torch.set_num_threads(1)
    with np.load(folder / "heart_disease.npz") as file:
        clients = np.unique(file["client"], return_inverse=True)[1]
        data = file["X"], file["y"], clients
    rows = []
    for trust in (None, "server", "local"):
        tuned = []
        for rate in RATES:
            scores = []
            for seed in range(100, 103):
                train, _ = split(clients, seed)
                held_out = np.random.default_rng(seed).random(len(train)) < 0.25
                scores.append(accuracy(data, train[~held_out], train[held_out], seed, trust, rate))
            tuned.append(np.mean(scores))
        rate = RATES[int(np.argmax(tuned))]
        found = [accuracy(data, *split(clients, s), s, trust, rate) for s in range(n_seeds)]
        rows.append(
            {
                "noise": "none" if trust is None else trust,
                "accuracy": round(float(np.mean(found)), 4),
                "deviation": round(float(np.std(found, ddof=1)), 4),
                "rate": rate,
                "n_seeds": n_seeds,
            }
        )
    return pd.DataFrame(rows)
