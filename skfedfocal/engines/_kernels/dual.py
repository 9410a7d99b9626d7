"""The kernel for many small clients: the first layer is trained without a copy of it per client.

During local SGD the first layer's weights stay the global ones plus a sum of outer products of
rows and derivatives, W_0 - lr * sum_t g_t x_t'. So the outputs of a batch are

    X W_0' - lr * (X X_t' + 1) g_t    summed over earlier batches t (the 1 is the bias),

and a weighted sum of clients' updates is one product of all derivatives with all rows. For clients
with no more rows than the layer is wide this costs less than copying, updating and averaging a
matrix for each of them, and the two large products run at full speed.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.memory import Memory
from skfedfocal._local import LocalPlan
from skfedfocal.engines._batches import Batch, BlockRows
from skfedfocal.engines._deltas import Deltas, StackedDeltas
from skfedfocal.engines._kernels.mlp import Layer, MLPKernel

_BLOCK_VALUES = 1 << 20  # features of a block: 4 MB in single precision


class DualKernel(MLPKernel):
    """Stacks of linear layers whose first is kept as rows times derivatives."""

    way = "blocks of clients, the first layer as rows times derivatives"

    every_plan = False

    def __init__(self, module: nn.Module, block_size: int = 1):
        super().__init__(module, block_size)
        self.width, self.n_features = self.linears[0].weight.shape
        self._free: list[Memory] = []  # of blocks whose updates nobody holds any more

    def prepare(self, plan: LocalPlan, sizes: NDArray[np.int64]) -> bool:
        """Whether it does the plan, and faster than by copies of layers; in blocks that suit it."""
        plain = not (plan.momentum or plan.weight_decay or plan.proximal)
        n_rows = int(sizes.max()) * plan.n_epochs
        self.block_size = max(1, _BLOCK_VALUES // max(1, n_rows * self.n_features))
        return plain and n_rows <= 1.5 * self.width <= 1.5 * self.n_features

    @property
    def has_row_norms(self) -> bool:
        return False

    def row_norms(self, params: list[Tensor], batch: Batch, plan: LocalPlan) -> Tensor:
        raise NotImplementedError(
            "Here the steps of earlier rows make the first layer, and clipping each row's gradient "
            "would change them; use MLPKernel."
        )

    @torch.no_grad()
    def train(
        self,
        start: list[Tensor],
        rows: BlockRows,
        round_: int,
        plan: LocalPlan,
        *,
        want_recalls: bool,
    ) -> tuple[Deltas, NDArray[np.float64], NDArray[np.float64] | None]:
        m, biased = len(rows.block.members), self.linears[0].bias is not None
        first, others = start[: 1 + biased], start[1 + biased :]
        rest = [p.expand(m, *p.shape).clone() for p in others]
        column = np.concatenate([[0], np.cumsum(rows.block.width)])
        memory = self._memory_of_a_block()
        x = rows.by_client(column, memory).flatten(2)
        z = nn.functional.linear(x.flatten(0, 1), *first).view(m, -1, self.width)
        recalls = None
        if want_recalls:  # the first layer's outputs are there already
            recalls = self._recalls(z, others, rows, column, plan)
        steps = memory.tensor("steps", tuple(z.shape), z.dtype, z.device)
        steps.zero_()  # -lr times the derivatives
        losses = self._steps(x, z, steps, rest, rows, column, plan)
        deltas = DualDeltas(x, steps, biased, StackedDeltas(rest, others) if rest else None)
        weakref.finalize(deltas, self._free.append, memory)
        return deltas, losses.cpu().numpy().astype(np.float64) / rows.n_batches(plan), recalls

    def _memory_of_a_block(self) -> Memory:
        try:
            return self._free.pop()
        except IndexError:
            return Memory()

    def _steps(
        self,
        x: Tensor,
        z: Tensor,
        steps: Tensor,
        rest: list[Tensor],
        rows: BlockRows,
        column: NDArray[np.int64],
        plan: LocalPlan,
    ) -> Tensor:
        """Local SGD on the rows x (m, r, d); fills in `steps` and moves `rest`; summed losses."""
        losses, biased = z.new_zeros(len(z)), self.linears[0].bias is not None
        layers: Sequence[Layer] = ()
        for s in range(rows.block.n_steps):
            k, here = int(rows.block.alive[s]), slice(column[s], column[s + 1])
            batch = rows.batch(s, x[:k, here])
            out = z[:k, here]
            if s:
                gram = torch.bmm(batch.x, x[:k, : column[s]].transpose(1, 2))
                if biased:
                    gram += 1
                out = torch.baddbmm(out, gram, steps[:k, : column[s]])
            layers = self.layers(rest, batch, first=1, known=layers)
            losses[:k] += self._rest(out, layers, batch, plan, steps[:k, here])
        return losses

    def _recalls(
        self,
        z: Tensor,
        rest: list[Tensor],
        rows: BlockRows,
        column: NDArray[np.int64],
        plan: LocalPlan,
    ) -> NDArray[np.float64]:
        """The clients' recalls of the start, from its first layer's outputs (m, r, h)."""
        sample = rows.recall_sample(plan)
        at = sample.owner * z.shape[1] + rows.columns(sample.index, column)
        z = z.flatten(0, 1).index_select(0, torch.from_numpy(at).to(z.device))
        constants = rows.constants
        for i, (weight, bias) in enumerate(self.pairs(rest, 1)):
            z = nn.functional.linear(self.activate(i, z), weight, bias)
        if constants is not None and constants.ndim == 2:
            constants = constants[torch.from_numpy(sample.owner).to(z.device)]
        return sample.recalls(plan.loss.decide(z, constants).cpu().numpy())

    def _rest(
        self, out: Tensor, layers: Sequence[Layer], batch: Batch, plan: LocalPlan, steps: Tensor
    ) -> Tensor:
        """All after the first layer's outputs; fills in its steps and returns the losses."""
        if not layers:
            rows, g = plan.loss.gradient(out, batch.y, batch.constants)
            torch.mul(g, batch.weight.unsqueeze(-1) * -plan.learning_rate, out=steps)
            return torch.linalg.vecdot(rows, batch.weight)
        h = self.activate(0, out)
        losses, g = self.forward_backward(layers, h, batch, plan, self.descent(plan))
        back = layers[0].backward(g)
        layers[0].descend(g, h, plan.learning_rate)
        torch.mul(self.slope(0, back, h), -plan.learning_rate, out=steps)
        return losses


