"""How well a model does at each client, and scorers for searches that look at clients."""

from skfedfocal.metrics._bounds import Bounds
from skfedfocal.metrics._evaluate import evaluate
from skfedfocal.metrics._evaluation import Evaluation
from skfedfocal.metrics._report import client_report
from skfedfocal.metrics._scorer import make_client_scorer, mean_client, worst_client
from skfedfocal.metrics._scores import client_scores
from skfedfocal.metrics._threshold import Threshold, threshold_for_recall

__all__ = [
    "Bounds",
    "Evaluation",
    "Threshold",
    "client_report",
    "client_scores",
    "evaluate",
    "make_client_scorer",
    "mean_client",
    "threshold_for_recall",
    "worst_client",
]
