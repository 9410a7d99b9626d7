"""Runs what is missing: jobs, their order, and the file of their results."""

from __future__ import annotations

import json
import multiprocessing
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from skfedfocal import FederatedTrainingError

from .datasets import QUICK, SCENARIOS, Scenario, Task, full_scale
from .measures import class_measures
from .methods import CHOOSES_ITSELF, METHODS, Method, Own, Setting, measure, missing

Record = dict[str, Any]
LEARNING_RATES = (0.03, 0.1, 0.3)
N_TUNING = 2  # seeds that tune for all, where all have the same test rows


@dataclass(frozen=True)
class Job:
    """One training and its measures; `fold` None measures on the test rows."""

    scenario: str
    method: str
    own: str  # JSON, so that jobs can be compared and hashed
    learning_rate: float
    seed: int
    fold: int | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(asdict(self).values())

    @property
    def training(self) -> tuple[Any, ...]:
        """What is trained; jobs that agree in it are trained once."""
        name, own = METHODS[self.method].training(json.loads(self.own))
        return (self.scenario, self.seed, self.fold, name, canonical(own), self.learning_rate)


def canonical(own: Own) -> str:
    return json.dumps(dict(own), sort_keys=True)


@dataclass(frozen=True)
class Plan:
    """What is to be run."""

    scenarios: tuple[str, ...]
    methods: tuple[str, ...]
    n_seeds: int
    scale: str  # "quick", "standard" or "full"
    data: Path

    def scenario(self, name: str) -> Scenario:
        return scenario_of(name, self.scale)

    def seeds(self, scenario: str) -> range:
        return range(self.n_seeds * self.scenario(scenario).repeats)

    def cases(self) -> Iterator[tuple[str, Method, int]]:
        """Scenarios, methods and seeds, in order of seeds."""
        most = max(len(self.seeds(s)) for s in self.scenarios)
        for seed in range(most):
            for s in self.scenarios:
                if seed in self.seeds(s):
                    yield from ((s, METHODS[m], seed) for m in self.methods)


def scenario_of(name: str, scale: str) -> Scenario:
    if scale == "quick":
        return QUICK[name]
    return full_scale(SCENARIOS[name]) if scale == "full" else SCENARIOS[name]


# -- what to do next -------------------------------------------------------------------------


class Results:
    """Records by job, kept in a file of one JSON object a line, so that a run can be resumed."""

    def __init__(self, path: Path | None = None):
        self.path = path
        self.records: dict[tuple[Any, ...], Record] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                self._keep(json.loads(line))

    def _keep(self, record: Record) -> None:
        self.records[Job(**{name: record[name] for name in Job.__annotations__}).key] = record

    def add(self, records: Iterable[Record]) -> None:
        for record in records:
            self._keep(record)
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with self.path.open("a") as file:
                    file.write(json.dumps(record) + "\n")

    def __contains__(self, job: Job) -> bool:
        return job.key in self.records

    def score(self, job: Job) -> float:
        return self.records[job.key]["balanced_accuracy"]


def phases(plan: Plan, results: Results) -> Iterator[list[Job]]:
    """Jobs still to be done, phase by phase; each phase builds on the results before.

    Tests are in order of seeds, so that what a stopped run leaves is balanced.
    """
    cases = list(plan.cases())
    tuned = [(s, m, seed) for s, m, seed in cases if seed in _tuning_seeds(plan, s)]
    yield _todo([job for case in tuned for job in rate_candidates(*case)], results)
    yield _todo([default_test(plan, results, *case) for case in cases], results)
    yield _todo([job for case in tuned for job in own_candidates(plan, results, *case)], results)
    yield _todo([tuned_test(plan, results, *case) for case in cases], results)


def _todo(jobs: Iterable[Job], results: Results) -> list[Job]:
    return [job for job in dict.fromkeys(jobs) if job not in results]


def _tuning_seeds(plan: Plan, scenario: str, seed: int | None = None) -> tuple[int, ...]:
    """The seeds whose validation rows choose for this one, or all that do.

    Its own where every seed has a test split of its own, else the first few.
    """
    seeds = tuple(plan.seeds(scenario))
    if not plan.scenario(scenario).resplit:
        return seeds[:N_TUNING]
    return seeds if seed is None else (seed,)


def rate_candidates(scenario: str, method: Method, seed: int) -> list[Job]:
    if not method.tunes_rate:
        return []
    own = canonical(method.own[0])
    return [Job(scenario, method.name, own, rate, seed, 0) for rate in LEARNING_RATES]


def chosen_rate(plan: Plan, results: Results, scenario: str, method: Method, seed: int) -> float:
    if method.name in CHOOSES_ITSELF:
        method = METHODS["fedfocal"]
    if not method.tunes_rate:
        return LEARNING_RATES[0]
    seeds = _tuning_seeds(plan, scenario, seed)
    return _best(results, [rate_candidates(scenario, method, s) for s in seeds]).learning_rate


def own_candidates(
    plan: Plan, results: Results, scenario: str, method: Method, seed: int
) -> list[Job]:
    if len(method.own) == 1:
        return []
    rate = chosen_rate(plan, results, scenario, method, seed)
    return [Job(scenario, method.name, canonical(own), rate, seed, 0) for own in method.own]


def default_test(plan: Plan, results: Results, scenario: str, method: Method, seed: int) -> Job:
    rate = chosen_rate(plan, results, scenario, method, seed)
    return Job(scenario, method.name, canonical(method.own[0]), rate, seed)


