"""What models of the clients' own bring: ``python -m benchmarks.personal --data DIR``.

Sets whose clients are natural ones (persons, hospitals, sensors, fields, writers). Each client has
test rows of its own; every seed has another split. `PersonalizedClassifier` at its defaults around
the default `FedFocalClassifier`, beside the global model and beside one that each client trains on
its own rows alone. Runs are kept in results/personal.jsonl, so that what was measured is not
measured again; personal.csv and docs/personal.md are of whatever is there.
"""

from __future__ import annotations

import argparse
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.page import render, table
from benchmarks.quality.measures import balanced_accuracy
from benchmarks.quality.sets import SETS, Scenario
from benchmarks.records import resumed
from skfedfocal import FedFocalClassifier, PersonalizedClassifier

HERE = Path(__file__).parent
SUMMARY = HERE / "personal.csv"
PAGE = HERE.parent / "docs" / "personal.md"

NATURAL = {
    name: replace(SETS[name], resplit=True)
    for name in (
        "har",
        "har_cut",
        "heart",
        "heart_severity",
        "vehicle",
        "vehicle_10",
        "femnist_digits_cut",
    )
}
NATURAL["landmine"] = replace(SETS["heart"], title="land mines", file="landmine", n_rounds=50)
NATURAL["thyroid"] = replace(SETS["heart"], title="thyroid", file="thyroid", n_rounds=50)
REPEATS = {"heart": 4, "heart_severity": 4, "thyroid": 4}  # of few clients, or few rare rows

GLOBAL, OWN, ALONE = "global model", "own models", "own rows alone"
WAYS = (GLOBAL, OWN, ALONE)


def classifier(of: Scenario, seed: int) -> FedFocalClassifier:
    return FedFocalClassifier(
        of.hidden_layer_sizes,
        n_rounds=of.n_rounds,
        n_local_epochs=of.n_local_epochs,
        batch_size=of.batch_size,
        clients_per_round=of.clients_per_round,
        random_state=seed,
    )


def alone(of: Scenario, seed: int, X: NDArray[Any], y: NDArray[Any]) -> Any:
    """A function from rows to labels that one client finds by itself."""
    if len(np.unique(y)) < 2:
        return lambda rows: np.full(len(rows), y[0])
    return classifier(replace(of, clients_per_round=1.0), seed).fit(X, y).predict


def measured(name: str, data: Path, seed: int) -> list[dict[str, Any]]:
    """Scores of the clients' test rows: mean, lowest; and how often the class is right."""
    of = NATURAL[name]
    task = of.task(data, seed)
    assert task.clients_test is not None
    model = PersonalizedClassifier(classifier(of, seed), random_state=seed)
    model.fit(task.X, task.y, clients=task.clients)
    prior = model.estimator_.class_prior_
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for client in np.intersect1d(task.clients_test, task.clients):  # a cut may leave one no rows
        mine, test = task.clients == client, task.clients_test == client
        rows, y = task.X_test[test], task.y_test[test]
        ids = np.full(len(rows), client)
        by_alone = alone(of, seed, task.X[mine], task.y[mine])(rows)
        likely = {
            GLOBAL: model.estimator_.predict_posterior(rows, prior),
            OWN: model.predict_posterior(rows, clients=ids),
        }
        labels = {GLOBAL: model.predict(rows), OWN: model.predict(rows, clients=ids)}
        for way, posterior in likely.items():
            right = float((model.classes_[posterior.argmax(1)] == y).mean())
            found[way].append((balanced_accuracy(y, labels[way]), right))
        found[ALONE].append((balanced_accuracy(y, by_alone), np.nan))
    records = []
    for way, scores in found.items():
        balanced, right = 100 * np.array(scores).T
        records.append(
            {
                "set": name,
                "way": way,
                "seed": seed,
                "mean": balanced.mean(),
                "worst": balanced.min(),
                "accuracy": right.mean(),
                "moved": 100 * float((model.shares_ > 0).mean()),
            }
        )
    return records


def measure(data: Path, n_seeds: int, results: Path) -> pd.DataFrame:
    """All runs, those that are there already and the others; every set's first seed first."""
    wanted = (
        (name, seed)
        for seed in range(n_seeds * max(REPEATS.values()))
        for name in NATURAL
        if seed < n_seeds * REPEATS.get(name, 1)
    )
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        return resumed(
            results / "personal.jsonl",
            ("set", "seed"),
            wanted,
            lambda name, seed: measured(name, data, seed),
        )


def summarise(runs: pd.DataFrame) -> pd.DataFrame:
    """Means by set and way; `se` is of the paired gain over the global model."""
    by = runs.pivot_table(index=["set", "seed"], columns="way", values="mean")
    gain = by.sub(by[GLOBAL], axis=0).groupby("set")
    mean = runs.groupby(["set", "way"])[["mean", "worst", "accuracy", "moved"]].mean()
    mean["gain"], mean["se"] = gain.mean().stack(), gain.sem().stack()
    mean["n_seeds"] = gain.count().stack()
    order = pd.MultiIndex.from_product([NATURAL, WAYS], names=["set", "way"])
    return mean.reindex(order).dropna(subset="mean").reset_index()


def page(summary: pd.DataFrame) -> str:
    """Markdown of docs/personal.md, from the summary alone."""
    cells = summary.set_index(["set", "way"])
    names = [name for name in NATURAL if name in set(summary["set"])]

    def of(column: str, way: str) -> pd.Series:
        return cells[column].xs(way, level="way").reindex(names)

    def written(values: pd.Series) -> pd.Series:
        return values.map("{:.1f}".format)

    gain = of("gain", OWN).map("{:+.1f}".format) + " (" + written(of("se", OWN)) + ")"
    shown = pd.DataFrame(
        {
            "global": written(of("mean", GLOBAL)),
            "own models": written(of("mean", OWN)),
            "gain (SE)": gain,
            "own rows alone": written(of("mean", ALONE)),
            "clients that moved": of("moved", OWN).map("{:.0f} %".format),
            "worst: global": written(of("worst", GLOBAL)),
            "worst: own models": written(of("worst", OWN)),
            "right: all's prior": written(of("accuracy", GLOBAL)),
            "right: own prior": written(of("accuracy", OWN)),
            "seeds": of("n_seeds", OWN).astype(int),
        }
    )
    shown.index = pd.Index([NATURAL[name].title for name in names], name="set")
    means = {way: of("mean", way).mean() for way in WAYS}
    better = np.maximum(of("mean", GLOBAL), of("mean", ALONE)).mean()
    return render(
        HERE / "personal.md.j2",
        shown=shown,
        means=means,
        better=better,
        least=of("gain", OWN).min(),
        right=(of("accuracy", GLOBAL).mean(), of("accuracy", OWN).mean()),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("SKFEDFOCAL_DATA", "data"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    options = parser.parse_args(arguments)
    if not options.page:
        torch.set_num_threads(1)
        runs = measure(Path(options.data), options.seeds, options.results)
        summarise(runs).to_csv(SUMMARY, index=False, float_format="%.5g")
    summary = pd.read_csv(SUMMARY)
    PAGE.write_text(page(summary))
    print(table(summary.set_index(["set", "way"])["mean"].unstack("way").round(1)))


if __name__ == "__main__":
    main()
