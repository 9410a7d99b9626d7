"""Trains what is missing: the records of a set, kept one a line so that a run can be resumed."""

from __future__ import annotations

import contextlib
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from skfedfocal import FederatedTrainingError

from .logits import finite_logits
from .measures import balanced_accuracy, measure
from .methods import BASE, CHOOSES, METHODS, Method, Own, common
from .sets import Scenario

Record = dict[str, Any]
KEY = ("set", "method", "own", "learning_rate", "seed", "fold", "share")
LEGS = ("default", "tuned")
N_TUNING = 2  # seeds that tune for all, where all have the same test rows


class NotRunError(LookupError):
    """A record that is not there, and is not to be made."""


def read(path: Path) -> list[Record]:
    """All records of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Runner:
    """Records of one set: looked up where they are known, made where they are not.

    Parameters
    ----------
    scenario : Scenario
    n_seeds : int
    path : Path
        File of the records.
    data : Path or None
        Folder of the data sets; None only looks up.
    """

    def __init__(self, scenario: Scenario, n_seeds: int, path: Path, data: Path | None = None):
        self.scenario, self.path, self.data = scenario, path, data
        self.seeds = range(n_seeds * scenario.repeats)
        self.known = {tuple(r[k] for k in KEY): r for r in read(path) if r["set"] == scenario.name}
        self._task = lru_cache(maxsize=4)(scenario.task)
        self._models: dict[tuple[Any, ...], tuple[Any, Record]] = {}

    def run(self, methods: Sequence[Method]) -> None:
        """Make all records, seed by seed, so that the methods find the rows at hand."""
        for leg in LEGS:
            for seed in self.seeds:
                self._models.clear()
                for method in methods:
                    self.test(leg, method, seed)
                print(f"{self.scenario.name}, {leg}: seed {seed}", flush=True)

    def collected(self, methods: Sequence[Method]) -> Iterator[Record]:
        """Test records of the methods that have them for all seeds: all means are over the same."""
        for leg in LEGS:
            for method in methods:
                with contextlib.suppress(NotRunError):
                    yield from [self.test(leg, method, seed) for seed in self.seeds]

    def test(self, leg: str, method: Method, seed: int) -> Record:
        """The test record of a seed: at default settings, or with the own parameter tuned."""
        rate = self.rate(method, seed)
        own = method.own[0] if leg == "default" else self.own(method, seed)
        return {"leg": leg, **self.record(method, own, rate, seed)}

    def rate(self, method: Method, seed: int) -> float:
        """The learning rate with the best validation score; the smallest of equals."""
        if method.name == CHOOSES:
            method = METHODS[BASE]
        rates = self.scenario.learning_rates
        if not method.tunes_rate or len(rates) == 1:
            return rates[0]
        own = method.own[0]
        return self._best(seed, rates, lambda rate, s: (method, own, rate, s, 0))

    def own(self, method: Method, seed: int) -> Own:
        """The own parameter with the best validation score at that rate; the first of equals."""
        if len(method.own) == 1:
            return method.own[0]
        rate = self.rate(method, seed)
        return self._best(seed, method.own, lambda own, s: (method, own, rate, s, 0))

    def _best(self, seed: int, candidates: Any, case: Any) -> Any:
        """By the seed itself where it has test rows of its own, else by the first few for all."""
        seeds = (seed,) if self.scenario.resplit else self.seeds[:N_TUNING]
        means = [
            np.mean([self.record(*case(c, s))["balanced_accuracy"] for s in seeds])
            for c in candidates
        ]
        return candidates[int(np.argmax(means))]

    def record(
        self,
        method: Method,
        own: Own,
        rate: float,
        seed: int,
        fold: int | None = None,
        share: float = 1.0,
    ) -> Record:
        """Measures on test rows, or on a fold's validation rows; after a share of the rounds."""
        key = (self.scenario.name, method.name, _canonical(own), rate, seed, fold, share)
        if key not in self.known:
            if self.data is None:
                raise NotRunError(key)
            found = self._measured(method, own, rate, seed, fold, share)
            self.known[key] = dict(zip(KEY, key, strict=True)) | found
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:  # one write a line: other processes append too
                file.write(json.dumps(self.known[key]) + "\n")
        return self.known[key]

    def _measured(
        self, method: Method, own: Own, rate: float, seed: int, fold: int | None, share: float
    ) -> Record:
        task = self._task(self.data, seed, fold)
        name, parameters = method.training(own)
        key = (name, _canonical(parameters), rate, seed, fold, share)
        if key not in self._models:
            settings = common(self.scenario, rate, seed)
            settings["n_rounds"] = max(1, round(share * settings["n_rounds"]))
            self._models[key] = train(METHODS[name], task, settings, parameters)
        model, facts = self._models[key]
        if model is None:  # diverged: a constant prediction
            score = balanced_accuracy(task.y_test, np.zeros_like(task.y_test))
            return {"balanced_accuracy": score, **facts}
        measures = measure(method, model, own, task)
        if fold is not None:  # validation chooses by these
            kept = ("balanced_accuracy", "balanced_log_loss")
            measures = {name: measures[name] for name in kept if name in measures}
        return {**measures, **facts}


def train(method: Method, task: Any, settings: Record, own: Own) -> tuple[Any, Record]:
    """The model, None where training diverged; and what it cost."""
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # clients left out at a high rate
        try:
            model = method.train(task, settings, **own)
        except FederatedTrainingError:
            model = None
    if model is not None and not finite_logits(model, task.X_test):
        model = None  # weights on the way to divergence can be finite, and what they give be not
    facts = {"diverged": model is None, "seconds": time.process_time() - began}
    history = getattr(getattr(model, "best_estimator_", model), "history_", None)
    if history is not None:
        facts["mib"] = float(history["bytes_down"].sum() + history["bytes_up"].sum()) / 2**20
    return model, facts


def _canonical(own: Own) -> str:
    return json.dumps(dict(own), sort_keys=True)
