"""One measurement, in a process of its own: ``python -m benchmarks.speed.child JSON``.

Nothing is imported here that the contender does not need, since the whole process is measured.
"""

from __future__ import annotations

import json
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from benchmarks.speed.workloads import Workload, load, prepare

MARK = "RESULT "

# Of a development environment, not of an installation of the package; scikit-learn and joblib
# import them where they are (66 MB, half a second). Hidden, a process takes what a user's takes.
OPTIONAL = ("pandas", "polars", "psutil", "pyarrow", "rich")


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Do what the spec says; see `measure.measure` for its form."""
    contender = spec["contender"]
    if contender == "grid":
        from benchmarks.speed.grid_search import Grid, search

        return search(Grid(**{**spec["grid"], "gammas": tuple(spec["grid"]["gammas"])}))
    if contender == "imports":
        import sklearn.base  # noqa: F401
        import torch  # noqa: F401

        return {}
    workload, folder = Workload.from_json(spec["workload"]), Path(spec["data_dir"])
    if contender == "prepare":
        prepare(workload, folder)
        return {}
    if contender == "limit":
        from benchmarks.speed.limit import limit

        return limit(workload)
    data = load(workload, folder)
    sizes = {"data_bytes": data.n_bytes, "mapped_bytes": data.n_bytes_mapped}
    return {**sizes, **_contender(contender)(workload, data, spec["device"])}


class WithoutOptional(PathFinder):
    """Finds what an installation of the package alone would have."""

    @classmethod
    def find_spec(cls, fullname: str, *args: Any, **kwargs: Any) -> Any:
        return None if fullname in OPTIONAL else super().find_spec(fullname, *args, **kwargs)


def _contender(name: str) -> Any:
    if name in ("fed_focal", "focusing", "threads", "cross_entropy", "prediction"):
        from benchmarks.speed import ours as module
    else:
        from benchmarks.speed import baselines as module
    return getattr(module, name)


def peak_rss() -> int | None:
    """Most memory this program had resident, in bytes, where /proc tells.

    The kernel's ru_maxrss would do, but it counts the parent's memory at the fork too.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0][1]) * 1024 if found else None


if __name__ == "__main__":
    sys.meta_path[:] = [WithoutOptional if f is PathFinder else f for f in sys.meta_path]
    result = run(json.loads(sys.argv[1]))
    print(MARK + json.dumps({**result, "peak_rss": peak_rss()}), flush=True)
