"""The kernel of one client at a time: convolutions on a CPU, and what vmap cannot batch."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._local import LocalPlan
from skfedfocal._module import trainable
from skfedfocal._random import layers_seed
from skfedfocal.engines._blocks import Batch
from skfedfocal.engines._kernels.kernel import Kernel
from skfedfocal.engines._kernels.pooling import pool_first
from skfedfocal.engines._kernels.stepping import stepping_layers


class SerialKernel(Kernel):
    """Plain autograd on a copy of the module whose parameters are those of the client.

    Parameters
    ----------
    module : torch.nn.Module
        What is trained.
    stochastic : bool
        Whether a training pass draws random numbers, which each client then has of its own.
    stepping : bool
        Whether linear layers may be updated during the backward pass.
    """

    way = "one client after the other, in place"

    def __init__(self, module: nn.Module, *, stochastic: bool, stepping: bool):
        super().__init__(module, block_size=1)
        self.replica = copy.deepcopy(module)
        pool_first(self.replica)
        self.leaves = trainable(self.replica)
        self.stepping = stepping_layers(self.replica) if stepping else []
        self.channels_last = any(isinstance(m, nn.Conv2d) for m in module.modules())
        self.stochastic = stochastic
        self.generator_state = torch.get_rng_state()

    @property
    def threads_well(self) -> bool:
        return not self.stochastic  # its draws go through the one generator of the process

    def _twin(self) -> SerialKernel:
        return SerialKernel(self.module, stochastic=self.stochastic, stepping=bool(self.stepping))

    def copies(self, parameter: Tensor, m: int) -> Tensor:
        if self.channels_last and parameter.ndim == 4:  # or each step would convert it
            return parameter.clone(memory_format=torch.channels_last)[None]
        return super().copies(parameter, m)

    def begin(self, plan: LocalPlan, round_: int, members: NDArray[np.int64]) -> None:
        self.replica.train()
        if self.stochastic:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(layers_seed(plan.seed, round_, members[0]))
                self.generator_state = torch.get_rng_state()

    def step(
        self,
        params: list[Tensor],
        batch: Batch,
        momenta: list[Tensor],
        start: list[Tensor],
        plan: LocalPlan,
    ) -> Tensor:
        if not self.stepping or plan.momentum or plan.weight_decay or plan.proximal:
            return super().step(params, batch, momenta, start, plan)
        for layer in self.stepping:
            layer.begin_step(plan.learning_rate)
        losses, gradients = self._backward(params, batch, plan)
        with torch.no_grad():
            for leaf, gradient in zip(self.leaves, gradients, strict=True):
                if gradient is not None:
                    leaf.sub_(gradient, alpha=plan.learning_rate)
        return losses

    def gradients(
        self, params: list[Tensor], batch: Batch, plan: LocalPlan
    ) -> tuple[Tensor, list[Tensor]]:
        for layer in self.stepping:
            layer.begin_step(0.0)
        losses, gradients = self._backward(params, batch, plan)
        return losses, [
            torch.zeros_like(p) if g is None else g[None]
            for p, g in zip(params, gradients, strict=True)
        ]

    def _backward(
        self, params: list[Tensor], batch: Batch, plan: LocalPlan
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        """Weighted loss (1,) and the derivatives by the leaves; None: unused, or stepped."""
        for leaf, stack in zip(self.leaves, params, strict=True):
            leaf.data = stack[0]
        x = batch.x[0]
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        logits = self._with_own_draws(x) if self.stochastic else self.replica(x)
        constants = batch.constants
        if constants is not None:
            constants = constants.view(constants.shape[-1])
        # The loss's own derivative begins the way back: fewer operations than its autograd.
        losses, slopes = plan.loss.gradient(logits.detach(), batch.y[0], constants)
        slopes *= batch.weight[0].unsqueeze(-1)
        gradients = torch.autograd.grad(logits, self.leaves, slopes, allow_unused=True)
        return (losses @ batch.weight[0])[None], gradients

    def _with_own_draws(self, x: Tensor) -> Tensor:
        """Continue the client's own stream of dropout masks; leave torch's as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.generator_state)
            logits = self.replica(x)
            self.generator_state = torch.get_rng_state()
        return logits


STOCHASTIC = (
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.RNNBase,
)
