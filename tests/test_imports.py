"""What is imported when: nothing that is not asked for, and what is missing is named with its cure.

All in one process, which imports torch once.
"""

import json
import subprocess
import sys

import numpy as np
import pytest

from skfedfocal import FedFocalClassifier, save_model
from skfedfocal.privacy import ExampleLevelDP

EXTRAS = {"pandas", "polars", "matplotlib", "flwr", "cryptography", "dp_accounting", "absl"}
_PROCESS = """
import json, sys
import torch, sklearn.base  # scikit-learn itself imports pandas where there is one
seen, said = {}, {}
before = set(sys.modules)

def look(when):
    seen[when] = sorted(set(sys.modules) - before)

import skfedfocal
skfedfocal.show_versions
look("the package")

import numpy as np
y = np.arange(60) % 2
skfedfocal.FedFocalClassifier(n_rounds=2).fit(np.eye(60), y, clients=np.arange(60) % 3)
look("a training")

sys.modules["pandas"] = None
import skfedfocal.datasets, skfedfocal.display, skfedfocal.privacy
from skfedfocal.privacy import _secure as secure
look("its rooms")

sys.modules["dp_accounting"] = sys.modules["cryptography"] = sys.modules["flwr"] = None
from skfedfocal.privacy import Ledger, NoiseSource
ledger = Ledger("client")
ledger.add(1.0)

def flower():
    import skfedfocal.flower

uses = {
    "accounting": lambda: ledger.epsilon(1e-5),
    "noise": NoiseSource,
    "secure sums": secure.SecureClient(0, secure.Terms(encoding=secure.Encoding(8.0, 3))).keys,
    "sites": flower,
}
for name, use in uses.items():
    try:
        use(1) if name == "secure sums" else use()
    except ImportError as error:
        said[name] = str(error)
print(json.dumps([seen, said]))
"""


@pytest.fixture(scope="module")
def process():
    done = subprocess.run(
        [sys.executable, "-c", _PROCESS], capture_output=True, text=True, check=True, timeout=300
    )
    return json.loads(done.stdout)


def test_no_extra_is_imported(process):
    seen, _ = process
    for when, modules in seen.items():
        assert not EXTRAS & {name.partition(".")[0] for name in modules}, when


def test_pictures_data_and_privacy_are_imported_when_they_are_asked_for(process):
    seen, _ = process
    assert not [m for m in seen["the package"] if m.startswith("skfedfocal.d")]
    for when in ("the package", "a training"):
        ours = [m for m in seen[when] if m.startswith("skfedfocal")]
        assert ours
        private = [m for m in ours if "privacy._" in m or m.endswith("private") or "_secure" in m]
        # The parameters of secure sums.
        assert set(private) <= {"skfedfocal.privacy._aggregation"}, when
    assert "skfedfocal.display" in seen["its rooms"]


@pytest.mark.parametrize(
    ("use", "extra"),
    [
        ("accounting", "privacy"),
        ("noise", "privacy"),
        ("secure sums", "privacy"),
        ("sites", "flower"),
    ],
)
def test_without_an_extra_the_message_has_the_pip_line(process, use, extra):
    _, said = process
    assert f"pip install 'skfedfocal[{extra}]'" in said[use]


def test_parts_of_rooms_that_are_imported_late_are_known_by_name():
    """Else a file that names one could be read only where somebody has imported it before."""
    walk = """
import importlib, json, pkgutil
import skfedfocal
from skfedfocal._plain import _LATER, known_parts
early = set(known_parts())
for room in pkgutil.walk_packages(skfedfocal.__path__, "skfedfocal."):
    if room.name.split(".")[1] not in ("flower", "onnx"):
        importlib.import_module(room.name)
late = {name: part.__module__ for name, part in known_parts().items() if name not in early}
print(json.dumps([late, {name: f"skfedfocal.{room}" for name, room in _LATER.items()}]))
"""
    done = subprocess.run([sys.executable, "-c", walk], capture_output=True, text=True, check=True)
    late, known = json.loads(done.stdout)
    assert late == known


def test_a_private_model_is_read_in_a_process_that_knows_nothing_of_privacy(tmp_path):
    pytest.importorskip("cryptography")
    pytest.importorskip("dp_accounting")
    X, y = np.random.default_rng(0).normal(size=(90, 3)), np.arange(90) % 2
    privacy = ExampleLevelDP(3.0, delta=1e-3, noise="seeded")
    model = FedFocalClassifier(n_rounds=1, privacy=privacy, random_state=0)
    save_model(model.fit(X, y, clients=np.arange(90) % 3), tmp_path / "model")
    read = "import sys, skfedfocal; print(skfedfocal.load_model(sys.argv[1]).privacy)"
    command = [sys.executable, "-c", read, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == repr(privacy), done.stderr
