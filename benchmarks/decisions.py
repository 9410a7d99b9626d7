"""Figures of docs/decisions.md that no other command prints: ``python -m benchmarks.decisions``.

A name chooses one of them: ``python -m benchmarks.decisions units``. Seconds are of this machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from benchmarks._package import (
    crew_of_two,
    effective_weights,
    recall_on_a_sample,
    try_module_and_loss,
    variance_from_sums,
)
from skfedfocal import FedFocalClassifier, dirichlet_partition, load_model, save_model


def validation() -> str:
    """How far apart cohorts find one and the same model, beside what a round brings."""
    X, y = load_digits(return_X_y=True)
    clients = dirichlet_partition(y, 50, alpha=0.3, random_state=0)
    A, B, a, b, whose, there = train_test_split(X / 16, y, clients, stratify=y, random_state=0)
    losses = []
    for n_rounds in (40, 50):
        model = FedFocalClassifier(n_rounds=n_rounds, random_state=0).fit(A, a, clients=whose)
        each = -np.log(model.predict_proba(B)[np.arange(len(b)), b])
        losses.append(log_loss(b, model.predict_proba(B)))
    rng = np.random.default_rng(0)
    cohorts = [np.isin(there, rng.choice(50, 5, replace=False)) for _ in range(1000)]
    spread = np.std([each[rows].mean() for rows in cohorts if rows.any()])
    return (
        f"validation loss of one model on cohorts of 5 of 50 clients: standard deviation "
        f"{spread:.3f}; from round 40 to 50 it falls by {(losses[0] - losses[1]) / 10:.3f} a round"
    )


def moments() -> str:
    """What sums of squares lose on a column that lies far from 0, and deviations keep."""
    x = 1e8 + np.random.default_rng(0).standard_normal((10_000, 1))
    true = np.var((x - x[0]).ravel())  # of small numbers, exact to many digits
    by_squares = np.mean(x**2) - np.mean(x) ** 2
    by_deviations = variance_from_sums(np.array_split(x, 10))
    return (
        f"variance of a column around 1e8: {true:.6f}; by sums of squares {by_squares:.6f}, "
        f"by deviations from the mean {by_deviations:.6f}"
    )


def calls() -> str:
    """How often a sum over calls divided by their number is not the summand."""
    counts = np.random.default_rng(0).uniform(0, 1000, 100_000)
    total, mean = np.zeros_like(counts), counts.copy()
    for n in range(1, 8):
        total += counts
        mean = mean + (counts - mean) / (n + 1)
    total /= 7
    return (
        f"label counts that change by rounding over seven calls with equal rows: "
        f"{np.mean(total != counts):.0%} as a sum that is divided, "
        f"{np.mean(mean != counts):.0%} as a running mean"
    )


def units() -> str:
    """What a unit of weights would do to weights by the effective number of rows."""
    rows = np.array([900.0, 90.0, 10.0])
    found = []
    for unit in (1.0, 1000.0):
        weights = effective_weights(rows * unit)
        found.append(f"{weights[2] / weights[0]:.1f}")
    return (
        f"class_weight='effective', 900, 90 and 10 rows: the rarest class weighs {found[0]} times "
        f"the most frequent; were weights of 1,000 a row not counted in rows, {found[1]} times"
    )


def scale() -> str:
    """What columns of a large scale cost where nothing is done about it."""
    found = []
    for load in (load_breast_cancer, load_wine):
        X, y = load(return_X_y=True)
        X, means = StandardScaler().fit_transform(X), []
        for factor in (1, 2, 5, 10, 20):
            scores = []
            for seed in range(5):
                A, B, a, b = train_test_split(factor * X, y, stratify=y, random_state=seed)
                model = FedFocalClassifier(numeric_encoding=None, random_state=seed)
                with warnings.catch_warnings(action="ignore"):
                    scores.append(model.fit(A, a, clients=np.arange(len(a)) % 5).score(B, b))
            means.append(f"{100 * np.mean(scores):.1f}")
        found.append(f"{load.__name__.removeprefix('load_')} {', '.join(means)}")
    return (
        "balanced accuracy of columns with standard deviations of 1, 2, 5, 10 and 20: "
        + "; ".join(found)
    )


def recall() -> str:
    """How far a client's recall is from that on all its rows, by which rows it is estimated on."""
    rng, weight = np.random.default_rng(0), np.array([1.0, 49.0])
    y = np.repeat([0, 1], [980, 20])
    right = rng.random(1000) < np.where(y == 1, 0.6, 0.9)
    exact = np.average(right, weights=weight[y])
    errors = []
    for _ in range(4000):
        order = rng.permutation(1000)
        some = order[:128]
        at_random = np.average(right[some], weights=weight[y[some]])
        by_class = recall_on_a_sample(y[order], right[order], weight)
        errors.append([at_random - exact, by_class - exact])
    found = np.sqrt(np.mean(np.square(errors), axis=0))
    return (
        f"1,000 rows, of which the 20 of a rare class weigh as much as others: root mean square "
        f"error of the recall on 128 rows {found[0]:.3f} at random, {found[1]:.3f} by class"
    )


def pool() -> str:
    """How many pieces of work begin while nobody reads the replies."""
    found = {}
    for name in ("joblib's generator", "the crew's pool"):
        begun: list[int] = []
        if name.startswith("joblib"):
            lazily = Parallel(2, backend="threading", return_as="generator")
            replies = lazily(delayed(begun.append)(i) for i in range(200))
        else:
            replies = crew_of_two(range(200), begun.append)
        next(replies)
        time.sleep(0.5)
        found[name] = len(begun)
        for _ in replies:
            pass
    return "of 200 pieces, begun while one reply was read: " + ", ".join(
        f"{number} with {name}" for name, number in found.items()
    )


def load() -> str:
    """What it takes to load a model, with the prediction that shows whether it holds together."""
    X, y = load_digits(return_X_y=True)
    model = FedFocalClassifier(n_rounds=2, random_state=0).fit(X, y)
    one = np.zeros((1, X.shape[1]))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        path = Path(folder, "model.skfedfocal")
        save_model(model, path)
        whole = _milliseconds(lambda: load_model(path))
        part = _milliseconds(lambda: model.predict_proba(one))
    return f"load_model: {whole:.1f} ms, of which the prediction takes {part:.1f} ms"


def tries() -> str:
    """What it takes to try the default module and loss before training."""
    return f"a module and a loss are tried in {_milliseconds(try_module_and_loss):.1f} ms"


def _milliseconds(work: Callable[[], object], n: int = 50) -> float:
    work()
    began = time.perf_counter()
    for _ in range(n):
        work()
    return (time.perf_counter() - began) / n * 1000


CHOSEN = (validation, moments, calls, units, scale, recall, pool, load, tries)
FIGURES = {f.__name__: f for f in CHOSEN}

if __name__ == "__main__":
    for name in sys.argv[1:] or FIGURES:
        print(f"{name}: {FIGURES[name]()}")
