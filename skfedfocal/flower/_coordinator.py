"""The server's side over real sites: gather them, train, keep the outcome."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from flwr.serverapp import Grid
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from torch import nn

from skfedfocal._data.queries import Query, Sizes, settle
from skfedfocal._estimators.encoding import encoder_of, encoding_of, in_words
from skfedfocal._estimators.scales import warn_if_unscaled
from skfedfocal._module import flatten, module_name, takes_indices, widths
from skfedfocal._module_check import check_module
from skfedfocal._training.assembly import Setup, n_selected
from skfedfocal._training.parts import check_cohorts
from skfedfocal.engines import Engine, Traffic, Unanswered
from skfedfocal.flower._engine import GridEngine
from skfedfocal.flower._gathering import Gathering
from skfedfocal.flower._parts import parts_of
from skfedfocal.flower._private import check_private, is_hidden, private_request
from skfedfocal.flower._site import clips_rows
from skfedfocal.flower._sites import (
    Site,
    SiteError,
    check_fits,
    table_of,
    warn_of_lone_labels,
)
from skfedfocal.flower._units import Watch
from skfedfocal.losses import Loss
from skfedfocal.preprocessing import ColumnsOf
from skfedfocal.preprocessing._described import describe_step, takes_gaps, unfitted
from skfedfocal.preprocessing._preparation import Table, learn_from, learned, places_of
from skfedfocal.privacy._aggregation import resolve_secure

# Steps as they are fitted, and the names of the columns that come out.
Prepared = tuple[list[Any], list[str] | None]


class Coordinator:
    """Fits an estimator on the rows of sites.

    Parameters
    ----------
    grid : Grid
    estimator : classifier, or Pipeline of preprocessing and classifier
    classes : array-like or None
        Labels that there may be; None for those that the sites have.
    min_clients : int
    timeout : float
        Seconds for each exchange.
    checkpoint : str, path-like or None
        Where the training is written down.
    """

    def __init__(
        self,
        grid: Grid,
        estimator: Any,
        classes: Any,
        min_clients: int,
        timeout: float,
        checkpoint: str | os.PathLike[str] | None = None,
    ):
        self.grid = grid
        self.before, self.classifier = parts_of(estimator)
        self.estimator = estimator
        self.allowed = None if classes is None else np.unique(classes)
        self.min_clients = min_clients
        self.timeout = timeout
        self.checkpoint = checkpoint
        self.sites: list[Site] = []
        self.classifier.check()
        check_private(self.classifier, self.before, classes)
        self.secure = resolve_secure(self.classifier.secure_aggregation)
        if min_clients < 1 or timeout <= 0:
            raise ValueError(
                "min_clients must be at least 1 and timeout above 0; "
                f"got {min_clients!r} and {timeout!r}."
            )

    # -- round 0 -------------------------------------------------------------------------------

    def gather(self, sites: int | Sequence[str] | None, wait: float) -> None:
        """Wait for the sites, ask them for their statistics, and see that they fit together."""
        self.take(self.gathering.gather(sites, self.min_clients, wait))

    def take(self, sites: list[Site]) -> None:
        """Train on these sites, which must fit together."""
        self.sites = sites
        check_fits(sites, self.allowed, self._fills, used_columns(self.before, sites))
        if self.allowed is None:
            warn_of_lone_labels(sites)

    @property
    def gathering(self) -> Gathering:
        """How sites are found."""
        request = {
            "module": module_name(self.classifier.module),
            "digest": self._needs_digest,
            "lenient": self._fills,
            "private": private_request(self.classifier.privacy, self.allowed),
        }
        return Gathering(self.grid, request, self.timeout)

    def _recognise(self, online: set[int]) -> None:
        self.gathering.recognise(self.sites, online)

    # -- training ------------------------------------------------------------------------------

    def train(self) -> None:
        """Run the rounds and store the fitted state, also that of a training that broke off."""
        classifier = self.classifier
        go_on = classifier.warm_start and hasattr(classifier, "theta_")
        classes, first = self._classes(go_on), self.sites[0].facts
        digests = [site.facts.get("digest") for site in self.sites]
        data = None if None in digests else " ".join(map(str, digests))
        names = np.array([site.name for site in self.sites])
        engine = self._engine(classes, tuple(first["row_shape"]))
        wanted, n_sites = classifier.clients_per_round, len(names)
        check_cohorts(self.secure, engine.sizes, n_selected(wanted, n_sites), wanted)
        before, prepared = getattr(classifier, "theta_", None), None
        try:
            prepared = self._prepare(engine)
            row_shape = engine.task["row_shape"]
            engine.asked = Traffic()  # so far it was no part of the classifier's training
            encoding = encoding_of(classifier, row_shape, dense=not engine.task["is_sparse"])
            ask = self._asking(engine, first["columns"] if prepared is None else prepared[1])
            encoder = encoder_of(classifier, encoding, row_shape[0], ask, go_on=go_on)
            engine.task["encoder"] = encoder
            known = classes, names, row_shape, data
            setup = partial(Setup, *known, encoding=in_words(encoding), encoder=encoder)
            classifier._train_over(
                partial(self._connect, engine),
                partial(setup, min_clients=self.min_clients),
                classifier.n_rounds,
                go_on=go_on,
                checkpoint=self.checkpoint,
                identity={
                    "steps": [unfitted(describe_step(step)) for _, step in self.before],
                    "rows of the sites": [site.facts["n_rows"] for site in self.sites],
                    "columns": first["columns"],
                    "rows (a hash of them)": data,
                },
            )
            if classifier.privacy is None:
                loss = classifier.history_["loss"][0]
                warn_if_unscaled(loss, len(classes), encoded=encoder is not None)
        except Unanswered as error:
            raise SiteError(f"Round 0 failed: {error}.") from error
        finally:
            if getattr(classifier, "theta_", None) is not before:  # else all is as it was
                self._keep_features(prepared, engine.task["row_shape"])

    def _prepare(self, engine: GridEngine) -> Prepared | None:
        """Fit the steps before the classifier from sums, and tell the sites of them."""
        if not self.before:
            return None
        names, dtypes = table_of(self.sites)
        if len(engine.task["row_shape"]) != 1:
            shape = engine.task["row_shape"]
            raise TypeError(f"Steps before a classifier need a table; rows have shape {shape}.")
        n_rows = sum(int(site.facts["n_rows"]) for site in self.sites)
        is_sparse = all(site.facts["is_sparse"] for site in self.sites)
        table = Table(names, dtypes, n_rows, is_sparse)
        whole = {"take": None, "dtype": table.dtype.str}
        questions = learned(Pipeline(self.before), table, [whole])
        steps, nodes, out = settle(questions, self._asking(engine, names))
        engine.task.update(steps=[whole, *nodes], is_sparse=out.is_sparse)
        engine.task["row_shape"] = (len(out.dtypes),)
        return [fitted for _, fitted in steps.steps], out.names

    def _asking(self, engine: GridEngine, names: Any) -> Callable[[Query], NDArray[np.float64]]:
        """How to ask about columns of these names."""
        if self.secure is not None:  # nobody sees a single site's sums
            return engine.ask
        return Watch(engine.ask_each, [site.name for site in self.sites], names)

    def _connect(
        self, engine: GridEngine, setup: Setup, module: nn.Module, _: Any
    ) -> tuple[Engine, Loss]:
        kind = torch.int64 if takes_indices(module) else next(module.parameters()).dtype
        probe = torch.zeros((2, *setup.module_shape), dtype=kind)
        check_module(module, probe, len(setup.classes))
        engine.task["seed"] = setup.seed
        if self.classifier.privacy is not None:
            engine.clips_rows = clips_rows(engine.task, flatten(module), self.classifier.module)
        if self.classifier.early_stopping:
            engine.task["validation_fraction"] = float(self.classifier.validation_fraction)
            if self.secure is None:  # else it is known of all rows only
                # Of those left to train on; not counted, for in one process nobody asks that.
                engine.extent = engine._answers(Sizes(), np.arange(len(self.sites)), None)
        return engine, self.classifier._resolve_loss()

    def _classes(self, go_on: bool) -> NDArray[Any]:
        found = np.unique(np.concatenate([site.facts["classes"] for site in self.sites]))
        known = found if self.allowed is None else self.allowed
        if go_on:
            known = self.classifier.classes_
            if len(np.setdiff1d(found, known)):
                raise SiteError(f"The sites have classes {found} but the model has {known}.")
        if len(known) < 2:
            raise SiteError(f"All sites together have one class only, {known}; two are needed.")
        return known

    def _keep_features(self, prepared: Prepared | None, row_shape: tuple[int, ...]) -> None:
        """What the steps and the classifier learn of the columns."""
        names = self.sites[0].facts["columns"]
        if prepared is not None:
            fitted, names = prepared
            for (_, step), found in zip(self.before, fitted, strict=True):
                learn_from(step, found)
        self.classifier.n_features_in_ = row_shape[0]
        if names is not None:
            self.classifier.feature_names_in_ = np.array(names, object)
        elif hasattr(self.classifier, "feature_names_in_"):
            del self.classifier.feature_names_in_

    def _engine(self, classes: NDArray[Any], row_shape: tuple[int, ...]) -> GridEngine:
        settings = self.classifier
        sizes = [(float(site.facts["size"]), float(site.facts["n_rows"])) for site in self.sites]
        make: Callable[..., GridEngine] = GridEngine
        if self.secure is not None:
            from skfedfocal.flower._secure import SecureGridEngine

            make = partial(SecureGridEngine, secure=self.secure)
        return make(
            grid=self.grid,
            sites=self.sites,
            extent=np.array(sizes),
            task={
                "classes": classes,
                "module": module_name(settings.module),
                "hidden_layer_sizes": widths(settings.hidden_layer_sizes),
                "row_shape": row_shape,
                "columns": self.sites[0].facts["columns"],
                "lenient": self._fills,
                "steps": [],
                "engine": settings.engine,
                "seed": None,
                "is_sparse": any(site.facts["is_sparse"] for site in self.sites),
                "encoder": None,
                "validation_fraction": None,
            },
            timeout=self.timeout,
            recognise=self._recognise,
            tells_rows=not is_hidden(self.classifier.privacy),
        )

    @property
    def _fills(self) -> bool:
        """Whether there are steps that take texts or missing values."""
        return any(takes_gaps(step) for _, step in self.before)

    @property
    def _needs_digest(self) -> bool:
        if is_hidden(self.classifier.privacy):  # of rows that one knows it would tell all
            return False
        return self.checkpoint is not None or self.classifier.early_stopping


def used_columns(before: list[tuple[str, Any]], sites: list[Site]) -> set[str] | None:
    """Names of the columns that are used, where the first step chooses some."""
    step, names = before[0][1] if before else None, sites[0].facts["columns"]
    if not isinstance(step, ColumnTransformer) or names is None or step.remainder != "drop":
        return None
    table = Table(names, [None] * len(names), 0)
    ways = [columns for _, part, columns in step.transformers if part != "drop"]
    if any(isinstance(columns, ColumnsOf) for columns in ways):
        return None  # of all there is
    try:
        return {names[j] for columns in ways for j in places_of(columns, table)}
    except ValueError:  # a column that this site lacks; who does is said by name
        return None
