"""How the classifier's defaults were chosen: the same with one parameter changed, on held-out rows.

``python -m benchmarks.quality.defaults --data DIR`` trains each variant in every scenario, with its
whole budget of rounds and with a fifth of it, on the training rows less a quarter, and measures on
that quarter; test rows are out of sight. The learning rate is the same for all variants: that of
the comparison there is, so that it comes out the same again; without one, that which the default
classifier chose in the results. Records are kept, so that a run can be resumed; ``--scenarios``
lets several processes share the work.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from .datasets import QUICK, SCENARIOS, Scenario
from .methods import DEFAULT, METHODS, Own, Setting, measure
from .report import BASE, cells, difference, dump, machine, markdown, records_of
from .runner import LEARNING_RATES, canonical

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results.json"
SHARES = {"all rounds": 1.0, "a fifth of them": 0.2}
CHANGES: tuple[Own, ...] = (
    {},
    *({"logit_adjustment": share} for share in (0.0, 0.5, 0.6, 0.75, 1.0)),
    *({"gamma": gamma} for gamma in (0.0, 0.5, 2.0)),
    *({"client_gamma": gamma} for gamma in (0.0, 0.5)),
)


@dataclass(frozen=True)
class Case:
    """A training to be measured: how many rounds, where, which variant (as JSON), which seed."""

    leg: str
    scenario: str
    method: str
    seed: int

    def train_and_measure(self, where: Scenario, data: Path, rate: float) -> dict[str, float]:
        budget = where.budget
        budget = replace(budget, n_rounds=max(1, round(SHARES[self.leg] * budget.n_rounds)))
        task, own = where.task(data, self.seed, fold=0), json.loads(self.method)
        model = METHODS[BASE].train(Setting(task, budget, rate, self.seed), **own)
        found = measure(METHODS[BASE], model, own, task)
        return {name: found[name] for name in ("balanced_accuracy", "balanced_log_loss")}


def variants() -> dict[str, str]:
    """What is changed, in words, for each variant; the default first."""
    found = {canonical(DEFAULT): "the default"}
    for change in CHANGES:
        words = ", ".join(f"{name} {value:g}" for name, value in change.items())
        found.setdefault(canonical({**DEFAULT, **change}), words)
    return found


def cases(scenarios: Mapping[str, Scenario], n_seeds: int) -> Iterator[Case]:
    for name, where in scenarios.items():
        for seed in range(n_seeds * where.repeats):
            for leg in SHARES:
                yield from (Case(leg, name, own, seed) for own in variants())


def rates(scenarios: Mapping[str, Scenario], comparison: Path) -> dict[str, float]:
    """Each scenario's learning rate in a comparison; without one, the default's usual choice."""
    chosen: dict[str, Counter[float]] = {name: Counter() for name in scenarios}
    if comparison.exists():
        records = [{**r, "method": BASE} for r in records_of(json.loads(comparison.read_text()))]
    else:
        records = records_of(json.loads(RESULTS.read_text()))
    for record in records:
        if record["method"] == BASE and record["scenario"] in chosen:
            chosen[record["scenario"]][record["learning_rate"]] += 1
    middle = LEARNING_RATES[len(LEARNING_RATES) // 2]
    return {name: c.most_common(1)[0][0] if c else middle for name, c in chosen.items()}


def run(
    scenarios: Mapping[str, Scenario],
    data: Path,
    n_seeds: int,
    path: Path,
    rate: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Train what has no record in the file yet; all records."""
    records, wanted = {}, list(cases(scenarios, n_seeds))
    if path.exists():
        for line in path.read_text().splitlines():
            record = json.loads(line)
            records[Case(*(record[name] for name in Case.__annotations__))] = record
    path.parent.mkdir(parents=True, exist_ok=True)
    for case in wanted:
        if case not in records:
            where = scenarios[case.scenario]
            found = case.train_and_measure(where, data, rate[case.scenario])
            records[case] = {**vars(case), "learning_rate": rate[case.scenario], **found}
            with path.open("a") as file:
                file.write(json.dumps(records[case]) + "\n")
    return [records[case] for case in wanted]


def section(table: Mapping[str, Any]) -> str:
    """A section of the results page."""
    records, names = records_of(table), table["variants"]
    base, *_ = names
    rows = [[title] for title in names.values()]
    for leg in SHARES:
        scores, losses = (
            cells(records, leg, kind) for kind in ("balanced_accuracy", "balanced_log_loss")
        )
        sets = list(dict.fromkeys(scenario for scenario, _ in scores))
        for own, row in zip(names, rows, strict=True):
            gap, error = difference(scores, sets, own, base)
            least = min((scores[s, own] - scores[s, base]).mean() for s in sets)
            row += [
                f"{100 * np.mean([scores[s, own].mean() for s in sets]):.1f}",
                "–" if own == base else f"{100 * gap:+.1f} ({100 * error:.1f}), {100 * least:+.1f}",
                f"{np.mean([losses[s, own].mean() for s in sets]):.3f}",
            ]
    head = ["changed", *(f"{what}, {leg}" for leg in SHARES for what in _COLUMNS)]
    return (
        "## How the defaults were chosen\n\n"
        "`python -m benchmarks.quality.defaults`: FedFocalClassifier as it is and with one "
        f"parameter changed, measured on held-out training rows of {len(sets)} sets, "
        f"{table['n_seeds']} seeds or more. Balanced accuracy in percent; its mean difference to "
        "the default (standard error), and that on the set where it is lowest; log-loss where "
        "classes are equally frequent.\n\n" + markdown(head, rows)
    )


_COLUMNS = ("balanced accuracy", "difference", "log-loss")


def main(arguments: list[str] | None = None) -> None:
    data = os.environ.get("SKFEDFOCAL_DATA", ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality.defaults")
    add = parser.add_argument
    add("--data", type=Path, default=Path(data), help="folder of the data sets")
    add("--seeds", type=int, default=5)
    add("--quick", action="store_true", help="two small sets of scikit-learn's")
    add("--scenarios", nargs="+", metavar="NAME", help="only these; writes records alone")
    add("--records", type=Path, default=ROOT / "results" / "defaults.jsonl")
    add("--results", type=Path, default=Path(__file__).parent / "defaults.json")
    options = parser.parse_args(arguments)
    known = QUICK if options.quick else SCENARIOS
    scenarios = {name: known[name] for name in options.scenarios or known}
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # clients left out when a rate is too high
        torch.set_num_threads(1)
        rate = rates(scenarios, options.results)
        records = run(scenarios, options.data, options.seeds, options.records, rate)
    if options.scenarios:
        return
    columns = list(records[0])
    table = {
        "n_seeds": options.seeds,
        "machine": machine(),
        "variants": variants(),
        "columns": columns,
        "rows": [[r[name] for name in columns] for r in records],
    }
    dump(table, options.results)
    print(section(table))


if __name__ == "__main__":
    main()
