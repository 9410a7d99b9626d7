"""The kernel of any module that torch can batch over clients."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vjp, vmap

from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal.engines._batches import Batch
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
        self.module.train()
        stacked = dict(zip(self.names, params, strict=True))
        logits, pull = vjp(lambda p: vmap(self._logits)(p, batch.x), stacked)[:2]
        # The loss is no part of what torch batches: it need not be such as can be.
        losses, slopes = plan.loss.gradient(logits.detach(), batch.y, batch.constants)
        (gradients,) = pull(slopes * batch.weight.unsqueeze(-1))
        return torch.linalg.vecdot(losses, batch.weight), [gradients[name] for name in self.names]

    def row_norms(self, params: list[Tensor], batch: Batch, plan: LocalPlan) -> Tensor:
        self.module.train()
        stacked = dict(zip(self.names, params, strict=True))
        with torch.no_grad():
            logits = vmap(self._logits)(stacked, batch.x)
        slopes = plan.loss.gradient(logits, batch.y, batch.constants)[1]

        def norm(parameters: dict[str, Tensor], row: Tensor, slope: Tensor) -> Tensor:
            _, pull = vjp(lambda p: self._logits(p, row[None]), parameters)[:2]
            (gradients,) = pull(slope[None])
            return torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt()

        one_client = vmap(norm, in_dims=(None, 0, 0))
        return torch.stack(  # one after the other: here gradients of rows are written out
            [
                one_client({name: p[i] for name, p in stacked.items()}, batch.x[i], slopes[i])
                for i in range(len(batch.y))
            ]
        ).detach()

    def _logits(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.module, parameters, (x,))


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
