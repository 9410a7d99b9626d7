"""The package itself, through its public interface: whole fits, and prediction."""

from __future__ import annotations

import os
import statistics
from typing import Any

import numpy as np

from benchmarks.speed.clock import Clock, outcome
from benchmarks.speed.workloads import Data, Workload
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


def fed_focal(workload: Workload, data: Data, device: str) -> dict[str, Any]:
    """FedFocalClassifier with focal loss and class weights; passes over the rows as in the rest."""
    classifier = FedFocalClassifier(client_gamma=0, **_settings(workload, device))
    return _fit(classifier, data, device)


def focusing(workload: Workload, data: Data, device: str) -> dict[str, Any]:
    """FedFocalClassifier as it comes: clients also report how well the global model does."""
    return _fit(FedFocalClassifier(**_settings(workload, device)), data, device)


def threads(workload: Workload, data: Data, device: str) -> dict[str, Any]:
    """The same as `fed_focal`, with a thread for each core: blocks of clients side by side."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    return fed_focal(workload, data, device)


def cross_entropy(workload: Workload, data: Data, device: str) -> dict[str, Any]:
    """FederatedClassifier with the objective of the loops beside it."""
    classifier = FederatedClassifier(loss="cross_entropy", **_settings(workload, device))
    return _fit(classifier, data, device)


def _settings(workload: Workload, device: str) -> dict[str, Any]:
    settings = {
        "clients_per_round": workload.per_round,
        "n_rounds": workload.n_rounds,
        "batch_size": workload.batch_size,
        "learning_rate": workload.learning_rate,
        "selection": ClockedUniform(),
        "device": device,
        "random_state": 0,
    }
    if workload.kind == "mlp":
        return {**settings, "hidden_layer_sizes": (workload.hidden,)}
    from benchmarks.speed.models import cnn

    return {**settings, "module": cnn}


def _fit(classifier: Any, data: Data, device: str) -> dict[str, Any]:
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


def prediction(workload: Workload, data: Data, device: str, n_repeats: int = 15) -> dict[str, Any]:
    """`predict` and `predict_proba` beside one call of the bare module on the same rows."""
    import torch

    classifier = FedFocalClassifier(**{**_settings(workload, device), "n_rounds": 1})
    classifier.fit(data.X, data.y, clients=data.clients())
    X = data.X_test if workload.kind == "cnn" else data.X[:20_000]
    module = classifier.module_
    torch.set_num_threads(1)

    def bare() -> None:
        with torch.no_grad():
            module(torch.from_numpy(X).to(device))

    calls = {
        "module": bare,
        "predict": classifier.predict,
        "predict_proba": classifier.predict_proba,
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(n_repeats):
        for name, call in calls.items():
            clock = Clock(device)
            clock.tick()
            call() if name == "module" else call(X)
            clock.tick()
            seconds[name] += clock.spans()["rounds_cpu_s"]
    ratio = {
        name: statistics.median(np.divide(seconds[name], seconds["module"]).tolist())
        for name in ("predict", "predict_proba")
    }
    return {
        "n_rows": len(X),
        **{f"{name}_cpu_s": statistics.median(values) for name, values in seconds.items()},
        **{f"{name}_to_module": value for name, value in ratio.items()},
    }
