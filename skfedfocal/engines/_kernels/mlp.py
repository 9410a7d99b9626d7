"""The kernel of stacks of linear layers: differentiated by hand, for many clients at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal.engines._batches import Batch, BlockRows
from skfedfocal.engines._kernels.kernel import Factors, Kernel


@dataclass
class Layer:
    """A linear layer of k clients, and where its values for batches of w rows go.

    Attributes
    ----------
    weight : Tensor of shape (k, n_out, n_in)
    bias : Tensor of shape (k, n_out) or None
    outputs : Tensor of shape (k, w, n_out)
    back : Tensor of shape (k, w, n_in)
        What comes back to its inputs.
    """

    weight: Tensor
    bias: Tensor | None
    outputs: Tensor
    back: Tensor

    def __post_init__(self) -> None:
        self._transposed = self.weight.transpose(1, 2)
        self._bias_of_row = None if self.bias is None else self.bias.unsqueeze(1)

    def forward(self, h: Tensor) -> Tensor:
        """The outputs for inputs (k, w, n_in), in the layer's memory."""
        torch.bmm(h, self._transposed, out=self.outputs)
        if self._bias_of_row is not None:
            self.outputs += self._bias_of_row
        return self.outputs

    def backward(self, g: Tensor) -> Tensor:
        """The derivative by the inputs from that by the outputs, in the layer's memory."""
        return torch.bmm(g, self.weight, out=self.back)

    def descend(self, g: Tensor, h: Tensor, step_length: float) -> None:
        """A step of SGD inside the product that makes the gradient, which is never stored."""
        self.weight.baddbmm_(g.transpose(1, 2), h, alpha=-step_length)
        if self.bias is not None:
            self.bias.sub_(g.sum(1), alpha=step_length)


# Given a layer, the derivative by its outputs and its inputs, once the layer is done with.
Visit = Callable[[Layer, Tensor, Tensor], None]


