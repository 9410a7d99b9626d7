"""One client after the other with plain autograd: slow, and the oracle of every other engine."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan, sgd_step
from skfedfocal._module import flatten, load_flat, trainable
from skfedfocal._random import borrowed_generator, layers_seed, shuffled_places
from skfedfocal.engines._engine import Engine, Updates
from skfedfocal.engines._evaluate import Evaluation, evaluate


class LoopEngine(Engine):
    """Trains each client by itself, batch by batch, as the method's description reads."""

    way = "one client after the other"

    def __init__(
        self, module: nn.Module, rows: FederatedRows, held_out: FederatedRows | None = None
    ):
        self.module = copy.deepcopy(module)
        self.rows = rows
        self.held_out = held_out

    @property
    def sizes(self) -> NDArray[np.float64]:
        return self.rows.sizes

    def label_counts(self) -> NDArray[np.float64]:
        return self.rows.label_counts(np.arange(len(self.sizes)))

    def label_totals(self) -> NDArray[np.float64]:
        return self.rows.label_totals()

    def train(
        self,
        theta: Tensor,
        cohort: NDArray[np.int64],
        round_: int,
        plan: LocalPlan,
        *,
        want_recall: bool = False,
        want_validation: bool = False,
    ) -> Iterator[Updates]:
        for client in cohort:
            load_flat(self.module, theta)
            recalls = self._evaluate(self.rows, client, plan).recall if want_recall else None
            validation = self._validate(client, plan) if want_validation else None
            loss, mean_weight = self._train_client(client, round_, plan)
            yield Updates(
                clients=np.array([client]),
                sizes=self.sizes[[client]],
                mean_weights=np.array([mean_weight]),
                losses=np.array([loss]),
                recalls=recalls,
                validation=validation,
                deltas=(flatten(self.module) - theta)[None],
            )

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
                        weights = weights * class_weight[y] / (mean_weight or 1.0)
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

    def _evaluate(
        self, rows: FederatedRows, client: int, plan: LocalPlan, *, want_loss: bool = False
    ) -> Evaluation:
        self.module.eval()
        with torch.no_grad():
            return evaluate(self.module, rows, np.array([client]), plan, want_loss=want_loss)

    def _validate(self, client: int, plan: LocalPlan) -> NDArray[np.float64]:
        assert self.held_out is not None
        found = self._evaluate(self.held_out, client, plan, want_loss=True)
        return np.stack([found.loss, found.weight], 1)
