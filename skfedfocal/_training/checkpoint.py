"""A training's state in a file, to go on from after an interruption."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from skfedfocal._plain import read_plain, to_plain, write_plain
from skfedfocal._training.training import Training


class Checkpoint:
    """A training's state in a file, rewritten after each round; one process at a time."""

    def __init__(self, path: Path, identity: dict[str, Any]):
        self.path = path
        self.identity = identity
        self.seed: int | None = None
        self._stored = read_plain(path) if path.exists() else None
        if self._stored is not None:
            before, now = to_plain(self._stored["identity"]), to_plain(identity)
            pairs = zip(before["dict"], now["dict"], strict=False)
            for (name, old), (_, new) in pairs:
                if old != new:
                    raise ValueError(
                        f"The checkpoint {path} was written with {name} {old}, but now it is "
                        f"{new}; use the same, or another file."
                    )
            self.seed = self._stored["seed"]

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, path: str | os.PathLike[str] | None, identity: dict[str, Any]
    ) -> Iterator[Checkpoint | None]:
        """The checkpoint at a path, locked; nothing where there is none."""
        if path is None:
            yield None
            return
        with _locked(Path(path)):
            yield cls(Path(path), identity)

    def restore(self, training: Training) -> None:
        if self._stored is not None:
            training.restore(self._stored["training"])

    def save(self, training: Training) -> None:
        state = {"identity": self.identity, "seed": self.seed, "training": training.state()}
        write_plain(self.path, state)


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
