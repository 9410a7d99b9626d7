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

# Which workloads each peer runs, and in how many rounds where its own would take minutes.
PEERS: dict[str, dict[str, int | None]] = {
    "fedjax": {"W1": None, "W2": None, "W3": 3},
    "pfl": {"W1": None, "W2": None, "W3": 3},
    "fluke": {"W1": None, "W2": None},
    "fedlab": {"W1": None, "W2": None},
    "blazefl": {"W1": None, "W2": None},
    "flwr": {"W1": None, "W2": 5},
}
_FIGURES = {
    "round_wall_s": "steady",
    "round_cpu_s": "steady_cpu",
    "accuracy": "acc",
    "wall_s": "wall",
    "cpu_s": "cpu",
    "rss_mb": "rss_mb",
    "load": "load0",
}


def _folders() -> tuple[Path, Path]:
    root = Path(os.environ.get("PEERS_ROOT", "nowhere")).resolve()
    return root, Path(os.environ.get("PEERS_SCRIPTS", root / "scripts")).resolve()


def installed() -> list[str]:
    """Peers that can be run here."""
    root, scripts = _folders()
    ready = (scripts / "measure.py").exists()
    return [p for p in PEERS if ready and (root / "venvs" / p / "bin" / "python").exists()]


def measure_peer(peer: str, workload: str) -> dict[str, Any]:
    """The record of `measure.measure` for a peer on a workload."""
    root, scripts = _folders()
    rounds = PEERS[peer][workload]
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "runs.jsonl"
        command = [str(root / "venvs" / "base" / "bin" / "python"), "measure.py", peer, workload]
        command += ["--rounds", str(rounds)] if rounds else []
        env = {**os.environ, "PEERS_ROOT": str(root), "PEERS_OUT": str(lines)}
        done = subprocess.run(
            command, cwd=scripts, env=env, capture_output=True, text=True, check=False
        )
        found = json.loads(lines.read_text().splitlines()[-1]) if lines.exists() else {}
    if "steady" not in found:
        error = found.get("error", done.stderr)
        raise MeasurementError(f"{peer} failed on {workload}:\n{error[-1000:]}")
    if peer == "flwr":  # of many processes, whose CPU time in a round is not known
        found.pop("steady_cpu", None)
    return {name: found[theirs] for name, theirs in _FIGURES.items() if theirs in found}
