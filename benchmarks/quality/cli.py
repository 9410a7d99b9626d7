"""Options that the commands of this benchmark share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .sets import SETS, Scenario

ROOT = Path(__file__).parents[2]


def parsed(prog: str, text: str | None, arguments: list[str] | None) -> argparse.Namespace:
    """The options of a command; with --quick all that is written goes to results/quick."""
    data = os.environ.get("SKFEDFOCAL_DATA", ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(prog=prog, description=text)
    add = parser.add_argument
    names = {"type": lambda text: text.split(","), "default": [], "metavar": "A,B"}
    add("--data", type=Path, default=Path(data), help="folder of the data sets (%(default)s)")
    add("--quick", action="store_true", help="small sets of scikit-learn's; the page stays")
    add("--seeds", type=int, help="number of seeds (5; 2 with --quick)")
    add("--only", **names, help="sets, of sets.toml; what is kept of others stays")
    add("--methods", **names, help="methods; the page stays, all is written to the results")
    add("--jobs", type=int, default=1, help="processes, each with one thread (%(default)s)")
    add("--page", action="store_true", help="only write the page from the summary")
    add("--results", type=Path, default=ROOT / "results", help="folder of the records")
    options = parser.parse_args(arguments)
    options.seeds = options.seeds or (2 if options.quick else 5)
    if options.quick:
        options.results = options.results / "quick"
    return options


def wanted(options: argparse.Namespace) -> list[Scenario]:
    """The sets that are asked for: all, the small ones, or those named."""
    role = "quick" if options.quick else "standard"
    if unknown := set(options.only) - set(SETS):
        raise SystemExit(f"No set {sorted(unknown)}; there are {sorted(SETS)}.")
    return [
        s for s in SETS.values() if (s.name in options.only if options.only else s.role == role)
    ]
