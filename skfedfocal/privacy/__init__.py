"""Differential privacy: what a training may release, with how much noise, and what that spends."""

from skfedfocal.privacy._audit import AuditResult, audit, audit_membership
from skfedfocal.privacy._calibration import calibrate
from skfedfocal.privacy._canaries import Canaries
from skfedfocal.privacy._client_level import ClientLevelDP
from skfedfocal.privacy._example_level import ExampleLevelDP
from skfedfocal.privacy._ledger import Ledger
from skfedfocal.privacy._noise import NoiseSource
from skfedfocal.privacy._tradeoff import advantage, attack_success

__all__ = [
    "AuditResult",
    "Canaries",
    "ClientLevelDP",
    "ExampleLevelDP",
    "Ledger",
    "NoiseSource",
    "advantage",
    "attack_success",
    "audit",
    "audit_membership",
    "calibrate",
]
