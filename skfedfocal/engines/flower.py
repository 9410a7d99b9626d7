"""The engine over Flower's Grid: each client is a site, a node of its own."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._local import LocalPlan
from skfedfocal._plain import from_plain, to_plain
from skfedfocal.engines._engine import Engine, Updates

STATISTICS = "query.statistics"
COUNTS = "query.counts"
TRAIN = "train"
_POLL_SECONDS = 0.5
# Flower's own error codes, in words; the texts that come with them are not passed on.
_FLOWER_ERRORS = {
    1: "its app could not be loaded",
    2: "its app raised an exception",
    3: "the message was no longer available",
    4: "the reply was no longer available",
    5: "it is not available",
    7: "its app is not the one of this run",
    8: "its app stopped responding",
}


class SiteError(ValueError):
    """Raised where the sites do not make a federation; names the site and what is wrong."""


@dataclass
class Site:
    """A client behind the Grid, as of round 0.

    Attributes
    ----------
    name : str
        As the site's own configuration has it.
    node : int
        The node that it is at present; another one after it came back.
    facts : dict
        Its reply to round 0.
    """

    name: str
    node: int
    facts: dict[str, Any]


@dataclass
class Failure:
    """A site that a round had to do without."""

    round: int
    site: str
    reason: str


@dataclass
class GridEngine(Engine):
    """Trains sites over a Grid; the numbers are those of the in-process engine that sites use.

    Attributes
    ----------
    grid : Grid
        Flower's, or `SimulatedSites`.
    sites : list of Site
        Sorted by name; the position is the client's number.
    rows : ndarray of shape (n_sites,)
        Weight of the rows that each trains on.
    counts : ndarray of shape (n_sites, n_classes) or None
        How many of them are of each class, where round 0 asked for that.
    task : dict
        What sites need to know besides model and plan: classes, module, scaling.
    min_clients : int
        Good replies without which a round fails.
    timeout : float
        Seconds within which a site has to reply.
    recognise : callable or None
        Asks new nodes which site they are; finds sites that came back as another node.
    failures : list of Failure
        What went wrong so far.
    """

    grid: Grid
    sites: list[Site]
    rows: NDArray[np.float64]
    counts: NDArray[np.float64] | None
    task: dict[str, Any]
    min_clients: int
    timeout: float
    recognise: Callable[[set[int]], None] | None = None
    failures: list[Failure] = field(default_factory=list)

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Weight of the rows that each site trains on, of shape (n_sites,)."""
        return self.rows

    def label_counts(self) -> NDArray[np.float64]:
        """Weighted rows by site and class; asked for now if not in round 0."""
        if self.counts is None:
            self.recount(label_counts=True)
        assert self.counts is not None
        return self.counts

    def recount(self, *, label_counts: bool) -> None:
        """Ask every site again for the weight of the rows it trains on, also by class."""
        common = {**self.task, "label_counts": label_counts}
        tasks = {
            site.node: {**common, "number": k, "site": site.name}
            for k, site in enumerate(self.sites)
        }
        answers, failures = ask(self.grid, tasks, COUNTS, self.timeout)
        if failures:
            reasons = {
                k: failures[site.node].reason
                for k, site in enumerate(self.sites)
                if site.node in failures
            }
            raise SiteError(f"Round 0 failed at {self._in_words(reasons)}.")
        found = [answers[site.node][1] for site in self.sites]
        self.rows = np.array([float(reply["size"]) for reply in found])
        if label_counts:
            self.counts = np.array([reply["label_counts"] for reply in found], np.float64)

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
        """Train the sites of the cohort, as `Engine.train` has it; replies come by number."""
        common = {
            **self.task,
            "round": round_,
            "want_recall": want_recall,
            "want_validation": want_validation,
            "plan": {f.name: getattr(plan, f.name) for f in fields(plan)},
        }
        model = ArrayRecord({"theta": Array(theta.cpu().numpy())})
        online = set(self.grid.get_node_ids())
        if self.recognise is not None and not {self.sites[k].node for k in cohort} <= online:
            self.recognise(online)
        requests, reasons = {}, {}
        for k in cohort:
            site = self.sites[k]
            if site.node in online:
                task = write_facts({**common, "number": int(k), "site": site.name})
                requests[site.node] = RecordDict({"theta": model, "task": task})
            else:
                reasons[int(k)] = "it is not connected"
        replies, failures = exchange(self.grid, requests, TRAIN, self.timeout)
        good = []
        for k in cohort:
            site = self.sites[k]
            if site.node in replies:
                try:
                    good.append(
                        self._read(replies[site.node], int(k), theta, want_recall, want_validation)
                    )
                except _BadReply as bad:
                    reasons[int(k)] = str(bad)
            elif site.node in failures:
                reasons[int(k)] = failures[site.node].reason
        for k, reason in sorted(reasons.items()):
            self.failures.append(Failure(round_ + 1, self.sites[k].name, reason))
        needed = min(self.min_clients, len(cohort))
        if len(good) < needed:
            hint = ""
            if any("not finite" in reason for reason in reasons.values()):
                hint = " The training diverged; lower learning_rate, or scale the columns."
            raise TooFewClients(
                f"Round {round_ + 1}: {len(good)} of {len(cohort)} sites replied well, but "
                f"{needed} are needed; not {self._in_words(reasons)}.{hint}"
            )
        if reasons:
            warnings.warn(
                f"Round {round_ + 1} goes on without {self._in_words(reasons)}.",
                RuntimeWarning,
                stacklevel=2,
            )
        yield from good

    def _read(
        self,
        content: RecordDict,
        number: int,
        theta: Tensor,
        want_recall: bool,
        want_validation: bool,
    ) -> Updates:
        """Check a reply and take it apart; its size is that of round 0, whatever it says."""
        try:
            delta = _read_delta(content, theta.cpu().numpy())
            loss, recall, validation = _read_report(content, want_recall, want_validation)
        except _BadReply:
            raise
        except Exception as error:
            raise _BadReply(f"its reply cannot be read ({type(error).__name__})") from error
        return Updates(
            clients=np.array([number]),
            sizes=self.sizes[[number]],
            losses=np.array([loss]),
            recalls=None if recall is None else np.array([recall]),
            validation=None if validation is None else np.array([validation]),
            deltas=torch.from_numpy(delta.copy()).to(theta)[None],
        )

    def _in_words(self, reasons: Mapping[int, str]) -> str:
        return "; ".join(f"{self.sites[k].name!r} ({reasons[k]})" for k in sorted(reasons))


