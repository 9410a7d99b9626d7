"""The model of a workload as a torch module."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.speed.workloads import Workload


def build(workload: Workload, seed: int = 0) -> nn.Module:
    """The workload's model with torch's usual initial values."""
    torch.manual_seed(seed)
    n_in, n_out, hidden = workload.n_features, workload.n_classes, workload.hidden
    if workload.kind == "mlp":
        return nn.Sequential(nn.Linear(n_in, hidden), nn.ReLU(), nn.Linear(hidden, n_out))
    return cnn((1, 28, 28), n_out, hidden)


def cnn(row_shape: tuple[int, ...], n_classes: int, hidden: int = 512) -> nn.Module:
    """The convolutional network of McMahan et al. (AISTATS 2017) for 28 x 28 images."""
    blocks = [
        layer
        for n_in, n_out in ((row_shape[0], 32), (32, 64))
        for layer in (nn.Conv2d(n_in, n_out, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
    ]
    dense = (nn.Linear(64 * 7 * 7, hidden), nn.ReLU(), nn.Linear(hidden, n_classes))
    return nn.Sequential(*blocks, nn.Flatten(), *dense)
