"""Random damage to what sites read and send: tables, and messages in both directions."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from flwr.app import Array, ArrayRecord, ConfigRecord
from fuzzing import REFUSED, Wrong, sound
from fuzzing_files import DAMAGE_BYTES, other_value, places
from sklearn.pipeline import make_pipeline

from skfedfocal import FederatedTrainingError, FedFocalClassifier
from skfedfocal.flower import SimulatedSites, SiteError, federate, load_table
from skfedfocal.preprocessing import FederatedStandardScaler


class Tables:
    """Sound tables of every kind, and damage to their bytes."""

    def __init__(self, folder: Path):
        rng = np.random.default_rng(0)
        frame = pd.DataFrame(
            {
                "age": rng.integers(20, 90, 30),
                "dose": np.where(rng.random(30) < 0.2, np.nan, rng.normal(size=30)),
                "kind": rng.choice(["a", "b, c", 'd"e'], 30),
                "seen": pd.Timestamp("2026-01-01"),
                "target": rng.choice(["sick", "well"], 30),
            }
        )
        self.folder, arrays = folder, io.BytesIO()
        np.savez(arrays, X=frame[["age", "dose"]].to_numpy(), y=frame["target"].to_numpy(str))
        self.sound = {"csv": frame.to_csv(index=False).encode(), "npz": arrays.getvalue()}
        with contextlib.suppress(ImportError):  # without pyarrow
            self.sound["parquet"] = frame.to_parquet(index=False)

    def case(self, number: int) -> str:
        """Damage a table, read it; returns how that ended."""
        rng = np.random.default_rng([79, number])
        kind = list(self.sound)[rng.integers(len(self.sound))]
        damage = DAMAGE_BYTES[rng.integers(len(DAMAGE_BYTES))]
        path = self.folder / f"table.{kind}"
        path.write_bytes(damage(self.sound[kind], rng))
        what = f"table {number}, {kind}, {damage.__name__}"
        try:
            with warnings.catch_warnings(action="ignore"):
                X, y, _ = load_table({"data-path": path})
        except ValueError as error:
            if path.name not in str(error):
                raise Wrong(f"{what}: does not name the file: {error!r}") from error
            return f"{REFUSED}: {kind}"
        except Exception as error:
            raise Wrong(f"{what}: {error!r}") from error
        columns = getattr(X, "arrays", [X])
        if kind != "npz" and any(len(column) != len(y) for column in columns):
            raise Wrong(f"{what}: columns of other lengths")
        return f"read: {kind}"


class Damaging(SimulatedSites):
    """Sites of which one gets, or sends, another message than was meant."""

    def __init__(self, data: Any, rng: np.random.Generator):
        super().__init__(data)
        self.rng = rng
        self.at = int(rng.integers(5))  # number of the message to the site
        self.seen = 0
        self.inward = rng.random() < 0.4
        self.done = ""

    def _answer(self, message: Any) -> Any:
        if message.metadata.dst_node_id != 2:
            return super()._answer(message)
        self.seen += 1
        if self.seen != self.at + 1:
            return super()._answer(message)
        if self.inward:
            self.done = self._damage(message.content)
            reply = super()._answer(message)
            if not reply.has_error() and "site" not in reply.content:
                raise Wrong("a site's reply does not say who it is")
            return reply
        reply = super()._answer(message)
        self.done = self._damage(reply.content)
        return reply

    def _damage(self, content: Any) -> str:
        """Change a record of a message; returns what it was."""
        name = list(content)[self.rng.integers(len(content))]
        record = content[name]
        if self.rng.random() < 0.1:
            del content[name]
        elif isinstance(record, ArrayRecord):
            content[name] = self._other_arrays(record)
        elif self.rng.random() < 0.2:
            text = bytearray(record["json"].encode())
            text[self.rng.integers(len(text))] = self.rng.integers(32, 127)
            content[name] = ConfigRecord({"json": text.decode(errors="replace")})
        else:
            facts = json.loads(record["json"]) if "json" in record else {}
            holder = [facts]
            spots = list(places(holder))
            parent, key = spots[self.rng.integers(len(spots))]
            parent[key] = other_value(self.rng)
            content[name] = ConfigRecord({"json": json.dumps(holder[0])})
        return name

    def _other_arrays(self, record: Any) -> ArrayRecord:
        key = next(iter(record))
        array, which = record[key].numpy().copy(), self.rng.integers(6)
        if which == 0:
            array = array[:-1]
        elif which == 1:
            array = array.astype(np.float64)
        elif which == 2:
            array[self.rng.integers(len(array))] = self.rng.choice([np.nan, np.inf, 1e30])
        elif which == 3:
            return ArrayRecord({"other": Array(array)})
        elif which == 4:
            found = Array(array)
            found.data = found.data[: self.rng.integers(len(found.data))]
            return ArrayRecord({key: found})
        else:
            found = Array(array)
            found.shape = (10**12,)
            return ArrayRecord({key: found})
        return ArrayRecord({key: Array(array)})


class Messages:
    """A training over three sites, and damage to a message to or from one of them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(45, 3)) * 5 + 30, np.arange(45) % 3
        self.X = X
        self.data = {name: (X[k * 15 :][:15], y[k * 15 :][:15]) for k, name in enumerate("abc")}

    def case(self, number: int) -> str:
        """Damage a message of a training; returns how that ended."""
        rng = np.random.default_rng([80, number])
        grid = Damaging(self.data, rng)
        model = make_pipeline(
            FederatedStandardScaler(),
            FedFocalClassifier((3,), n_rounds=2, random_state=0, batch_size=8, engine="loop"),
        )
        what = f"message {number}"
        try:
            with quiet():
                federate(grid, model)
        except Wrong:
            raise
        except (SiteError, FederatedTrainingError) as error:
            if len(str(error)) < 20:
                raise Wrong(f"{what}, {grid.done}: few words {error!r}") from error
            return f"{REFUSED}: {'to' if grid.inward else 'from'} a site"
        except Exception as error:
            raise Wrong(f"{what}, {grid.done}, inward={grid.inward}: {error!r}") from error
        try:
            with quiet():
                sound(model, self.X)
        except Exception as error:
            raise Wrong(f"{what}, {grid.done}: trained, and then {error!r}") from error
        return f"trained: {'to' if grid.inward else 'from'} a site"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without warnings, and without what sites log of errors that ended their work."""
    logging.disable()
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)
