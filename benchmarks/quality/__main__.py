"""``python -m benchmarks.quality``: run what is missing, then write results and page."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from . import coverage, defaults
from .report import collect, dump, merge, page
from .runner import Results, plan_of, run

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results.json"
PAGE = ROOT / "docs" / "results.md"


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    scale = "quick" if options.quick else options.scale
    folder = ROOT / "results"
    results_file = options.results or (folder / "quick.json" if options.quick else RESULTS)
    page_file = options.page or (folder / "quick.md" if options.quick else PAGE)
    if options.report_only:
        table = json.loads(results_file.read_text())
    else:
        seeds = options.seeds or (2 if options.quick else 5)
        plan = plan_of(scale, options.data, seeds, options.scenarios, options.methods)
        earlier = None
        if (options.scenarios or options.methods) and results_file.exists():
            earlier = json.loads(results_file.read_text())
            if (earlier["scale"], earlier["n_seeds"]) != (scale, seeds):
                raise SystemExit(
                    f"{results_file} has results of scale {earlier['scale']} and "
                    f"{earlier['n_seeds']} seeds, which these would not go with; name another file "
                    "with --results."
                )
        records = options.records or folder / f"quality-{scale}.jsonl"
        results = Results(records)
        run(plan, results, options.jobs, options.minutes)
        table = collect(plan, results)
        if earlier is not None:
            table = merge(earlier, table)
        results_file.parent.mkdir(parents=True, exist_ok=True)
        dump(table, results_file)
    page_file.parent.mkdir(parents=True, exist_ok=True)
    more = "" if options.quick else _other_sections()
    page_file.write_text(page(table, "make bench-quality", more))
    print(f"wrote {results_file} and {page_file}")


def _other_sections() -> str:
    """What other commands of the benchmark have left for the page."""
    here = Path(__file__).parent
    found = [
        section(json.loads((here / f"{name}.json").read_text()))
        for name, section in (("defaults", defaults.section), ("coverage", coverage.section))
        if (here / f"{name}.json").exists()
    ]
    return "\n\n".join(found)


def _parser() -> argparse.ArgumentParser:
    data = os.environ.get("SKFEDFOCAL_DATA", ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=Path(data), help="folder of the data sets (%(default)s)")
    add("--quick", action="store_true", help="two small sets of scikit-learn's, two seeds")
    add(
        "--scale",
        choices=("standard", "full"),
        default="standard",
        help="full: all rows, twice the rounds",
    )
    add("--seeds", type=int, help="number of seeds (5)")
    add("--jobs", type=int, default=1, help="processes, each with one thread (%(default)s)")
    add("--minutes", type=float, help="stop after so long; the next start goes on from there")
    add("--scenarios", nargs="+", metavar="NAME", help="only these; other results stay")
    add("--methods", nargs="+", metavar="NAME", help="only these; other results stay")
    add("--records", type=Path, help="file of single records, which makes a run resumable")
    add("--results", type=Path, help="results to write (benchmarks/quality/results.json)")
    add("--page", type=Path, help="page to write (docs/results.md)")
    add("--report-only", action="store_true", help="only write the page from the results")
    return parser


if __name__ == "__main__":
    main()
