"""The servers of examples/hospitals, for tests: started once for a file, and none left."""

import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "hospitals"


def import_example():
    """The example's own module."""
    if not EXAMPLE.exists():
        pytest.skip("the examples are not beside the tests")
    if str(EXAMPLE) not in sys.path:
        sys.path.insert(0, str(EXAMPLE))
    import hospitals

    return hospitals


@contextmanager
def servers(folder):
    """Everything running; at the end stopped, each by its own number, and nothing left."""
    example = import_example()
    hospitals = example.Hospitals(folder)
    try:
        hospitals.up()
        yield hospitals
    finally:
        hospitals.down()
        assert hospitals.running() == []
        assert processes_of(folder) == []


def processes_of(folder):
    """Commands of the processes, whoever started them, that have a folder in their environment."""
    ps = ["ps", "axeww" if sys.platform.startswith("linux") else "-axEww", "-o", "pid=,command="]
    listed = subprocess.run(ps, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line[:200] for line in listed if f"FLWR_HOME={folder}" in line]


def everyone(hospitals, sites):
    """Start the sites that do not run, and wait until all are online.

    A site that has died counts as online for about a minute; until then its successor is refused.
    """
    gone = set(sites) - set(hospitals.running())
    there = len(sites) - len(gone)
    if gone:
        hospitals.wait_until(lambda: len(hospitals.online()) <= there, f"{gone} missed", 180, 4)
    for site in gone:
        hospitals.start_site(site)
    hospitals.wait_until(lambda: len(hospitals.online()) == len(sites), "all sites", 180, 2)
    assert set(sites) <= set(hospitals.running())
