"""The class prior without counts: read off one aggregated update."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skfedfocal._local import LocalPlan
from skfedfocal._module import ParameterShapes, flatten
from skfedfocal._training.failures import FederatedTrainingError
from skfedfocal._training.tally import Tally
from skfedfocal.aggregation import WeightedMean
from skfedfocal.engines import Engine, Task
from skfedfocal.losses import CrossEntropyLoss


def estimate_class_prior(engine: Engine, module: nn.Module, plan: LocalPlan) -> NDArray[np.float64]:
    r"""Share of each class in the rows of all clients, from the update of the last layer.

    The clients are sent the model with its last layer set to zero, whose softmax is 1/C for every
    row. One full-batch step of cross-entropy with step length :math:`\eta` then moves the last
    bias by :math:`\Delta b_c = \eta (\pi_c - 1/C)`, and the mean over clients, weighted by rows, is
    the federation's prior.

    Parameters
    ----------
    engine : Engine
        Where the clients are; each takes part once.
    module : torch.nn.Module
        Ends in a linear layer with a bias.
    plan : LocalPlan
        Gives the step length.

    Returns
    -------
    prior : ndarray of shape (n_classes,)
        Sums to 1.

    Raises
    ------
    ValueError
        If the module does not end in a linear layer with a bias.

    Notes
    -----
    Only the aggregate is looked at, so that a secure sum suffices; it tells the server the same as
    summed label counts. The published estimate from last-layer updates (GBME, ICCV 2023) reads each
    client's weights after ordinary training and sets what comes out negative, which is every class
    rarer than 1/C, to a constant; with the zeroed layer there is nothing to guess.
    """
    last = _last_layer(module)
    probe = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in probe.get_submodule(last).parameters():
            parameter.zero_()
    theta = flatten(probe)
    one_step = replace(
        plan,
        loss=CrossEntropyLoss(),
        class_weight=None,
        constants=None,
        n_epochs=1,
        batch_size=_WHOLE,
        momentum=0.0,
        weight_decay=0.0,
        proximal=0.0,
    )
    shapes = ParameterShapes.of(module)
    place = shapes.names.index(f"{last}.bias" if last else "bias")
    tally = Tally(WeightedMean(), theta.double())
    for reply in engine.train(Task(theta, one_step, np.arange(len(engine.sizes)), 0)):
        tally.add(reply)
    if tally.failures:
        first = tally.failures[0]
        raise FederatedTrainingError(
            f"class_weight='estimated' needs a reply of all clients; {len(tally.failures)} gave "
            f"none, first number {first.client} of clients_ ({first.reason}). Scale the columns of "
            "X, or use class_weight='balanced'."
        ) from first.error
    engine.asked.up += tally.n_bytes
    engine.asked.down += len(engine.sizes) * theta.nbytes
    moved = shapes.split(tally.aggregate()[None])[place][0].cpu().numpy()
    n_classes = len(moved)
    prior = np.maximum(moved / plan.learning_rate + 1 / n_classes, 0.0)
    return prior / prior.sum()


_WHOLE = np.iinfo(np.int32).max  # more rows than any client has: one batch of all


def _last_layer(module: nn.Module) -> str:
    """Name of the module's last linear layer."""
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not linear or module.get_submodule(linear[-1]).bias is None:
        raise ValueError(
            "class_weight='estimated' reads the class frequencies off the bias of the module's "
            "last layer; the module must end in nn.Linear with a bias, or use "
            "class_weight='balanced'."
        )
    return linear[-1]
