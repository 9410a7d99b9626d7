"""Privacy: what a server, and whoever has the model, may learn."""

from skfedfocal.privacy._aggregation import SecureAggregation

__all__ = ["SecureAggregation"]
