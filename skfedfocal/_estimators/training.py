"""The door to a training: over clients wherever they are, begun or gone on with."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import nn

from skfedfocal._estimators.callbacks import CallbackSupport, watched
from skfedfocal._estimators.prediction import FederatedPredictor
from skfedfocal._module import build_module, flatten, module_name, widths
from skfedfocal._plain import plain_or_repr, to_plain
from skfedfocal._threads import one_thread
from skfedfocal._training.assembly import Population, Setup, assemble
from skfedfocal._training.checkpoint import Checkpoint
from skfedfocal._training.federation import ServerState
from skfedfocal._training.parts import Parts, resolve_parts
from skfedfocal._training.progress import progress
from skfedfocal._training.state import TrainingState, check_packed, columns, packed, unpacked
from skfedfocal._training.training import Patience, Training
from skfedfocal._version import __version__
from skfedfocal.engines import Engine, Traffic
from skfedfocal.losses import Loss, check_loss


class FederatedTrainer(CallbackSupport, FederatedPredictor):
    """Trains by its parameters over clients that others connect, and keeps the outcome."""

    over_sites: ClassVar[bool] = True  # whether sites can be trained on with it
    average_rounds: int
    early_stopping: bool
    validation_fraction: float
    hidden_layer_sizes: Any
    module: Any
    n_iter_no_change: int
    privacy: Any
    random_state: Any
    tol: float
    verbose: int
    warm_start: bool
    history_: dict[str, NDArray[Any]]
    training_state_: dict[str, Any]

    def _train_over(
        self,
        connect: Callable[[Setup, nn.Module, Checkpoint | None], tuple[Engine, Loss]],
        setup_with: Callable[[int], Setup],
        n_rounds: int,
        *,
        go_on: bool,
        adds_rows: bool = False,
        checkpoint: Any = None,
        identity: Mapping[str, Any],
        shown: Mapping[str, Any] | None = None,
    ) -> None:
        """Train over clients, wherever they are, and keep the outcome: the door for other rooms.

        Parameters
        ----------
        connect : callable
            From the setup, the module with its initial parameters and the checkpoint, if there is
            one, to the clients, and the loss to train with.
        setup_with : callable
            From the seed to the setup.
        n_rounds : int
            How many more rounds.
        go_on : bool
            Whether from the present state.
        adds_rows : bool, default=False
            Whether the rows come on top of earlier ones, for the label counts.
        checkpoint : str, path-like or None, default=None
            The file to go on from after a crash.
        identity : mapping
            What tells the data from others, for the checkpoint.
        shown : mapping or None, default=None
            What callbacks may look at: X, y and metadata.
        """
        with Checkpoint.open(checkpoint) as saved, one_thread():
            setup = setup_with(self._seed(saved, go_on))
            module = build_module(
                self.module,
                self.hidden_layer_sizes,
                setup.module_shape,
                len(setup.classes),
                setup.seed,
                setup.n_added,
            )
            before = self.training_state_ if go_on else None
            n_before = 0 if before is None else int(before["n_rounds"])
            if saved is not None:  # before anything is asked, or searched, or paid for
                known = {**self._identity(setup, module), "rounds before": n_before, **identity}
                saved.begin(known, setup.seed, setup.client_ids)
                if saved.state is not None:
                    saved.read(check_packed, saved.state, flatten(module))
                    saved.check_length(n_before + n_rounds)
            engine, loss = connect(setup, module, saved)
            check_loss(loss, len(setup.classes), next(module.parameters()).dtype)
            parts = resolve_parts(self._settled(), loss, self._class_weight())
            counted = (None, 0)
            if before is not None and adds_rows:
                counted = before["label_counts"], before["n_calls"]
            resumed = saved is not None and saved.state is not None
            origin = saved.state if saved is not None and resumed else before
            until = n_before + n_rounds
            n_wanted = until - (0 if origin is None else int(origin["n_rounds"]))
            private = self._private(parts, engine, setup, origin, n_wanted, adds_rows)
            federation, server, population = assemble(
                self, parts, engine, module, setup, counted, private
            )
            setup = replace(setup, data=self._judged_by(setup, parts))
            state = self._begun(server, setup, before, saved)
            if state.server.n_rounds:
                engine.asked = Traffic()  # what is asked again is no part of the training
            state = replace(state, label_counts=population.label_counts, n_calls=counted[1] + 1)
            if private is not None:
                state = private.kept(state)
                until = state.server.n_rounds + private.n_rounds
                engine = private.engine(engine, federation)
            patience = Patience(self.n_iter_no_change, self.tol) if self.early_stopping else None
            training = Training(federation, state, self.average_rounds, patience, saved, private)
            if training.is_over and (saved is None or saved.state is None):
                _warn_is_over()

            def keep(estimator: FederatedTrainer) -> None:
                theta = training.model()
                estimator._keep(training.state, theta, loss, setup, population, engine.sizes)

            try:
                rounds = watched(training, engine, until, self, shown or {}, keep)
                for _ in progress(rounds, until, self.verbose, engine):
                    pass
            finally:  # whatever ends the training, there is a usable model if a round was good
                if training.state.history:
                    keep(self)

    def _private(
        self,
        parts: Parts,
        engine: Engine,
        setup: Setup,
        origin: Mapping[str, Any] | None,
        n_rounds: int,
        adds_rows: bool,
    ) -> Any:
        """The account of a private training, or None; never one without the other."""
        if self.privacy is None:
            if origin is not None and origin.get("privacy") is not None:
                raise ValueError(
                    "The model to go on from was trained with privacy, of which a round without "
                    "would leave nothing; set privacy again, or fit anew."
                )
            return None
        from skfedfocal._training.private import PrivateTraining  # imported where it is asked for

        if self.privacy.unit == "example" and not engine.clips_rows:
            raise ValueError(
                f"privacy={type(self.privacy).__name__}(...) cannot go with module="
                f"{module_name(self.module)}: it may draw random numbers in training, as dropout "
                "and recurrent layers do, and then what one row does cannot be bounded."
            )
        return PrivateTraining.open(
            parts, self, engine, setup, origin, n_rounds, adds_rows=adds_rows
        )

    def _seed(self, saved: Checkpoint | None, go_on: bool) -> int:
        """That of the training which goes on, or a new one."""
        if saved is not None and saved.seed is not None:
            return saved.seed
        if go_on:
            return self.seed_
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _begun(
        self,
        server: ServerState,
        setup: Setup,
        before: Mapping[str, Any] | None,
        saved: Checkpoint | None,
    ) -> TrainingState:
        """Where the training stands.

        A checkpoint is of this call, so that its rounds are on top of those before.
        """
        state = TrainingState(server)
        if before is not None:
            state = unpacked(before, server, setup.client_ids, setup.data)
        if saved is not None:
            saved.judged_by = setup.data
            saved.start()
            if saved.state is not None:
                known = server, setup.client_ids, setup.data
                state = saved.read(unpacked, saved.state, *known)
        return state

    def _judged_by(self, setup: Setup, parts: Parts) -> str:
        """What must be the same for validation losses to be comparable."""
        what = (setup.data, self.validation_fraction, parts.loss, parts.class_weight)
        return json.dumps([to_plain(plain_or_repr(value)) for value in what])

    def _identity(self, setup: Setup, module: nn.Module) -> dict[str, Any]:
        """What a checkpoint must have been written for to be gone on with, by name."""
        free = {"n_rounds", "verbose", "device", "warm_start", "min_clients"}
        params = {k: v for k, v in self.get_params(deep=False).items() if k not in free}
        params["module"] = module_name(self.module)
        if self.privacy is not None:
            params["privacy"] = repr(self.privacy)
        if not isinstance(self.random_state, Integral | None):
            params["random_state"] = type(self.random_state).__name__
        return {
            "version": __version__,
            "estimator": type(self).__name__,
            **{name: plain_or_repr(value) for name, value in params.items()},
            "classes": setup.classes,
            "clients": setup.client_ids,
            "row shape": tuple(setup.row_shape),
            "layers of the module": re.sub(r"\b0x[0-9a-f]+", "", repr(module)),
        }

    def _keep(
        self,
        state: TrainingState,
        theta: torch.Tensor,
        loss: Loss,
        setup: Setup,
        population: Population,
        sizes: NDArray[np.float64],
    ) -> None:
        """Store the fitted state: arrays, plain numbers and the loss."""
        for name in ("privacy_", "delta_", "epsilon_"):
            if hasattr(self, name):  # of an earlier training
                delattr(self, name)
        if state.privacy is not None:
            setup, sizes = self._keep_privately(state, setup)
        self.training_state_ = packed(state, setup.client_ids, setup.data)
        self.history_ = columns(state.history)
        for name in ("validation_loss", "epsilon"):
            if np.isnan(self.history_[name]).all():
                del self.history_[name]
        self.failures_ = list(state.failures)
        self.n_iter_ = state.server.n_rounds
        is_last = theta is state.server.theta
        self.theta_ = self.training_state_["theta"] if is_last else theta.cpu().numpy()
        self.classes_ = setup.classes
        self.clients_ = setup.client_ids
        self.client_sizes_ = sizes
        self.class_prior_ = population.prior
        self.class_weight_ = population.class_weight
        self.decision_prior_ = population.decision_prior
        self.loss_ = loss
        constants = population.constants
        self.loss_constants_ = None if constants is None else constants.cpu().numpy()
        self.hidden_layer_sizes_ = widths(self.hidden_layer_sizes)
        self.row_shape_ = tuple(setup.row_shape)
        self.encoding_, self.encoder_ = setup.encoding, setup.encoder
        self.seed_ = int(setup.seed)
        self._made_from = self.module
        self._module = None
        _ = self.module_  # built now, so that prediction leaves the estimator as it is

    def _keep_privately(
        self, state: TrainingState, setup: Setup
    ) -> tuple[Setup, NDArray[np.float64]]:
        """Store what was spent; returns what may be told of the clients, and their sizes."""
        from skfedfocal.privacy import Ledger

        account: Any = state.privacy
        self.privacy_ = account["ledger"]
        self.delta_ = float(account["delta"])
        self.epsilon_ = float(Ledger.from_plain(self.privacy_).epsilon(self.delta_))
        counts, n_clients = account["counts"], len(setup.client_ids)
        sizes = np.full(n_clients, np.nan)
        if counts is not None and len(counts) == n_clients and self.privacy.trust == "local":
            sizes = np.maximum(counts.sum(1), 1.0)
        if self.privacy.unit == "client":  # whoever is in the list took part
            setup = replace(setup, client_ids=np.arange(n_clients))
        return setup, sizes

    def _settled(self) -> Any:
        """Itself, with what a search has chosen in the place of parameters."""
        return self

    def _resolve_loss(self) -> Loss:
        """The loss that the parameters mean, checked."""
        raise NotImplementedError

    def _class_weight(self) -> Any:
        """Class weights as the parameters have them."""
        raise NotImplementedError

    def _check_parts(self) -> None:
        """Raise where parameters are wrong, before the data are read."""
        resolve_parts(self, self._resolve_loss(), self._class_weight())

    def check(self) -> None:
        """Raise InvalidParameterError where parameters are wrong, or cannot go together."""
        self._validate_params()
        self._check_parts()


def _warn_is_over() -> None:
    warnings.warn(
        "Early stopping has ended this training before; no round was added. Fit anew, or with "
        "early_stopping=False, to train on.",
        UserWarning,
        stacklevel=6,
    )
