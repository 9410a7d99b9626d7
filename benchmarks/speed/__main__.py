"""Measure speed: ``python -m benchmarks.speed`` on an otherwise idle machine.

Every measurement is a process of its own with one thread inside the libraries' operations; the
contenders of a workload take turns, pass by pass. Records go to results/speed.jsonl as they come in,
so that a run that was cut short goes on with ``--resume``. In the end their medians take their place
in benchmarks/speed/summary.csv, and docs/performance.md is written; rows of what was not measured
stay as they are.

Long: about ten minutes a pass, and 12 GB on disk for the workload with 1,000,000 clients; see
``--only``. Other simulators are measured too where PEERS_ROOT names their environments
(`benchmarks/speed/peers.py`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.machine import describe
from benchmarks.page import table
from benchmarks.speed import against, history, peers, plan, report, summary
from benchmarks.speed.measure import ROOT, MeasurementError

RESULTS = ROOT / "results"


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    if args.page:
        report.PAGE.write_text(report.page())
        return 0
    tasks = plan.tasks(
        args.quick, peers.installed(args.peers), args.data_dir, args.device, args.heart
    )
    todo = plan.chosen(tasks, args.only, args.contenders)
    if args.against:
        return _against(todo, args)
    scratch = args.quick or args.scratch
    path = RESULTS / ("speed-scratch.jsonl" if scratch else "speed.jsonl")
    if not args.resume:
        plan.forget(path, todo)
    plan.prepare([t for _, t in plan.missing(path, todo, args.passes)])
    failed = _run(path, todo, args.passes)
    names = {t.key for t in todo}
    found = summary.summarise(
        [r for r in plan.read(path) if (r["workload"], r["contender"]) in names]
    )
    _keep(found, RESULTS / "speed-scratch" if scratch else report.HERE, args)
    return 1 if failed else 0


def _run(path: Path, todo: list[plan.Task], n_passes: int) -> int:
    """Measure what is missing; returns how many measurements failed."""
    failed, commit = 0, _commit()
    for number, task in plan.missing(path, todo, n_passes):
        at = {"pass": number, "workload": task.workload, "contender": task.contender}
        try:
            found = task.run()
        except MeasurementError as error:
            failed += 1
            print(*at.values(), error, file=sys.stderr)
            continue
        plan.append(path, {**at, "commit": commit, **found})
        shown = {k: found[k] for k in ("round_cpu_s", "search_s", "cpu_s", "rss_mb") if k in found}
        print(*at.values(), *(f"{k} {v:.4g}" for k, v in shown.items()), flush=True)
    return failed


def _keep(found: pd.DataFrame, folder: Path, args: argparse.Namespace) -> None:
    """Write the summary, the history and the page of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = summary.write(found, folder / "summary.csv")
    facts = {**describe(), "device": args.device}
    (folder / "machine.json").write_text(json.dumps(facts, indent=1) + "\n")
    if args.history:
        print(table(history.append(found, folder / "history.csv").set_index("commit")))
    page = report.PAGE if folder == report.HERE else folder / "performance.md"
    page.write_text(report.page(folder, args.quick))
    print(table(report.targets(rows).drop(columns="_met")))
    print(f"Wrote {page}.")


def _against(todo: list[plan.Task], args: argparse.Namespace) -> int:
    wanted = args.contenders or ["default"]
    todo = [t for t in todo if t.contender in wanted]
    plan.prepare(todo)
    text, fine = against.report(against.interleaved(todo, args.against, args.passes))
    print(text)
    return 0 if fine else 1


def _commit() -> str:
    """The commit measured, with a plus where files differ from it."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    names = {"type": lambda text: text.split(","), "default": [], "metavar": "A,B"}
    add("--only", **names, help="workloads: W1, W2, W3, scale (all W2x…), W2x1000, …, grid")
    add("--contenders", **names, help="limit, default, unfocused, cross_entropy, sequential, …")
    add("--passes", type=int, default=None, help="default 5; 1 with --quick")
    add("--resume", action="store_true", help="keep records there are, measure what is missing")
    add("--quick", action="store_true", help="few rounds, one pass: does it run? Implies --scratch")
    add("--scratch", action="store_true", help="write to results/speed-scratch, not to the page")
    add("--page", action="store_true", help="only write the page from what is kept")
    add("--history", action="store_true", help="append the ratios of W1, W2, W3 to history.csv")
    add(
        "--against",
        type=Path,
        metavar="CHECKOUT",
        help="only compare CPU times with another checkout, in interleaved runs; fails where a "
        "workload is slower here by more than 5 percent",
    )
    folder = Path(tempfile.gettempdir()) / "skfedfocal-speed"
    add("--data-dir", type=Path, default=folder, help="where generated rows are kept")
    add("--peers", default="all", help="all, none or names; needs PEERS_ROOT")
    add("--heart", type=Path, help="heart_disease.npz (X, y, client) for the grid search")
    add("--device", default="cpu", help="for the package and the PyTorch loops")
    args = parser.parse_args(argv)
    args.passes = args.passes or (1 if args.quick else 5)
    args.data_dir = args.data_dir.resolve()
    return args


if __name__ == "__main__":
    sys.exit(main())
