"""The server's side over real sites: gather them, train, keep the outcome."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from flwr.serverapp import Grid
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skfedfocal._data.moments import Moments, column_moments, standard_scale
from skfedfocal._data.queries import Sizes, settle
from skfedfocal._estimators.base import BaseFederatedClassifier
from skfedfocal._estimators.encoding import check_same, encoding_of, in_words
from skfedfocal._estimators.scales import warn_if_unscaled
from skfedfocal._module import module_name, takes_indices, widths
from skfedfocal._module_check import check_module
from skfedfocal._plain import to_plain
from skfedfocal._training.assembly import Setup, n_selected
from skfedfocal._training.parts import check_cohorts
from skfedfocal.encodings import NumericEncoding
from skfedfocal.engines import Engine, Traffic, Unanswered
from skfedfocal.flower._engine import GridEngine
from skfedfocal.flower._exchange import NoReply, ask
from skfedfocal.flower._messages import STATISTICS
from skfedfocal.flower._sites import Site, SiteError, check_fits, check_names
from skfedfocal.losses import Loss
from skfedfocal.preprocessing import FederatedStandardScaler
from skfedfocal.privacy._aggregation import resolve_secure

_POLL_SECONDS = 0.5
Scaler = StandardScaler | FederatedStandardScaler


class Coordinator:
    """Fits an estimator on the rows of sites.

    Parameters
    ----------
    grid : Grid
    estimator : classifier, or Pipeline of scaler and classifier
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
        self.scaler, self.classifier = parts_of(estimator)
        self.estimator = estimator
        self.allowed = None if classes is None else np.unique(classes)
        self.min_clients = min_clients
        self.timeout = timeout
        self.checkpoint = checkpoint
        self.sites: list[Site] = []
        self.classifier.check()
        self.secure = resolve_secure(self.classifier.secure_aggregation)
        if min_clients < 1 or timeout <= 0:
            raise ValueError(
                "min_clients must be at least 1 and timeout above 0; "
                f"got {min_clients!r} and {timeout!r}."
            )

    # -- round 0 -------------------------------------------------------------------------------

    def gather(self, sites: int | Sequence[str] | None, wait: float) -> None:
        """Wait for the sites, ask them for their statistics, and see that they fit together."""
        names = None if sites is None or isinstance(sites, int) else sorted(map(str, sites))
        wanted = sites if isinstance(sites, int) else len(names or ())
        needed = max(self.min_clients, wanted)
        nodes = self._wait_for(needed, wait)
        replies, failures = self._ask(nodes)
        silent = [f"{name} ({no.reason})" for name, no in failures if no.silent]
        broken = [f"{name} ({no.reason})" for name, no in failures if not no.silent]
        if broken:
            raise SiteError(f"Round 0 failed at {'; '.join(broken)}.")
        self.sites = sorted(replies, key=lambda site: site.name)
        if len(self.sites) < needed:
            raise SiteError(
                f"Round 0: {len(self.sites)} of {needed} sites replied; not {'; '.join(silent)}."
            )
        if silent:
            warnings.warn(
                f"Training begins without {'; '.join(silent)}.", RuntimeWarning, stacklevel=4
            )
        check_names([site.name for site in self.sites], names)
        for site in self.sites:
            check_fits(site, self.sites[0], self.allowed)

    def _wait_for(self, needed: int, wait: float) -> list[int]:
        deadline = time.monotonic() + wait
        while True:
            nodes = sorted(self.grid.get_node_ids())
            if len(nodes) >= needed:
                return nodes
            if time.monotonic() >= deadline:
                raise SiteError(
                    f"{len(nodes)} of the {needed} sites needed came within {wait:g} s; see that "
                    "the others are running, reach the server, and are registered with it."
                )
            time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))

    def _ask(self, nodes: Sequence[int]) -> tuple[list[Site], list[tuple[str, NoReply]]]:
        """Statistics of the nodes; and who gave none, by name where it is known."""
        request = {"module": module_name(self.classifier.module), "digest": self._needs_digest}
        answers, failures = ask(self.grid, dict.fromkeys(nodes, request), STATISTICS, self.timeout)
        found = [Site(who, node, facts) for node, (who, facts) in answers.items()]
        failed = [
            (f"node {node}" if no.name is None else f"site {no.name!r}", no)
            for node, no in failures.items()
        ]
        return found, failed

    def _recognise(self, online: set[int]) -> None:
        """Find sites that came back as another node."""
        lost = {site.name: site for site in self.sites if site.node not in online}
        new = online - {site.node for site in self.sites}
        if not (lost and new):
            return
        for back in self._ask(sorted(new))[0]:
            site = lost.get(back.name)
            if site is None:
                continue
            same = ("size", "n_rows", "row_shape", "columns", "digest")
            if all(to_plain(back.facts.get(k)) == to_plain(site.facts.get(k)) for k in same):
                site.node = back.node

    # -- training ------------------------------------------------------------------------------

    def train(self) -> None:
        """Run the rounds and store the fitted state, also that of a training that broke off."""
        classifier = self.classifier
        go_on = classifier.warm_start and hasattr(classifier, "theta_")
        classes, first = self._classes(go_on), self.sites[0].facts
        row_shape = tuple(first["row_shape"])
        digests = [site.facts.get("digest") for site in self.sites]
        data = None if None in digests else " ".join(map(str, digests))
        names = np.array([site.name for site in self.sites])
        engine = self._engine(classes, row_shape)
        wanted = classifier.clients_per_round
        check_cohorts(self.secure, engine.sizes, n_selected(wanted, len(names)), wanted)
        before, total = getattr(classifier, "theta_", None), None
        try:
            total = self._prepare(engine)
            engine.asked = Traffic()  # so far it was no part of the classifier's training
            encoding = self._encode(engine, row_shape, go_on)
            setup_with = partial(
                Setup,
                classes,
                names,
                row_shape,
                data,
                min_clients=self.min_clients,
                encoding=in_words(encoding),
                encoder=engine.task["encoder"],
            )
            classifier._train_over(
                partial(self._connect, engine),
                setup_with,
                classifier.n_rounds,
                go_on=go_on,
                checkpoint=self.checkpoint,
                identity={
                    "scaler": None if self.scaler is None else type(self.scaler).__name__,
                    "rows of the sites": [site.facts["n_rows"] for site in self.sites],
                    "columns": first["columns"],
                    "rows (a hash of them)": data,
                },
            )
            is_encoded = classifier.encoder_ is not None
            warn_if_unscaled(classifier.history_["loss"][0], len(classes), encoded=is_encoded)
        except Unanswered as error:
            raise SiteError(f"Round 0 failed: {error}.") from error
        finally:
            if getattr(classifier, "theta_", None) is not before:  # else all is as it was
                self._keep_features(total, row_shape)

    def _prepare(self, engine: GridEngine) -> Moments | None:
        """Fit the scaler from sums."""
        if self.scaler is None:
            return None
        total = settle(column_moments(), engine.ask)
        mean = total.mean if self.scaler.with_mean else None
        scale = standard_scale(total) if self.scaler.with_std else None
        engine.task.update(mean=mean, scale=scale)
        return total

    def _encode(
        self, engine: GridEngine, row_shape: tuple[int, ...], go_on: bool
    ) -> NumericEncoding | None:
        """Tell the engine what rows go through before the module: as before, or from sums."""
        classifier = self.classifier
        dense = not any(site.facts["sparse"] for site in self.sites)
        encoding = encoding_of(classifier, row_shape, dense=dense)
        if go_on:
            check_same(classifier.encoding_, in_words(encoding))
            engine.task["encoder"] = classifier.encoder_
        elif encoding is not None:
            engine.task["encoder"] = settle(encoding.questions(row_shape[0]), engine.ask)
        return encoding

    def _connect(self, engine: GridEngine, setup: Setup, module: nn.Module) -> tuple[Engine, Loss]:
        kind = torch.int64 if takes_indices(module) else next(module.parameters()).dtype
        probe = torch.zeros((2, *setup.module_shape), dtype=kind)
        check_module(module, probe, len(setup.classes))
        engine.task["seed"] = setup.seed
        if self.classifier.early_stopping:
            engine.task["validation_fraction"] = float(self.classifier.validation_fraction)
            if self.secure is None:  # else it is known of all rows only
                asked, engine.asked = engine.asked, Traffic()
                engine.extent = engine.ask_each(Sizes())  # of those left to train on
                engine.asked = asked  # here nobody needs to ask for that
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

    def _keep_features(self, total: Moments | None, row_shape: tuple[int, ...]) -> None:
        """What scaler and classifier learn of the columns."""
        self._name_features(self.classifier, row_shape)
        if total is None:
            return
        scaler = self.scaler
        scaler.n_samples_seen_ = total.n_samples_seen
        scaler.mean_, scaler.var_ = total.mean, total.variance
        scaler.scale_ = standard_scale(total) if scaler.with_std else None
        self._name_features(scaler, row_shape)

    def _name_features(self, estimator: Any, row_shape: tuple[int, ...]) -> None:
        estimator.n_features_in_ = row_shape[0]
        columns = self.sites[0].facts["columns"]
        behind_scaler = self.scaler is not None and estimator is self.classifier
        if columns is not None and not behind_scaler:  # which gives arrays without names
            estimator.feature_names_in_ = np.array(columns, object)
        elif hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_

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
                "engine": settings.engine,
                "seed": None,
                "mean": None,
                "scale": None,
                "encoder": None,
                "validation_fraction": None,
            },
            timeout=self.timeout,
            recognise=self._recognise,
        )

    @property
    def _needs_digest(self) -> bool:
        return self.checkpoint is not None or self.classifier.early_stopping


def parts_of(estimator: Any) -> tuple[Any, BaseFederatedClassifier]:
    """The scaler, if any, and the classifier."""
    steps = (
        [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    )
    *before, classifier = [step for step in steps if step not in (None, "passthrough")]
    scalers = all(isinstance(step, Scaler) for step in before) and len(before) <= 1
    if not (scalers and isinstance(classifier, BaseFederatedClassifier)):
        raise TypeError(
            "Over sites, the estimator must be a classifier of skfedfocal, or a Pipeline of one "
            f"StandardScaler or FederatedStandardScaler and such a classifier; got {estimator!r}."
        )
    if not classifier.over_sites:
        raise TypeError(
            f"{type(classifier).__name__} searches in one process, not over sites; there, or "
            "over sites use FedFocalClassifier."
        )
    return (before[0] if before else None), classifier
