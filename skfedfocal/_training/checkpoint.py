"""A training's state in a file, to go on from after an interruption."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from skfedfocal._plain import ModelFileError, locked, read_plain, to_plain, write_plain
from skfedfocal._training.state import TrainingState, packed

_T = TypeVar("_T")
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
    search : mapping or None
        Of the search that chose what is trained, as it was saved; None where nothing was searched.
    judged_by : str or None
        What validation losses in the file are comparable by.
    """

    judged_by: str | None = None

    def __init__(self, path: Path):
        self.path = path
        self._stored = read_plain(path) if path.exists() else {}
        if path.exists() and not _is_checkpoint(self._stored):
            raise ModelFileError(f"{path} is not a checkpoint of a training.")
        self.seed: int | None = self._stored.get("seed")
        self.state: Mapping[str, Any] | None = self._stored.get("state")
        self.search: Mapping[str, Any] | None = self._stored.get("search")
        self._written: dict[str, Any] = {}

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: str | os.PathLike[str] | None) -> Iterator[Checkpoint | None]:
        """The checkpoint at a path, locked; nothing where there is none."""
        if path is None:
            yield None
            return
        with locked(Path(path)):
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

    def check_length(self, n_rounds: int) -> None:
        """Refuse to end before the last round in the file: its model is that of a longer training.

        Parameters
        ----------
        n_rounds : int
            Rounds that there are to be in all.
        """
        there = 0 if self.state is None else int(self.state["n_rounds"])
        if there > n_rounds:
            raise ValueError(
                f"The checkpoint {self.path} has {there} rounds, more than the {n_rounds} asked "
                "for; set n_rounds to at least as many, or use another file."
            )

    def begin(self, identity: Mapping[str, Any], seed: int, client_ids: NDArray[Any]) -> None:
        """Say what the training is, by name; one that began as another is refused.

        Nothing is written yet, so that a training that is refused later leaves no file.

        Parameters
        ----------
        identity : mapping
            As in `check`.
        seed : int
            Of the training.
        client_ids : ndarray of shape (n_clients,)
            The clients.
        """
        self.check(identity)
        self._written, self._clients = {"identity": dict(identity), "seed": seed}, client_ids

    def read(self, read: Callable[..., _T], *arguments: Any) -> _T:
        """What a function makes of the file's values, of whose form it may be sure.

        Raises
        ------
        ModelFileError
            If they are not those of such a training: the file was made by something else.
        """
        try:
            return read(*arguments)
        except Exception as error:
            raise ModelFileError(
                f"{self.path} is no checkpoint of this training: {type(error).__name__}: {error}"
            ) from error

    def start(self) -> None:
        """Make the file if it is new: the seed must outlive a crash in the first round."""
        if not self._stored:
            self._write(None)

    def save(self, state: TrainingState) -> None:
        """Write down a complete round."""
        self._write(packed(state, self._clients, self.judged_by))

    def save_search(self, values: Mapping[str, Any]) -> None:
        """Write down where a search stands, which comes before the first round of the training."""
        self.search = values
        self._write(self.state)

    def _write(self, state: Mapping[str, Any] | None) -> None:
        search = {} if self.search is None else {"search": self.search}
        write_plain(self.path, {**self._written, "state": state, **search})


def _is_checkpoint(stored: Any) -> bool:
    parts = {"identity": dict, "seed": int, "state": dict | None, "search": dict | None}
    return (
        isinstance(stored, dict)
        and set(stored) | {"search"} == set(parts)
        and all(isinstance(value, parts[name]) for name, value in stored.items())
    )


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
