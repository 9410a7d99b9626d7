"""Try random federations, parameters and tools, and damaged files, and say how they ended.

    python tools/fuzz.py --seconds 600 --start 0
    python tools/fuzz.py --seconds 3600 --kinds tables "model files" --write

A case is a function of its number: one that went wrong is tried again with
``--start NUMBER --cases 1``. One that takes more than 20 s or 2 GiB went wrong, too: whatever comes
from outside must be read, or refused, within bounds. The exit status is 1 where any did.
With ``--write`` the counts go to tools/fuzz.csv, which docs/faults.md is written from.
"""

from __future__ import annotations

import argparse
import csv
import resource
import signal
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
from fuzzing import REFUSED, Wrong, case  # noqa: E402
from fuzzing_files import Checkpoints, Files  # noqa: E402

COUNTS = ROOT / "tools" / "fuzz.csv"
SECONDS, GIB = 20, 2  # that one case may take, beyond what the process has when it begins


class TooLong(BaseException):
    """No `Exception`, so that nothing on the way takes it for an answer."""


def bounded() -> None:
    """From here on memory ends, in a MemoryError, where a case takes too much of it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + GIB * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))

    def ring(*_: object) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, ring)


def tried(
    one: Callable[[int], str], numbers: Iterator[int], seconds: float
) -> tuple[Counter[str], list[str]]:
    """How cases ended, and what went wrong, until the time is over."""
    ended, wrong = Counter[str](), []
    until = time.monotonic() + seconds
    for number in numbers:
        if time.monotonic() > until:
            break
        signal.alarm(SECONDS)
        try:
            ended[one(number)] += 1
        except Wrong as error:
            wrong.append(str(error))
        except TooLong:
            wrong.append(f"case {number}: more than {SECONDS} s")
        else:
            continue
        finally:
            signal.alarm(0)
        print(wrong[-1], flush=True)
    return ended, wrong


def write(counts: dict[str, list[int]]) -> None:
    """Keep what other runs counted of other kinds."""
    kept = {}
    if COUNTS.exists():
        with COUNTS.open(newline="") as file:
            kept = {row[0]: row[1:] for row in list(csv.reader(file))[1:]}
    with COUNTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["kind", "cases", "refused", "sound", "wrong"])
        writer.writerows([kind, *row] for kind, row in (kept | counts).items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="for all of it")
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, help="at most so many of each kind")
    parser.add_argument("--kinds", nargs="+", help="only these")
    parser.add_argument("--write", action="store_true", help="write the counts down")
    args = parser.parse_args()
    torch.set_num_threads(1)
    counts = {}
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
        names = [name for name, _, _ in kinds]
        if unknown := set(args.kinds or names) - set(names):
            parser.error(f"no kinds {sorted(unknown)}; there are {names}")
        kinds = [kind for kind in kinds if kind[0] in (args.kinds or names)]
        whole = sum(share for _, _, share in kinds)
        bounded()
        for name, one, share in kinds:
            numbers = islice(count(args.start), args.cases)
            ended, wrong = tried(one, numbers, share / whole * args.seconds)
            print(f"\n{sum(ended.values()) + len(wrong)} {name}, {len(wrong)} of them wrong")
            for how, number in ended.most_common():
                print(f"{number:8d} {how}")
            n_refused = sum(n for how, n in ended.items() if how.startswith(REFUSED))
            n_sound = sum(ended.values()) - n_refused
            counts[name] = [n_refused + n_sound + len(wrong), n_refused, n_sound, len(wrong)]
    if args.write:
        write(counts)
    sys.exit(any(wrong for *_, wrong in counts.values()))


if __name__ == "__main__":
    main()