class TooFewClients(RuntimeError):
    """Raised where fewer sites replied than a round needs."""


class NoReply(NamedTuple):
    """Why a node gave no reply: its name where it said so, and whether it said nothing at all."""

    name: str | None
    reason: str
    silent: bool = False


def exchange(
    grid: Grid, requests: Mapping[int, RecordDict], kind: str, timeout: float
) -> tuple[dict[int, RecordDict], dict[int, NoReply]]:
    """Send each node its message and wait for the replies.

    Parameters
    ----------
    grid : Grid
        Flower's, or `SimulatedSites`.
    requests : dict of int to RecordDict
        Contents by node.
    kind : str
        Message type.
    timeout : float
        Seconds for all of them together, and the messages' time to live.

    Returns
    -------
    replies : dict of int to RecordDict
        By node.
    failures : dict of int to NoReply
        Why the other nodes have none.
    """
    if not requests:
        return {}, {}
    deadline = time.monotonic() + timeout
    create = getattr(grid, "message", _message)  # SimulatedSites makes its own
    messages = [create(content, node, kind, timeout) for node, content in requests.items()]
    sent = zip(grid.push_messages(messages), requests, strict=False)
    waiting = {message_id: node for message_id, node in sent if message_id is not None}
    failures = {
        node: NoReply(None, "it could not be sent to")
        for node in requests
        if node not in waiting.values()
    }
    replies = {}
    while waiting:
        for reply in grid.pull_messages(list(waiting)):
            node = waiting.pop(reply.metadata.reply_to_message_id, None)
            if node is None:
                continue  # a second reply of the same node
            if reply.has_error():
                reason = _FLOWER_ERRORS.get(reply.error.code, "Flower reports an error")
                failures[node] = NoReply(None, reason)
            elif "error" in reply.content:
                failures[node] = _read_error(reply.content)
            else:
                replies[node] = reply.content
        if waiting and time.monotonic() > deadline:
            late = NoReply(None, f"no reply within {timeout:g} s", silent=True)
            failures |= dict.fromkeys(waiting.values(), late)
            break
        if waiting:
            time.sleep(_POLL_SECONDS)
    return replies, failures


