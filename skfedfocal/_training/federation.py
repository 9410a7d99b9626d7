"""A federated training in nouns: its parts, what the server carries on, what a round came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._data.clients import ClientStats
from skfedfocal._local import LocalPlan
from skfedfocal.aggregation import Aggregator
from skfedfocal.engines import Failure
from skfedfocal.selection import Selection
from skfedfocal.strategies import Strategy


@dataclass(frozen=True)
class Federation:
    """The parts of a federated training: the same in every round."""

    plan: LocalPlan
    selection: Selection
    aggregator: Aggregator
    strategy: Strategy
    n_selected: int
    min_clients: int
    client_ids: NDArray[Any]
    n_expected: int | None = None  # clients of a round to be reported, where their number is secret


@dataclass(frozen=True)
class ServerState:
    """What the server carries from one round to the next."""

    theta: Tensor
    stats: ClientStats
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    n_rounds: int = 0


@dataclass(frozen=True)
class Round:
    """What a round came to: a row of ``history_``.

    Attributes
    ----------
    round : int
        Number of the round, from 1.
    loss : float
        Mean training loss over the cohort, weighted by rows; NaN where nobody trained, and where
        it is nobody's to know.
    n_selected, n_failed : int
        Clients asked, and those of them that sent no update or one that was left out.
    bytes_down, bytes_up : int
        Bytes of parameters and scalars sent to and received from clients, answers to questions
        among them; but not what a training asks again when it goes on after a stop.
    seconds : float
        Wall time.
    validation_loss : float
        Mean loss, over validation rows, of the model that the round ended with; NaN where nobody
        was asked.
    failures : tuple of Failure
        Who failed, and why; no column of the history.
    epsilon : float
        What all releases up to this round's spend, at the training's delta; NaN without privacy.
    """

    round: int
    loss: float
    n_selected: int
    n_failed: int
    bytes_down: int
    bytes_up: int
    seconds: float
    validation_loss: float = float("nan")
    failures: tuple[Failure, ...] = ()
    epsilon: float = float("nan")
