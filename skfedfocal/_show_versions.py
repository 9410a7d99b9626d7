"""What a report of a defect should say of the installation."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from skfedfocal._version import __version__

_NEEDED = ("numpy", "scipy", "scikit-learn", "torch")
_EXTRAS = (
    *("matplotlib", "flwr", "cryptography", "dp-accounting", "pandas", "polars"),
    *("skl2onnx", "onnxscript", "onnxruntime"),
)


def show_versions() -> None:
    """Print the versions that a report of a defect should name.

    Packages that are optional are listed where they are installed; none of them is imported.

    Examples
    --------
    >>> from skfedfocal import show_versions
    >>> show_versions()
    System:
              python: 3...
            platform: ...
    <BLANKLINE>
    Packages:
          skfedfocal: ...
               numpy: ...
    <BLANKLINE>
    torch:
             threads: ...
              device: ...
    """
    packages = {"skfedfocal": __version__}
    packages |= {name: _version(name) or "not found" for name in _NEEDED}
    packages |= {name: found for name in _EXTRAS if (found := _version(name))}
    sections = {
        "System": {"python": platform.python_version(), "platform": platform.platform()},
        "Packages": packages,
        "torch": {"threads": str(torch.get_num_threads()), "device": _device()},
    }
    print("\n\n".join(f"{title}:\n{_lines(rows)}" for title, rows in sections.items()))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device() -> str:
    """The accelerator that `device="auto"` takes."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _lines(rows: dict[str, str]) -> str:
    return "\n".join(f"{name:>16}: {value}" for name, value in rows.items())
