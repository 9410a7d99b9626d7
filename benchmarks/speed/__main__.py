"""Measure speed: ``python -m benchmarks.speed`` on an otherwise idle machine.

Every measurement is a process of its own with one thread inside the libraries' operations; the
contenders of a workload take turns, pass by pass. Records go to results/speed.jsonl as they come
in, so that a run that was cut short goes on with ``--resume``. In the end their medians take their
place in benchmarks/speed/summary.csv, and docs/performance.md is written; rows of what was not
measured stay as they are. Long: about ten minutes a pass, and 12 GB on disk for the workload with
1,000,000 clients; see ``--only``. Other simulators take part where PEERS_ROOT names their
environments (peers.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.speed import against, history, peers, plan, report, summary
from benchmarks.speed.measure import ROOT, MeasurementError

RESULTS = ROOT / "results"


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    if args.page:
        report.PAGE.write_text(report.page())
        return 0
    known = plan.tasks(args.quick, peers.installed(), args.data_dir, args.device)
    todo = plan.chosen(known, args.only, args.contenders or (["default"] if args.against else []))
    plan.prepare(todo)
    if args.against:
        text, fine = against.report(against.interleaved(todo, args.against, args.passes))
        print(text)
        return 0 if fine else 1
    scratch = args.quick or args.scratch
    path = RESULTS / ("speed-scratch.jsonl" if scratch else "speed.jsonl")
    if not args.resume:
        plan.forget(path, todo)
    failed = _run(path, todo, args.passes)
    _keep(path, todo, RESULTS / "speed-scratch" if scratch else report.HERE, args)
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


def _keep(path: Path, todo: list[plan.Task], folder: Path, args: argparse.Namespace) -> None:
    """Write the summary, the history and the page of what was measured."""
    names = {task.key for task in todo}
    records = [r for r in plan.read(path) if (r["workload"], r["contender"]) in names]
    found = summary.summarise(records)
    folder.mkdir(parents=True, exist_ok=True)
    summary.write(found, folder / "summary.csv")
    facts = {**describe(), "device": args.device}
    (folder / "machine.json").write_text(json.dumps(facts, indent=1) + "\n")
    if args.history:
        history.append(found, folder / "history.csv")
    page = report.PAGE if folder == report.HERE else folder / "performance.md"
    page.write_text(report.page(folder, args.quick))
    print(f"Wrote {page}.")


def _commit() -> str:
    """The commit measured, with a plus where files differ from it."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    add = parser.add_argument
    names = {"type": lambda text: text.split(","), "default": [], "metavar": "A,B"}
    add("--only", **names, help="workloads: W1, W2, W3, scale (all W2x…), W2x1000, …, grid")
    add("--contenders", **names, help="limit, default, unfocused, cross_entropy, sequential, …")
    add("--passes", type=int, help="default 5; 1 with --quick")
    add("--resume", action="store_true", help="keep records there are, measure what is missing")
    add("--quick", action="store_true", help="few rounds, one pass: does it run? Implies --scratch")
    add("--scratch", action="store_true", help="write to results/speed-scratch, not to the page")
    add("--page", action="store_true", help="only write the page from what is kept")
    add("--history", action="store_true", help="append the ratios of W1, W2, W3 to history.csv")
    add("--against", type=Path, metavar="CHECKOUT", help=against.__doc__)
    folder = Path(tempfile.gettempdir()) / "skfedfocal-speed"
    add("--data-dir", type=Path, default=folder, help="where generated rows are kept")
    add("--device", default="cpu", help="for the package and the PyTorch loops")
    args = parser.parse_args(argv)
    args.passes = args.passes or (1 if args.quick else 5)
    args.data_dir = args.data_dir.resolve()
    return args


if __name__ == "__main__":
    sys.exit(main())
