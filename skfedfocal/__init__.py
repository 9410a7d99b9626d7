"""Federated learning on imbalanced data that drops into scikit-learn."""

from skfedfocal._classifier import FederatedClassifier, FedFocalClassifier
from skfedfocal._rounds import FederatedTrainingError
from skfedfocal.partition import (
    dirichlet_partition,
    iid_partition,
    quantity_skew_partition,
    shard_partition,
)

__all__ = [
    "FedFocalClassifier",
    "FederatedClassifier",
    "FederatedTrainingError",
    "dirichlet_partition",
    "iid_partition",
    "quantity_skew_partition",
    "shard_partition",
]

__version__ = "0.1.0.dev0"
