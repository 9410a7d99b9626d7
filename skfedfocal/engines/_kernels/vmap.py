"""The kernel of any module that torch can batch over clients."""

from __future__ import annotations

from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from skfedfocal._local import LocalPlan
from skfedfocal.engines._blocks import Batch
from skfedfocal.engines._kernels.kernel import Kernel


class VmapKernel(Kernel):
    """Any module that torch.func.vmap can batch: derivatives for all clients in one call."""

    way = "blocks of clients, differentiated by torch.func"

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
