"""What messages say: plain data and arrays as Flower's records, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._focus import Focus
from skfedfocal._local import LocalPlan
from skfedfocal._plain import from_plain, to_plain
from skfedfocal.engines import Updates

STATISTICS = "query.statistics"
ASK = "query.ask"
TRAIN = "train"
SECURE_KEYS = "query.secure_keys"
SECURE_UNMASK = "query.secure_unmask"
# What the protocol's answers hold; dicts are from numbers of clients to bytes.
KEYS_HAVE = {"keys": bytes, "signature": bytes}
UPLOAD_HAS = {"shares": dict, "commitment": bytes}
UNMASK_HAS = {"seed": dict, "pair": dict}


def write_facts(value: Any) -> ConfigRecord:
    """Plain data as a record: one text."""
    return ConfigRecord({"json": json.dumps(to_plain(value))})


def read_facts(record: Any) -> Any:
    """The value of `write_facts`."""
    return from_plain(json.loads(record["json"]))


def read_plan(described: dict[str, Any]) -> LocalPlan:
    """The plan that a round's task describes."""
    focus, private = described["focus"], described["private"]
    focus = None if focus is None else Focus(**focus)
    return LocalPlan(**{**described, "focus": focus, "private": read_step(private)})


def read_step(described: Mapping[str, Any] | None) -> Any:
    """A step of a private training, or None."""
    if described is None:
        return None
    from skfedfocal.privacy._plan import PrivateStep  # imported where it is asked for

    return PrivateStep.from_plain(described)


def read_theta(content: RecordDict) -> Tensor:
    """The global model in a round's message."""
    return torch.from_numpy(content["theta"]["theta"].numpy().copy())


def write_theta(theta: Tensor) -> ArrayRecord:
    """The global model, for a message."""
    return ArrayRecord({"theta": Array(theta.cpu().numpy())})


def write_plan(plan: LocalPlan) -> dict[str, Any]:
    """The plan as a round's task describes it."""
    nested = {name: getattr(plan, name) for name in ("focus", "private")}
    return {f.name: getattr(plan, f.name) for f in fields(plan) if f.name not in nested} | {
        name: None if part is None else asdict(part) for name, part in nested.items()
    }


def write_updates(updates: Updates) -> RecordDict:
    """A site's reply: its update, what it counts, and what it reports."""
    report = {
        "weight": float(updates.weights[0]),
        "objective": updates.objective[0].tolist(),
        "recall": None if updates.recalls is None else float(updates.recalls[0]),
    }
    delta = Array(updates.deltas[0].cpu().numpy())
    return RecordDict({"delta": ArrayRecord({"delta": delta}), "report": write_facts(report)})


def write_masked(upload: dict[str, Any], shape: tuple[int, ...]) -> RecordDict:
    """A site's masked values, the sealed shares beside them, and the shape of what is masked."""
    rest = {name: value for name, value in upload.items() if name != "masked"}
    return RecordDict(
        {
            "masked": ConfigRecord({"words": upload["masked"]}),
            "facts": write_facts({**rest, "shape": shape}),
        }
    )


