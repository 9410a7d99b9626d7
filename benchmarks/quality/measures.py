"""What is measured of a trained model: recall by class, and how honest its probabilities are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

N_BINS = 15


def class_measures(y: NDArray[np.int64], predicted: NDArray[np.int64]) -> dict[str, float]:
    """Balanced accuracy, macro-F1 and the recall of the worst class.

    Balanced accuracy weighs every class alike, so it does not ask how frequent classes are among
    the test rows.
    """
    n_classes = int(max(y.max(), predicted.max())) + 1
    confusion = np.bincount(y * n_classes + predicted, minlength=n_classes**2)
    confusion = confusion.reshape(n_classes, n_classes).astype(np.float64)
    present = confusion.sum(1) > 0
    hits = np.diag(confusion)[present]
    recall = hits / confusion.sum(1)[present]
    f1 = 2 * hits / (confusion.sum(1) + confusion.sum(0))[present]
    return {
        "balanced_accuracy": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "worst_recall": float(recall.min()),
    }


def probability_measures(
    y: NDArray[np.int64], probabilities: NDArray[np.floating], population: NDArray[np.float64]
) -> dict[str, float]:
    """Log-loss and calibration errors over test rows weighed so that classes occur as given.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
    probabilities : ndarray of shape (n_samples, n_classes)
    population : ndarray of shape (n_classes,)
        Share of each class in the population that the measures are about.

    Returns
    -------
    measures : dict
        log_loss; ece, of the largest probability; classwise_ece, the mean over classes.
    """
    counts = np.bincount(y, minlength=len(population))
    weight = (population / np.maximum(counts, 1))[y]
    weight = weight / weight.sum()
    p = np.clip(probabilities.astype(np.float64), 1e-15, 1)
    p /= p.sum(1, keepdims=True)
    top = p.argmax(1)
    rows = np.arange(len(y))
    by_class = [calibration_error(y == k, p[:, k], weight) for k in range(p.shape[1])]
    return {
        "log_loss": float(-(weight * np.log(p[rows, y])).sum()),
        "ece": calibration_error(top == y, p[rows, top], weight),
        "classwise_ece": float(np.mean(by_class)),
    }


def calibration_error(
    hit: NDArray[np.bool_], confidence: NDArray[np.float64], weight: NDArray[np.float64]
) -> float:
    """Expected calibration error over equally wide bins; the weights sum to 1."""
    bins = np.minimum((confidence * N_BINS).astype(np.int64), N_BINS - 1)
    gap = np.bincount(bins, weight * (hit - confidence), N_BINS)
    return float(np.abs(gap).sum())
