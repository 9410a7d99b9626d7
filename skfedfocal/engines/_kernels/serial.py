"""The kernel of one client at a time: convolutions on a CPU, and what vmap cannot batch."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal._module import trainable
from skfedfocal._random import borrowed_generator, layers_seed
from skfedfocal.engines._batches import Batch
from skfedfocal.engines._kernels.kernel import Kernel


class SerialKernel(Kernel):
    """Plain autograd on a copy of the module whose parameters are those of the client.

    Parameters
    ----------
    module : torch.nn.Module
        What is trained.
    stochastic : bool
        Whether a training pass draws random numbers, which each client then has of its own.
    """

    way = "one client after the other, in place"

    def __init__(self, module: nn.Module, *, stochastic: bool):
        super().__init__(module, block_size=1)
        self.replica = copy.deepcopy(module)
        self.leaves = trainable(self.replica)
        self.channels_last = any(isinstance(m, nn.Conv2d) for m in module.modules())
        self.stochastic = stochastic
        self.generator_state = torch.get_rng_state()

    @classmethod
    def takes(cls, module: nn.Module, rows: FederatedRows) -> bool:
        return True

    @classmethod
    def make(cls, module: nn.Module, rows: FederatedRows) -> SerialKernel:
        return cls(module, stochastic=is_stochastic(module, rows))

    @property
    def threads_well(self) -> bool:
        return not self.stochastic  # its draws go through the one generator of the process

    def _twin(self) -> SerialKernel:
        return SerialKernel(self.module, stochastic=self.stochastic)

    def copies(self, parameter: Tensor, m: int) -> Tensor:
        if self.channels_last and parameter.ndim == 4:  # or each step would convert it
            return parameter.clone(memory_format=torch.channels_last)[None]
        return super().copies(parameter, m)

    def begin(self, plan: LocalPlan, round_: int, members: NDArray[np.int64]) -> None:
        self.replica.train()
        if self.stochastic:
            with borrowed_generator(layers_seed(plan.seed, round_, members[0])):
                self.generator_state = torch.get_rng_state()

    def gradients(
        self, params: list[Tensor], batch: Batch, plan: LocalPlan
    ) -> tuple[Tensor, list[Tensor]]:
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
        gradients = torch.autograd.grad(
            logits, self.leaves, slopes, allow_unused=True, materialize_grads=True
        )
        return (losses @ batch.weight[0])[None], [g[None] for g in gradients]

    def predict(self, params: list[Tensor], x: Tensor) -> Tensor:
        if not (self.channels_last and x.ndim == 4):
            return super().predict(params, x)
        self.replica.eval()
        for leaf, value in zip(self.leaves, params, strict=True):
            leaf.data = self.copies(value, 1)[0]
        with torch.no_grad():
            return self.replica(x.contiguous(memory_format=torch.channels_last))

    @property
    def has_row_norms(self) -> bool:
        return not self.stochastic

    def row_norms(self, params: list[Tensor], batch: Batch, plan: LocalPlan) -> Tensor:
        if self.stochastic:
            raise NotImplementedError(
                "The module draws random numbers, so that the norms of one pass are not those of "
                "the next."
            )
        self.replica.train()
        found = torch.empty_like(batch.weight)
        one = torch.ones_like(batch.weight[:, :1])
        for i in range(batch.y.shape[1]):
            row = Batch(batch.x[:, i : i + 1], batch.y[:, i : i + 1], one, batch.constants)
            gradients = self.gradients(params, row, plan)[1]
            found[:, i] = torch.stack([g.norm() for g in gradients]).norm()
        return found

    def _with_own_draws(self, x: Tensor) -> Tensor:
        """Continue the client's own stream of dropout masks; leave torch's as it was."""
        with borrowed_generator():
            torch.set_rng_state(self.generator_state)
            logits = self.replica(x)
            self.generator_state = torch.get_rng_state()
        return logits


_STOCHASTIC = (
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.RNNBase,
)


def is_stochastic(module: nn.Module, rows: FederatedRows) -> bool:
    """Whether a training pass may draw random numbers, or does: functional dropout has no layer."""
    if any(isinstance(part, _STOCHASTIC) for part in module.modules()):
        return True
    module.train()
    with borrowed_generator(), torch.no_grad():
        before = torch.get_rng_state()
        module(rows.features(np.zeros(2, np.int64)))
        return not torch.equal(before, torch.get_rng_state())
