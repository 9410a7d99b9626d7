"""Secure sums around an engine: of its clients' updates and answers, the sum alone comes out."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import chain
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from skfedfocal._data.queries import Query
from skfedfocal._plain import plain_or_repr, to_plain
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal.engines._around import EngineAround
from skfedfocal.engines._engine import (
    Engine,
    Failure,
    Model,
    Task,
    TooFewClients,
    Unanswered,
    Updates,
)
from skfedfocal.privacy import SecureAggregation
from skfedfocal.privacy._secure import Encoding, EncodingError, SecureSumError
from skfedfocal.privacy._secure._digits import N_DIGITS, from_digits, to_digits
from skfedfocal.privacy._secure._group import Dropped, Found, LocalSession

if TYPE_CHECKING:
    from skfedfocal.privacy._plan import PrivateStep

Integers = NDArray[np.int64]

_N_SESSIONS = 2  # kept: of the cohort, and of those who are asked
_ASKED_TOGETHER = 1 << 10  # clients whose answers are in memory at once
_N_OBJECTIVE = 2


class SecureEngine(EngineAround):
    """Trains and asks the clients of another engine by the true protocol of secure sums.

    Every key, share and mask is made as it would be between machines. Sessions last as long as
    their cohort: keys once, then two exchanges a round; a new cohort opens a new one.

    Parameters
    ----------
    within : Engine
        Whose clients they are, and what they do before they send.
    secure : SecureAggregation
        The terms.

    Attributes
    ----------
    dropped : mapping of int to mapping of str to collection of int
        Clients that vanish in a round (from 1; 0 for questions) at an exchange: "keys", "masked"
        or "unmask". For rehearsals; nobody does by itself.
    step : PrivateStep or None
        Where clients add their shares of noise: all then weigh 1, so that how updates are encoded
        tells nothing of numbers of rows.

    Notes
    -----
    Of a block of clients the updates are in memory, as without secure sums, and their matrix
    written out; of the rest one total, and two keys for each pair of neighbours.
    """

    def __init__(self, within: Engine, secure: SecureAggregation):
        super().__init__(within)
        self.secure = secure
        self.dropped: Mapping[int, Dropped] = {}
        self.step: PrivateStep | None = None
        self._sessions: dict[bytes, LocalSession] = {}
        self._n_rounds = 0  # of the protocol

    @property
    def way(self) -> str:  # type: ignore[override]
        """How clients are trained, in words."""
        return f"{self.within.way}, under secure sums"

    def share_noise(self, step: PrivateStep, seed: int) -> None:
        """Have clients clip and add their shares of the noise of a step before they mask.

        Parameters
        ----------
        step : PrivateStep
            Of a private training.
        seed : int
            Of noise in experiments.
        """
        from skfedfocal.engines._noisy_sum import MaskedNoiseEngine  # where it is asked for

        before = self.within
        if isinstance(before, MaskedNoiseEngine):
            before.step = step
        else:
            self.within = MaskedNoiseEngine(before, step, seed)
        self.step = step

    def train(self, task: Task) -> Iterator[Updates]:
        """Train the cohort and yield one sum, whose `clients` are those that are in it.

        Raises
        ------
        TooFewClients
            If too few are left to unmask it.
        """
        if len(task.cohort) == 0:
            return
        number, p = task.round + 1, task.theta.numel()
        encoding = encoding_of(self.secure, self.sizes, task, self.step)
        gone = self.dropped.get(number, {})
        try:
            session = self._session(task.cohort, gone)
            found = session.sum(
                self._next(),
                self._updates(replace(task, cohort=np.array(session.members)), encoding),
                n_words(p),
                context_of(about_training(self.step), task, encoding),
                gone,
            )
        except SecureSumError as error:
            raise TooFewClients(f"Round {number}: there is no secure sum, for {error}.") from error
        if found.n_useful < len(found.survivors):
            warn_of_zeros(number, len(found.survivors) - found.n_useful, self.secure.bound)
        if found.n_useful:
            reply = summed(found, encoding, task)
            self._account(session, counted=len(reply.clients) * task.theta.nbytes + reply.n_bytes)
            yield reply

    def ask(
        self,
        query: Query,
        clients: NDArray[np.int64] | None = None,
        model: Model | None = None,
    ) -> NDArray[np.float64]:
        """The sum of the clients' answers, exact to one rounding, as `Engine.ask` has it."""
        clients = np.arange(len(self.sizes)) if clients is None else clients
        parts = np.split(clients, range(_ASKED_TOGETHER, len(clients), _ASKED_TOGETHER))
        first = self.within._answers(query, parts[0], model)
        rest = (self.within._answers(query, part, model) for part in parts[1:])
        answers = zip(clients.tolist(), chain.from_iterable(chain([first], rest)), strict=True)
        shape, gone = first.shape[1:], self.dropped.get(0, {})
        try:
            session = self._session(clients, gone)
            found = session.sum(
                self._next(),
                ((k, digits(answer)) for k, answer in answers if k in session.clients),
                first[0].size * N_DIGITS,
                context_of(about_query(query), model),
                gone,
            )
        except SecureSumError as error:
            raise Unanswered(f"there is no secure sum of the answers: {error}") from error
        if found.n_useful < len(clients):
            raise Unanswered(
                f"{len(clients) - found.n_useful} of {len(clients)} clients gave no answer of use"
            )
        self._account(session)
        if model is not None:
            self.asked.down += len(clients) * model.theta.nbytes
        return from_digits(found.values).reshape(shape)

    def ask_each(self, query: Query, clients: NDArray[np.int64] | None = None) -> NoReturn:
        """Refused: nobody's own answer is told."""
        raise InvalidParameterError(
            f"secure_aggregation cannot go with the answers of each client to {query!r}."
        )

    def _answers(self, query: Query, clients: NDArray[np.int64], model: Model | None) -> NoReturn:
        self.ask_each(query)

    def _updates(self, task: Task, encoding: Encoding) -> Iterator[tuple[int, Integers | None]]:
        """What each client sends, block by block as they train."""
        for reply in self.within.train(task):
            if isinstance(reply, Failure):  # it must take part, or nothing could be unmasked
                yield reply.client, None
                continue
            deltas, good = reply.deltas.cpu().numpy(), reply.good()
            for i, client in enumerate(reply.clients.tolist()):
                own = None
                if good[i]:
                    own = words(deltas[i], float(reply.weights[i]), reply.objective[i], encoding)
                yield client, own

    def _session(self, clients: NDArray[np.int64], gone: Dropped) -> LocalSession:
        """That of the cohort; a new one where it is new, or where some are not in it yet."""
        key = clients.tobytes()
        session = self._sessions.pop(key, None)
        if session is None or len(session.members) < len(clients):
            terms = self.secure.terms(len(clients))
            absent = gone.get("keys", ())
            session = LocalSession(terms, clients.tolist(), self._next(), absent)
        self._sessions[key] = session  # the last one used comes last
        while len(self._sessions) > _N_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session

    def _next(self) -> int:
        self._n_rounds += 1
        return self._n_rounds

    def _account(self, session: LocalSession, counted: int = 0) -> None:
        """Count what was sent, less what whoever takes the updates counts of them."""
        up, down = session.take_bytes()
        self.asked.up += up - counted
        self.asked.down += down


