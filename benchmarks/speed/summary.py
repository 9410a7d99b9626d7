"""From the records of all passes to the figures: medians, ranges and ratios.

A ratio is taken within each pass, whose measurements follow one another, and then the median of
the passes' ratios: so a machine that is slow for a while is slow for both sides.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

FIGURES = (
    "round_cpu_s",
    "round_wall_s",
    "wall_s",
    "cpu_s",
    "rss_mb",
    "accuracy",
    "balanced_accuracy",
    "data_bytes",
    "mapped_bytes",
    "limit_s",
    "limit_median_s",
    "limit_at_shapes_s",
    "limit_together_s",
    "gflops_best",
    "gflops_median",
    "flops_per_round",
    "predict_to_module",
    "predict_proba_to_module",
    "predict_proba_cpu_s",
    "module_cpu_s",
    "search_s",
    "search_again_s",
    "n_fits",
    "load",
)

Record = dict[str, Any]


class Records:
    """The records by workload, contender and pass.

    Attributes
    ----------
    table : dict
        ``table[workload][contender][pass]`` is a record, in order of first appearance.
    """

    def __init__(self, records: list[Record]):
        self.table: dict[str, dict[str, dict[int, Record]]] = defaultdict(lambda: defaultdict(dict))
        for record in records:
            self.table[record["workload"]][record["contender"]][record["pass"]] = record

    def values(self, workload: str, contender: str, figure: str) -> dict[int, float]:
        """A figure by pass, where it was taken."""
        passes = self.table.get(workload, {}).get(contender, {})
        return {p: r[figure] for p, r in passes.items() if r.get(figure) is not None}

    def ratio(
        self, above: tuple[str, str, str], below: tuple[str, str, str]
    ) -> dict[str, Any] | None:
        """Summary of one (workload, contender, figure) over another, pass by pass."""
        a, b = self.values(*above), self.values(*below)
        return spread([a[p] / b[p] for p in sorted(a.keys() & b.keys())])


def spread(values: list[float]) -> dict[str, Any] | None:
    """Median and range; None of nothing."""
    if not values:
        return None
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "n": len(values),
    }


def summarise(records: list[Record]) -> dict[str, Any]:
    """Figures of every contender on every workload, and the targets."""
    taken = Records(records)
    figures: dict[str, Any] = {}
    for workload, contenders in taken.table.items():
        figures[workload] = {}
        for contender in contenders:
            found = {
                f: spread(list(taken.values(workload, contender, f).values())) for f in FIGURES
            }
            kept: dict[str, Any] = {name: value for name, value in found.items() if value}
            kept["fed_focal_to_this"] = _ratios(taken, workload, contender)
            figures[workload][contender] = kept
    return {"workloads": figures, "targets": targets(taken)}


def _ratios(taken: Records, workload: str, contender: str) -> dict[str, Any]:
    """FedFocalClassifier's figures over this contender's."""
    found = {}
    for figure in ("round_cpu_s", "round_wall_s", "wall_s", "cpu_s", "rss_mb"):
        below = "limit_s" if contender == "limit" and figure == "round_cpu_s" else figure
        if ratio := taken.ratio((workload, "fed_focal", figure), (workload, contender, below)):
            found[figure] = ratio
    return found


# -- the targets -----------------------------------------------------------------------------


def targets(taken: Records) -> list[dict[str, Any]]:
    """Each target with what was found; ``met`` is None where it was not measured."""
    ours = "fed_focal"
    found: list[dict[str, Any]] = []

    def add(
        what: str,
        bound: float,
        value: dict[str, Any] | None,
        *,
        least: bool = False,
        against: str | None = None,
    ) -> None:
        met = None
        if value is not None:
            met = value["median"] >= bound if least else value["median"] <= bound
        target = {"what": what, "bound": bound, "at_least": least, "value": value, "met": met}
        found.append(target if against is None else {**target, "against": against})

    def cpu(workload: str, contender: str, figure: str = "round_cpu_s") -> Any:
        return taken.ratio((workload, ours, "round_cpu_s"), (workload, contender, figure))

    for workload, bound in (("W1", 1 / 7), ("W2", 1 / 4), ("W3", 0.85)):
        add(
            f"{workload}: CPU of a round, to the sequential PyTorch loop's",
            bound,
            cpu(workload, "sequential"),
        )
    for workload in ("W1", "W2"):
        add(f"{workload}: CPU of a round, to FedJAX's", 0.6, cpu(workload, "fedjax"))
    for workload in ("W1", "W2"):
        add(
            f"{workload}: Flower's wall time of a round, to ours",
            20,
            taken.ratio((workload, "flwr", "round_wall_s"), (workload, ours, "round_wall_s")),
            least=True,
        )
    for workload, bound in (("W1", 4), ("W2", 4), ("W3", 2.5)):
        add(
            f"{workload}: CPU of a round, to the physical limit",
            bound,
            cpu(workload, "limit", "limit_s"),
        )
    for suffix, where in (("", "mapped file"), ("-csr", "sparse")):
        many, few = f"W2x1000000{suffix}", f"W2x1000{suffix}"
        add(
            f"W2, {where}: CPU of a round with 1,000,000 clients, to that with 1,000",
            1.3,
            taken.ratio((many, ours, "round_cpu_s"), (few, ours, "round_cpu_s")),
        )
        add(
            f"W2, {where}: memory with 1,000,000 clients beyond the data, MB",
            400,
            _beyond_data(taken, many),
        )
        if not suffix:
            add(
                "W2, mapped file: the same with the file not counted as data, MB",
                400,
                _beyond_data(taken, many, less_mapped=True),
            )
    for figure, name in (("cpu_s", "CPU"), ("rss_mb", "memory")):
        worst, ratio = _whole_process(taken, figure)
        what = f"W1, whole process: {name}, to the most frugal other's but scikit-learn's"
        add(what if worst is None else f"{what} ({worst})", 1.0, ratio, against=worst)
    grid = "grid"
    add(
        "grid search on two processes: seconds",
        60,
        spread(list(taken.values(grid, "n_jobs=2", "search_s").values())),
    )
    for figure, which in (("search_s", "first search"), ("search_again_s", "workers running")):
        add(
            f"grid search, {which}: time on one process to that on two",
            1.6,
            taken.ratio((grid, "n_jobs=1", figure), (grid, "n_jobs=2", figure)),
            least=True,
        )
    for workload in ("W1", "W2", "W3"):
        for method in ("predict", "predict_proba"):
            add(
                f"{workload}: CPU of {method}, to the bare module's",
                1.2,
                spread(list(taken.values(workload, "prediction", f"{method}_to_module").values())),
            )
    return found


def _beyond_data(
    taken: Records, workload: str, *, less_mapped: bool = False
) -> dict[str, Any] | None:
    """Peak memory of the process less the data, in MB; or less the data that are no mapped file."""
    rss, data, mapped = (
        taken.values(workload, "fed_focal", figure)
        for figure in ("rss_mb", "data_bytes", "mapped_bytes")
    )
    return spread(
        [
            rss[p] - (data[p] - (mapped[p] if less_mapped else 0)) / 2**20
            for p in sorted(rss.keys() & data.keys() & mapped.keys())
        ]
    )


def _whole_process(taken: Records, figure: str) -> tuple[str | None, dict[str, Any] | None]:
    """The other that takes least of it on W1, and the ratio to it; scikit-learn's is left out."""
    not_peers = {
        "fed_focal",
        "focusing",
        "threads",
        "cross_entropy",
        "limit",
        "prediction",
        "imports",
        "sklearn_mlp",
    }
    ratios = {
        contender: taken.ratio(("W1", "fed_focal", figure), ("W1", contender, figure))
        for contender in taken.table.get("W1", {})
        if contender not in not_peers
    }
    known = {contender: ratio for contender, ratio in ratios.items() if ratio}
    if not known:
        return None, None
    worst = max(known, key=lambda contender: known[contender]["median"])
    return worst, known[worst]
