"""Run what is missing, then write the summary and the page: ``python -m benchmarks.quality``.

Every training is a line in results/quality.jsonl, so that a run that was cut short goes on; remove
that file to begin anew. Hours for all sets; ``--quick`` takes a minute, ``--page`` nothing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import joblib
import torch

from . import report, summary
from .cli import parsed, wanted
from .defaults import chosen_elsewhere
from .methods import BASE, ELSEWHERE, METHODS, Method
from .runner import Runner, read
from .sets import Scenario


def main(arguments: list[str] | None = None) -> None:
    options = parsed("python -m benchmarks.quality", __doc__, arguments)
    folder = options.results if options.quick or options.methods else report.HERE
    if not options.page:
        _run(options, folder)
    page = report.PAGE if folder == report.HERE else folder / "results.md"
    page.write_text(report.page(folder))
    print(f"wrote {page}")


def _run(options: argparse.Namespace, folder: Path) -> None:
    scenarios, path = wanted(options), options.results / "quality.jsonl"
    methods = [METHODS[name] for name in options.methods or METHODS]
    if options.methods and METHODS[BASE] not in methods:
        methods.insert(0, METHODS[BASE])  # differences are to it
    parallel = joblib.Parallel(n_jobs=options.jobs)
    parallel(joblib.delayed(_run_set)(s, options, methods) for s in scenarios)
    runners = [Runner(s, options.seeds, path) for s in scenarios]
    records = [r for runner in runners for r in runner.collected(of_set(runner.scenario, methods))]
    seconds = sum(r["seconds"] for r in read(path))
    facts = {"n_seeds": options.seeds, "cpu_hours": round(seconds / 3600, 2)}
    summary.keep(*summary.summarise(records), facts, folder)


def of_set(scenario: Scenario, methods: list[Method]) -> list[Method]:
    """The methods, one of which is what the sets of the other half choose."""
    own = chosen_elsewhere().get(scenario.name)
    return [replace(m, own=(own,)) if m.name == ELSEWHERE and own else m for m in methods]


def _run_set(scenario: Scenario, options: argparse.Namespace, methods: list[Method]) -> None:
    torch.set_num_threads(1)
    runner = Runner(scenario, options.seeds, options.results / "quality.jsonl", options.data)
    runner.run(of_set(scenario, methods))


if __name__ == "__main__":
    main()
