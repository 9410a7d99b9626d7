"""Kernels: a step of local SGD for a block of clients, in the way that suits the module."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from skfedfocal._local import LocalPlan, sgd_step
from skfedfocal._module import ParameterLayout, trainable
from skfedfocal.engines._data import FederatedRows
from skfedfocal.engines._loop import stochastic_seed

_CACHE_BYTES = 1 << 20  # stacked parameters of a block should stay in a core's own cache


@dataclass
class Batch:
    """One batch of each of k clients.

    Attributes
    ----------
    x : Tensor of shape (k, width, ...)
    y : int64 Tensor of shape (k, width)
    weight : Tensor of shape (k, width)
        Weight of each row in its client's objective; 0 for padding.
    constants : Tensor of shape (n_classes,) or (k, 1, n_classes), or None
        The loss's numbers by class.
    """

    x: Tensor
    y: Tensor
    weight: Tensor
    constants: Tensor | None = None


class Kernel(ABC):
    """Forward and backward pass of a block of clients, each with parameters of its own.

    Attributes
    ----------
    block_size : int
        Clients that train side by side.
    row_values : int
        Features of a row.
    """

    def __init__(self, module: nn.Module, rows: FederatedRows, block_size: int):
        self.module = module
        self.names = ParameterLayout.of(module).names
        self.block_size = block_size
        self.row_values = max(1, math.prod(rows.X.shape[1:]))

    def begin(self, plan: LocalPlan, round_: int, members: NDArray[np.int64]) -> None:  # noqa: B027
        """Called before a block's first step."""

    @abstractmethod
    def gradients(
        self, params: list[Tensor], batch: Batch, plan: LocalPlan
    ) -> tuple[Tensor, list[Tensor]]:
        """Weighted loss of each client's batch, (k,), and its derivatives by the parameters."""

    def step(
        self,
        params: list[Tensor],
        batch: Batch,
        momenta: list[Tensor],
        start: list[Tensor],
        plan: LocalPlan,
    ) -> Tensor:
        """One step of local SGD in place; returns the weighted loss of each client's batch."""
        losses, gradients = self.gradients(params, batch, plan)
        with torch.no_grad():
            sgd_step(params, gradients, momenta, start, plan)
        return losses

    def predict(self, params: list[Tensor], x: Tensor) -> Tensor:
        """Logits of one model with parameters (*shape) for rows of shape (n, ...)."""
        self.module.eval()
        with torch.no_grad():
            return functional_call(
                self.module, dict(zip(self.names, params, strict=True)), (x,), strict=False
            )


class VmapKernel(Kernel):
    """Any module that torch.func.vmap can batch: derivatives for all clients in one call."""

    def gradients(
        self, params: list[Tensor], batch: Batch, plan: LocalPlan
    ) -> tuple[Tensor, list[Tensor]]:
        def objective(parameters: dict[str, Tensor], batch_of_one: tuple[Tensor, ...]) -> Tensor:
            x, y, weight, *constants = batch_of_one
            logits = functional_call(self.module, parameters, (x,))
            return (plan.loss(logits, y, *constants) * weight).sum()

        self.module.train()
        stacked = dict(zip(self.names, params, strict=True))
        tensors = (batch.x, batch.y, batch.weight)
        if batch.constants is not None:
            k = len(batch.y)
            tensors += (batch.constants.expand(k, 1, batch.constants.shape[-1]),)
        gradients, losses = vmap(grad_and_value(objective))(stacked, tensors)
        return losses.detach(), [gradients[name] for name in self.names]