def ask(
    grid: Grid, tasks: Mapping[int, Any], kind: str, timeout: float
) -> tuple[dict[int, tuple[str, dict[str, Any]]], dict[int, NoReply]]:
    """Ask nodes for facts; returns their names and facts, and why others have none."""
    requests = {node: RecordDict({"task": write_facts(task)}) for node, task in tasks.items()}
    replies, failures = exchange(grid, requests, kind, timeout)
    answers = {}
    for node, content in replies.items():
        try:
            who = read_facts(content["site"])
            facts = read_facts(content["facts"])
            answers[node] = str(who["name"]), {**facts, "version": who["version"]}
        except Exception as error:
            failures[node] = NoReply(None, f"its reply cannot be read ({type(error).__name__})")
    return answers, failures


def _message(content: RecordDict, node: int, kind: str, timeout: float) -> Message:
    return Message(content, node, kind, ttl=timeout)


# -- contents of messages ------------------------------------------------------------------------


def write_facts(value: Any) -> ConfigRecord:
    """Plain data as a record: one text."""
    return ConfigRecord({"json": json.dumps(to_plain(value))})


def read_facts(record: Any) -> Any:
    """The value of `write_facts`."""
    return from_plain(json.loads(record["json"]))


def read_plan(described: dict[str, Any]) -> LocalPlan:
    """The plan that a round's task describes."""
    return LocalPlan(**described)


def read_theta(content: RecordDict) -> Tensor:
    """The global model in a round's message."""
    return torch.from_numpy(content["theta"]["theta"].numpy().copy())


def write_updates(updates: Updates) -> RecordDict:
    """A site's reply: its update and what it reports."""
    report = {
        "loss": float(updates.losses[0]),
        "recall": None if updates.recalls is None else float(updates.recalls[0]),
        "validation": None if updates.validation is None else updates.validation[0].tolist(),
    }
    delta = Array(updates.deltas[0].cpu().numpy())
    return RecordDict({"delta": ArrayRecord({"delta": delta}), "report": write_facts(report)})


def module_name(module: Any) -> str | None:
    """How a module parameter is called on the wire; None is the default MLP."""
    if module is None:
        return None
    return str(getattr(module, "__qualname__", type(module).__qualname__))


def write_error(error: BaseException) -> RecordDict:
    """A reply that says which type of exception ended the work, and nothing of what it says."""
    return RecordDict({"error": ConfigRecord({"type": type(error).__name__})})


def _read_error(content: RecordDict) -> NoReply:
    kind = str(content["error"].get("type", ""))
    kind = kind if kind.isidentifier() and len(kind) <= 80 else "an error"
    try:
        name = str(read_facts(content["site"])["name"])
    except Exception:  # made by something else than our app
        name = None
    return NoReply(name, f"{kind}, see the site's own log")


class _BadReply(ValueError):
    """A reply that is not what was asked for."""


def _read_delta(content: RecordDict, wanted: NDArray[Any]) -> NDArray[Any]:
    """A site's update, checked against the model it was sent before a byte is decoded."""
    array = content["delta"]["delta"]
    if tuple(array.shape) != wanted.shape or array.dtype != str(wanted.dtype):
        raise _BadReply(
            f"its update has shape {tuple(array.shape)} and type {array.dtype}, "
            f"not {wanted.shape} and {wanted.dtype}"
        )
    if len(array.data) > wanted.nbytes + 4096:
        raise _BadReply(f"its update has {len(array.data)} bytes")
    delta = array.numpy()
    if delta.shape != wanted.shape or delta.dtype != wanted.dtype:
        raise _BadReply("its update is not what its head says")
    if not np.isfinite(delta).all():
        raise _BadReply("its update is not finite")
    return delta


def _read_report(
    content: RecordDict, want_recall: bool, want_validation: bool
) -> tuple[float, float | None, list[float] | None]:
    """Loss, and recall and validation where asked for, each within its range."""
    report = read_facts(content["report"])
    loss = float(report["loss"])
    recall = float(report["recall"]) if want_recall else None
    validation = [float(v) for v in report["validation"]] if want_validation else None
    if not np.isfinite(loss):
        raise _BadReply(f"its loss is {loss}")
    if recall is not None and not 0 <= recall <= 1 + 1e-9:
        raise _BadReply(f"its recall is {recall}")
    if validation is not None and (len(validation) != 2 or not np.isfinite(validation).all()):
        raise _BadReply(f"its validation loss is {validation}")
    return loss, recall, validation
