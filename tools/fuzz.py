"""Try random federations, parameters and tools, and damaged files, and say how they ended.

    python tools/fuzz.py --seconds 600 --start 0

A case is a function of its number: one that went wrong is tried again with
``--start NUMBER --cases 1``. The exit status is 1 where any did.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from fuzzing import Wrong, case  # noqa: E402
from fuzzing_files import Checkpoints, Files  # noqa: E402


def tried(
    one: Callable[[int], str], numbers: Iterator[int], seconds: float
) -> tuple[Counter[str], list[str]]:
    """How cases ended, and what went wrong, until the time is over."""
    ended, wrong = Counter[str](), []
    until = time.monotonic() + seconds
    for number in numbers:
        if time.monotonic() > until:
            break
        try:
            ended[one(number)] += 1
        except Wrong as error:
            wrong.append(str(error))
            print(error, flush=True)
    return ended, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="for all of it")
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, help="at most so many of each kind")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bad = False
    with tempfile.TemporaryDirectory() as folder:
        kinds = [
            ("federations", case, 6.0),
            ("model files", Files(Path(folder)).case, 2.0),
            ("checkpoints", Checkpoints(Path(folder)).case, 1.0),
        ]
        if find_spec("flwr"):  # in the environment of `make test-flower`
            from fuzzing_sites import Messages, Tables

            kinds += [
                ("tables", Tables(Path(folder)).case, 2.0),
                ("messages of sites", Messages().case, 2.0),
            ]
        whole = sum(share for _, _, share in kinds)
        for name, one, share in kinds:
            numbers = islice(count(args.start), args.cases)
            ended, wrong = tried(one, numbers, share / whole * args.seconds)
            print(f"\n{sum(ended.values()) + len(wrong)} {name}, {len(wrong)} of them wrong")
            for how, number in ended.most_common():
                print(f"{number:8d} {how}")
            bad = bad or bool(wrong)
    sys.exit(bad)


if __name__ == "__main__":
    main()
