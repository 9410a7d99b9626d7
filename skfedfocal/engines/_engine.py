"""The boundary between server and clients: what crosses it is what a server may see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._data.queries import Query
from skfedfocal._local import LocalPlan
from skfedfocal.engines._deltas import Deltas, DenseDeltas

if TYPE_CHECKING:
    from skfedfocal.privacy._plan import PrivateStep

_ASKED_TOGETHER = 1 << 14  # clients whose answers are in memory at once
_REASON = 300  # characters of an exception that are kept


@dataclass(frozen=True)
class Model:
    """A global model, and the plan whose loss and weights say what it is judged by."""

    theta: Tensor
    plan: LocalPlan


@dataclass(frozen=True)
class Task(Model):
    """What the server has the clients of a cohort do in a round.

    Attributes
    ----------
    theta : Tensor of shape (p,)
        The global model, from which each client trains.
    plan : LocalPlan
        How it trains, and what it counts.
    cohort : ndarray of shape (m,)
        Numbers of the clients that take part.
    round : int
        Number of the round, from 0; with the plan's seed it determines all shuffling.
    wants_recall : bool
        Whether clients report their recall of the model they are sent.
    """

    cohort: NDArray[np.int64]
    round: int
    wants_recall: bool = False

    @property
    def needs_recall(self) -> bool:
        """Whether clients evaluate the model they are sent, for themselves or to report it."""
        return self.wants_recall or self.plan.focus is not None


class Updates:
    """Replies of m clients to a task; or one sum for all of them.

    Parameters
    ----------
    clients : ndarray of shape (m,)
        Their numbers.
    weights : ndarray of shape (m,) or (1,)
        What each counts, or all of them together.
    objective : ndarray of shape (m, 2) or (1, 2)
        Mean of the local loss over the client's batches, as they were met in training, times the
        weight of its rows; and that weight.
    deltas : Tensor of shape (m, p) or (1, p), or Deltas
        Local model minus global model; of a sum, the mean by these weights.
    recalls : ndarray of shape (m,) or None
        Recall, on the client's own rows weighed by class, of the model it was sent, where wanted.
    """

    def __init__(
        self,
        clients: NDArray[np.int64],
        weights: NDArray[np.float64],
        objective: NDArray[np.float64],
        deltas: Tensor | Deltas,
        recalls: NDArray[np.float64] | None = None,
    ):
        self.clients = clients
        self.weights = weights
        self.objective = objective
        self.recalls = recalls
        self._deltas = DenseDeltas(deltas) if isinstance(deltas, Tensor) else deltas

    @property
    def deltas(self) -> Tensor:
        """Local model minus global model, of shape (m, p)."""
        return self._deltas.matrix()

    @property
    def n_bytes(self) -> int:
        """Bytes of the scalars that come with the updates."""
        scalars = (self.weights, self.objective, self.recalls)
        return sum(values.nbytes for values in scalars if values is not None)

    def add_to(self, total: Tensor, weights: NDArray[np.float64]) -> None:
        """Add ``weights @ deltas`` to a total in double precision, of shape (p,)."""
        self._deltas.add_to(total, weights)

    def good(self) -> NDArray[np.bool_]:
        """Which replies can be used: finite throughout, with a weight of at least 0; (m,)."""
        weighed = np.isfinite(self.weights) & (self.weights >= 0)
        return self._deltas.finite() & weighed

    def take(self, keep: NDArray[np.bool_]) -> Updates:
        """Only some of the replies."""
        return Updates(
            self.clients[keep],
            self.weights[keep],
            self.objective[keep],
            self.deltas[torch.as_tensor(keep)],
            None if self.recalls is None else self.recalls[keep],
        )


@dataclass(frozen=True)
class Failure:
    """A client that gives no usable reply, and why.

    Attributes
    ----------
    client : int
        Its number.
    reason : str
        In words.
    error : Exception or None
        What its module or its data raised, where that is known.
    """

    client: int
    reason: str
    error: Exception | None = None

    @classmethod
    def of(cls, client: int | np.int64, error: Exception) -> Failure:
        """What an exception comes to."""
        text = " ".join(str(error).split())
        return cls(int(client), f"{type(error).__name__}: {text}"[:_REASON].rstrip(": "), error)


@dataclass
class Traffic:
    """Bytes of questions and of answers to them."""

    down: int = 0
    up: int = 0


class Unanswered(RuntimeError):
    """Raised where not all clients answer a question; says which and why."""


class TooFewClients(RuntimeError):
    """Raised where fewer clients replied than a round needs."""


@dataclass
class Engine(ABC):
    """A federation of clients that can be asked and trained.

    Attributes
    ----------
    way : str
        How clients are trained, in words.
    asked : Traffic
        What questions have cost since somebody last looked.
    """

    way = "somewhere else"
    asked: Traffic = field(default_factory=Traffic, init=False)

    @property
    def tells_rows(self) -> bool:
        """Whether numbers of rows are the exact ones; else powers of ten above, or nothing."""
        return True

    def share_noise(self, step: PrivateStep, seed: int) -> None:
        """Have clients add their shares of noise: where their updates are seen as sums alone."""
        raise NotImplementedError(f"{type(self).__name__} has no secure sums.")

    @property
    def clips_rows(self) -> bool:
        """Whether it can bound the influence of single rows."""
        return False

    @property
    @abstractmethod
    def sizes(self) -> NDArray[np.float64]:
        """Sum of sample weights of each client, of shape (n_clients,)."""

    @property
    @abstractmethod
    def n_rows(self) -> NDArray[np.float64]:
        """Number of rows of each client, of shape (n_clients,)."""

    @abstractmethod
    def train(self, task: Task) -> Iterator[Updates | Failure]:
        """Train the clients of the task's cohort, each on its own rows.

        Yields
        ------
        reply : Updates or Failure
            The replies, in blocks of any size and order; and who gives none, and why.
        """

    def can_use(self, theta: Tensor, before: Tensor) -> bool:
        """Whether a model gives finite numbers where that before did, as far as is seen here."""
        return True

    def ask(
        self,
        query: Query,
        clients: NDArray[np.int64] | None = None,
        model: Model | None = None,
    ) -> NDArray[np.float64]:
        """The sum of the clients' answers; of all clients where none are named.

        Raises
        ------
        Unanswered
            If one of them gives no answer.
        """
        clients = np.arange(len(self.sizes)) if clients is None else clients
        parts = np.split(clients, range(_ASKED_TOGETHER, len(clients), _ASKED_TOGETHER))
        total = self._asked(query, parts[0], model).sum(0)
        for part in parts[1:]:
            total = total + self._asked(query, part, model).sum(0)
        return total

    def ask_each(
        self, query: Query, clients: NDArray[np.int64] | None = None
    ) -> NDArray[np.float64]:
        """The answers one by one, of shape (m, ...); of all clients where none are named."""
        return self._asked(query, np.arange(len(self.sizes)) if clients is None else clients, None)

    def _asked(
        self, query: Query, clients: NDArray[np.int64], model: Model | None
    ) -> NDArray[np.float64]:
        found = self._answers(query, clients, model)
        self.asked.up += found.nbytes
        if model is not None:
            self.asked.down += len(clients) * model.theta.numel() * model.theta.element_size()
        return found

    @abstractmethod
    def _answers(
        self, query: Query, clients: NDArray[np.int64], model: Model | None
    ) -> NDArray[np.float64]:
        """Answers of some clients, of shape (m, ...)."""
