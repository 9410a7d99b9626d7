"""Plain data: estimators and their parts as JSON and arrays, on the wire and in files.

Nothing here runs code that a message or a file brings along: only numbers, texts, arrays and the
classes of this package (and the few that are named) come out, by their parameters.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skfedfocal._component import Component

_MAGIC = b"skfedfocal 1 "
_MOST_BYTES = 1 << 28  # of an array that is written out among facts
Arrays = dict[str, np.ndarray]


class ModelFileError(ValueError):
    """Raised where a file is not an unharmed one of this package, or of another version of it.

    Examples
    --------
    >>> import tempfile
    >>> from skfedfocal import ModelFileError, load_model
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     try:
    ...         load_model(file.name)
    ...     except ModelFileError:
    ...         print("refused")
    refused
    """


def to_plain(value: Any, arrays: Arrays | None = None) -> Any:
    """Turn a value into what JSON can hold.

    Parameters
    ----------
    value : object
        None, numbers, texts, bytes, dates, lists, tuples, dicts, arrays, tensors and parts
        (`Component`), nested at will.
    arrays : dict or None, default=None
        Where numeric arrays go, named in the result by their key; None writes them out.

    Returns
    -------
    plain : object
        For `from_plain`.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, np.generic):
        item = int(value.astype(np.int64)) if value.dtype.kind in "mM" else value.item()
        return {"scalar": item, "dtype": value.dtype.str}
    if isinstance(value, datetime.date):  # or datetime, or pandas.Timestamp
        if getattr(value, "nanosecond", 0):
            raise TypeError(f"{value!r} has nanoseconds, which cannot be written as plain data.")
        return {"time": value.isoformat()}
    if isinstance(value, type) and (issubclass(value, np.generic) or value in (float, int, bool)):
        return {"type": np.dtype(value).name}
    if isinstance(value, Tensor):
        return {"tensor": to_plain(value.detach().cpu().numpy(), arrays)}
    if isinstance(value, np.ndarray):
        if arrays is not None and value.dtype.kind in "biufcSUmM":
            known = [name for name, array in arrays.items() if array is value]
            name = known[0] if known else str(len(arrays))
            arrays[name] = value
            return {"place": name}
        return {"array": to_plain(value.tolist()), "dtype": _dtype_name(value)}
    if isinstance(value, list | tuple):
        items = [to_plain(item, arrays) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, Mapping):
        return {"dict": [[to_plain(k, arrays), to_plain(v, arrays)] for k, v in value.items()]}
    if known_parts().get(type(value).__name__) is type(value):  # not one of the same name
        params = value.get_params(deep=False)  # type: ignore[attr-defined]
        return {
            "part": type(value).__name__,
            "params": {name: to_plain(v, arrays) for name, v in params.items()},
        }
    raise TypeError(
        f"{value!r} cannot be written as plain data; use numbers, texts, arrays or the parts of "
        "this package."
    )


def plain_or_repr(value: Any) -> Any:
    """The value if it can be written as plain data, else how it prints."""
    try:
        to_plain(value)
    except TypeError:
        return repr(value)
    return value