class DualDeltas(Deltas):
    """First layer as rows (m, r, d) and steps (m, r, h); the other layers stacked."""

    def __init__(self, x: Tensor, steps: Tensor, biased: bool, others: StackedDeltas | None):
        self._x = x
        self._steps = steps
        self._biased = biased
        self._others = others

    def add_to(self, total: Tensor, weights: NDArray[np.float64]) -> None:
        share = torch.as_tensor(weights).to(self._steps)
        steps = (self._steps * share[:, None, None]).flatten(0, 1)
        product = steps.T @ self._x.flatten(0, 1)
        n_weights, n_first = product.numel(), product.numel() + self._biased * len(product)
        total[:n_weights] += product.flatten()
        if self._biased:
            total[n_weights:n_first] += steps.sum(0)
        if self._others is not None:
            self._others.add_to(total[n_first:], weights)

    def finite(self) -> NDArray[np.bool_]:
        good = torch.isfinite(self._steps.sum((1, 2))).cpu().numpy()
        return good if self._others is None else good & self._others.finite()

    def norms(self) -> NDArray[np.float64]:
        squares, longest = _squares(self._x, self._steps, self._biased)
        few = squares < 1e-2 * longest**2  # terms that cancel leave few digits
        if few.any():
            x, steps = self._x[few].double(), self._steps[few].double()
            squares[few] = _squares(x, steps, self._biased)[0]
        found = squares.clamp(min=0).sqrt().cpu().numpy()
        return found if self._others is None else np.hypot(found, self._others.norms())

    def matrix(self) -> Tensor:
        parts = [torch.bmm(self._steps.transpose(1, 2), self._x).flatten(1)]
        if self._biased:
            parts.append(self._steps.sum(1))
        if self._others is not None:
            parts.append(self._others.matrix())
        return torch.cat(parts, dim=1)


def _squares(x: Tensor, steps: Tensor, biased: bool) -> tuple[Tensor, Tensor]:
    """Squared norm of each sum of outer products, ``sum((S S') * (X X'))``; and what bounds it.

    That is the sum of the products' own norms, which is the norm where all point the same way.
    """
    gram = torch.bmm(x, x.transpose(1, 2))
    if biased:
        gram += 1
    of_steps = torch.bmm(steps, steps.transpose(1, 2))
    lengths = [g.diagonal(dim1=1, dim2=2).double().sqrt() for g in (gram, of_steps)]
    return (of_steps * gram).sum((1, 2), dtype=torch.float64), torch.linalg.vecdot(*lengths)
