"""One measurement, in a process of its own: ``python -P child.py JSON``, package on PYTHONPATH.

Nothing is imported here that the contender does not need, since the whole process is measured. The
benchmark is this checkout's, the package is the one that PYTHONPATH names, which may be another's.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.speed.data import load, prepare
from benchmarks.speed.workloads import Workload

del sys.path[0]

MARK = "RESULT "

# Of a development environment, not of an installation of the package; scikit-learn and joblib
# import them where they are (66 MB, half a second). Hidden, a process takes what a user's takes.
OPTIONAL = ("pandas", "polars", "psutil", "pyarrow", "rich")
OURS = ("default", "unfocused", "threads", "cross_entropy", "prediction")


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Do what the spec says; see `measure.measure` for its form."""
    contender = spec["contender"]
    if "grid" in spec:
        from benchmarks.speed.grid_search import search

        return search(**spec["grid"])
    if contender == "imports":
        import sklearn.base  # noqa: F401
        import torch  # noqa: F401

        return {}
    workload, folder = Workload(**spec["workload"]), Path(spec["data_dir"])
    if contender == "prepare":
        prepare(workload, folder)
        return {}
    if contender == "limit":
        from benchmarks.speed.limit import limit

        return limit(workload)
    module = import_module(f"benchmarks.speed.{'ours' if contender in OURS else 'baselines'}")
    data = load(workload, folder)
    found = getattr(module, contender)(workload, data, spec["device"])
    return {"data_mb": data.n_bytes / 2**20, "mapped_mb": data.n_bytes_mapped / 2**20, **found}


class WithoutOptional(PathFinder):
    """Finds what an installation of the package alone would have."""

    @classmethod
    def find_spec(cls, fullname: str, *args: Any, **kwargs: Any) -> Any:
        return None if fullname in OPTIONAL else super().find_spec(fullname, *args, **kwargs)


def peak_rss() -> int | None:
    """Most memory this program had resident, in bytes, where /proc tells.

    The kernel's ru_maxrss would do, but it counts the parent's memory at the fork too.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [line.split() for line in lines if line.startswith("VmHWM:")]
    return int(found[0][1]) * 1024 if found else None


if __name__ == "__main__":
    sys.meta_path[:] = [WithoutOptional if f is PathFinder else f for f in sys.meta_path]
    result = run(json.loads(sys.argv[1]))
    package = getattr(sys.modules.get("skfedfocal"), "__file__", None)
    print(MARK + json.dumps({**result, "peak_rss": peak_rss(), "package": package}), flush=True)
