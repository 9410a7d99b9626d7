"""Linear layers that take their step of SGD during the backward pass.

The gradient of a large layer is a matrix as large as its weights, and for a small batch writing and
reading it takes longer than computing it. Here the product that makes it is subtracted from the
weights as it comes about.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any, cast

import torch
from torch import Tensor, nn

from skfedfocal._module import trainable


class SteppingLinear(nn.Linear):
    """A linear layer that is updated by its own backward pass, where it is used once in a pass."""

    step_length = 0.0
    n_calls = 0

    def begin_step(self, length: float) -> None:
        """Before a forward pass; with length 0 the layer is an ordinary one."""
        self.step_length, self.n_calls = length, 0

    def forward(self, input: Tensor) -> Tensor:
        self.n_calls += 1
        if self.step_length == 0 or input.ndim != 2:
            return super().forward(input)
        return _LinearStep.apply(input, self.weight, self.bias, self)


class _LinearStep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: SteppingLinear
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        return nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        layer = ctx.layer
        back = g @ weight if ctx.needs_input_grad[0] else None
        if layer.n_calls > 1:  # the weights are still needed as they were
            return back, g.T @ x, None if layer.bias is None else g.sum(0), None
        weight.detach().addmm_(g.T, x, alpha=-layer.step_length)
        if layer.bias is not None:
            layer.bias.detach().sub_(g.sum(0), alpha=layer.step_length)
        return back, None, None, None


def stepping_layers(module: nn.Module) -> list[SteppingLinear]:
    """Turn the module's plain linear layers into such as step; those that share no weights."""
    owners = Counter(id(p) for _, m in module.named_modules() for p in m.parameters(recurse=False))
    found = []
    for layer in module.modules():
        mine = list(layer.parameters(recurse=False))
        plain = type(layer) is nn.Linear and "weight" in layer._parameters
        if plain and all(p.requires_grad and owners[id(p)] == 1 for p in mine):
            layer.__class__ = SteppingLinear
            found.append(cast(SteppingLinear, layer))
    return found


_TRIAL = 0.1  # length of the step that is tried


def can_step(module: nn.Module, x: Tensor) -> bool:
    """Try: whether a pass in which layers step moves the module as one in which none does.

    It would not where weights are also read from outside their layer.
    """
    moved = []
    for steps in (True, False):
        replica = copy.deepcopy(module).train()
        layers = stepping_layers(replica) if steps else []
        if steps and not layers:
            return False
        for layer in layers:
            layer.begin_step(_TRIAL)
        leaves = trainable(replica)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            logits = replica(x)
        try:
            gradients = torch.autograd.grad(logits.square().sum(), leaves, allow_unused=True)
        except RuntimeError:  # a tensor needed for the gradient was modified
            return False
        with torch.no_grad():
            for leaf, gradient in zip(leaves, gradients, strict=True):
                if gradient is not None:
                    leaf.sub_(gradient, alpha=_TRIAL)
        moved.append(leaves)
    return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*moved, strict=True))
