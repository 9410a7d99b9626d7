"""The package itself, through its public interface: whole fits, and prediction."""

from __future__ import annotations

import os
import statistics
from typing import Any

from benchmarks.speed.clock import Clock, outcome
from benchmarks.speed.data import Data
from benchmarks.speed.workloads import Workload
from skfedfocal import FederatedClassifier, FedFocalClassifier
from skfedfocal.selection import Uniform

_clock = Clock()  # of the fit under way: the fit clones its selection


class ClockedUniform(Uniform):
    """Uniform selection that reads the clock: a fit selects once a round, first of all.

    So the rounds of one uninterrupted `fit` are told apart without touching its code.
    """

    def select(self, *args: Any, **kwargs: Any) -> Any:
        _clock.tick()
        return super().select(*args, **kwargs)


def default(workload: Workload, data: Data, device: str) -> dict[str, float]:
    """FedFocalClassifier as it comes, but for what the workload sets."""
    return _fit(FedFocalClassifier(**settings(workload, device)), data, device)


def unfocused(workload: Workload, data: Data, device: str) -> dict[str, float]:
    """Without client focusing: clients do not report how well the global model does."""
    classifier = FedFocalClassifier(client_gamma=0, **settings(workload, device))
    return _fit(classifier, data, device)


def threads(workload: Workload, data: Data, device: str) -> dict[str, float]:
    """The same as `unfocused`, with a thread for each core: blocks of clients side by side."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    return unfocused(workload, data, device)


def cross_entropy(workload: Workload, data: Data, device: str) -> dict[str, float]:
    """FederatedClassifier with the objective of the loops beside it."""
    classifier = FederatedClassifier(loss="cross_entropy", **settings(workload, device))
    return _fit(classifier, data, device)


def settings(workload: Workload, device: str) -> dict[str, Any]:
    """Parameters of a classifier that are the workload's."""
    shared = {
        "clients_per_round": workload.per_round,
        "n_rounds": workload.n_rounds,
        "batch_size": workload.batch_size,
        "learning_rate": workload.learning_rate,
        "selection": ClockedUniform(),
        "device": device,
        "random_state": 0,
    }
    if workload.kind == "mlp":
        return {**shared, "hidden_layer_sizes": (workload.hidden,)}
    from benchmarks.speed.models import cnn

    return {**shared, "module": cnn}


def _fit(classifier: Any, data: Data, device: str) -> dict[str, float]:
    global _clock
    _clock = Clock(device)
    classifier.fit(data.X, data.y, clients=data.clients())
    _clock.tick()  # the last round's span includes what fit does after it
    if len(_clock.readings) != classifier.n_rounds + 1:
        raise RuntimeError(
            f"{len(_clock.readings) - 1} selections in {classifier.n_rounds} rounds; "
            "the rounds cannot be told apart by them."
        )
    return outcome(_clock, data.y_test, classifier.predict(data.X_test))


def prediction(
    workload: Workload, data: Data, device: str, n_repeats: int = 15
) -> dict[str, float]:
    """`predict` and `predict_proba` beside one call of the bare module on the same rows."""
    import torch

    classifier = FedFocalClassifier(**{**settings(workload, device), "n_rounds": 1})
    classifier.fit(data.X, data.y, clients=data.clients())
    X = data.X_test if workload.kind == "cnn" else data.X[:20_000]
    torch.set_num_threads(1)

    def bare(X: Any) -> None:
        with torch.no_grad():
            classifier.module_(torch.from_numpy(X).to(device))

    calls = (bare, classifier.predict, classifier.predict_proba)
    seconds = []
    for _ in range(n_repeats):
        clock = Clock(device)
        for call in calls:
            clock.tick()
            call(X)
        clock.tick()
        seconds.append([cpu for _, cpu in clock.spans()])
    return {
        "module_cpu_s": statistics.median(s[0] for s in seconds),
        "predict_proba_cpu_s": statistics.median(s[2] for s in seconds),
        "predict_to_module": statistics.median(s[1] / s[0] for s in seconds),
        "predict_proba_to_module": statistics.median(s[2] / s[0] for s in seconds),
    }
