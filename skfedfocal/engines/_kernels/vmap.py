"""The kernel of any module that torch can batch over clients."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal.engines._blocks import Batch
from skfedfocal.engines._kernels.kernel import Kernel
from skfedfocal.engines._kernels.serial import is_stochastic


class VmapKernel(Kernel):
    """Any module that torch.func.vmap can batch: derivatives for all clients in one call."""

    way = "blocks of clients, differentiated by torch.func"
    block_bytes = 1 << 24

    @classmethod
    def takes(cls, module: nn.Module, rows: FederatedRows) -> bool:
        convolves = any(isinstance(m, nn.modules.conv._ConvNd) for m in module.modules())
        if (convolves and rows.device.type == "cpu") or _repeats_a_layer(module):
            return False
        return not is_stochastic(module, rows) and _can_batch(module, rows)

    def gradients(
        self, params: list[Tensor], batch: Batch, plan: LocalPlan
    ) -> tuple[Tensor, list[Tensor]]:
        def objective(parameters: dict[str, Tensor], batch_of_one: tuple[Tensor, ...]) -> Tensor:
            x, y, weight, *constants = batch_of_one
            logits = functional_call(self.module, parameters, (x,))
            return (plan.loss(logits, y, *constants) * weight).sum()

        self.module.train()
        stacked = dict(zip(self.names, params, strict=True))
        tensors: tuple[Tensor, ...] = (batch.x, batch.y, batch.weight)
        if batch.constants is not None:
            k = len(batch.y)
            tensors += (batch.constants.expand(k, 1, batch.constants.shape[-1]),)
        gradients, losses = vmap(grad_and_value(objective))(stacked, tensors)
        return losses.detach(), [gradients[name] for name in self.names]


def _repeats_a_layer(module: nn.Module) -> bool:
    """Whether a layer with parameters has two places: functional_call does not put it back."""
    layers = [
        id(part)
        for _, part in module.named_modules(remove_duplicate=False)
        if any(True for _ in part.parameters(recurse=False))
    ]
    return len(set(layers)) < len(layers)


def _can_batch(module: nn.Module, rows: FederatedRows) -> bool:
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
