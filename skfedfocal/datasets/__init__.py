"""Federations: drawn at random, from a file of yours, or well-known ones fetched."""

from skfedfocal.datasets._files import load_federation
from skfedfocal.datasets._generator import make_federation
from skfedfocal.datasets._har import fetch_har
from skfedfocal.datasets._heart_disease import fetch_heart_disease
from skfedfocal.datasets._openml import fetch_creditcard_fraud, fetch_mnist
from skfedfocal.datasets._several import load_clients

__all__ = [
    "fetch_creditcard_fraud",
    "fetch_har",
    "fetch_heart_disease",
    "fetch_mnist",
    "load_clients",
    "load_federation",
    "make_federation",
]