def encoding_of(
    secure: SecureAggregation,
    sizes: NDArray[np.float64],
    task: Task,
    step: PrivateStep | None = None,
) -> Encoding:
    """How the updates of a round become integers: the server and all clients know as much."""
    if step is not None:  # then all clients weigh 1
        return secure.encoding(len(task.cohort), np.ones(1))
    weights = task.plan.class_weight
    between = 1.0, 1.0
    if isinstance(weights, np.ndarray):
        between = float(weights[weights > 0].min()), float(weights.max())
    return secure.encoding(len(task.cohort), sizes, between)


def n_words(n_parameters: int) -> int:
    """Integers that each client sends in a round: weight, weighted update, objective."""
    return 1 + n_parameters + _N_OBJECTIVE * N_DIGITS


def words(
    delta: NDArray[np.float64],
    weight: float,
    objective: NDArray[np.float64],
    encoding: Encoding,
) -> Integers | None:
    """A client's reply as integers of shape (n_words,); None where it is of no use."""
    try:
        update = encoding.encode(delta, weight).view(np.int64)
    except EncodingError:
        return None
    told = digits(objective)
    return np.concatenate([update, to_digits(np.zeros(_N_OBJECTIVE)) if told is None else told])


def summed(found: Found, encoding: Encoding, task: Task) -> Updates:
    """The reply of all survivors together."""
    n = 1 + task.theta.numel()
    total, weight = encoding.decode(found.values[:n].view(np.uint64))
    mean = torch.from_numpy(total / (weight or 1.0))
    return Updates(
        clients=np.array(found.survivors, np.int64),
        weights=np.array([weight]),
        objective=from_digits(found.values[n:])[None],
        deltas=mean[None].to(task.theta.device),
    )


def digits(values: NDArray[np.float64]) -> Integers | None:
    """A client's answer as integers; None where it is of no use."""
    try:
        return to_digits(np.ravel(values))
    except EncodingError:
        return None


def about_training(step: PrivateStep | None) -> str:
    """What updates are: as they are, or clipped and with a share of noise."""
    return "train" if step is None else f"train {json.dumps(step.to_plain(), sort_keys=True)}"


def about_query(query: Query) -> str:
    """What is asked: with all its parameters, for with less noise it were another question."""
    return f"ask {json.dumps(to_plain(plain_or_repr(query)), sort_keys=True)}"


def context_of(about: str, model: Model | None = None, encoding: Encoding | None = None) -> bytes:
    """What all must see alike in a sum: what is asked, of which model, and how it is encoded."""
    found = hashlib.sha256(about.encode())
    if model is not None:
        plan = {f.name: getattr(model.plan, f.name) for f in fields(model.plan)}
        found.update(model.theta.detach().cpu().numpy().tobytes())
        plain = {name: to_plain(plain_or_repr(value)) for name, value in plan.items()}
        found.update(json.dumps(plain, sort_keys=True).encode())
    if encoding is not None:
        numbers = encoding.bound, encoding.n_clients, encoding.max_weight, encoding.bits
        found.update(repr([float(number).hex() for number in numbers]).encode())
    return found.digest()


def warn_of_zeros(number: int, n: int, bound: float) -> None:
    """Say how many clients had nothing of use: the sum tells as much, and not which."""
    warnings.warn(
        f"Round {number}: {n} client(s) sent zeros with weight zero, for their update is not "
        f"finite or beyond bound={bound!r} of secure_aggregation.",
        RuntimeWarning,
        stacklevel=4,
    )
