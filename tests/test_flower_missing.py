"""Without the extra `flower` the package works, and says what is missing where it is."""

import subprocess
import sys

_CODE = """
import sys
sys.modules["flwr"] = None
import skfedfocal
try:
    import skfedfocal.flower
except ImportError as error:
    print(error)
"""


def test_the_message_has_the_pip_line():
    done = subprocess.run([sys.executable, "-c", _CODE], capture_output=True, text=True, check=True)
    assert "pip install 'skfedfocal[flower]'" in done.stdout
