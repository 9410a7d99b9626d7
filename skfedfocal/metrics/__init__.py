"""How well a model does at each client, and scorers for searches that look at clients."""

from skfedfocal.metrics._report import client_report
from skfedfocal.metrics._scorer import make_client_scorer, mean_client, worst_client
from skfedfocal.metrics._scores import client_scores

__all__ = [
    "client_report",
    "client_scores",
    "make_client_scorer",
    "mean_client",
    "worst_client",
]
