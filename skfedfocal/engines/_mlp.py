"""The kernel of stacks of linear layers: differentiated by hand, for many clients at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from skfedfocal._local import LocalPlan
from skfedfocal.engines._blocks import Batch
from skfedfocal.engines._kernels import Kernel

Visit = Callable[[Tensor, Tensor | None, Tensor, Tensor], None]


class MLPKernel(Kernel):
    """Stacks of linear layers and pointwise activations.

    Weights are updated inside the product that makes their gradient, which is never stored;
    activations and what comes back share the same memory from step to step.
    """

    way = "blocks of clients, linear layers stacked"

    def __init__(self, module: nn.Module, block_size: int):
        super().__init__(module, block_size)
        assert isinstance(module, nn.Sequential)
        parts = [m for m in module if not isinstance(m, nn.Flatten | nn.Identity)]
        places = [i for i, m in enumerate(parts) if isinstance(m, nn.Linear)]
        self.linears = [m for m in parts if isinstance(m, nn.Linear)]
        self.activations = [parts[i + 1] if i + 1 < len(parts) else None for i in places]
        self.activations = [None if isinstance(a, nn.Linear) else a for a in self.activations]

    @staticmethod
    def takes(module: nn.Module) -> bool:
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

        def update(weight: Tensor, bias: Tensor | None, g: Tensor, h: Tensor) -> None:
            weight.baddbmm_(g.transpose(1, 2), h, alpha=-plan.learning_rate)
            if bias is not None:
                bias.sub_(g.sum(1), alpha=plan.learning_rate)

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

    def _pass(self, params: list[Tensor], batch: Batch, plan: LocalPlan, visit: Visit) -> Tensor:
        losses, g, values = self.forward_backward(0, params, batch.x.flatten(2), batch, plan, visit)
        visit(*self.layers(params, 0)[0], g, values)
        return losses

    def layers(self, params: list[Tensor], first: int) -> list[tuple[Tensor, Tensor | None]]:
        """Weight and bias of each layer from the given one on, whose parameters these are."""
        rest = iter(params)
        return [
            (next(rest), next(rest) if m.bias is not None else None) for m in self.linears[first:]
        ]

    @torch.no_grad()
    def forward_backward(
        self,
        first: int,
        params: list[Tensor],
        inputs: Tensor,
        batch: Batch,
        plan: LocalPlan,
        visit: Visit,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Through the layers from `first` on and back to the outputs of that one.

        Each later layer is visited with its derivative once its own slope was used. Returns the
        losses (k,), the derivative by the first layer's outputs, and that layer's inputs.
        """
        layers = self.layers(params, first)
        values = [inputs]
        for i, (weight, bias) in enumerate(layers, first):
            z = self._like(weight, f"value {i}", (*batch.y.shape, weight.shape[1]))
            torch.bmm(values[-1], weight.transpose(1, 2), out=z)
            if bias is not None:
                z += bias.unsqueeze(1)
            values.append(self.activate(i, z))
        losses, g = plan.loss.gradient(values.pop(), batch.y, batch.constants)
        g *= batch.weight.unsqueeze(-1)
        for i in range(len(layers) - 1, 0, -1):
            weight, bias = layers[i]
            back = self._like(weight, f"back {i}", tuple(values[i].shape))
            torch.bmm(g, weight, out=back)
            visit(weight, bias, g, values[i])
            g = self.slope(first + i - 1, back, values[i])
        return torch.linalg.vecdot(losses, batch.weight), g, values[0]

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

    def _like(self, tensor: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
        return self.memory.tensor(name, shape, tensor.dtype, tensor.device)


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
