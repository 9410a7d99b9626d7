"""Losses, each with the map from its logits to class probabilities.

A loss is a number per row. What it weighs or shifts by class, it derives from label counts:
those of the whole federation, or each client's own.
"""

from __future__ import annotations

from skfedfocal.losses._check import check_loss
from skfedfocal.losses._cross_entropy import CrossEntropyLoss
from skfedfocal.losses._focal import (
    FocalLoss,
    SampleDependentFocalLoss,
    focal_gradient,
    focal_value,
)
from skfedfocal.losses._focal_posterior import focal_log_posterior
from skfedfocal.losses._loss import Loss
from skfedfocal.losses._margins import LDAMLoss, LogitAdjustedLoss

__all__ = [
    "LOSSES",
    "CrossEntropyLoss",
    "FocalLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "Loss",
    "SampleDependentFocalLoss",
    "check_loss",
    "focal_gradient",
    "focal_log_posterior",
    "focal_value",
]

#: The losses by the names that estimators take.
LOSSES: dict[str, type[Loss]] = {
    "cross_entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "sample_dependent_focal": SampleDependentFocalLoss,
    "logit_adjusted": LogitAdjustedLoss,
    "ldam": LDAMLoss,
}
