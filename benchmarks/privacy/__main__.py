"""What privacy costs: ``python -m benchmarks.privacy``.

``table`` (the default) trains what is missing of the table of docs/privacy.md and writes the page;
single scores are kept in results/privacy.jsonl, so that a run that was stopped goes on. ``page``
writes the page from benchmarks/privacy/scores.csv alone. ``cost`` prints CPU milliseconds of a
round, private and not.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pandas as pd

from benchmarks.privacy.cases import PRIVATE_SETS
from benchmarks.privacy.cost import cost
from benchmarks.privacy.page import PAGE, SUMMARY, write
from benchmarks.privacy.runs import measure, summary

ROOT = Path(__file__).parents[2]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.privacy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=("table", "page", "cost"), default="table")
    folder = Path(os.environ.get("SKFEDFOCAL_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=folder, help="folder of the data sets")
    parser.add_argument("--sets", nargs="+", choices=PRIVATE_SETS, default=list(PRIVATE_SETS))
    parser.add_argument("--seeds", type=int, default=12, help="most seeds of a cell")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "privacy.jsonl")
    parser.add_argument("--rounds", type=int, default=20, help="of cost")
    options = parser.parse_args(arguments)
    if options.what == "cost":
        cost(options.rounds)
        return
    if options.what == "table":
        measure(options.sets, options.results, options.data, options.seeds, options.processes)
        summary(list(PRIVATE_SETS), options.results, options.seeds).to_csv(SUMMARY, index=False)
    write(pd.read_csv(SUMMARY))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
