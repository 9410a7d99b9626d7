"""A fitted classifier as one torch module, from rows to class probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal.losses import Loss


class PosteriorModule(nn.Module):
    """A module, and behind it the map of its loss from logits to class probabilities.

    Parameters
    ----------
    module : torch.nn.Module
        From rows to logits.
    loss : Loss
        With which it was trained.
    constants : ndarray of shape (n_constants,) or None
        The loss's.
    shift : ndarray of shape (n_classes,)
        What takes log-probabilities to the population where they are used.
    """

    constants: Tensor | None
    shift: Tensor

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        constants: NDArray[Any] | None,
        shift: NDArray[np.float64],
    ):
        super().__init__()
        self.module = module
        self.loss = loss
        like = next(module.parameters())
        held = None if constants is None else torch.as_tensor(constants).to(like)
        self.register_buffer("constants", held)
        self.register_buffer("shift", torch.as_tensor(shift).to(like))

    def forward(self, rows: Tensor) -> Tensor:
        """Probabilities (n, n_classes) of rows (n, ...)."""
        log_posterior = self.loss.log_posterior(self.module(rows), self.constants)
        return torch.softmax(log_posterior + self.shift, 1)
