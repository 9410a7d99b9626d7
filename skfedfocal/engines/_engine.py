"""The boundary between server and clients: what crosses it is what a server may see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._local import LocalPlan
from skfedfocal.engines._deltas import Deltas, DenseDeltas


class Updates:
    """Replies of m clients to the global model they were sent.

    Parameters
    ----------
    clients : ndarray of shape (m,)
        Client numbers.
    sizes : ndarray of shape (m,)
        Sum of the sample weights of the client's rows.
    mean_weights : ndarray of shape (m,)
        Mean class weight of the client's rows; 1 without class weights. The client counts by its
        size times this. With two classes it tells how many rows of each the client has.
    losses : ndarray of shape (m,)
        Mean of the local loss over the client's batches, as they were met in training.
    recalls : ndarray of shape (m,) or None
        Recall, on the client's own rows weighed by class, of the model it was sent.
    validation : ndarray of shape (m, 2) or None
        Sum of the objective's loss over the client's validation rows, of the model it was sent, and
        their weight.
    deltas : Tensor of shape (m, p) or Deltas
        Local model minus global model.
    """

    def __init__(
        self,
        clients: NDArray[np.int64],
        sizes: NDArray[np.float64],
        mean_weights: NDArray[np.float64],
        losses: NDArray[np.float64],
        recalls: NDArray[np.float64] | None,
        validation: NDArray[np.float64] | None,
        deltas: Tensor | Deltas,
    ):
        self.clients = clients
        self.sizes = sizes
        self.mean_weights = mean_weights
        self.losses = losses
        self.recalls = recalls
        self.validation = validation
        self._deltas = DenseDeltas(deltas) if isinstance(deltas, Tensor) else deltas

    @property
    def deltas(self) -> Tensor:
        """Local model minus global model, of shape (m, p)."""
        return self._deltas.matrix()

    def add_to(self, total: Tensor, weights: NDArray[np.float64]) -> None:
        """Add ``weights @ deltas`` to a total in double precision, of shape (p,)."""
        self._deltas.add_to(total, weights)

    def finite(self) -> NDArray[np.bool_]:
        """Which updates are finite throughout, of shape (m,)."""
        return self._deltas.finite()

    def take(self, keep: NDArray[np.bool_]) -> Updates:
        """Only some of the replies."""
        return Updates(
            self.clients[keep],
            self.sizes[keep],
            self.mean_weights[keep],
            self.losses[keep],
            None if self.recalls is None else self.recalls[keep],
            None if self.validation is None else self.validation[keep],
            self.deltas[torch.as_tensor(keep)],
        )


class Engine(ABC):
    """A federation of clients that can be counted and trained."""

    way = "somewhere else"  # how clients are trained, in words

    @property
    @abstractmethod
    def sizes(self) -> NDArray[np.float64]:
        """Sum of sample weights of each client, of shape (n_clients,)."""

    @abstractmethod
    def label_counts(self) -> NDArray[np.float64]:
        """Weighted rows by client and class, of shape (n_clients, n_classes).

        For selections that need each client's; others are content with `label_totals`.
        """

    def label_totals(self) -> NDArray[np.float64]:
        """Weighted rows by class, summed over all clients, of shape (n_classes,)."""
        return self.label_counts().sum(0)

    @abstractmethod
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
        """Train the clients of the cohort from the global model, each on its own rows.

        Parameters
        ----------
        theta : Tensor of shape (p,)
            The global model.
        cohort : ndarray of shape (m,)
            Numbers of the clients that take part.
        round_ : int
            Number of the round, from 0; with the plan's seed it determines all shuffling.
        plan : LocalPlan
            How each client trains.
        want_recall : bool, default=False
            Whether clients report their recall of the global model.
        want_validation : bool, default=False
            Whether clients report the loss of the global model on their validation rows.

        Yields
        ------
        updates : Updates
            The replies, in blocks of any size and order.
        """
