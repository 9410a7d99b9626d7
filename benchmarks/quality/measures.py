"""What is measured of a trained model: recall by class, and how honest its probabilities are."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import recall_score
from sklearn.pipeline import Pipeline

from skfedfocal.losses import Loss

from .logits import logits_of
from .methods import LocalModels, Method, Own
from .sets import Task

N_BINS = 15
Measures = dict[str, float]


def balanced_accuracy(y: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Mean recall of the classes of the test rows, however frequent they are among them."""
    labels = np.unique(y)
    return float(recall_score(y, predicted, labels=labels, average="macro", zero_division=0))


def measure(method: Method, model: Any, own: Own, task: Task) -> Measures:
    """Everything that is recorded of a trained model, from the test (or validation) rows.

    Probabilities are judged five ways: ``own_``, `predict_proba` in the population that it is
    about (equal classes after class weights, the training rows' otherwise); ``raw_``, the plain
    softmax in the same population; ``balanced_``, `predict_proba` where classes are equally
    frequent; ``uniform_``, the posterior for equally frequent classes where they are;
    ``natural_``, the posterior for the training population where classes occur as in it.
    """
    y = task.y_test
    if isinstance(model, LocalModels):
        scores = [balanced_accuracy(y, m.predict(task.X_test)) for m in model.models]
        return {"balanced_accuracy": float(np.mean(scores))}
    prior = np.maximum(task.prior, 1e-12)
    uniform = np.full(task.n_classes, 1 / task.n_classes)
    probabilities, raw = model.predict_proba(task.X_test), None
    if isinstance(model, Pipeline):
        claimed = uniform
    else:
        claimed = uniform if method.samples_evenly else claimed_population(model, prior)
        raw = _softmax(model, task.X_test)
    predicted = model.predict(task.X_test)
    if method.shift is not None:
        tau = method.tau(own)
        probabilities = move(probabilities, uniform, prior**-tau)
        raw = move(raw, uniform, prior**-tau)
        claimed = claimed * prior**-tau / (claimed * prior**-tau).sum()
        predicted = probabilities.argmax(1)
    judged = {
        "own": (probabilities, claimed),
        "raw": (raw, claimed),
        "balanced": (probabilities, uniform),
        "uniform": (move(probabilities, claimed, uniform), uniform),
        "natural": (move(probabilities, claimed, prior), prior),
    }
    measures = {"balanced_accuracy": balanced_accuracy(y, predicted)}
    for name, (p, population) in judged.items():
        if p is not None:
            found = probability_measures(y, p, population)
            measures |= {f"{name}_{kind}": value for kind, value in found.items()}
    return measures


def claimed_population(model: Any, prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Class frequencies of the population that `predict_proba` is about.

    From the training counts, which the benchmark knows even where the federation summed none.
    """
    chosen = getattr(model, "best_params_", None)
    weight = model.class_weight if chosen is None else chosen["class_weight"]
    if isinstance(weight, str):  # "balanced", "local" or "estimated"
        claimed = np.ones(len(prior))
    else:
        claimed = prior if model.class_weight_ is None else prior * model.class_weight_
    loss = getattr(model, "loss", None)
    if isinstance(loss, Loss):
        claimed = loss.decision_prior(claimed)
    return claimed / claimed.sum()


def move(
    probabilities: NDArray, source: NDArray[np.float64], target: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Posterior for another class prior: Bayes' rule."""
    moved = probabilities * (target / source)
    return moved / moved.sum(1, keepdims=True)


def _softmax(model: Any, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """The softmax of the module's logits, without the loss's posterior map."""
    return torch.softmax(logits_of(model, X), 1).numpy()


def probability_measures(
    y: NDArray[np.int64], probabilities: NDArray[np.floating], population: NDArray[np.float64]
) -> Measures:
    """Log-loss and calibration errors over test rows weighed so that classes occur as given.

    Returns log_loss; ece, of the largest probability; classwise_ece, the mean over classes.
    """
    counts = np.bincount(y, minlength=len(population))
    weight = (population / np.maximum(counts, 1))[y]
    weight = weight / weight.sum()
    p = np.clip(probabilities.astype(np.float64), 1e-15, 1)
    p /= p.sum(1, keepdims=True)
    top, rows = p.argmax(1), np.arange(len(y))
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
    return float(np.abs(np.bincount(bins, weight * (hit - confidence), N_BINS)).sum())
