"""Let every fault of tests/faults.py happen, and write how each ended: ``python tools/faults.py``.

Writes docs/faults.md; the exit status is 1 where one did not end as it is named.
"""

from __future__ import annotations

import csv
import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import FAULTS, outcome  # noqa: E402

PAGE = ROOT / "docs" / "faults.md"
COUNTS = ROOT / "tools" / "fuzz.csv"
HEAD = """# Faults

Written by `python tools/faults.py`; do not edit. Every line happened, and ended as it is named; the
tests let it happen again. After an error the estimator and the data are as they were.

What sites add to this (one that dies, is late, comes back, or sends nonsense) is in
[deployment.md](deployment.md#what-failures-look-like).
"""

TAIL = """## Drawn at random

`make fuzz` draws cases as long as one likes: random federations with random parameters in a random
tool of scikit-learn's kind, and damage to whatever comes from outside: bits, bytes, lengths, and
single values behind a fitting checksum. Each must end in a clear error or in a sound model, within
20 s and 2 GiB. Tables and messages of sites are drawn where flwr is. `tools/fuzz.py --write`
counted, in several runs,

| what is drawn | cases | refused in words | sound | wrong |
|---|---|---|---|---|
"""


def drawn() -> str:
    """The last part of the page, from the counts of the fuzzer's runs."""
    with COUNTS.open(newline="") as file:
        _, *rows = csv.reader(file)
    numbers = [(kind, *(f"{int(count):,}" for count in counts)) for kind, *counts in rows]
    return TAIL + "".join(f"| {' | '.join(row)} |\n" for row in numbers)


def page(ends: dict[str, tuple[str, str]]) -> str:
    """Markdown, from how each case ended."""
    lines = [HEAD]
    for group in dict.fromkeys(fault.group for fault in FAULTS):
        lines += [f"## {group}\n", "| what is wrong | ends as | in the words |", "|---|---|---|"]
        for fault in FAULTS:
            if fault.group == group:
                how, words = ends[fault.case]
                words = " ".join(words.split()).replace("|", "\\|").replace("<", "&lt;")
                words = words.replace(
                    "__", "\\_\\_"
                )  # else what stands between two of them is bold
                lines.append(f"| {fault.case} | {how} | {words} |")
        lines.append("")
    return "\n".join([*lines, drawn()])


def in_order(words: str) -> str:
    """Names that a message takes from a set, whose order is another in every process."""

    def ordered(found: re.Match[str]) -> str:
        return "{" + ", ".join(sorted(found[1].split(", "))) + "}"

    return re.sub(r"\{('[^{}]*')\}", ordered, words)


def main() -> None:
    ends, wrong = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for number, fault in enumerate(FAULTS):
            place = Path(folder, str(number))
            place.mkdir()
            how, words = outcome(fault, fault.estimator(), place)
            ends[fault.case] = how, in_order(words.replace(str(place), "..."))
            if how != fault.ends or not all(word in words for word in fault.words):
                wrong.append(fault.case)
                print(f"{fault.case}: {how}: {words}")
    PAGE.write_text(page(ends), encoding="utf-8")
    print(f"{len(FAULTS)} faults, {len(wrong)} of which did not end as named")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
