"""Messages to nodes and their replies, within a time; and why a node gave none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from skfedfocal.flower._messages import BadReply, read_facts, write_facts

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


class NoReply(NamedTuple):
    """Why a node gave no reply.

    Its name where it said so, whether it said nothing at all, and what its app raised if it did.
    """

    name: str | None
    reason: str
    silent: bool = False
    raised: str | None = None


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
    grid: Grid,
    tasks: Mapping[int, Any],
    kind: str,
    timeout: float,
    more: Mapping[str, Any] | None = None,
    check: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[dict[int, tuple[str, dict[str, Any]]], dict[int, NoReply]]:
    """Ask nodes for facts; returns their names and facts, and why others have none.

    Every message has the further records, too. Facts that do not pass the check, which raises
    `BadReply`, are no answer.
    """
    requests = {
        node: RecordDict({**(more or {}), "task": write_facts(task)})
        for node, task in tasks.items()
    }
    replies, failures = exchange(grid, requests, kind, timeout)
    answers = {}
    for node, content in replies.items():
        try:
            who = read_facts(content["site"])
            facts = read_facts(content["facts"])
            if check is not None:
                check(facts)
            answers[node] = str(who["name"]), {**facts, "version": who["version"]}
        except BadReply as bad:
            failures[node] = NoReply(str(who["name"]), str(bad))
        except Exception as error:
            failures[node] = NoReply(None, f"its reply cannot be read ({type(error).__name__})")
    return answers, failures


def _message(content: RecordDict, node: int, kind: str, timeout: float) -> Message:
    return Message(content, node, kind, ttl=timeout)


def _read_error(content: RecordDict) -> NoReply:
    kind = str(content["error"].get("type", ""))
    kind = kind if kind.isidentifier() and len(kind) <= 80 else "an error"
    try:
        name = str(read_facts(content["site"])["name"])
    except Exception:  # made by something else than our app
        name = None
    return NoReply(name, f"{kind}, see the site's own log", raised=kind)
