"""Privacy: what a server, and whoever has the model, may learn, with how much noise."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skfedfocal.privacy._aggregation import SecureAggregation

if TYPE_CHECKING:
    from skfedfocal.privacy._audit import AuditResult, audit, audit_membership
    from skfedfocal.privacy._budget import PrivacyBudget
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
    "PrivacyBudget",
    "SecureAggregation",
    "advantage",
    "attack_success",
    "audit",
    "audit_membership",
    "calibrate",
]

_HOMES = {
    "AuditResult": "_audit",
    "Canaries": "_canaries",
    "ClientLevelDP": "_client_level",
    "ExampleLevelDP": "_example_level",
    "Ledger": "_ledger",
    "NoiseSource": "_noise",
    "PrivacyBudget": "_budget",
    "advantage": "_tradeoff",
    "attack_success": "_tradeoff",
    "audit": "_audit",
    "audit_membership": "_audit",
    "calibrate": "_calibration",
}


def __getattr__(name: str) -> Any:
    """What a training without privacy does without is imported when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