class SerialKernel(Kernel):
    """One client at a time by plain autograd: convolutions on a CPU, and what vmap cannot batch."""

    def __init__(self, module: nn.Module, rows: FederatedRows):
        super().__init__(module, rows, block_size=1)
        self.replica = copy.deepcopy(module)
        self.channels_last = any(isinstance(m, nn.Conv2d) for m in module.modules())
        self.stochastic = any(isinstance(m, STOCHASTIC) for m in module.modules())
        self.dropout_seed = 0

    def begin(self, plan: LocalPlan, round_: int, members: NDArray[np.int64]) -> None:
        self.replica.train()
        if self.stochastic:
            self.generator_state = None
            self.dropout_seed = stochastic_seed(plan.seed, round_, members[0])

    def gradients(
        self, params: list[Tensor], batch: Batch, plan: LocalPlan
    ) -> tuple[Tensor, list[Tensor]]:
        leaves = [p[0].detach().requires_grad_() for p in params]
        x = batch.x[0]
        if self.channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        named = dict(zip(self.names, leaves, strict=True))
        if self.stochastic:
            logits = self._with_own_draws(lambda: functional_call(self.replica, named, (x,)))
        else:
            logits = functional_call(self.replica, named, (x,))
        constants = batch.constants
        if constants is not None:
            constants = constants.view(constants.shape[-1])
        loss = (plan.loss(logits, batch.y[0], constants) * batch.weight[0]).sum()
        gradients = torch.autograd.grad(loss, leaves)
        return loss.detach()[None], [g[None] for g in gradients]

    def _with_own_draws(self, forward: Callable[[], Tensor]) -> Tensor:
        """Continue the client's own stream of dropout masks; leave torch's as it was."""
        with torch.random.fork_rng(devices=[]):
            if self.generator_state is None:
                torch.manual_seed(self.dropout_seed)
            else:
                torch.set_rng_state(self.generator_state)
            logits = forward()
            self.generator_state = torch.get_rng_state()
        return logits


