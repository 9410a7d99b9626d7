"""One client after the other with plain autograd: slow, and the oracle of every other engine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skfedfocal._class_weight import of_rows
from skfedfocal._data.memory import Memory
from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan, sgd_step
from skfedfocal._module import flatten, load_flat, trainable
from skfedfocal._random import borrowed_generator, layers_seed, shuffled_places
from skfedfocal.engines._engine import Failure, Task, Updates
from skfedfocal.engines._in_process import InProcessEngine
from skfedfocal.engines._kernels.serial import is_stochastic
from skfedfocal.engines._recall import estimated_recalls


class LoopEngine(InProcessEngine):
    """Trains each client by itself, batch by batch, as the method's description reads."""

    way = "one client after the other"
    together = False  # as at sites: products of matrices depend on the batch

    def __init__(
        self, module: nn.Module, rows: FederatedRows, held_out: FederatedRows | None = None
    ):
        super().__init__(copy.deepcopy(module), rows, held_out)

    @property
    def clips_rows(self) -> bool:
        return not is_stochastic(self.module, self.rows)

    def logits(self, theta: Tensor) -> Callable[[Tensor], Tensor]:
        load_flat(self.module, theta)

        def predict(x: Tensor) -> Tensor:
            self.module.eval()
            with torch.no_grad():
                return self.module(x)

        return predict

    def train(self, task: Task) -> Iterator[Updates | Failure]:
        if task.plan.private is not None:
            yield from self._train_privately(task)
            return
        for client in task.cohort:
            try:
                reply: Updates | Failure = self._reply(client, task)
            except Exception as error:
                reply = Failure.of(client, error)
            yield reply

    def _reply(self, client: int, task: Task) -> Updates:
        """What one client replies."""
        plan, recall = task.plan, None
        if task.needs_recall:
            predict, clients = self.logits(task.theta), np.array([client])
            recall = estimated_recalls(predict, self.rows, clients, plan, task.round)
        load_flat(self.module, task.theta)
        loss, mean_weight = self._train_client(client, task.round, plan)
        row_weight = self.sizes[[client]] * mean_weight
        return Updates(
            clients=np.array([client]),
            weights=plan.weigh(row_weight, self.n_rows[[client]], recall),
            objective=np.column_stack([row_weight * loss, row_weight]),
            deltas=(flatten(self.module) - task.theta)[None],
            recalls=recall if task.wants_recall else None,
        )

    def _train_privately(self, task: Task) -> Iterator[Updates]:
        """Each client's steps, row by row."""
        from skfedfocal.engines import _private  # imported where it is asked for

        for client in task.cohort:
            load_flat(self.module, task.theta)
            moved = torch.zeros_like(task.theta)
            assert task.plan.denominators is not None
            draw = _private.sampler(task)(np.array([client]))
            noise = _private.BlockNoise(task, np.array([client]))
            momentum, memory = torch.zeros_like(moved), Memory()
            for _ in range(task.plan.n_epochs):
                gradient = torch.empty_like(moved)
                noise.fill(gradient, [gradient[None]], memory)
                gradient += self._clipped_sum(client, draw, task.plan)
                gradient /= float(task.plan.denominators[client])
                gradient += task.plan.weight_decay * (task.theta + moved)
                gradient += task.plan.proximal * moved
                momentum = task.plan.momentum * momentum + gradient
                moved = moved - task.plan.learning_rate * momentum
                load_flat(self.module, task.theta + moved)
            yield _private.reply(task, np.array([client]), moved[None])

    def _clipped_sum(self, client: int, draw: Any, plan: LocalPlan) -> Tensor:
        """Sum over a batch of one client of its rows' gradients, each clipped by itself."""
        assert plan.private is not None
        first, end = self.rows.layout.offsets[client : client + 2]
        params = list(trainable(self.module))
        total, bound = torch.zeros_like(flatten(self.module)), plan.private.clip_norm
        constants = plan.loss_constants(None, params[0].detach())
        self.module.train()
        for place in first + np.flatnonzero(draw(np.array([end - first]))):
            y = self.rows.labels(np.array([place]))
            logits = self.module(self.rows.features(np.array([place])))
            loss = plan.loss(logits, torch.as_tensor(y, device=logits.device), constants).sum()
            loss = loss * float(np.squeeze(of_rows(plan.class_weights(None), y)))
            gradients = torch.autograd.grad(loss, params, allow_unused=True, materialize_grads=True)
            row = torch.cat([g.reshape(-1) for g in gradients])
            if torch.isfinite(row).all():
                total += row * min(1.0, bound / max(float(row.norm()), 1e-30))
        return total

    def _train_client(self, client: int, round_: int, plan: LocalPlan) -> tuple[float, float]:
        """Local epochs of one client; returns its mean loss and mean class weight."""
        first, end = self.rows.layout.offsets[client : client + 2]
        counts = self.rows.label_counts(np.array([client]))[0]
        mean_weight = 1.0
        class_weight = plan.class_weights(counts)
        if class_weight is not None:
            mean_weight = float(counts @ class_weight / counts.sum())
        params: list[Tensor] = list(trainable(self.module))
        start = [p.detach().clone() for p in params]
        momenta = [torch.zeros_like(p) for p in params]
        constants = plan.loss_constants(counts, params[0].detach())
        self.module.train()
        batch_losses, n_rows = [], end - first
        with borrowed_generator(layers_seed(plan.seed, round_, client)):  # dropout of its own
            for epoch in range(plan.n_epochs):
                order = shuffled_places(
                    plan.seed, round_, epoch, np.array([client]), np.array([n_rows])
                )
                for lo in range(0, n_rows, plan.batch_size):
                    places = first + order[lo : lo + plan.batch_size]
                    y = self.rows.labels(places)
                    weights = np.broadcast_to(self.rows.weights(places), y.shape)
                    if class_weight is not None:
                        weights = weights * of_rows(class_weight, y) / (mean_weight or 1.0)
                    logits = self.module(self.rows.features(places))
                    losses = plan.loss(logits, torch.as_tensor(y, device=logits.device), constants)
                    weighted = losses * torch.as_tensor(weights.copy()).to(losses)
                    loss = weighted.mean()
                    gradients = torch.autograd.grad(
                        loss, params, allow_unused=True, materialize_grads=True
                    )
                    with torch.no_grad():
                        sgd_step(params, list(gradients), momenta, start, plan)
                    batch_losses.append(float(loss.detach()))
        return float(np.mean(batch_losses)), mean_weight
