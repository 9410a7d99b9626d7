"""Other simulators, where they are installed: each by its own script in its own environment.

``PEERS_ROOT`` names a folder with an environment ``venvs/NAME`` for each peer and ``venvs/base``
for the measuring script; ``PEERS_SCRIPTS`` the folder with ``measure.py`` and the peers' scripts.
A script trains the same workload by the peer's own means and reports the time of its rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed.measure import MeasurementError

# Which workloads each peer runs, and in how many rounds where the workload's own would take
# minutes. A CPU time per round is known only where one process does all.
PEERS: dict[str, dict[str, int | None]] = {
    "fedjax": {"W1": None, "W2": None, "W3": 3},
    "pfl": {"W1": None, "W2": None, "W3": 3},
    "fluke": {"W1": None, "W2": None},
    "fedlab": {"W1": None, "W2": None},
    "blazefl": {"W1": None, "W2": None},
    "flwr": {"W1": None, "W2": 5},
}
_MANY_PROCESSES = {"flwr"}


def installed(wanted: str = "all") -> list[str]:
    """Peers that can be run here, of those that are wanted: "all", "none" or names."""
    root, scripts = _folders()
    found = [
        name
        for name in PEERS
        if root is not None
        and (scripts / "measure.py").exists()
        and (root / "venvs" / name / "bin" / "python").exists()
    ]
    if wanted in ("all", "none"):
        return found if wanted == "all" else []
    if absent := set(wanted.split(",")) - set(found):
        raise SystemExit(f"Not installed under PEERS_ROOT: {sorted(absent)}.")
    return wanted.split(",")


def measure_peer(peer: str, workload: str) -> dict[str, Any]:
    """The record of `measure.measure` for a peer on a workload."""
    root, scripts = _folders()
    assert root is not None
    rounds = PEERS[peer][workload]
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "runs.jsonl"
        command = [str(root / "venvs" / "base" / "bin" / "python"), "measure.py", peer, workload]
        done = subprocess.run(
            command + (["--rounds", str(rounds)] if rounds else []),
            cwd=scripts,
            env={**os.environ, "PEERS_ROOT": str(root), "PEERS_OUT": str(lines)},
            capture_output=True,
            text=True,
            check=False,
        )
        if not lines.exists():
            raise MeasurementError(f"{peer} left no record:\n{done.stderr[-1000:]}")
        found = json.loads(lines.read_text().splitlines()[-1])
    if "steady" not in found:
        raise MeasurementError(f"{peer} failed on {workload}:\n{found.get('error', '')[-1000:]}")
    return {
        "round_wall_s": found["steady"],
        **({} if peer in _MANY_PROCESSES else {"round_cpu_s": found["steady_cpu"]}),
        "accuracy": found["acc"],
        "wall_s": found["wall"],
        "cpu_s": found["cpu"],
        "rss_mb": found["rss_mb"],
        "load": found["load0"],
    }


def _folders() -> tuple[Path | None, Path]:
    root = os.environ.get("PEERS_ROOT")
    if not root:
        return None, Path()
    scripts = os.environ.get("PEERS_SCRIPTS") or Path(root) / "scripts"
    return Path(root).resolve(), Path(scripts).resolve()
