"""A site's side of secure sums, whose protocol state lives in the node's Context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from skfedfocal.engines import Model, Updates
from skfedfocal.engines._secure import (
    Integers,
    about_query,
    about_training,
    context_of,
    digits,
    n_words,
    words,
)
from skfedfocal.flower._messages import read_facts, read_step, write_facts, write_masked
from skfedfocal.privacy import SecureAggregation
from skfedfocal.privacy._secure import Encoding, SecureSumError, SessionClient
from skfedfocal.privacy._secure._digits import N_DIGITS

_PLACE = "skfedfocal.secure"
_N_SESSIONS = 2  # kept: of the cohort, and of those who are asked


def keys(state: RecordDict, task: Mapping[str, Any]) -> RecordDict:
    """Open a session: fresh public keys.

    Parameters
    ----------
    state : RecordDict
        The node's own, which lasts from message to message.
    task : mapping
        What `SecureGridEngine` says of the session.
    """
    kept = _kept(state)
    # No session goes back behind what this site has answered before.
    client = SessionClient(int(task["number"]), _terms(task), last_round=kept["last_round"])
    answer = client.keys(int(task["session"]))
    _keep(state, kept, task, client)
    return RecordDict({"facts": write_facts(answer)})


def train(state: RecordDict, task: Mapping[str, Any], model: Model, updates: Updates) -> RecordDict:
    """Masked: weight, weighted update and objective of one client."""
    encoding = _encoding(task)
    own = None
    if updates.good()[0]:
        delta = updates.deltas[0].cpu().numpy()
        own = words(delta, float(updates.weights[0]), updates.objective[0], encoding)
    size = n_words(model.theta.numel())
    about = context_of(about_training(read_step(task.get("step"))), model, encoding)
    return _masked(state, task, own, size, about, (model.theta.numel(),))


def answer(
    state: RecordDict, task: Mapping[str, Any], model: Model | None, found: NDArray[np.float64]
) -> RecordDict:
    """Masked: the answer to a question."""
    about = context_of(about_query(task["query"]), model)
    return _masked(state, task, digits(found), found.size * N_DIGITS, about, found.shape)


def unmask(state: RecordDict, task: Mapping[str, Any]) -> RecordDict:
    """What unmasks the sum of the survivors."""
    kept, client = _kept(state), _client(state, task)
    try:
        told = client.unmask(task["told"])
    finally:  # whatever came of it, it is answered once
        _keep(state, kept, task, client)
    return RecordDict({"facts": write_facts(told)})


def cohort_size(state: RecordDict, secure: Mapping[str, Any]) -> int:
    """Clients that mask with this one: of the cohort that it joins, or has joined."""
    if secure["join"] is not None:
        return len(set(secure["join"]["ids"]))
    return _client(state, secure).cohort_size


def _masked(
    state: RecordDict,
    task: Mapping[str, Any],
    own: Integers | None,
    size: int,
    about: bytes,
    shape: tuple[int, ...],
) -> RecordDict:
    secure = task["secure"]
    kept, client = _kept(state), _client(state, secure)
    try:
        if secure["join"] is not None:
            client.join(secure["join"])
        integers = np.zeros(size, np.int64) if own is None else own
        upload = client.masked(int(secure["round_id"]), integers, float(own is not None), about)
    finally:
        _keep(state, kept, secure, client)
    return write_masked(upload, shape)


def _terms(task: Mapping[str, Any]) -> Any:
    part = task["terms"]
    if not isinstance(part, SecureAggregation):
        raise TypeError(f"{type(part).__name__} has no terms of secure sums.")
    part.check_params()
    return part.terms(int(task["n_clients"]))


def _encoding(task: Mapping[str, Any]) -> Encoding:
    bound, n_clients, max_weight = task["secure"]["encoding"]
    if bound != task["secure"]["terms"].bound:
        raise SecureSumError("the bound is not that of the terms")
    return Encoding(float(bound), int(n_clients), float(max_weight))


# -- what lasts ----------------------------------------------------------------------------------


def _kept(state: RecordDict) -> dict[str, Any]:
    if _PLACE not in state:
        return {"last_round": -1, "sessions": {}}
    return read_facts(state[_PLACE])


def _keep(
    state: RecordDict, kept: dict[str, Any], task: Mapping[str, Any], client: SessionClient
) -> None:
    """Write the client down before anything that it has said leaves the site."""
    sessions = kept["sessions"]
    sessions.pop(task["session"], None)
    sessions[task["session"]] = client.state()  # the last one used comes last
    while len(sessions) > _N_SESSIONS:
        del sessions[next(iter(sessions))]
    last = max(kept["last_round"], client.last_round)
    state[_PLACE] = write_facts({"last_round": last, "sessions": sessions})


def _client(state: RecordDict, task: Mapping[str, Any]) -> SessionClient:
    sessions = _kept(state)["sessions"]
    if task["session"] not in sessions:
        raise SecureSumError(f"session {task['session']} is not known here")
    client = SessionClient(int(task["number"]), _terms(task))
    client.restore(sessions[task["session"]])
    return client
