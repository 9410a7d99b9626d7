"""One measurement, in a process of its own: ``python -P child.py JSON``, package on PYTHONPATH.

Nothing is imported here that the contender does not need, since the whole process is measured. The
benchmark is this checkout's, the package is the one that PYTHONPATH names, which may be another's.
"""

from __future__ import annotations

import json
import resource
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.speed.data import load, prepare
from benchmarks.speed.measure import MARK
from benchmarks.speed.workloads import Workload

del sys.path[0]

# Of a development environment, not of an installation of the package; scikit-learn and joblib
# import them where they are (66 MB, half a second). Hidden, a process takes what a user's takes.
OPTIONAL = ("pandas", "polars", "psutil", "pyarrow", "rich")
OURS = ("default", "unfocused", "threads", "cross_entropy", "prediction")


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Do what the spec says; see `measure.measure` for its form."""
    contender = spec["contender"]
    if "grid" in spec:
        return import_module("benchmarks.speed.grid_search").search(**spec["grid"])
    if contender == "imports":
        import_module("torch")
        import_module("sklearn.base")
        return {}
    workload, folder = Workload(**spec["workload"]), Path(spec["data_dir"])
    if contender == "prepare":
        return prepare(workload, folder) or {}
    if contender == "limit":
        return import_module("benchmarks.speed.limit").limit(workload)
    module = import_module(f"benchmarks.speed.{'ours' if contender in OURS else 'baselines'}")
    data = load(workload, folder)
    found = getattr(module, contender)(workload, data, spec["device"])
    return {"data_mb": data.n_bytes / 2**20, "mapped_mb": data.n_bytes_mapped / 2**20, **found}


class WithoutOptional(PathFinder):
    """Finds what an installation of the package alone would have."""

    @classmethod
    def find_spec(cls, fullname: str, *args: Any, **kwargs: Any) -> Any:
        return None if fullname in OPTIONAL else super().find_spec(fullname, *args, **kwargs)


def peak_rss() -> float:
    """Most memory this program had resident, in MB.

    Where /proc tells, for ru_maxrss counts the parent's memory at the fork too.
    """
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    sys.meta_path[:] = [WithoutOptional if f is PathFinder else f for f in sys.meta_path]
    result = run(json.loads(sys.argv[1]))
    package = getattr(sys.modules.get("skfedfocal"), "__file__", None)
    print(MARK + json.dumps({**result, "rss_mb": peak_rss(), "package": package}), flush=True)
