"""What bounds the targets that are not met, in the figures of the same run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.speed.cells import duration
from benchmarks.speed.plan import LABELS
from benchmarks.speed.workloads import W1

Figures = dict[str, Any]  # workload -> contender -> figure -> {"median": …, …}


def section(figures: Figures, targets: list[dict[str, Any]]) -> str:
    """A line for each target that is missed and whose bound is known; nothing if there is none."""
    missed = {t["what"]: t.get("against", "") for t in targets if t["met"] is False}
    lines = []
    for start, explain in _BOUNDS.items():
        against = [whom for what, whom in missed.items() if what.startswith(start)]
        if against:
            try:
                lines.append(f"- {explain(figures, against[0])}")
            except KeyError:  # what would explain it was not measured
                continue
    return "## What bounds the rest\n\n" + "\n".join(lines) if lines else ""


def _flower(found: Figures, against: str) -> str:
    theirs, ours, limit, together = (
        _median(found, "W1", contender, figure)
        for contender, figure in (
            ("flwr", "round_wall_s"),
            ("fed_focal", "round_wall_s"),
            ("limit", "limit_s"),
            ("limit", "limit_together_s"),
        )
    )
    return (
        f"W1 over Flower: a twentieth of Flower's round, {1e3 * theirs / 20:.1f} ms, is "
        f"{theirs / 20 / limit:.1f} times what the products alone take at the processor's best "
        f"rate. In their own shapes, one call a step for all clients, they take "
        f"{1e3 * together:.1f} ms of the package's {1e3 * ours:.1f}; the rest are small operations "
        "and the interpreter."
    )


def _memory(found: Figures, against: str) -> str:
    imports, theirs = (_median(found, "W1", c, "rss_mb") for c in ("imports", against))
    return (
        "Memory of the whole process: importing torch and scikit-learn alone takes "
        f"{imports:.0f} MB, {LABELS[against]} {theirs:.0f} MB in all."
    )


def _cpu(found: Figures, against: str) -> str:
    imports, ours, theirs = (
        _median(found, "W1", c, "cpu_s") for c in ("imports", "fed_focal", against)
    )
    rounds = W1.n_rounds * _median(found, "W1", "fed_focal", "round_cpu_s")
    return (
        f"CPU of the whole process: of {ours:.2f} s, importing torch and scikit-learn takes "
        f"{imports:.2f} s and the {W1.n_rounds} rounds {rounds:.2f} s; {LABELS[against]} takes "
        f"{theirs:.2f} s in all."
    )


def _first_search(found: Figures, against: str) -> str:
    alone = _median(found, "grid", "n_jobs=1", "search_s")
    imports = _median(found, "W1", "imports", "wall_s")
    return (
        f"The first grid search on two processes: all its fits take {alone:.1f} s on one process, "
        f"and a worker process takes {imports:.1f} s for its imports before the first of them."
    )


def _products(workload: str) -> Callable[[Figures, str], str]:
    def explain(found: Figures, against: str) -> str:
        ours, best, shapes, theirs = (
            duration(found[workload][contender][figure])
            for contender, figure in (
                ("fed_focal", "round_cpu_s"),
                ("limit", "limit_s"),
                ("limit", "limit_at_shapes_s"),
                ("sequential", "round_cpu_s"),
            )
        )
        return (
            f"{workload}: of the package's {ours} a round (the loop's {theirs}), the products take "
            f"{best} at the processor's best rate and {shapes} at that of the workload's own "
            "shapes. Both sides call the same library for them."
        )

    return explain


def _mapped(found: Figures, against: str) -> str:
    few, many = (
        _median(found, name, "fed_focal", "round_cpu_s") for name in ("W2x1000", "W2x1000000")
    )
    return (
        "The mapped file: the rows of 1,000 clients stay in the processor's cache, those of "
        f"1,000,000 come from the disk, which takes {1e3 * (many - few):.1f} ms of CPU a round."
    )


_BOUNDS: dict[str, Callable[[Figures, str], str]] = {
    "W1: Flower's": _flower,
    **{f"{w}: CPU of a round, to the sequential": _products(w) for w in ("W1", "W2", "W3")},
    "W2, mapped file: CPU": _mapped,
    "W1, whole process: CPU": _cpu,
    "W1, whole process: memory": _memory,
    "grid search, first search": _first_search,
}


def _median(found: Figures, workload: str, contender: str, figure: str) -> float:
    return found[workload][contender][figure]["median"]
