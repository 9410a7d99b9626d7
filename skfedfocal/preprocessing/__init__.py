"""Preprocessing from statistics that sites can share: sums, not rows."""

from skfedfocal.preprocessing._scaler import FederatedStandardScaler

__all__ = ["FederatedStandardScaler"]
