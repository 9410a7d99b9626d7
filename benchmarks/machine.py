"""What figures were taken on: the kind of machine and the versions, no names of hosts."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_PACKAGES = ("skfedfocal", "torch", "numpy", "scipy", "scikit-learn", "joblib")


def describe() -> dict[str, Any]:
    """Processor, cores, memory and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    known = [name for name in _PACKAGES if find_spec(name.replace("scikit-learn", "sklearn"))]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in known},
    }
