"""A round's replies, taken in as they come: the one gate that every update passes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._training.failures import NOT_FINITE, FederatedTrainingError
from skfedfocal.aggregation import Aggregator
from skfedfocal.engines import Failure, Updates


class Tally:
    """Combines the replies to one task.

    A weighted mean is added up reply by reply; other aggregators see all updates at once, in an
    order drawn for the round. Replies that are not finite are left out.

    Parameters
    ----------
    aggregator : Aggregator
        What combines them.
    like : Tensor of shape (p,)
        Of the type, and on the device, of the aggregate.
    order : numpy.random.Generator or None, default=None
        Draws the order; None is that of the clients' numbers.

    Attributes
    ----------
    n_good : int
        Clients whose replies were taken in.
    failures : list of Failure
        The others, and why.
    n_replies : int
        Blocks of replies, or sums, that were taken in: a sum may be of nobody.
    objective : ndarray of shape (2,)
        Sum of the clients' losses by the weight of their rows, and of these weights.
    n_bytes : int
        Bytes of the replies.
    recalls : list of tuple
        Clients and their recalls, as they came.
    """

    def __init__(
        self, aggregator: Aggregator, like: Tensor, order: np.random.Generator | None = None
    ):
        self.n_good = 0
        self.failures: list[Failure] = []
        self.n_replies = 0
        self.objective = np.zeros(2)
        self.n_bytes = 0
        self.recalls: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        self._aggregator = aggregator
        self._like = like
        self._order = order
        self._weight: float = 0.0
        self._total = torch.zeros_like(like, dtype=torch.float64)
        self._collected: list[Updates] = []

    def add(self, reply: Updates | Failure) -> None:
        """Take in the replies of some clients."""
        if isinstance(reply, Failure):
            self.failures.append(reply)
            return
        self.n_bytes += len(reply.clients) * self._like.nbytes + reply.n_bytes
        good = reply.good()
        if not good.all():
            # Of a sum nothing can be used if one of them is bad.
            bad = ~good if len(good) == len(reply.clients) else np.full(len(reply.clients), True)
            self.failures += [Failure(k, NOT_FINITE) for k in reply.clients[bad].tolist()]
            if len(good) != len(reply.clients) or not good.any():
                return
            reply = reply.take(good)
        if self._aggregator.linear:
            reply.add_to(self._total, reply.weights)
        else:
            self._collected.append(reply)
        self._weight += float(reply.weights.sum())
        self.n_replies += 1
        self.n_good += len(reply.clients)
        self.objective += reply.objective.sum(0)
        if reply.recalls is not None:
            self.recalls.append((reply.clients, reply.recalls))

    def aggregate(self) -> Tensor:
        """The cohort's update, of shape (p,); of nobody, none at all."""
        if self.n_replies == 0 or (self._weight == 0 and not self._aggregator.linear):
            return torch.zeros_like(self._like)
        if self._aggregator.linear:
            return self._aggregator.divide(self._total, self._weight).to(self._like)
        updates, weights = self._in_order()
        found = self._aggregator(updates, weights)
        if not isinstance(found, Tensor) or found.shape != self._like.shape:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise FederatedTrainingError(
                f"{self._aggregator!r} must combine updates of shape {tuple(updates.shape)} into "
                f"one of shape {tuple(self._like.shape)}; found {shape}."
            )
        return found.to(self._like)

    def _in_order(self) -> tuple[Tensor, Tensor]:
        """Updates (m, p) and weights (m,): by number, or in an order drawn from there.

        It must not be that of arrival, which differs between engines and from run to run.
        """
        clients = np.concatenate([reply.clients for reply in self._collected])
        place = np.argsort(np.argsort(clients))
        if self._order is not None:
            place = self._order.permutation(len(place))[place]
        updates = self._collected[0].deltas.new_empty(len(place), len(self._like))
        weights = np.empty(len(place))
        done = 0
        for reply in self._collected:
            here = place[done : done + len(reply.clients)]
            updates[torch.as_tensor(here)] = reply.deltas
            weights[here] = reply.weights
            done += len(here)
        return updates, torch.as_tensor(weights)
