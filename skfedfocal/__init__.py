"""Federated learning on imbalanced data that drops into scikit-learn."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skfedfocal._estimators.classifier import FedFocalClassifier
from skfedfocal._estimators.general import FederatedClassifier
from skfedfocal._plain import ModelFileError
from skfedfocal._training.failures import FederatedTrainingError
from skfedfocal._version import __version__ as __version__
from skfedfocal.partition import (
    dirichlet_partition,
    iid_partition,
    quantity_skew_partition,
    shard_partition,
)

if TYPE_CHECKING:
    from skfedfocal._estimators.classifier_cv import FedFocalClassifierCV
    from skfedfocal._estimators.client_column import ClientColumn
    from skfedfocal._estimators.files import load_model, save_model
    from skfedfocal._estimators.personalized import PersonalizedClassifier
    from skfedfocal._estimators.trusted import trusted_types
    from skfedfocal._show_versions import show_versions

__all__ = [
    "ClientColumn",
    "FedFocalClassifier",
    "FedFocalClassifierCV",
    "FederatedClassifier",
    "FederatedTrainingError",
    "ModelFileError",
    "PersonalizedClassifier",
    "dirichlet_partition",
    "iid_partition",
    "load_model",
    "quantity_skew_partition",
    "save_model",
    "shard_partition",
    "show_versions",
    "trusted_types",
]

# What needs more of scikit-learn is imported when it is asked for: sites do without.
_LATER = {
    "ClientColumn": "_estimators.client_column",
    "FedFocalClassifierCV": "_estimators.classifier_cv",
    "PersonalizedClassifier": "_estimators.personalized",
    "load_model": "_estimators.files",
    "save_model": "_estimators.files",
    "show_versions": "_show_versions",
    "trusted_types": "_estimators.trusted",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
