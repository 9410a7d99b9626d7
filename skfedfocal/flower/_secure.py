"""Secure sums over a Grid: two exchanges a round, and one more where a cohort is new."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from skfedfocal._data.queries import Query
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal.engines import Failure, Model, Task, TooFewClients, Unanswered, Updates
from skfedfocal.engines._secure import (
    about_query,
    about_training,
    context_of,
    encoding_of,
    n_words,
    summed,
    warn_of_zeros,
)
from skfedfocal.flower._engine import GridEngine
from skfedfocal.flower._exchange import exchange
from skfedfocal.flower._messages import (
    ASK,
    KEYS_HAVE,
    SECURE_KEYS,
    SECURE_UNMASK,
    TRAIN,
    UNMASK_HAS,
    checked,
    read_facts,
    read_masked,
    write_facts,
    write_plan,
    write_theta,
)
from skfedfocal.privacy import SecureAggregation
from skfedfocal.privacy._secure import Encoding, SecureSumError, SessionServer
from skfedfocal.privacy._secure._digits import N_DIGITS, from_digits
from skfedfocal.privacy._secure._group import Found, size_of

if TYPE_CHECKING:
    from skfedfocal.privacy._plan import PrivateStep

_N_SESSIONS = 2  # kept, as at the sites


@dataclass
class Session:
    """A cohort that has agreed on keys.

    Attributes
    ----------
    number : int
        Of the protocol's round that opened it.
    n_clients : int
        Who were asked for keys, or could not be: what the terms go by.
    server : SessionServer
    told : dict of int to dict
        Of the cohort, to those members that have not joined yet.
    nodes : dict of int to int
        Where the members were.
    sound : set of int
        Members that have answered all they were asked.
    """

    number: int
    n_clients: int
    server: SessionServer
    told: dict[int, dict[str, Any]]
    nodes: dict[int, int]
    sound: set[int]


@dataclass
class Wanted:
    """A sum that is wanted.

    Attributes
    ----------
    kind : str
        Type of the message that asks for it.
    number : int
        Of the round of training, from 1; 0 for questions.
    common : dict
        What all sites are told.
    model : Model or None
        What it is about.
    encoding : Encoding or None
        Of updates.
    context : bytes
        Hash of what all must see alike.
    missing : dict of int to str
        Sites that are not in it, by number, and why.
    """

    kind: str
    number: int
    common: dict[str, Any]
    model: Model | None
    encoding: Encoding | None
    context: bytes
    missing: dict[int, str] = field(default_factory=dict)


@dataclass
class SecureGridEngine(GridEngine):
    """Trains and asks sites over a Grid, and has the sums of their replies alone.

    Attributes
    ----------
    secure : SecureAggregation
        The terms.
    step : PrivateStep or None
        Whose noise sites share, as `share_noise` has it; all weigh 1 then.
    """

    way = "at their sites, under secure sums"

    secure: SecureAggregation = field(default_factory=SecureAggregation)
    step: PrivateStep | None = None
    _sessions: dict[bytes, Session] = field(default_factory=dict, init=False)
    # Of the protocol. Sites answer no round twice, also where the server has begun anew.
    _n_rounds: int = field(default_factory=time.time_ns, init=False)

    def share_noise(self, step: PrivateStep, seed: int) -> None:
        """Have sites clip and add their shares of the noise; a seed is that of the plan."""
        self.step = step

    def train(self, task: Task) -> Iterator[Updates | Failure]:
        """Train the cohort and yield one sum, whose `clients` are the sites that are in it."""
        if len(task.cohort) == 0:
            return
        number = task.round + 1
        encoding = encoding_of(self.secure, self.sizes, task, self.step)
        common = {**self.task, "round": task.round, "wants_recall": False}
        common["plan"] = write_plan(task.plan)
        common["step"] = None if self.step is None else self.step.to_plain()
        context = context_of(about_training(self.step), task, encoding)
        wanted = Wanted(TRAIN, number, common, task, encoding, context)
        try:
            found, _ = self._sum(task.cohort, wanted)
        except SecureSumError as error:
            who = f"; not {self._in_words(wanted.missing)}" if wanted.missing else ""
            raise TooFewClients(
                f"Round {number}: there is no secure sum, for {error}{who}."
            ) from error
        for k, reason in sorted(wanted.missing.items()):
            yield Failure(k, reason)
        if found.n_useful < len(found.survivors):
            warn_of_zeros(number, len(found.survivors) - found.n_useful, self.secure.bound)
        if found.n_useful:
            reply = summed(found, encoding, task)
            # Whoever takes the updates counts these bytes, which are among those counted here.
            self.asked.up -= len(reply.clients) * task.theta.nbytes + reply.n_bytes
            yield reply

    def ask(
        self,
        query: Query,
        clients: NDArray[np.int64] | None = None,
        model: Model | None = None,
    ) -> NDArray[np.float64]:
        """The sum of the sites' answers, exact to one rounding, as `Engine.ask` has it."""
        clients = np.arange(len(self.sites)) if clients is None else clients
        plan = None if model is None else write_plan(model.plan)
        common = {**self.task, "query": query, "plan": plan}
        wanted = Wanted(ASK, 0, common, model, None, context_of(about_query(query), model))
        try:
            found, shape = self._sum(clients, wanted)
        except SecureSumError as error:
            who = f"; not {self._in_words(wanted.missing)}" if wanted.missing else ""
            raise Unanswered(f"there is no secure sum of the answers: {error}{who}") from error
        if found.n_useful < len(clients):
            raise Unanswered(
                f"{len(clients) - found.n_useful} of {len(clients)} sites gave no answer of use"
            )
        if model is not None:
            self.asked.down += len(clients) * model.theta.nbytes
        return from_digits(found.values).reshape(shape)

    def ask_each(self, query: Query, clients: NDArray[np.int64] | None = None) -> NoReturn:
        """Refused: no site's own answer is told."""
        raise InvalidParameterError(
            f"secure_aggregation cannot go with the answers of each site to {query!r}."
        )

    # -- a sum -----------------------------------------------------------------------------------

    def _sum(self, clients: NDArray[np.int64], wanted: Wanted) -> tuple[Found, tuple[int, ...]]:
        """One round of the protocol, and the shape of what is summed."""
        session, round_id = self._session(clients, wanted), self._next()
        encoding, model = wanted.encoding, wanted.model
        agreed = None
        if encoding is not None:
            agreed = encoding.bound, encoding.n_clients, encoding.max_weight
        more = {} if model is None else {"theta": write_theta(model.theta)}
        requests = {}
        for k in sorted(session.sound):
            secure = self._about(session, k)
            secure |= {"round_id": round_id, "encoding": agreed, "join": session.told.get(k)}
            self.asked.down += size_of(session.told.get(k, {}))
            task = {**self._told(k, wanted.common), "secure": secure}
            requests[k] = RecordDict({**more, "task": write_facts(task)})
        replies = self._exchange(requests, wanted.kind, wanted.missing, wanted.model)
        shape = self._take_in(session, replies, round_id, wanted)
        session.sound -= wanted.missing.keys()
        if wanted.missing and wanted.kind != TRAIN:  # the sum over the others would be no answer
            raise Unanswered(f"there is no answer from {self._in_words(wanted.missing)}")
        return self._unmask(session, wanted), shape

    def _take_in(
        self, session: Session, replies: Mapping[int, RecordDict], round_id: int, wanted: Wanted
    ) -> tuple[int, ...]:
        """Add the uploads up; the shape of what they hold, which is that of the first."""
        server, uploads = session.server, {}
        for k, content in replies.items():
            try:
                uploads[k] = read_masked(content)
            except Exception as error:  # made by something else than our app
                wanted.missing[k] = f"its reply cannot be read ({type(error).__name__})"
        shape = next(iter(uploads.values()))[1] if uploads else ()
        if wanted.kind == TRAIN and wanted.model is not None:
            server.n_values = n_words(wanted.model.theta.numel())
        else:
            server.n_values = int(np.prod(shape, dtype=int)) * N_DIGITS
        server.begin(round_id, wanted.context)
        for k, (upload, its_shape) in uploads.items():
            if its_shape != shape:
                wanted.missing[k] = f"its answer has shape {its_shape}, not {shape}"
                continue
            server.masked(k, upload)
            self.asked.up += size_of(upload)
            session.told.pop(k, None)
        wanted.missing |= server.left_out
        return shape

    def _unmask(self, session: Session, wanted: Wanted) -> Found:
        """Ask the survivors for what unmasks their sum."""
        told, requests = session.server.survivors(), {}
        for k, message in told.items():
            self.asked.down += size_of(message)
            facts = {**self._about(session, k), "told": message, "round": wanted.number}
            requests[k] = RecordDict({"task": write_facts(facts)})
        silent: dict[int, str] = {}
        replies = self._exchange(requests, SECURE_UNMASK, silent)
        answers = self._read_answers(replies, UNMASK_HAS, silent)
        session.sound -= silent.keys()
        try:
            total = session.server.unmask(answers).view(np.int64)
        except SecureSumError:
            wanted.missing |= silent
            raise
        return Found(total[1:], int(total[0]), list(told))

    def _session(self, clients: NDArray[np.int64], wanted: Wanted) -> Session:
        """That of the cohort; a new one where it is new, or where a site has come (back)."""
        online = set(self.grid.get_node_ids())
        if self.recognise is not None and not {self.sites[k].node for k in clients} <= online:
            self.recognise(online)
        there = {int(k) for k in clients if self.sites[k].node in online}
        key = clients.tobytes()
        session = self._sessions.pop(key, None)
        if session is not None:  # a site that is another node now has lost its keys
            session.sound &= {k for k, node in session.nodes.items() if self.sites[k].node == node}
        if session is None or not there <= session.sound:
            session = self._open(there, len(clients), wanted)
        self._sessions[key] = session  # the last one used comes last
        while len(self._sessions) > _N_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        for k in clients.tolist():
            if k not in there:
                wanted.missing.setdefault(k, "it is not connected")
                session.sound.discard(k)
        return session

    def _open(self, there: set[int], n: int, wanted: Wanted) -> Session:
        """Ask for keys, and say who is in."""
        opened = self._next()
        session = Session(opened, n, SessionServer(self.secure.terms(n), 0), {}, {}, set())
        requests = {}
        for k in sorted(there):
            facts = {**self._about(session, k), "round": wanted.number}
            requests[k] = RecordDict({"task": write_facts(facts)})
        replies = self._exchange(requests, SECURE_KEYS, wanted.missing)
        answers = self._read_answers(replies, KEYS_HAVE, wanted.missing)
        session.told = session.server.keys(opened, answers)
        session.nodes = {k: self.sites[k].node for k in session.told}
        session.sound = set(session.told)
        wanted.missing |= session.server.left_out
        return session

    def _read_answers(
        self, replies: Mapping[int, RecordDict], has: Mapping[str, type], missing: dict[int, str]
    ) -> dict[int, dict[str, Any]]:
        """What sites have answered, by number."""
        answers = {}
        for k, content in replies.items():
            try:
                answers[k] = checked(read_facts(content["facts"]), has)
                self.asked.up += size_of(answers[k])
            except Exception as error:  # made by something else than our app
                missing[k] = f"its reply cannot be read ({type(error).__name__})"
        return answers

    def _about(self, session: Session, k: int) -> dict[str, Any]:
        """What a site has to know of a session."""
        return {
            "session": session.number,
            "number": k,
            "site": self.sites[k].name,
            "n_clients": session.n_clients,
            "terms": self.secure,
        }

    def _exchange(
        self,
        requests: Mapping[int, RecordDict],
        kind: str,
        reasons: dict[int, str],
        model: Model | None = None,
    ) -> dict[int, RecordDict]:
        """Replies by number of the site."""
        nodes = {self.sites[k].node: k for k in requests}
        contents = {self.sites[k].node: content for k, content in requests.items()}
        replies, failures = exchange(self.grid, contents, kind, self.timeout)
        if model is not None and model.plan.private is not None:
            self._check_none_raised(failures)
        reasons |= {nodes[node]: failure.reason for node, failure in failures.items()}
        return {nodes[node]: content for node, content in replies.items()}

    def _next(self) -> int:
        self._n_rounds += 1
        return self._n_rounds
