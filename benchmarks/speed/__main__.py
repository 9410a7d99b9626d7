"""Measure speed: ``python -m benchmarks.speed`` on an otherwise idle machine.

Every measurement is a process of its own with one thread inside the libraries' operations; the
contenders of a workload take turns, pass by pass. Records go to a file of JSON lines as they come
in, so that a run that was cut short goes on with ``--resume``. In the end `results.json` and
the page docs/performance.md are written from all records there are, also those of earlier runs of
other workloads; ``--scratch`` leaves all of that alone.

Long: about ten minutes a pass, and 12 GB on disk for the workload with 1,000,000 clients; see
``--only``. Other simulators are measured too where PEERS_ROOT names their environments
(`benchmarks/speed/peers.py`).
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed import peers, plan, report
from benchmarks.speed.machine import describe
from benchmarks.speed.measure import ROOT, MeasurementError
from benchmarks.speed.summary import summarise

RECORDS = ROOT / "benchmarks" / "results"
RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "performance.md"


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    todo = plan.chosen(
        plan.tasks(args.quick, _peers(args.peers), args.heart), args.only, args.contenders
    )
    scratch = args.quick or args.scratch
    stem = "speed-scratch" if scratch else "speed"
    RECORDS.mkdir(parents=True, exist_ok=True)
    path = RECORDS / f"{stem}.jsonl"
    if scratch and not args.resume:
        path.unlink(missing_ok=True)
    elif path.exists() and not args.resume:
        plan.forget(path, todo)
    plan.prepare_data([t for _, t in plan.missing(path, todo, args.passes)], args.data_dir)
    failed = _run(path, todo, args)

    results = {
        "command": "python -m benchmarks.speed",
        "quick": args.quick,
        "date": datetime.date.today().isoformat(),
        "machine": describe(),
        "device": args.device,
        **summarise(plan.read(path)),
    }
    results_path = RECORDS / f"{stem}.json" if scratch else RESULTS
    page = RECORDS / f"{stem}.md" if scratch else PAGE
    results_path.write_text(json.dumps(results, indent=1) + "\n")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(report.render(results))
    print(report.short(results))
    print(f"Wrote {results_path.relative_to(ROOT)} and {page.relative_to(ROOT)}.")
    return 1 if failed else 0


def _run(path: Path, todo: list[plan.Task], args: argparse.Namespace) -> int:
    """Measure what is missing; returns how many measurements failed."""
    failed = 0
    for number, task in plan.missing(path, todo, args.passes):
        try:
            found = task.run(args.data_dir, args.device)
        except MeasurementError as error:
            failed += 1
            print(f"pass {number + 1} {task.workload} {task.contender}: {error}", file=sys.stderr)
            continue
        record = {"pass": number, "workload": task.workload, "contender": task.contender, **found}
        plan.append(path, record)
        print(_line(record), flush=True)
    return failed


def _line(record: dict[str, Any]) -> str:
    names = ("round_cpu_s", "round_wall_s", "limit_s", "search_s", "cpu_s", "rss_mb")
    found = "  ".join(f"{name} {record[name]:.4g}" for name in names if name in record)
    return f"pass {record['pass'] + 1}  {record['workload']:<14} {record['contender']:<14} {found}"


def _peers(wanted: str) -> list[str]:
    if wanted in ("all", "none"):
        return peers.installed() if wanted == "all" else []
    names = wanted.split(",")
    absent = set(names) - set(peers.installed())
    if absent:
        raise SystemExit(f"Not installed under PEERS_ROOT: {sorted(absent)}.")
    return names


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = {"type": lambda text: text.split(","), "default": [], "metavar": "A,B"}
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, one pass: does it run? Implies --scratch"
    )
    parser.add_argument(
        "--only", **names, help="workloads: W1, W2, W3, scale (all W2x…), W2x1000, …, grid"
    )
    parser.add_argument(
        "--contenders", **names, help="limit, fed_focal, cross_entropy, sequential, …"
    )
    parser.add_argument("--passes", type=int, default=None, help="default 5; 1 with --quick")
    parser.add_argument(
        "--resume", action="store_true", help="keep the records there are, measure what is missing"
    )
    parser.add_argument(
        "--scratch",
        action="store_true",
        help="write all to benchmarks/results/speed-scratch.*, not to results.json and docs",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(tempfile.gettempdir()) / "skfedfocal-speed",
        help="where generated rows are kept for the next run",
    )
    parser.add_argument("--peers", default="all", help="all, none or names; needs PEERS_ROOT")
    parser.add_argument("--heart", help="heart_disease.npz (X, y, client) for the grid search")
    parser.add_argument("--device", default="cpu", help="for the package and the PyTorch loops")
    args = parser.parse_args(argv)
    if args.passes is None:
        args.passes = 1 if args.quick else 5
    args.data_dir = args.data_dir.resolve()
    return args


if __name__ == "__main__":
    sys.exit(main())