def read_masked(content: RecordDict) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The upload and the shape of `write_masked`."""
    facts = read_facts(content["facts"])
    shape = tuple(int(size) for size in facts.pop("shape"))
    return {**checked(facts, UPLOAD_HAS), "masked": bytes(content["masked"]["words"])}, shape


def checked(answer: Any, has: Mapping[str, type]) -> dict[str, Any]:
    """An answer of the protocol, or BadReply where it is not of its form."""
    if not isinstance(answer, dict) or answer.keys() != has.keys():
        raise BadReply(f"it is not an answer with {list(has)}")
    for name, kind in has.items():
        value = answer[name]
        entries = value.items() if isinstance(value, dict) else ()
        if type(value) is not kind or not all(
            type(k) is int and type(v) is bytes for k, v in entries
        ):
            raise BadReply(f"its {name} is of another form")
    return answer


def check_statistics(facts: dict[str, Any]) -> None:
    """Raise BadReply where a reply to round 0 is not of its form."""
    columns, classes, shape = facts["columns"], facts["classes"], facts["row_shape"]
    sound = {
        "size": type(facts["size"]) is float and 0 < facts["size"] < float("inf"),
        "n_rows": type(facts["n_rows"]) is int and facts["n_rows"] > 0,
        "classes": isinstance(classes, np.ndarray)
        and classes.ndim == 1
        and classes.dtype.kind in "biufU"
        and 0 < len(np.unique(classes)) == len(classes),
        "columns": columns is None or _are_texts(columns),
        "types": _are_texts(facts["types"]) and all(map(_is_type, facts["types"])),
        "is_sparse": type(facts["is_sparse"]) is bool,
        "row_shape": type(shape) is tuple
        and len(shape) > 0
        and all(type(n) is int and n > 0 for n in shape),
        "digest": isinstance(facts.get("digest"), str | None),
    }
    wrong = [name for name in sound if not sound[name]]
    if not wrong and columns is not None and len(columns) != shape[0]:
        wrong = ["columns"]
    if not wrong and len(facts["types"]) != shape[0]:
        wrong = ["types"]
    if wrong:
        raise BadReply(f"its {', '.join(wrong)} are of another form")


def _are_texts(values: Any) -> bool:
    return type(values) is list and all(isinstance(value, str) for value in values)


def _is_type(text: str) -> bool:
    """Whether it names a type of NumPy's, or, as "", says that a column has no values."""
    try:
        return not text or np.dtype(text).kind != "V"
    except (TypeError, ValueError, SyntaxError):
        return False


def write_error(error: BaseException) -> RecordDict:
    """A reply that says which type of exception ended the work, and nothing of what it says."""
    return RecordDict({"error": ConfigRecord({"type": type(error).__name__})})


class BadReply(ValueError):
    """A reply that is not what was asked for."""


def read_delta(content: RecordDict, wanted: NDArray[Any]) -> NDArray[Any]:
    """A site's update, checked against the model it was sent before a byte is decoded."""
    array = content["delta"]["delta"]
    if tuple(array.shape) != wanted.shape or array.dtype != str(wanted.dtype):
        raise BadReply(
            f"its update has shape {tuple(array.shape)} and type {array.dtype}, "
            f"not {wanted.shape} and {wanted.dtype}"
        )
    if len(array.data) > wanted.nbytes + 4096:
        raise BadReply(f"its update has {len(array.data)} bytes")
    delta = array.numpy()
    if delta.shape != wanted.shape or delta.dtype != wanted.dtype:
        raise BadReply("its update is not what its head says")
    if not np.isfinite(delta).all():
        raise BadReply("its update is not finite")
    return delta


def read_report(
    content: RecordDict, size: float, plan: LocalPlan, wants_recall: bool
) -> tuple[float, list[float], float | None]:
    """Weight, objective, and recall where asked for, each within its range.

    A site cannot count more than its rows do: their weight is known from round 0.
    """
    report = read_facts(content["report"])
    weight = float(report["weight"])
    loss, row_weight = map(float, report["objective"])
    recall = float(report["recall"]) if wants_recall else None
    least, most = (size * bound for bound in plan.weight_range)
    if not least * (1 - 1e-9) <= row_weight <= most * (1 + 1e-9):
        raise BadReply(f"its rows weigh {row_weight}, not {least} to {most}")
    if not 0 <= weight <= row_weight * (1 + 1e-9):
        raise BadReply(f"its weight is {weight}, not 0 to {row_weight}")
    if not np.isfinite(loss):
        raise BadReply(f"its loss is {loss}")
    if recall is not None and not 0 <= recall <= 1 + 1e-9:
        raise BadReply(f"its recall is {recall}")
    return weight, [loss, row_weight], recall
