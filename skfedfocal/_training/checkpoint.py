"""A training's state in a file, to go on from after an interruption."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._plain import ModelFileError, read_plain, to_plain, write_plain
from skfedfocal._training.state import TrainingState, packed

_SHOWN = 60  # characters of a value in a message


class Checkpoint:
    """A training's state in a file, rewritten after each round; one process at a time.

    Parameters
    ----------
    path : Path
        The file; it need not exist yet.

    Attributes
    ----------
    seed : int or None
        Of the training in the file.
    state : mapping or None
        Its state, as `packed` had it.
    """

    def __init__(self, path: Path):
        self.path = path
        self._stored = read_plain(path) if path.exists() else {}
        if self._stored and set(self._stored) != {"identity", "seed", "state"}:
            raise ModelFileError(f"{path} is not a checkpoint of a training.")
        self.seed: int | None = self._stored.get("seed")
        self.state: Mapping[str, Any] | None = self._stored.get("state")
        self._written: dict[str, Any] = {}

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str | os.PathLike[str] | None) -> Iterator[Checkpoint | None]:
        """The checkpoint at a path, locked; nothing where there is none."""
        if path is None:
            yield None
            return
        with _locked(Path(path)):
            yield cls(Path(path))

    def check(self, identity: Mapping[str, Any]) -> None:
        """Refuse a training that began as another.

        Parameters
        ----------
        identity : mapping
            What must be the same for the training to go on: parameters, data and so on, by name.

        Raises
        ------
        ValueError
            If the file was written by another training; names what differs.
        """
        before = self._stored.get("identity", identity)
        for name in [*before, *(name for name in identity if name not in before)]:
            old, new = before.get(name, "not there"), identity.get(name, "not there")
            if not _same(old, new):
                was, now = _where_they_differ(*map(_text, (old, new)))
                raise ValueError(
                    f"The checkpoint {self.path} was written with {name} {was}, but now it is "
                    f"{now}; use the same, or another file."
                )

    def check_length(self, n_more: int, n_rounds: int) -> None:
        """Refuse to end before the last round in the file: its model is that of a longer training.

        Parameters
        ----------
        n_more : int
            Rounds to come after those in the file.
        n_rounds : int
            Rounds that are asked for.
        """
        if n_more < 0:
            raise ValueError(
                f"The checkpoint {self.path} has {n_rounds - n_more} rounds, more than "
                f"n_rounds={n_rounds}; set n_rounds to at least as many, or use another file."
            )

    def begin(
        self,
        identity: Mapping[str, Any],
        seed: int,
        client_ids: NDArray[Any],
        data: str | None,
    ) -> None:
        """Say what the training is, by name; one that began as another is refused.

        Parameters
        ----------
        identity : mapping
            As in `check`.
        seed : int
            Of the training.
        client_ids : ndarray of shape (n_clients,)
            The clients.
        data : str or None
            Digest of the rows.
        """
        self.check(identity)
        self._written = {"identity": dict(identity), "seed": seed}
        self._clients, self._data = client_ids, data
        if not self._stored:  # the seed must outlive a crash in the first round
            write_plain(self.path, {**self._written, "state": None})

    def save(self, state: TrainingState) -> None:
        """Write down a complete round."""
        values = packed(state, self._clients, self._data)
        write_plain(self.path, {**self._written, "state": values})


def _same(some: Any, other: Any) -> bool:
    """Whether two values are written alike: also arrays that JSON could not hold, of dates say."""
    arrays: list[dict[str, NDArray[Any]]] = [{}, {}]
    facts = [to_plain(v, found) for v, found in zip((some, other), arrays, strict=True)]
    # As texts: NaN is the same as NaN here.
    return json.dumps(facts[0]) == json.dumps(facts[1]) and all(
        one.dtype == two.dtype and np.array_equal(one, two)
        for one, two in zip(arrays[0].values(), arrays[1].values(), strict=True)
    )


def _text(value: Any) -> str:
    return repr(value.tolist() if isinstance(value, np.ndarray) else value)


def _where_they_differ(*texts: str) -> tuple[str, ...]:
    """Texts, of long ones the part from shortly before where they are no longer the same."""
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    begin = max(0, len(list(same)) - _SHOWN // 2) if max(map(len, texts)) > _SHOWN else 0
    return tuple(
        "..." * (begin > 0) + text[begin : begin + _SHOWN] + "..." * (len(text) > begin + _SHOWN)
        for text in texts
    )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock beside a file; the system lets go of it however the process ends."""
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    with path.with_name(f".{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(f"Another process is using the checkpoint {path}.") from error
        yield
