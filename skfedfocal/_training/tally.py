"""A round's replies, taken in as they come: the one gate that every update passes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal.aggregation import Aggregator
from skfedfocal.engines import Updates


class FederatedTrainingError(ValueError):
    """Raised where a round cannot end with a usable model; an earlier good one is kept."""


class Tally:
    """Combines the replies to one task.

    A weighted mean is added up reply by reply; other aggregators see all updates at once. Replies
    that are not finite are left out.

    Parameters
    ----------
    aggregator : Aggregator
        What combines them.
    like : Tensor of shape (p,)
        Of the type, and on the device, of the aggregate.

    Attributes
    ----------
    n_good : int
        Clients whose replies were taken in.
    n_replies : int
        Blocks of replies, or sums, that were taken in: a sum may be of nobody.
    left_out : list of int
        Numbers of those whose replies were not.
    objective : ndarray of shape (2,)
        Sum of the clients' losses by the weight of their rows, and of these weights.
    n_bytes : int
        Bytes of the replies.
    recalls : list of tuple
        Clients and their recalls, as they came.
    """

    def __init__(self, aggregator: Aggregator, like: Tensor):
        self.n_good = 0
        self.n_replies = 0
        self.left_out: list[int] = []
        self.objective = np.zeros(2)
        self.n_bytes = 0
        self.recalls: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        self._aggregator = aggregator
        self._like = like
        self._weight: float = 0.0
        self._total = torch.zeros_like(like, dtype=torch.float64)
        self._collected: list[tuple[Tensor, NDArray[np.float64]]] = []

    def add(self, reply: Updates) -> None:
        """Take in the replies of some clients."""
        self.n_bytes += len(reply.clients) * self._like.nbytes + reply.n_bytes
        good = reply.good()
        if not good.all():
            # Of a sum nothing can be used if one of them is bad.
            bad = ~good if len(good) == len(reply.clients) else np.full(len(reply.clients), True)
            self.left_out += reply.clients[bad].tolist()
            if len(good) != len(reply.clients) or not good.any():
                return
            reply = reply.take(good)
        if self._aggregator.linear:
            reply.add_to(self._total, reply.weights)
        else:
            self._collected.append((reply.deltas, reply.weights))
        self._weight += float(reply.weights.sum())
        self.n_replies += 1
        self.n_good += len(reply.clients)
        self.objective += reply.objective.sum(0)
        if reply.recalls is not None:
            self.recalls.append((reply.clients, reply.recalls))

    def aggregate(self) -> Tensor:
        """The cohort's update, of shape (p,); of nobody, none at all."""
        if self.n_replies == 0:
            return torch.zeros_like(self._like)
        if self._aggregator.linear:
            return self._aggregator.divide(self._total, self._weight).to(self._like)
        deltas, weights = zip(*self._collected, strict=True)
        found = self._aggregator(torch.cat(deltas), torch.as_tensor(np.concatenate(weights)))
        if not isinstance(found, Tensor) or found.shape != self._like.shape:
            shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise FederatedTrainingError(
                f"{self._aggregator!r} must combine updates of shape {tuple(deltas[0].shape)} into "
                f"one of shape {tuple(self._like.shape)}; found {shape}."
            )
        return found.to(self._like)
