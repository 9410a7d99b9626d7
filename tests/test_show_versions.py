"""What `show_versions` prints is what is installed."""

import sys
from importlib.metadata import PackageNotFoundError, requires, version

import pytest
import torch

import skfedfocal
from skfedfocal import _show_versions, show_versions


def printed(capsys):
    show_versions()
    lines = [line for line in capsys.readouterr().out.splitlines() if ": " in line]
    return dict(line.strip().split(": ", 1) for line in lines)


def test_versions_are_those_of_the_imported_packages(capsys):
    import numpy
    import scipy
    import sklearn

    found = printed(capsys)
    assert found["python"] == sys.version.split()[0]
    assert found["skfedfocal"] == skfedfocal.__version__
    assert found["numpy"] == numpy.__version__
    assert found["scipy"] == scipy.__version__
    assert found["scikit-learn"] == sklearn.__version__
    assert found["torch"] == torch.__version__
    assert found["threads"] == str(torch.get_num_threads())


def test_names_every_requirement_and_extra(capsys):
    """The lists follow pyproject.toml."""
    try:
        declared = requires("skfedfocal")
    except PackageNotFoundError:
        pytest.skip("run from a checkout that is not installed")
    names = {line.split(";")[0].split(">")[0].split("<")[0].strip() for line in declared}
    assert names <= {*_show_versions._NEEDED, *_show_versions._EXTRAS}


def test_what_is_not_installed_is_left_out(capsys, monkeypatch):
    def absent(name):
        if name in ("flwr", "scipy"):
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(_show_versions, "version", absent)
    found = printed(capsys)
    assert "flwr" not in found
    assert found["scipy"] == "not found"
