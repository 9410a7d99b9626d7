"""What a kernel is: local training of a block of clients."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.memory import Memory
from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan, sgd_step
from skfedfocal._module import ParameterShapes, trainable
from skfedfocal.engines._batches import Batch, BlockRows
from skfedfocal.engines._deltas import Deltas, StackedDeltas

# From norms to factors that bring vectors of these norms within a bound.
Factors = Callable[[Tensor], Tensor]


class Kernel(ABC):
    """Forward and backward pass of a block of clients, each with parameters of its own.

    Parameters
    ----------
    module : torch.nn.Module
        What is trained.
    block_size : int
        Clients that train side by side.
    """

    way = "by a kernel of one's own"
    block_bytes = 0  # stacked parameters of a block; 0 is one client
    every_plan = True  # else `prepare` says whether it takes one

    @classmethod
    @abstractmethod
    def takes(cls, module: nn.Module, rows: FederatedRows) -> bool:
        """Whether this kernel computes what the module does, faster than those after it."""

    @classmethod
    def make(cls, module: nn.Module, rows: FederatedRows) -> Kernel:
        """The kernel of a module that it takes."""
        n_bytes = sum(p.numel() * p.element_size() for p in trainable(module))
        return cls(module, max(1, cls.block_bytes // n_bytes))

    def prepare(self, plan: LocalPlan, sizes: NDArray[np.int64]) -> bool:
        """Whether it is the kernel for a round of clients of these numbers of rows."""
        return True

    def __init__(self, module: nn.Module, block_size: int):
        self.module = module
        self.names = ParameterShapes.of(module).names
        self.block_size = block_size
        self.memory = Memory()
        self._others: list[Kernel] = []

    @property
    def threads_well(self) -> bool:
        """Whether twins may train at the same time."""
        return True

    def twins(self, n: int) -> list[Kernel]:
        """Itself and others like it, each of which may be busy at the same time.

        To be made before the work begins: a module that is in use cannot be copied.
        """
        self._others += [self._twin() for _ in range(n - 1 - len(self._others))]
        return [self, *self._others[: n - 1]]

    def _twin(self) -> Kernel:
        other = copy.copy(self)
        other.module, other.memory, other._others = copy.deepcopy(self.module), Memory(), []
        return other

    def train(
        self,
        start: list[Tensor],
        rows: BlockRows,
        round_: int,
        plan: LocalPlan,
        *,
        want_recalls: bool,
    ) -> tuple[Deltas, NDArray[np.float64], NDArray[np.float64] | None]:
        """Local epochs of a block from parameters (*shape).

        Returns the updates, the mean losses, and where wanted the clients' recalls of the start.
        """
        m, recalls = len(rows.block.members), None
        if want_recalls:
            recalls = rows.recalls(lambda x: self.predict(start, x), plan)
        stacks = [self.copies(p, m) for p in start]
        losses = self.train_stacks(stacks, start, rows, round_, plan)
        return StackedDeltas(stacks, start), losses, recalls

    def train_stacks(
        self,
        stacks: list[Tensor],
        start: list[Tensor],
        rows: BlockRows,
        round_: int,
        plan: LocalPlan,
    ) -> NDArray[np.float64]:
        """Local epochs of models stacked by parameter (m, *shape), in place; mean losses (m,).

        Where they started from is one model of (*shape) for all, or one for each.
        """
        each = start[0].ndim == stacks[0].ndim
        momenta = [torch.zeros_like(s) for s in stacks] if plan.momentum else []
        losses = torch.zeros(len(stacks[0]), dtype=start[0].dtype, device=start[0].device)
        self.begin(plan, round_, rows.block.members)
        for batch in rows.batches(self.memory):
            k = len(batch.y)
            began = [s[:k] for s in start] if each else start
            losses[:k] += self.step(
                [s[:k] for s in stacks], batch, [b[:k] for b in momenta], began, plan
            )
        return losses.cpu().numpy().astype(np.float64) / rows.n_batches(plan)

    def copies(self, parameter: Tensor, m: int) -> Tensor:
        """The parameter once for each of m clients, of shape (m, *shape)."""
        return parameter.expand(m, *parameter.shape).clone()

    def begin(self, plan: LocalPlan, round_: int, members: NDArray[np.int64]) -> None:  # noqa: B027
        """Called before a block's first step."""

    @abstractmethod
    def gradients(
        self, params: list[Tensor], batch: Batch, plan: LocalPlan
    ) -> tuple[Tensor, list[Tensor]]:
        """Weighted loss of each client's batch, (k,), and its derivatives by the parameters."""

    @property
    def has_row_norms(self) -> bool:
        """Whether `row_norms` is there."""
        return True

    @abstractmethod
    def row_norms(self, params: list[Tensor], batch: Batch, plan: LocalPlan) -> Tensor:
        """Norm of the gradient of each row's own loss, (k, w), whatever the row weighs.

        Padding has the norm of the row that stands there. Raises NotImplementedError where
        `has_row_norms` says so.
        """

    def add_clipped(
        self,
        sums: list[Tensor],
        params: list[Tensor],
        batch: Batch,
        plan: LocalPlan,
        factors: Factors,
    ) -> None:
        """Add to sums the gradients of each client's rows, each brought within a norm.

        Parameters
        ----------
        sums : list of Tensor
            Each (k, *shape). A row whose gradient is not finite adds nothing.
        params : list of Tensor
            Stacked parameters, each (k, *shape).
        batch : Batch
            Whose weights multiply the losses, before anything is clipped.
        plan : LocalPlan
            Gives the loss.
        factors : callable
            From the norms of weighted gradients, (k, w), to factors, 0 where a norm is not finite.
        """
        norms = self.row_norms(params, batch, plan) * batch.weight
        x, lost = batch.x, ~norms.isfinite()
        if lost.any():  # nothing times what is not finite would not be nothing
            x = x.masked_fill(lost.view(*lost.shape, *[1] * (x.ndim - 2)), 0)
        clipped = replace(batch, x=x, weight=batch.weight * factors(norms))
        found = self.gradients(params, clipped, plan)[1]
        for total, gradient in zip(sums, found, strict=True):
            total.add_(gradient)

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
            for parameter, value in zip(trainable(self.module), params, strict=True):
                parameter.copy_(value)
            return self.module(x)
