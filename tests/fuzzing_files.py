"""Random damage to model files and checkpoints: each is refused, or is another sound one."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from fuzzing import REFUSED, Wrong, sound
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skfedfocal import (
    FederatedTrainingError,
    FedFocalClassifier,
    FedFocalClassifierCV,
    ModelFileError,
    load_model,
    save_model,
)
from skfedfocal._estimators import classifier_cv
from skfedfocal.preprocessing import FederatedStandardScaler


class Files:
    """A sound model file, and damage to it."""

    def __init__(self, folder: Path):
        X = np.random.default_rng(0).normal(size=(30, 3))
        y, clients = np.arange(30) % 3, np.arange(30) % 2
        model = make_pipeline(
            FederatedStandardScaler(), FedFocalClassifier((3,), n_rounds=1, random_state=0)
        )
        model.fit(X, y, fedfocalclassifier__clients=clients)
        self.path = folder / "damaged.skf"
        save_model(model, self.path)
        self.sound = self.path.read_bytes()
        self.X = X

    def case(self, number: int) -> str:
        """Damage the file, read it; returns how that ended."""
        rng = np.random.default_rng([77, number])
        damage = DAMAGE[rng.integers(len(DAMAGE))]
        self.path.write_bytes(damage(self.sound, rng))
        try:
            with warnings.catch_warnings(action="ignore"):
                model = load_model(self.path)
        except ModelFileError as error:
            if len(str(error)) < 20:
                raise Wrong(f"file {number}, {damage.__name__}: few words {error!r}") from error
            return f"{REFUSED}: {damage.__name__}"
        except Exception as error:
            raise Wrong(
                f"file {number}, {damage.__name__}: {type(error).__name__}: {error}"
            ) from error
        try:
            with warnings.catch_warnings(action="ignore"):
                sound(model, self.X)  # another model, but one
        except Exception as error:
            raise Wrong(f"file {number}, {damage.__name__}: read, and then {error!r}") from error
        return f"read: {damage.__name__}"


class Checkpoints:
    """Sound checkpoints of a training and of a search, and damage to them."""

    def __init__(self, folder: Path):
        rng = np.random.default_rng(0)
        self.X, self.y, self.clients = (
            rng.normal(size=(30, 3)),
            np.arange(30) % 3,
            np.arange(30) % 2,
        )
        self.path = folder / "damaged.checkpoint"
        settings = {"hidden_layer_sizes": (3,), "batch_size": 15, "random_state": 0}
        training = FedFocalClassifier(
            **settings, n_rounds=2, strategy="fedadam", average_rounds=2, selection="focal"
        )
        search = FedFocalClassifierCV(**settings, n_rounds=8, gammas=(0.0, 2.0), cv=2)
        self._fit(training)
        found = [(training.set_params(n_rounds=3), self.path.read_bytes())]
        self.path.unlink()
        self._fit(search)
        found.append((search, self.path.read_bytes()))
        self.path.unlink()
        ends = patch.object(classifier_cv, "balanced_accuracy", side_effect=KeyboardInterrupt)
        with ends, contextlib.suppress(KeyboardInterrupt):  # the same before its first judgement
            self._fit(search)
        found.append((search, self.path.read_bytes()))
        self.sound = found

    def _fit(self, estimator: Any) -> Any:
        fitted = clone(estimator)
        with warnings.catch_warnings(action="ignore"):
            return fitted.fit(self.X, self.y, clients=self.clients, checkpoint=self.path)

    def case(self, number: int) -> str:
        """Damage a file, go on from it; returns how that ended."""
        rng = np.random.default_rng([78, number])
        estimator, content = self.sound[rng.integers(len(self.sound))]
        damage = DAMAGE[rng.integers(len(DAMAGE))]
        damaged = damage(content, rng)
        self.path.write_bytes(damaged)
        what = f"checkpoint {number}, {damage.__name__}"
        try:
            fitted = self._fit(estimator)
        except FederatedTrainingError:  # from another model, which may diverge
            return f"{REFUSED}, diverged: {damage.__name__}"
        except ValueError as error:
            refused = isinstance(error, ModelFileError) or "checkpoint" in str(error)
            if not refused or len(str(error)) < 20:
                raise Wrong(f"{what}: {error!r}") from error
            if self.path.read_bytes() != damaged:
                raise Wrong(f"{what}: refused, and overwritten") from error
            return f"{REFUSED}: {damage.__name__}"
        except Exception as error:
            raise Wrong(f"{what}: {error!r}") from error
        try:
            with warnings.catch_warnings(action="ignore"):
                sound(fitted, self.X)
        except Exception as error:
            raise Wrong(f"{what}: gone on, and then {error!r}") from error
        return f"gone on: {damage.__name__}"


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    found = bytearray(content)
    for place in rng.integers(len(found), size=int(rng.integers(1, 9))):
        found[place] ^= 1 << int(rng.integers(8))
    return bytes(found)


def cut_short(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(len(content)))]


def with_more(content: bytes, rng: np.random.Generator) -> bytes:
    place, more = int(rng.integers(len(content))), rng.bytes(int(rng.integers(1, 50)))
    return content[:place] + more + content[place:]


def something_else(content: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, 2000)))


def _signed(content: bytes, body: bytes) -> bytes:
    """With the checksum that a forger would compute."""
    head = content.partition(b"\n")[0].rsplit(b" ", 1)[0]
    return head + b" " + sha256(body).hexdigest().encode() + b"\n" + body


def flipped_and_signed(content: bytes, rng: np.random.Generator) -> bytes:
    return _signed(content, flipped(content.partition(b"\n")[2], rng))


def rewritten_and_signed(content: bytes, rng: np.random.Generator) -> bytes:
    """One value of the facts, or one array, is another."""
    with np.load(io.BytesIO(content.partition(b"\n")[2])) as stored:
        arrays = dict(stored)
    facts = json.loads(arrays["facts"].tobytes())
    if rng.random() < 0.3:
        name = list(arrays)[rng.integers(len(arrays))]
        if name != "facts":
            arrays[name] = _other_array(arrays[name], rng)
    else:
        spots = list(places(facts))
        parent, key = spots[rng.integers(len(spots))]
        if rng.random() < 0.2 and isinstance(parent, dict):
            del parent[key]
        else:
            parent[key] = other_value(rng)
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    body = io.BytesIO()
    np.savez(body, **arrays)
    return _signed(content, body.getvalue())


def _other_array(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    which = rng.integers(5)
    if which == 0:
        return array[:-1]
    if which == 1:
        return array.astype(str)
    if which == 2:
        return np.full(array.shape, np.nan)
    return array[None] if which == 3 else np.zeros(0)


def places(value: Any) -> Any:
    """Every place in nested lists and dicts, as the container and the key."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def other_value(rng: np.random.Generator) -> Any:
    """A value that JSON can hold, and that hardly ever belongs where it is put."""
    huge = {"array": ["x"] * 9, "dtype": "<U200000000"}
    others = [None, True, 0, -1, 3, 1e308, "x", "", [], {}, [1], {"place": "0"}, {"tuple": []}]
    others += [huge, 10**30, float("nan"), {"dict": [[1, 2]]}, {"part": "Component", "params": {}}]
    return others[rng.integers(len(others))]


DAMAGE_BYTES = [flipped, cut_short, with_more, something_else]
DAMAGE = [
    *DAMAGE_BYTES,
    flipped_and_signed,
    rewritten_and_signed,
    rewritten_and_signed,
]
