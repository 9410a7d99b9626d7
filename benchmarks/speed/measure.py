"""Runs one measurement in a fresh process and says what it took."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.speed.child import MARK

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("child.py")
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
    load = os.getloadavg()[0]
    wall, returncode, usage, lines = _run(spec, checkout, limit_s)
    found = [line for line in lines if line.startswith(MARK)]
    if returncode or not found:
        tail = "\n".join(lines[-15:])
        raise MeasurementError(
            f"{spec['contender']} ended with {returncode} after {wall:.0f} s:\n{tail}"
        )
    result = json.loads(found[-1].removeprefix(MARK))
    package = result.pop("package")
    if package is not None and checkout.resolve() not in Path(package).resolve().parents:
        raise MeasurementError(f"{package} was measured, which is not of {checkout}.")
    kernel = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    rss = (result.pop("peak_rss") or kernel) / 2**20
    beyond = rss - result.get("data_mb", 0) + result.pop("mapped_mb", 0)
    return {
        **result,
        "wall_s": wall,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "rss_mb": rss,
        "beyond_data_mb": beyond,
        "load": load,
    }


def _run(spec: dict[str, Any], checkout: Path, limit_s: float) -> tuple[float, int, Any, list[str]]:
    """Wall time, exit status, resources and output of the process."""
    with tempfile.TemporaryFile("w+") as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-P", str(CHILD), json.dumps(spec)],
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(checkout.resolve())},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        timer = threading.Timer(limit_s, _end_group, [process.pid])
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            _end_group(process.pid)
            raise
        finally:
            timer.cancel()
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        return wall, process.returncode, usage, out.read().splitlines()


def _end_group(pid: int) -> None:
    """End the process and those it started; they are a group of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
