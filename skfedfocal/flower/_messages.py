"""What messages say: plain data and arrays as Flower's records, and back."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._local import LocalPlan
from skfedfocal._plain import from_plain, to_plain
from skfedfocal.engines import Updates

STATISTICS = "query.statistics"
COUNTS = "query.counts"
TRAIN = "train"


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
        "mean_weight": float(updates.mean_weights[0]),
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
    content: RecordDict, weights: tuple[float, float], want_recall: bool, want_validation: bool
) -> tuple[float, float, float | None, list[float] | None]:
    """Mean weight, loss, and recall and validation where asked for, each within its range."""
    report = read_facts(content["report"])
    mean_weight = float(report["mean_weight"])
    loss = float(report["loss"])
    recall = float(report["recall"]) if want_recall else None
    validation = [float(v) for v in report["validation"]] if want_validation else None
    least, most = weights
    if not least * (1 - 1e-9) <= mean_weight <= most * (1 + 1e-9):
        raise BadReply(f"its mean class weight is {mean_weight}, not in {least} to {most}")
    if not np.isfinite(loss):
        raise BadReply(f"its loss is {loss}")
    if recall is not None and not 0 <= recall <= 1 + 1e-9:
        raise BadReply(f"its recall is {recall}")
    if validation is not None and (len(validation) != 2 or not np.isfinite(validation).all()):
        raise BadReply(f"its validation loss is {validation}")
    return mean_weight, loss, recall, validation
