"""The threshold of a probability with which a class has a given recall."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import assert_all_finite, check_consistent_length, column_or_1d

from skfedfocal._sklearn import _check_sample_weight

Array = NDArray[np.float64]


class Threshold(NamedTuple):
    """A threshold of a probability, and what it does on the rows that it was chosen on.

    Attributes
    ----------
    threshold : float
        Rows of at least this probability are taken for the class.
    recall, precision : float
        Of the class.
    flagged : float
        Share of all rows that are taken for it.

    Examples
    --------
    >>> from skfedfocal.metrics import Threshold
    >>> Threshold(0.25, recall=0.9, precision=0.5, flagged=0.18).threshold
    0.25
    """

    threshold: float
    recall: float
    precision: float
    flagged: float


def threshold_for_recall(
    y_true: ArrayLike,
    y_score: ArrayLike,
    recall: float,
    *,
    pos_label: Any = None,
    sample_weight: ArrayLike | None = None,
) -> Threshold:
    """Choose the highest threshold of a score with which a class has a given recall.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels.
    y_score : array-like of shape (n_samples,)
        Probability of the class, or another score that is higher for it. Best of rows that the
        model has not been fitted on, such as those of `sklearn.model_selection.cross_val_predict`.
    recall : float
        What the class's recall has to be at least, in the interval (0, 1].
    pos_label : object, default=None
        The class; None is the second one of two.
    sample_weight : array-like of shape (n_samples,), default=None
        Weights of rows.

    Returns
    -------
    threshold : Threshold
        The highest of the scores that do. Its recall, precision and flagged share are those on
        these rows.

    Raises
    ------
    ValueError
        If `recall` is none, the class has no rows, there are not two classes and `pos_label` is
        None, or a score is missing.

    See Also
    --------
    Evaluation.threshold : From histograms, where rows stay with their clients.
    sklearn.model_selection.FixedThresholdClassifier : Takes it.

    Examples
    --------
    >>> from skfedfocal.metrics import threshold_for_recall
    >>> ill, score = [0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.8]
    >>> threshold_for_recall(ill, score, recall=0.6).threshold
    0.6
    """
    check_recall(recall)
    labels, scores = column_or_1d(y_true), column_or_1d(y_score)
    check_consistent_length(labels, scores)
    assert_all_finite(scores)
    if pos_label is None:
        classes = np.unique(labels)
        if len(classes) != 2:
            raise ValueError(f"y_true has the labels {classes.tolist()}: pass pos_label.")
        pos_label = classes[1]
    weight = _check_sample_weight(sample_weight, scores, ensure_non_negative=True)
    ends, place = np.unique(scores, return_inverse=True)
    hit = labels == pos_label
    positives = np.bincount(place, weight * hit, len(ends)).astype(np.float64)
    negatives = np.bincount(place, weight * ~hit, len(ends)).astype(np.float64)
    return highest(positives, negatives, ends, recall)


def check_recall(recall: float) -> None:
    """Raise ValueError where it is none."""
    if not 0 < recall <= 1:
        raise ValueError(f"recall must be above 0 and at most 1; got {recall!r}.")


def highest(positives: Array, negatives: Array, ends: Array, recall: float) -> Threshold:
    """The highest lower end of a bin with that recall at least.

    Parameters
    ----------
    positives, negatives, ends : ndarray of shape (n_bins,)
        Weight of the rows by bin of their score, from the lowest, and the bins' lower ends.
    recall : float
        Above 0, at most 1.

    Returns
    -------
    threshold : Threshold
        What it does on these rows.
    """
    hits, false = (np.cumsum(one[::-1])[::-1] for one in (positives, negatives))
    if not (hits[0] > 0 and np.isfinite(false[0])):
        raise ValueError("The class has no rows, or figures are withheld.")
    b = int(np.flatnonzero(hits >= recall * hits[0] * (1 - 1e-12))[-1])
    taken = float(hits[b] + false[b])
    return Threshold(
        float(ends[b]),
        float(hits[b] / hits[0]),
        float(hits[b] / taken),
        taken / float(hits[0] + false[0]),
    )
