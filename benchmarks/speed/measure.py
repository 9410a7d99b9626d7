"""Runs one measurement in a fresh process and says what it took."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("child.py")
MARK = "RESULT "
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


class MeasurementError(RuntimeError):
    """The process of a measurement failed, or took too long."""


def measure(spec: dict[str, Any], checkout: Path = ROOT, limit_s: float = 900) -> dict[str, Any]:
    """Whole-process and per-round figures of a contender on a workload.

    Parameters
    ----------
    spec : dict
        ``contender``; ``workload`` (fields of a Workload), ``data_dir`` and ``device``; or
        ``grid`` (arguments of `grid_search.search`).
    checkout : Path
        Whose package is measured.
    limit_s : float
        Seconds after which the process is ended.

    Returns
    -------
    record : dict
        What the contender reports, and of its process, from start to end: wall_s, cpu_s (with its
        own children), rss_mb, and beyond_data_mb, memory less the data that are no mapped file.
    """
    load, cpu, began = os.getloadavg()[0], _cpu_of_children(), time.perf_counter()
    command = [sys.executable, "-P", str(CHILD), json.dumps(spec)]
    env = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(checkout.resolve())}
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=limit_s, check=True
        )
    except subprocess.SubprocessError as error:
        tail = str(error.stderr)[-1500:]
        raise MeasurementError(f"{spec['contender']}: {error}\n{tail}") from None
    wall, cpu = time.perf_counter() - began, _cpu_of_children() - cpu
    result = json.loads(done.stdout.rpartition(MARK)[2])
    package = Path(result.pop("package") or checkout / "skfedfocal").resolve()
    if checkout.resolve() not in package.parents:
        raise MeasurementError(f"{package} was measured, which is not of {checkout}.")
    beyond = result["rss_mb"] - result.get("data_mb", 0) + result.pop("mapped_mb", 0)
    return {**result, "wall_s": wall, "cpu_s": cpu, "beyond_data_mb": beyond, "load": load}


def _cpu_of_children() -> float:
    """Seconds of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