class MLPKernel(Kernel):
    """Stacks of linear layers and pointwise activations, in the same memory from step to step."""

    way = "blocks of clients, linear layers stacked"
    block_bytes = 1 << 20  # so that they stay in a core's own cache

    def __init__(self, module: nn.Module, block_size: int):
        super().__init__(module, block_size)
        assert isinstance(module, nn.Sequential)
        parts = [m for m in module if not isinstance(m, nn.Flatten | nn.Identity)]
        places = [i for i, m in enumerate(parts) if isinstance(m, nn.Linear)]
        self.linears = [m for m in parts if isinstance(m, nn.Linear)]
        self.activations = [parts[i + 1] if i + 1 < len(parts) else None for i in places]
        self.activations = [None if isinstance(a, nn.Linear) else a for a in self.activations]

    @classmethod
    def takes(cls, module: nn.Module, rows: FederatedRows) -> bool:
        """Whether the module is of this form, and not a subclass that may do otherwise."""
        if type(module) is not nn.Sequential:
            return False
        parts = [m for m in module if type(m) is not nn.Identity]
        if parts and type(parts[0]) is nn.Flatten and parts[0].start_dim == 1:
            parts = parts[1:]
        if not parts or type(parts[0]) is not nn.Linear or type(parts[-1]) is not nn.Linear:
            return False
        linears = [m for m in parts if type(m) is nn.Linear]
        return (
            all(type(m) is nn.Linear or type(m) in _SLOPES for m in parts)
            and all(type(a) is nn.Linear or type(b) is nn.Linear for a, b in pairwise(parts))
            # No layer and no weight twice.
            and len(list(module.parameters())) == sum(1 + (m.bias is not None) for m in linears)
            and all(p.requires_grad for p in module.parameters())
            and not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
            # A value must tell on which branch of the activation it came about.
            and all(getattr(m, "negative_slope", 1) > 0 < getattr(m, "alpha", 1) for m in parts)
        )

    @torch.no_grad()
    def train_stacks(
        self,
        stacks: list[Tensor],
        start: list[Tensor],
        rows: BlockRows,
        round_: int,
        plan: LocalPlan,
    ) -> NDArray[np.float64]:
        if plan.momentum or plan.weight_decay or plan.proximal:
            return super().train_stacks(stacks, start, rows, round_, plan)

        losses, descend = start[0].new_zeros(len(stacks[0])), self.descent(plan)
        layers: Sequence[Layer] = ()
        for batch in rows.batches(self.memory):
            layers = self.layers(stacks, batch, known=layers)
            losses[: len(batch.y)] += self._pass(layers, batch, plan, descend)
        return losses.cpu().numpy().astype(np.float64) / rows.n_batches(plan)

    @staticmethod
    def descent(plan: LocalPlan) -> Visit:
        """A visit that lets each layer take its step."""
        return lambda layer, g, h: layer.descend(g, h, plan.learning_rate)

    @torch.no_grad()
    def gradients(
        self, params: list[Tensor], batch: Batch, plan: LocalPlan
    ) -> tuple[Tensor, list[Tensor]]:
        gradients: list[Tensor] = []

        def collect(layer: Layer, g: Tensor, h: Tensor) -> None:
            if layer.bias is not None:
                gradients.append(g.sum(1))
            gradients.append(torch.bmm(g.transpose(1, 2), h))

        losses = self._pass(self.layers(params, batch), batch, plan, collect)
        return losses, gradients[::-1]

    @torch.no_grad()
    def row_norms(self, params: list[Tensor], batch: Batch, plan: LocalPlan) -> Tensor:
        squares = torch.zeros_like(batch.weight)

        def add(layer: Layer, g: Tensor, h: Tensor) -> None:
            squares.add_(_squared_norms(layer, g, h))

        unweighted = replace(batch, weight=torch.ones_like(batch.weight))
        self._pass(self.layers(params, batch), unweighted, plan, add)
        return squares.sqrt_()

    @torch.no_grad()
    def add_clipped(
        self,
        sums: list[Tensor],
        params: list[Tensor],
        batch: Batch,
        plan: LocalPlan,
        factors: Factors,
    ) -> None:
        """As in any kernel, in one pass: what `row_norms` visits is what the sums are made of."""
        visited: list[tuple[Layer, Tensor, Tensor]] = []
        squares = torch.zeros_like(batch.weight)

        def add(layer: Layer, g: Tensor, h: Tensor) -> None:
            squares.add_(_squared_norms(layer, g, h))
            visited.append((layer, g, h))

        self._pass(self.layers(params, batch), batch, plan, add)
        norms = squares.sqrt_()
        lost = None if math.isfinite(norms.sum()) else ~norms.isfinite()
        factor, pairs = factors(norms).unsqueeze(-1), self.pairs(sums)
        for (weight, bias), (_, g, h) in zip(pairs, reversed(visited), strict=True):
            g *= factor
            if lost is not None:  # nothing times what is not finite would not be nothing
                g.masked_fill_(lost.unsqueeze(-1), 0.0)
                h = h.masked_fill(lost.unsqueeze(-1), 0.0)
            if bias is not None:
                bias += g.sum(1)
            weight.baddbmm_(g.transpose(1, 2), h)

    def _pass(self, layers: Sequence[Layer], batch: Batch, plan: LocalPlan, visit: Visit) -> Tensor:
        x = batch.x.flatten(2)
        losses, g = self.forward_backward(layers, x, batch, plan, visit)
        visit(layers[0], g, x)
        return losses

    def layers(
        self, stacks: list[Tensor], batch: Batch, first: int = 0, known: Sequence[Layer] = ()
    ) -> Sequence[Layer]:
        """The layers from the given one on, of the clients of a batch.

        Those known from the batch before will do where it had the same shape.
        """
        k, width = batch.y.shape
        if known and known[0].outputs.shape[:2] == batch.y.shape:
            return known
        found = []
        for i, (weight, bias) in enumerate(self.pairs([s[:k] for s in stacks], first), first):
            outputs, back = (
                self.memory.tensor(f"{name} {i}", (k, width, n), weight.dtype, weight.device)
                for name, n in zip(("outputs", "back"), weight.shape[1:], strict=True)
            )
            found.append(Layer(weight, bias, outputs, back))
        return found

    def pairs(self, params: list[Tensor], first: int = 0) -> list[tuple[Tensor, Tensor | None]]:
        """Weight and bias of each layer from the given one on, whose parameters these are."""
        rest = iter(params)
        return [
            (next(rest), next(rest) if m.bias is not None else None) for m in self.linears[first:]
        ]

    def forward_backward(
        self, layers: Sequence[Layer], inputs: Tensor, batch: Batch, plan: LocalPlan, visit: Visit
    ) -> tuple[Tensor, Tensor]:
        """Through the layers, the last ones of the module, and back to the first's outputs.

        The other layers are visited, each once its own slope was used. Returns the losses (k,) and
        the derivative by the first layer's outputs.
        """
        first, values = len(self.linears) - len(layers), [inputs]
        for i, layer in enumerate(layers, first):
            values.append(self.activate(i, layer.forward(values[-1])))
        losses, g = plan.loss.gradient(values.pop(), batch.y, batch.constants)
        g *= batch.weight.unsqueeze(-1)
        for i in range(len(layers) - 1, 0, -1):
            back = layers[i].backward(g)
            visit(layers[i], g, values[i])
            g = self.slope(first + i - 1, back, values[i])
        return torch.linalg.vecdot(losses, batch.weight), g

    def activate(self, i: int, z: Tensor) -> Tensor:
        """The activation after linear layer i, in the memory of its argument where it can."""
        activation = self.activations[i]
        if activation is None:
            return z
        return z.relu_() if type(activation) is nn.ReLU else activation(z)

    def slope(self, i: int, back: Tensor, h: Tensor) -> Tensor:
        """The derivative by the outputs of linear layer i from that by its activation's value h."""
        activation = self.activations[i]
        return back if activation is None else _SLOPES[type(activation)](activation, back, h)


def _squared_norms(layer: Layer, g: Tensor, h: Tensor) -> Tensor:
    """Squared norms of each row's gradient: the outer product of g and h, and g for the bias."""
    # By `vector_norm`, since `vecdot` writes the products out and takes up to four times as long.
    of_inputs = torch.linalg.vector_norm(h, dim=-1).square_()
    if layer.bias is not None:
        of_inputs += 1
    return torch.linalg.vector_norm(g, dim=-1).square_().mul_(of_inputs)


def _relu_slope(activation: nn.Module, back: Tensor, h: Tensor) -> Tensor:
    # The backward of torch's own relu; a product with a mask takes ten times as long.
    return torch.ops.aten.threshold_backward.grad_input(back, h, 0, grad_input=back)


# Derivative of each activation from its value h, times the derivative that comes back.
_SLOPES: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.ReLU: _relu_slope,
    nn.Tanh: lambda a, back, h: back.mul_(1 - h * h),
    nn.Sigmoid: lambda a, back, h: back.mul_(h * (1 - h)),
    nn.LeakyReLU: lambda a, back, h: torch.where(h > 0, back, back * a.negative_slope),
    nn.ELU: lambda a, back, h: torch.where(h > 0, back, back * (h + a.alpha)),
}
