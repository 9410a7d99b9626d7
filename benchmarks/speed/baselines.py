"""What a user would write without the package: loops in PyTorch, and scikit-learn's MLP."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed.clock import Clock, outcome
from benchmarks.speed.data import Data
from benchmarks.speed.models import build
from benchmarks.speed.workloads import Workload


def sequential(workload: Workload, data: Data, device: str) -> dict[str, float]:
    """FedAvg with cross-entropy, one client after another: one model that is loaded and trained."""
    clock = Clock(device)
    model = fedavg(workload, data, build(workload), device, clock)
    return outcome(clock, data.y_test, _predict(model, data, device))


def fedavg(
    workload: Workload, data: Data, model: nn.Module, device: str, clock: Clock
) -> nn.Module:
    """The loop itself; ticks before the first round and after each."""
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    model.to(device)
    local, loss = copy.deepcopy(model), nn.CrossEntropyLoss()
    rows = _Rows(data, device)
    clock.tick()
    for _ in range(workload.n_rounds):
        total, n_total = None, 0
        for client in rng.choice(workload.n_clients, workload.per_round, replace=False):
            X, y = rows.of_client(client)
            local.load_state_dict(model.state_dict())
            optimizer = torch.optim.SGD(local.parameters(), lr=workload.learning_rate)
            local.train()
            for batch in torch.randperm(len(y), device=device).split(workload.batch_size):
                optimizer.zero_grad()
                loss(local(X[batch]), y[batch]).backward()
                optimizer.step()
            state = local.state_dict()
            if total is None:
                total = {name: value * len(y) for name, value in state.items()}
            else:
                for name, value in state.items():
                    total[name] += value * len(y)
            n_total += len(y)
        assert total is not None
        model.load_state_dict({name: value / n_total for name, value in total.items()})
        clock.tick()
    return model


def centralised(workload: Workload, data: Data, device: str) -> dict[str, float]:
    """SGD on one model over the pooled rows of as many clients as a federated round has."""
    model, loss, clock = build(workload).to(device), nn.CrossEntropyLoss(), Clock(device)
    X, y = torch.from_numpy(data.X).to(device), torch.from_numpy(data.y).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=workload.learning_rate)
    model.train()
    clock.tick()
    for places in _pooled(workload, data):
        for batch in torch.from_numpy(places).to(device).split(workload.batch_size):
            optimizer.zero_grad()
            loss(model(X[batch]), y[batch]).backward()
            optimizer.step()
        clock.tick()
    return outcome(clock, data.y_test, _predict(model, data, device))


def sklearn_mlp(workload: Workload, data: Data, device: str) -> dict[str, float]:
    """scikit-learn's MLPClassifier, centralised: one partial_fit a round over the pooled rows."""
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        (workload.hidden,),
        solver="sgd",
        momentum=0.0,
        alpha=0.0,
        batch_size=workload.batch_size,
        learning_rate_init=workload.learning_rate,
        random_state=0,
    )
    classes, clock = np.arange(workload.n_classes), Clock()
    clock.tick()
    for places in _pooled(workload, data):
        model.partial_fit(data.X[places], data.y[places], classes=classes)
        clock.tick()
    return outcome(clock, data.y_test, model.predict(data.X_test))


class _Rows:
    """Rows of one client as tensors; views where the data lie in memory."""

    def __init__(self, data: Data, device: str):
        self.data, self.device = data, device
        dense = type(data.X) is np.ndarray  # neither mapped from a file nor sparse
        self.X = torch.from_numpy(data.X).to(device) if dense else None
        self.y = torch.from_numpy(data.y).to(device)

    def of_client(self, client: int) -> tuple[Tensor, Tensor]:
        start, stop = self.data.offsets[client : client + 2].tolist()
        if self.X is not None:
            X = self.X[start:stop]
        else:
            X = torch.from_numpy(self.data.features(start, stop)).to(self.device)
        return X, self.y[start:stop].long()


def _pooled(workload: Workload, data: Data) -> Iterator[np.ndarray]:
    """For each round, the rows of a cohort in random order."""
    rng = np.random.default_rng(1)
    for _ in range(workload.n_rounds):
        cohort = rng.choice(workload.n_clients, workload.per_round, replace=False)
        spans = [np.arange(data.offsets[k], data.offsets[k + 1]) for k in cohort]
        yield rng.permutation(np.concatenate(spans))


def _predict(model: nn.Module, data: Data, device: str) -> np.ndarray:
    model.eval()
    with torch.no_grad():
        blocks = torch.from_numpy(data.X_test).to(device).split(500)
        return torch.cat([model(block).argmax(1) for block in blocks]).cpu().numpy()
