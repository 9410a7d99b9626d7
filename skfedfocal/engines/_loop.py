"""One client after the other with plain autograd: slow, and the oracle of every other engine."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._batches import shuffled_places
from skfedfocal._local import LocalPlan, balanced_recall, sgd_step
from skfedfocal._module import flatten, load_flat, trainable
from skfedfocal.engines._data import FederatedRows
from skfedfocal.engines._engine import Engine, Updates


class LoopEngine(Engine):
    """Trains each client by itself, batch by batch, as the method's description reads."""

    def __init__(self, module: nn.Module, rows: FederatedRows):
        self.module = copy.deepcopy(module)
        self.rows = rows

    @property
    def sizes(self) -> NDArray[np.float64]:
        return self.rows.sizes

    def label_counts(self) -> NDArray[np.float64]:
        return self.rows.label_counts

    def train(
        self,
        theta: Tensor,
        cohort: NDArray[np.int64],
        round_: int,
        plan: LocalPlan,
        *,
        want_recall: bool = False,
    ) -> Iterator[Updates]:
        for client in cohort:
            load_flat(self.module, theta)
            recall = self._recall(client) if want_recall else None
            loss = self._train_client(client, round_, plan)
            yield Updates(
                clients=np.array([client]),
                sizes=self.sizes[[client]],
                losses=np.array([loss]),
                recalls=recall,
                deltas=(flatten(self.module) - theta)[None],
            )

    def _train_client(self, client: int, round_: int, plan: LocalPlan) -> float:
        """Local epochs of one client; returns its mean training loss."""
        first, end = self.rows.layout.offsets[client : client + 2]
        counts = self.rows.label_counts[client]
        class_weight = plan.class_weights(counts)
        params = trainable(self.module)
        start = [p.detach().clone() for p in params]
        momenta = [torch.zeros_like(p) for p in params]
        constants = plan.loss_constants(counts, params[0].detach())
        self.module.train()
        batch_losses, n_rows = [], end - first
        with torch.random.fork_rng(devices=[]):  # dropout draws of the client's own
            torch.manual_seed(stochastic_seed(plan.seed, round_, client))
            for epoch in range(plan.n_epochs):
                order = shuffled_places(
                    plan.seed, round_, epoch, np.array([client]), np.array([n_rows])
                )
                for lo in range(0, n_rows, plan.batch_size):
                    places = first + order[lo : lo + plan.batch_size]
                    y = self.rows.labels(places)
                    weights = np.broadcast_to(self.rows.weights(places), y.shape)
                    if class_weight is not None:
                        weights = weights * class_weight[y]
                    logits = self.module(self.rows.features(places))
                    losses = plan.loss(logits, torch.as_tensor(y, device=logits.device), constants)
                    weighted = losses * torch.as_tensor(weights.copy()).to(losses)
                    loss = weighted.mean()
                    gradients = torch.autograd.grad(loss, params)
                    with torch.no_grad():
                        sgd_step(params, list(gradients), momenta, start, plan)
                    batch_losses.append(float(loss.detach()))
        return float(np.mean(batch_losses))

    def _recall(self, client: int) -> NDArray[np.float64]:
        first, end = self.rows.layout.offsets[client : client + 2]
        places = np.arange(first, end)
        y = self.rows.labels(places)
        self.module.eval()
        with torch.no_grad():
            right = self.module(self.rows.features(places)).argmax(1).cpu().numpy() == y
        weights = np.broadcast_to(self.rows.weights(places), y.shape)
        n_classes = self.rows.n_classes
        hits = np.bincount(y, weights * right, n_classes)
        return balanced_recall(hits, np.bincount(y, weights, n_classes))[None]


def stochastic_seed(seed: int, round_: int, client: int) -> int:
    """Seed of the client's random layers (dropout) in a round."""
    sequence = np.random.SeedSequence(seed, spawn_key=(round_, int(client)))
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
