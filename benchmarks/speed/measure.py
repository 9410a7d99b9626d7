"""Runs one measurement in a fresh process and says what it took."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.speed.child import MARK

ROOT = Path(__file__).parents[2]
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


class MeasurementError(RuntimeError):
    """The process of a measurement failed, or took too long."""


def measure(spec: dict[str, Any], limit_s: float = 900) -> dict[str, Any]:
    """Whole-process and per-round figures of a contender on a workload.

    Parameters
    ----------
    spec : dict
        ``contender``; ``workload`` (fields of a Workload), ``data_dir`` and ``device``; or
        ``grid`` (fields of a Grid).
    limit_s : float
        Seconds after which the process is ended.

    Returns
    -------
    record : dict
        What the contender reports, and of its process, from start to end: wall_s, cpu_s (with its
        own children) and rss_mb.
    """
    command = [sys.executable, "-m", "benchmarks.speed.child", json.dumps(spec)]
    load = os.getloadavg()[0]
    with tempfile.TemporaryFile("w+") as out:
        began = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD},
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
        lines = out.read().splitlines()
    found = [line for line in lines if line.startswith(MARK)]
    if process.returncode or not found:
        tail = "\n".join(lines[-15:])
        raise MeasurementError(
            f"{spec['contender']} ended with {process.returncode} after {wall:.0f} s:\n{tail}"
        )
    result = json.loads(found[-1].removeprefix(MARK))
    kernel = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        **steady(result),
        "wall_s": wall,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "rss_mb": (result.pop("peak_rss") or kernel) / 2**20,
        "load": load,
    }


def steady(result: dict[str, Any]) -> dict[str, Any]:
    """Add the median of the rounds without the first, which warms up."""
    for clock in ("wall", "cpu"):
        rounds = result.get(f"rounds_{clock}_s")
        if rounds:
            result[f"round_{clock}_s"] = statistics.median(rounds[1:] or rounds)
    return result


def _end_group(pid: int) -> None:
    """End the process and those it started; they are a group of their own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
