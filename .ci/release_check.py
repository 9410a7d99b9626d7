"""What `make release-check` runs: the release that the last commit gives, tried as users will.

From a fresh clone it builds the sdist and, out of that, the wheel. The wheel is installed beside
its run-time requirements alone, where README.md's snippets and a model kept in a file must work;
the unpacked sdist's default test suite then runs in the same environment, with the test group
added. Arguments are passed on to pytest. Everything happens in build/release, made anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "release"
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
NEEDS_PLOT = "skfedfocal.display"

FIT = """
import numpy as np
from sklearn.datasets import load_wine
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skfedfocal import FedFocalClassifier, dirichlet_partition, save_model
X, y = load_wine(return_X_y=True)
model = make_pipeline(StandardScaler(), FedFocalClassifier(random_state=0))
model.fit(X, y, fedfocalclassifier__clients=dirichlet_partition(y, 5, random_state=0))
assert model.score(X, y) > 0.9, model.score(X, y)
save_model(model, "kept.skfedfocal")
np.save("proba.npy", model.predict_proba(X))
"""
LOAD = """
import numpy as np
from sklearn.datasets import load_wine
from skfedfocal import load_model
proba = load_model("kept.skfedfocal").predict_proba(load_wine().data)
assert np.array_equal(proba, np.load("proba.npy"))
"""
IMPORT = """
import sys
import skfedfocal
extras = {"pandas", "matplotlib", "flwr", "cryptography", "dp_accounting"} & set(sys.modules)
assert not extras, extras
"""


def main(pytest_arguments: Sequence[str]) -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    clone, outside = WORK / "clone", WORK / "outside"
    outside.mkdir(parents=True)
    run("git", "clone", "--quiet", str(ROOT), str(clone))
    sdist, wheel = build(clone)
    check_description(clone, sdist)
    python = environment(wheel, clone / "constraints.txt")
    for name, code in (("import", IMPORT), ("fit and save", FIT), ("load", LOAD)):
        say(f"the wheel: {name}")
        run(python, "-c", code, cwd=outside)
    check_readme(python, wheel, clone / "README.md", outside)
    test_sdist(python, sdist, pytest_arguments)
    say("all is well; now the list in docs/releasing.md")


def build(clone: Path) -> tuple[Path, Path]:
    """Both distributions, of whose sizes it tells."""
    say("build")
    run(sys.executable, "-m", "build", "--outdir", str(WORK / "dist"), str(clone))
    (sdist,), (wheel,) = (WORK / "dist").glob("*.tar.gz"), (WORK / "dist").glob("*.whl")
    for path in (sdist, wheel):
        say(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")
    run(sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel))
    return sdist, wheel


def check_description(clone: Path, sdist: Path) -> None:
    """An index shows README.md alone, where relative links lead nowhere."""
    links = re.findall(r"\]\((?!https?:|#)([^)]*)\)", (clone / "README.md").read_text("utf-8"))
    if links and ".dev" not in sdist.name:
        raise SystemExit(f"README.md of a release has relative links: {links}")
    if links:
        say(f"README.md has {len(links)} relative links, which a release must not have")


def environment(wheel: Path, constraints: Path) -> str:
    """An interpreter with the wheel and what it requires; torch first, by its pin."""
    say("environment")
    venv.create(WORK / "venv", with_pip=True)
    python = str(WORK / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python")
    run(python, *PIP, "--constraint", str(constraints), "--upgrade", "pip")
    run(python, *PIP, "--constraint", str(constraints), "torch")
    run(python, *PIP, str(wheel))
    return python


def check_readme(python: str, wheel: Path, page: Path, outside: Path) -> None:
    """Each snippet in a fresh process, after the ones that it goes on from.

    Those that draw must first name the extra that they need, and then run with it.
    """
    snippets = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), flags=re.M | re.S)
    assert snippets, page
    plain = [code for code in snippets if NEEDS_PLOT not in code]
    for last in range(len(plain)):
        say(f"README.md: snippet {last + 1} of {len(plain)} that need no extra")
        run(python, "-c", "\n".join(plain[: last + 1]), cwd=outside)
    if len(plain) == len(snippets):
        return
    say("README.md: the snippets that need the extra `plot`, without it and with it")
    command = [python, "-c", "\n".join(snippets)]
    done = subprocess.run(command, cwd=outside, capture_output=True, text=True, check=False)
    if done.returncode == 0 or "pip install 'skfedfocal[plot]'" not in done.stderr:
        raise SystemExit(f"without matplotlib, these should name the extra:\n{done.stderr}")
    run(python, *PIP, f"{wheel}[plot]")
    run(*command, cwd=outside)


def test_sdist(python: str, sdist: Path, pytest_arguments: Sequence[str]) -> None:
    """The default suite of the unpacked sdist, on the sdist's own package."""
    with tarfile.open(sdist) as archive:
        archive.extractall(WORK, filter="data")
    (folder,) = WORK.glob("skfedfocal-*")
    pins = ("--constraint", "constraints.txt")
    run(python, *PIP, *pins, "--group", "test", cwd=folder)
    say("the sdist's tests")
    run(python, "-m", "pytest", "-q", "-n", "2", *pytest_arguments, cwd=folder)


def run(*command: str, cwd: Path | None = None) -> None:
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    surroundings.pop("PYTHONPATH", None)
    done = subprocess.run(command, cwd=cwd, env=surroundings, check=False)
    if done.returncode:
        raise SystemExit(f"failed ({done.returncode}): {' '.join(command)}")


def say(text: str) -> None:
    print(f"-- {text}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