def from_plain(plain: Any, arrays: Mapping[str, np.ndarray] | None = None) -> Any:
    """Turn the result of `to_plain` back into the value."""
    if isinstance(plain, list):
        return [from_plain(item, arrays) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if "bytes" in plain:
        return base64.b64decode(plain["bytes"], validate=True)
    if "scalar" in plain:
        return np.array([plain["scalar"]]).astype(plain["dtype"])[0]
    if "time" in plain:
        kind = datetime.datetime if "T" in plain["time"] else datetime.date
        return kind.fromisoformat(plain["time"])
    if "type" in plain:
        return np.dtype(plain["type"]).type
    if "tensor" in plain:
        return torch.as_tensor(from_plain(plain["tensor"], arrays))
    if "place" in plain:
        return (arrays or {})[plain["place"]]
    if "array" in plain:
        return _array(from_plain(plain["array"]), plain["dtype"])
    if "tuple" in plain:
        return tuple(from_plain(item, arrays) for item in plain["tuple"])
    if "dict" in plain:
        return {from_plain(k, arrays): from_plain(v, arrays) for k, v in plain["dict"]}
    name = plain["part"]
    if name in _LATER:
        import_module(f"skfedfocal.{_LATER[name]}")
    if name not in known_parts():
        raise ValueError(f"{name!r} is not a part of this package.")
    params = {key: from_plain(v, arrays) for key, v in plain["params"].items()}
    return known_parts()[name](**params)


# Parts whose rooms are imported only where something asks for them, as plain data may: a file in a
# process that has not named them yet, a question to a site. A test compares.
_LATER = {
    "Behind": "preprocessing._preparation",
    "ClientLevelDP": "privacy._client_level",
    "ColumnsOf": "preprocessing._columns_of",
    "Entries": "preprocessing._preparation",
    "ExampleLevelDP": "privacy._example_level",
    "Mechanism": "privacy._mechanism",
    "NoisyLabelCounts": "privacy._counts",
    "PoissonSelection": "_training.private",
    "PredictionSums": "metrics._sums",
    "PrefixCounts": "preprocessing._categories",
    "Present": "preprocessing._imputer",
    "PrivacyBudget": "privacy._budget",
    "ValueCounts": "preprocessing._categories",
}


def known_parts() -> dict[str, type]:
    """The classes that plain data may name: losses, strategies and so on of this package."""
    found: dict[str, type] = {}
    ahead: list[type] = [Component]
    while ahead:
        kind = ahead.pop()
        ahead += kind.__subclasses__()
        if kind.__module__.partition(".")[0] == "skfedfocal":
            found[kind.__name__] = kind
    return found


def _dtype_name(value: np.ndarray) -> str:
    if value.dtype.kind not in "biufUO":
        raise TypeError(f"An array of type {value.dtype} cannot be written as plain data.")
    return value.dtype.str


def _array(items: list[Any], dtype: str) -> np.ndarray:
    if np.dtype(dtype).itemsize * len(items) > _MOST_BYTES:  # which a few characters can ask for
        raise ValueError(f"{len(items)} values of type {dtype} are too many.")
    if np.dtype(dtype).kind != "O":
        return np.array(items, dtype)
    array = np.empty(len(items), object)
    array[:] = items
    return array


# -- files ---------------------------------------------------------------------------------------


def write_plain(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value to a file, wholly or not at all: a reader never meets half of it."""
    arrays: Arrays = {}
    facts = json.dumps(to_plain(value, arrays)).encode()
    body = io.BytesIO()
    named: dict[str, Any] = {f"a{k}": v for k, v in arrays.items()}
    np.savez(body, facts=np.frombuffer(facts, np.uint8), **named)
    content = body.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode()
    write_atomically(Path(path), _MAGIC + digest + b"\n" + content)


def read_plain(path: str | os.PathLike[str]) -> Any:
    """Read a file of `write_plain`; anything else raises ModelFileError, or OSError."""
    head, _, content = Path(path).read_bytes().partition(b"\n")
    if not head.startswith(b"skfedfocal "):
        raise ModelFileError(f"{path} is not a file of skfedfocal.")
    if not head.startswith(_MAGIC):
        version = head.split(b" ")[1].decode(errors="replace")
        raise ModelFileError(f"{path} has format {version[:20]!r}, which this version cannot read.")
    if head != _MAGIC + hashlib.sha256(content).hexdigest().encode():
        raise ModelFileError(f"{path} is truncated or has been changed: its checksum is wrong.")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            facts = json.loads(stored["facts"].tobytes())
            arrays = {name[1:]: stored[name] for name in stored.files if name != "facts"}
        return from_plain(facts, arrays)
    except Exception as error:  # made by someone else, with a right checksum
        raise ModelFileError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by way of a temporary one beside it, forced to disk before it takes over."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    with contextlib.suppress(OSError):  # the name, too, where folders can be forced to disk
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock beside a file; the system lets go of it however the process ends.

    Raises
    ------
    RuntimeError
        If another process holds it, unless one is to `wait`.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    with path.with_name(f".{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            raise RuntimeError(f"Another process is using the checkpoint {path}.") from error
        yield