def tuned_test(plan: Plan, results: Results, scenario: str, method: Method, seed: int) -> Job:
    if len(method.own) == 1:
        return default_test(plan, results, scenario, method, seed)
    seeds = _tuning_seeds(plan, scenario, seed)
    candidates = [own_candidates(plan, results, scenario, method, s) for s in seeds]
    return replace(_best(results, candidates), seed=seed, fold=None)


def _best(results: Results, candidates: list[list[Job]]) -> Job:
    """The candidate with the best mean validation score over the seeds; the first of equals."""
    means = np.mean([[results.score(job) for job in of_seed] for of_seed in candidates], axis=0)
    return candidates[0][int(means.argmax())]


# -- doing it --------------------------------------------------------------------------------


def run(plan: Plan, results: Results, n_jobs: int = 1, minutes: float | None = None) -> bool:
    """Run all that is missing; returns whether it came to the end."""
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    for number, jobs in enumerate(phases(plan, results), 1):
        groups = [list(group) for _, group in groupby(_sorted(jobs), lambda job: job.training)]
        print(f"phase {number} of 4: {len(jobs)} results, {len(groups)} trainings", flush=True)
        for n_done, records in enumerate(_work(plan, groups, n_jobs), 1):
            results.add(records)
            if n_done % 50 == 0 or n_done == len(groups):
                print(f"  {n_done} of {len(groups)} trainings", flush=True)
            if deadline is not None and time.monotonic() > deadline:
                print("out of time; start again to go on", flush=True)
                return False
    return True


def _sorted(jobs: list[Job]) -> list[Job]:
    """Jobs of one training together; tests seed by seed, and within one scenario by scenario."""
    place = {name: i for i, name in enumerate({**SCENARIOS, **QUICK})}
    return sorted(jobs, key=lambda j: (j.seed, place[j.scenario], str(j.training)))


def _work(plan: Plan, groups: list[list[Job]], n_jobs: int) -> Iterator[list[Record]]:
    """Records of each group, one thread a process; unfinished work is dropped when closed."""
    if n_jobs == 1:
        with threadpool_limits(1):
            torch.set_num_threads(1)
            yield from (train_and_measure(plan, group) for group in groups)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_jobs, context, initializer=_one_thread) as pool:
        waiting = iter(groups)
        running = {pool.submit(train_and_measure, plan, g) for _, g in zip(range(n_jobs), waiting)}  # noqa: B905
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                group = next(waiting, None)
                if group is not None:
                    running.add(pool.submit(train_and_measure, plan, group))
                yield future.result()


def _one_thread() -> None:
    torch.set_num_threads(1)
    threadpool_limits(1)


@lru_cache(maxsize=2)
def _task(name: str, scale: str, data: Path, seed: int, fold: int | None) -> Task:
    return scenario_of(name, scale).task(data, seed, fold)


def train_and_measure(plan: Plan, group: list[Job]) -> list[Record]:
    """Train once what the jobs of a group share, and measure for each of them."""
    first = group[0]
    task = _task(first.scenario, plan.scale, plan.data, first.seed, first.fold)
    _, _, _, name, own, _ = first.training
    setting = Setting(task, plan.scenario(first.scenario).budget, first.learning_rate, first.seed)
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # clients left out are counted below
        try:
            model = METHODS[name].train(setting, **json.loads(own))
            if not overflow_free(model, task):
                model = None
        except FederatedTrainingError:
            model = None
    seconds = time.process_time() - began
    facts = {**training_facts(model), "seconds": seconds}
    return [{**asdict(job), **_measured(job, model, task), **facts} for job in group]


def overflow_free(model: Any, task: Task) -> bool:
    """Whether the probabilities are numbers; weights on the way to divergence can be finite."""
    if not hasattr(model, "predict_proba"):
        return True
    return bool(np.isfinite(model.predict_proba(task.X_test)).all())


def _measured(job: Job, model: Any, task: Task) -> Record:
    if model is None:  # diverged: a constant prediction
        return class_measures(task.y_test, np.zeros_like(task.y_test))
    measures = measure(METHODS[job.method], model, json.loads(job.own), task)
    if job.fold is not None:  # validation chooses by one number
        return {"balanced_accuracy": measures["balanced_accuracy"]}
    return measures


def training_facts(model: Any) -> Mapping[str, float]:
    """What the federation cost, where there was one."""
    history = getattr(getattr(model, "best_estimator_", model), "history_", None)
    if history is None:
        return {"diverged": float(model is None)}
    return {
        "diverged": 0.0,
        "bytes_down": float(history["bytes_down"].sum()),
        "bytes_up": float(history["bytes_up"].sum()),
        "left_out": float(history["n_failed"].sum()),
    }


def plan_of(
    scale: str,
    data: Path,
    n_seeds: int,
    scenarios: list[str] | None = None,
    methods: list[str] | None = None,
) -> Plan:
    """All scenarios and methods, or those named; methods that cannot run here are left out."""
    known = QUICK if scale == "quick" else SCENARIOS
    names = [m for m in (methods or METHODS) if missing(METHODS[m]) is None]
    needed = [*names, "fedfocal"] if set(names) & set(CHOOSES_ITSELF) else names
    return Plan(tuple(scenarios or known), tuple(dict.fromkeys(needed)), n_seeds, scale, data)
