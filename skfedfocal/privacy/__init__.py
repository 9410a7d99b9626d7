"""Differential privacy: what a training may release, with how much noise, and what that spends."""

from skfedfocal.privacy._calibration import calibrate
from skfedfocal.privacy._ledger import Ledger

__all__ = ["Ledger", "calibrate"]