class MLPKernel(Kernel):
    """Stacks of linear layers and pointwise activations, differentiated by hand.

    Weights are updated inside the product that makes their gradient, which is never stored.
    """

    def __init__(self, module: nn.Module, rows: FederatedRows):
        super().__init__(module, rows, block_size=max(1, _CACHE_BYTES // _n_bytes(module)))
        assert isinstance(module, nn.Sequential)
        self.linears = [m for m in module if isinstance(m, nn.Linear)]
        after: list[list[nn.Module]] = []
        for m in module:
            if isinstance(m, nn.Linear):
                after.append([])
            elif after and not isinstance(m, nn.Flatten | nn.Identity):
                after[-1].append(m)
        self.activations = [a[0] if a else None for a in after]
        self.biased = [m.bias is not None for m in self.linears]

    @staticmethod
    def takes(module: nn.Module) -> bool:
        """Whether the module is of this form, and not a subclass that may do otherwise."""
        if type(module) is not nn.Sequential or not len(module):
            return False
        parts = [m for m in module if type(m) is not nn.Identity]
        if parts and type(parts[0]) is nn.Flatten and parts[0].start_dim == 1:
            parts = parts[1:]
        if not parts or type(parts[0]) is not nn.Linear or type(parts[-1]) is not nn.Linear:
            return False
        kinds = [type(m) for m in parts]
        pairs = pairwise(kinds)
        unhooked = not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
        unfrozen = all(p.requires_grad for p in module.parameters())
        linears = [m for m in parts if type(m) is nn.Linear]
        distinct = len({id(m) for m in linears}) == len(linears)
        plain = all(k is nn.Linear or k in _SLOPES for k in kinds)
        rising = all(
            getattr(m, "negative_slope", 1) > 0 and getattr(m, "alpha", 1) > 0 for m in parts
        )  # so that a value tells on which branch it came about
        single = all(a is nn.Linear or b is nn.Linear for a, b in pairs)
        return unhooked and unfrozen and distinct and plain and rising and single

    def step(
        self,
        params: list[Tensor],
        batch: Batch,
        momenta: list[Tensor],
        start: list[Tensor],
        plan: LocalPlan,
    ) -> Tensor:
        if plan.momentum or plan.weight_decay or plan.proximal:
            return super().step(params, batch, momenta, start, plan)
        lr = plan.learning_rate

        def update(weight: Tensor, bias: Tensor | None, g: Tensor, h: Tensor) -> None:
            weight.baddbmm_(g.transpose(1, 2), h, alpha=-lr)
            if bias is not None:
                bias.sub_(g.sum(1), alpha=lr)

        return self._pass(params, batch, plan, update)

    def gradients(
        self, params: list[Tensor], batch: Batch, plan: LocalPlan
    ) -> tuple[Tensor, list[Tensor]]:
        gradients: list[Tensor] = []

        def collect(weight: Tensor, bias: Tensor | None, g: Tensor, h: Tensor) -> None:
            if bias is not None:
                gradients.append(g.sum(1))
            gradients.append(torch.bmm(g.transpose(1, 2), h))

        losses = self._pass(params, batch, plan, collect)
        return losses, gradients[::-1]

    @torch.no_grad()
    def _pass(
        self,
        params: list[Tensor],
        batch: Batch,
        plan: LocalPlan,
        visit: Callable[[Tensor, Tensor | None, Tensor, Tensor], None],
    ) -> Tensor:
        """Forward, then backward from the last layer, visiting each once its slope was used."""
        rest = iter(params)
        layers = [(next(rest), next(rest) if biased else None) for biased in self.biased]
        inputs = [batch.x.flatten(2)]
        for (weight, bias), activation in zip(layers, self.activations, strict=True):
            z = torch.bmm(inputs[-1], weight.transpose(1, 2))
            if bias is not None:
                z += bias.unsqueeze(1)
            inputs.append(z if activation is None else _apply(activation, z))
        losses, g = plan.loss.gradient(inputs.pop(), batch.y, batch.constants)
        g *= batch.weight.unsqueeze(-1)
        for i in range(len(layers) - 1, -1, -1):
            weight, bias = layers[i]
            h = inputs[i]
            back = torch.bmm(g, weight) if i else None
            visit(weight, bias, g, h)
            if back is not None:
                activation = self.activations[i - 1]
                g = back if activation is None else _SLOPES[type(activation)](activation, back, h)
        return (losses * batch.weight).sum(1)


def _apply(activation: nn.Module, z: Tensor) -> Tensor:
    return z.relu_() if type(activation) is nn.ReLU else activation(z)


# Derivative of each activation from its value h, times the derivative that comes back.
_SLOPES: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.ReLU: lambda a, back, h: back.mul_(h > 0),
    nn.Tanh: lambda a, back, h: back.mul_(1 - h * h),
    nn.Sigmoid: lambda a, back, h: back.mul_(h * (1 - h)),
    nn.LeakyReLU: lambda a, back, h: torch.where(h > 0, back, back * a.negative_slope),
    nn.ELU: lambda a, back, h: torch.where(h > 0, back, back * (h + a.alpha)),
}

STOCHASTIC = (
    nn.modules.dropout._DropoutNd,
    nn.RReLU,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.RNNBase,
)


def choose_kernel(module: nn.Module, rows: FederatedRows) -> Kernel:
    """The fastest kernel that computes what the module does."""
    if MLPKernel.takes(module):
        return MLPKernel(module, rows)
    parts = list(module.modules())
    serial = any(isinstance(m, STOCHASTIC) for m in parts) or (
        rows.device.type == "cpu" and any(isinstance(m, nn.modules.conv._ConvNd) for m in parts)
    )
    if serial or not _vmap_takes(module, rows):
        return SerialKernel(module, rows)
    return VmapKernel(module, rows, block_size=max(1, 16 * _CACHE_BYTES // _n_bytes(module)))


def _n_bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in trainable(module))


def _vmap_takes(module: nn.Module, rows: FederatedRows) -> bool:
    """Try: torch itself is the only one to know what it can batch."""
    params = {name: p.detach()[None] for name, p in module.named_parameters()}
    x = rows.features(np.zeros(2, np.int64))[None]

    def total(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(module, parameters, (x,)).sum()

    try:
        vmap(grad_and_value(total))(params, x)
    except (RuntimeError, ValueError, NotImplementedError):
        return False
    return True
