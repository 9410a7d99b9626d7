"""Preprocessing from statistics that sites can share: sums, not rows."""

from skfedfocal.preprocessing._imputer import FederatedSimpleImputer
from skfedfocal.preprocessing._robust_scaler import FederatedRobustScaler
from skfedfocal.preprocessing._scaler import FederatedStandardScaler

__all__ = ["FederatedRobustScaler", "FederatedSimpleImputer", "FederatedStandardScaler"]
