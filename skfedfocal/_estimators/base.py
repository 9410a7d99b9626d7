"""What every federated classifier does: train, predict, and be a scikit-learn estimator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from torch import nn

from skfedfocal._class_weight import CLASS_WEIGHTS
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.digest import digest
from skfedfocal._data.inputs import as_before_on_error, as_rows, check_finite
from skfedfocal._data.rows import FederatedRows, dense_rows
from skfedfocal._data.validation import validation_rows
from skfedfocal._estimators.prediction import FederatedPredictor
from skfedfocal._estimators.rows import checked_rows, device_of, encoded
from skfedfocal._module import build_module, module_name, takes_indices
from skfedfocal._module_check import check_module
from skfedfocal._plain import plain_or_repr
from skfedfocal._sklearn import HasMethods, Interval, RealNotInt, StrOptions, _fit_context
from skfedfocal._threads import one_thread
from skfedfocal._training.assembly import Population, Setup, assemble
from skfedfocal._training.checkpoint import Checkpoint
from skfedfocal._training.parts import Parts, resolve_parts
from skfedfocal._training.progress import progress
from skfedfocal._training.state import TrainingState, columns, packed, unpacked
from skfedfocal._training.training import Patience, Training
from skfedfocal._version import __version__
from skfedfocal.aggregation import AGGREGATORS, Aggregator
from skfedfocal.engines import ENGINES, Engine, Traffic
from skfedfocal.losses import Loss, check_loss
from skfedfocal.selection import SELECTIONS, Selection
from skfedfocal.strategies import STRATEGIES, Strategy


class BaseFederatedClassifier(FederatedPredictor):
    """All of a federated classifier but its loss and class weights, which subclasses choose."""

    over_sites: ClassVar[bool] = True  # whether sites can be trained on with it
    warm_start: bool
    history_: dict[str, NDArray[Any]]
    training_state_: dict[str, Any]

    __metadata_request__fit = {"clients": True}
    __metadata_request__partial_fit = {"clients": True}

    _class_weight_constraint = [
        dict,
        StrOptions(set(CLASS_WEIGHTS)),
        None,
    ]
    _parameter_constraints = {
        "hidden_layer_sizes": ["array-like"],
        "module": [callable, HasMethods("forward"), None],
        "client_gamma": [Interval(Real, 0, None, closed="left")],
        "strategy": [StrOptions(set(STRATEGIES)), Strategy],
        "aggregation": [StrOptions(set(AGGREGATORS)), Aggregator],
        "selection": [StrOptions(set(SELECTIONS)), Selection],
        "clients_per_round": [
            Interval(RealNotInt, 0, 1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
        ],
        "n_rounds": [Interval(Integral, 1, None, closed="left")],
        "n_local_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "average_rounds": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "engine": [StrOptions(set(ENGINES))],
        "device": [str],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "privacy": [HasMethods("plan"), None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any,
        *,
        module: Any,
        client_gamma: float,
        strategy: Any,
        aggregation: Any,
        selection: Any,
        clients_per_round: float,
        n_rounds: int,
        n_local_epochs: int,
        batch_size: int,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
        average_rounds: int,
        early_stopping: bool,
        validation_fraction: float,
        n_iter_no_change: int,
        tol: float,
        engine: str,
        device: str,
        verbose: int,
        random_state: Any,
        privacy: Any = None,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.module = module
        self.client_gamma = client_gamma
        self.strategy = strategy
        self.aggregation = aggregation
        self.selection = selection
        self.clients_per_round = clients_per_round
        self.n_rounds = n_rounds
        self.n_local_epochs = n_local_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.average_rounds = average_rounds
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.engine = engine
        self.device = device
        self.verbose = verbose
        self.random_state = random_state
        self.privacy = privacy

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        clients: Any = None,
        checkpoint: Any = None,
    ) -> Self:
        """Train for `n_rounds` rounds.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), dict or list
            Rows of all clients, also with more dimensions (images, sequences) where `module` takes
            them; or partitions, ``{id: (X, y)}`` or a list of one X per client.
        y : array-like of shape (n_samples,), list or None
            Class labels; a list of one y per client beside a list of X; None beside a dict.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of rows. A row of weight 0 is as if it were not there.
        clients : array-like of shape (n_samples,), default=None
            Id of each row's client, of any hashable kind. None is one client: centralised training.
        checkpoint : str, path-like or None, default=None
            A file written after each round, whole or not at all. If it is there already, training
            goes on from it, to the same bits as without interruption; one of other parameters or
            other data is refused. It stays when the training has ended.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If the data, the clients or the module are unfit for training; the estimator stays as
            it was.
        FederatedTrainingError
            If training diverges; the model of least training loss is kept, if a round was good.
        """
        go_on = self.warm_start and hasattr(self, "theta_")
        with as_before_on_error(self), one_thread():
            self._train(
                X, y, sample_weight, clients, self.n_rounds, go_on=go_on, checkpoint=checkpoint
            )
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        classes: Any = None,
        sample_weight: Any = None,
        clients: Any = None,
    ) -> Self:
        """Run one federated round on the given rows, from the present model if there is one.

        Label counts, and the class weights made of them, are about the rows of all calls.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features), dict or list
            As in `fit`.
        y : array-like of shape (n_samples,), list or None
            As in `fit`.
        classes : array-like of shape (n_classes,), default=None
            All classes there are, in the first call; needed where the first rows lack some.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.
        clients : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if self.early_stopping:
            raise ValueError(
                "partial_fit is one round and early_stopping needs several; use early_stopping="
                "False, or fit with warm_start=True."
            )
        go_on = hasattr(self, "theta_")
        with as_before_on_error(self), one_thread():
            self._train(
                X, y, sample_weight, clients, 1, go_on=go_on, classes=classes, adds_rows=True
            )
        return self

    # -- training ------------------------------------------------------------------------------

    def _train(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        clients: Any,
        n_rounds: int,
        *,
        go_on: bool,
        classes: Any = None,
        adds_rows: bool = False,
        checkpoint: Any = None,
    ) -> None:
        self._check_parts()  # a wrong parameter is found before the data are read
        X, y, sample_weight, clients = as_rows(X, y, sample_weight, clients)
        if self.privacy is not None and sample_weight is not None:
            raise ValueError(
                f"privacy={type(self.privacy).__name__}(...) cannot go with sample_weight: weights "
                "are relative to those of the client's other rows. Leave them out."
            )
        X, y, weight, layout = checked_rows(self, X, y, sample_weight, clients, reset=not go_on)
        classes, codes = encoded(y, layout, classes, self.classes_ if go_on else None)
        needs_digest = self.early_stopping or checkpoint is not None
        data = digest(X, codes, weight, layout) if needs_digest else None

        def connect(setup: Setup, module: nn.Module) -> tuple[Engine, Loss]:
            rows = self._rows_for(module, X, codes, weight, layout, len(classes))
            return self._engine_for(module, rows, setup), self._prepare(module, rows, setup)

        self._train_over(
            connect,
            partial(Setup, classes, layout.ids, X.shape[1:], None if self.privacy else data),
            n_rounds,
            go_on=go_on,
            adds_rows=adds_rows,
            checkpoint=checkpoint,
            identity={
                "sizes of the clients": layout.sizes,
                "label counts": np.bincount(codes, minlength=len(classes)),
                "rows (a hash of them)": data,
            },
        )

    def _train_over(
        self,
        connect: Callable[[Setup, nn.Module], tuple[Engine, Loss]],
        setup_with: Callable[[int], Setup],
        n_rounds: int,
        *,
        go_on: bool,
        adds_rows: bool = False,
        checkpoint: Any = None,
        identity: Mapping[str, Any],
    ) -> None:
        """Train over clients, wherever they are, and keep the outcome: the door for other rooms.

        Parameters
        ----------
        connect : callable
            From the setup and the module with its initial parameters to the clients, and the loss
            to train with.
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
        """
        with Checkpoint.open(checkpoint) as saved, one_thread():
            if saved is not None and saved.seed is not None:
                seed = saved.seed
            elif go_on:
                seed = self.seed_
            else:
                seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            setup = setup_with(seed)
            module = build_module(
                self.module, self.hidden_layer_sizes, setup.row_shape, len(setup.classes), seed
            )
            engine, loss = connect(setup, module)
            check_loss(loss, len(setup.classes), next(module.parameters()).dtype)
            parts = resolve_parts(self, loss, self._class_weight())
            stored = self.training_state_ if go_on else None
            counted = (None, 0)
            if stored is not None and adds_rows:
                counted = stored["label_counts"], stored["n_calls"]
            resumed = saved is not None and saved.state is not None
            origin = saved.state if saved is not None and resumed else stored
            n_done = 0 if stored is None else int(stored["n_rounds"])
            n_wanted = n_done + n_rounds - (0 if origin is None else int(origin["n_rounds"]))
            private = self._private(parts, engine, setup, origin, n_wanted, adds_rows)
            federation, server, population = assemble(
                self, parts, engine, module, setup, counted, private
            )
            state = TrainingState(server)
            if stored is not None:
                state = unpacked(stored, server, setup.client_ids, setup.data)
            until = state.server.n_rounds + n_rounds
            if saved is not None:
                before = {"rounds before": state.server.n_rounds}
                known = {**self._identity(setup), **before, **identity}
                saved.begin(known, seed, setup.client_ids, setup.data)
                if saved.state is not None:
                    state = unpacked(saved.state, server, setup.client_ids, setup.data)
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
            try:
                rounds = training.rounds(engine, until)
                for _ in progress(rounds, until, self.verbose, engine):
                    pass
            finally:  # whatever ends the training, there is a usable model if a round was good
                if training.state.history:
                    theta = training.model()
                    self._keep(training.state, theta, loss, setup, population, engine.sizes)

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

    def _rows_for(
        self,
        module: nn.Module,
        X: Any,
        codes: NDArray[Any],
        weight: NDArray[np.float64] | None,
        layout: ClientLayout,
        n_classes: int,
    ) -> FederatedRows:
        """The rows as the module takes them, once it is known that it does."""
        device = device_of(self.device)
        dtype = next(module.parameters()).dtype
        row_dtype = torch.int64 if takes_indices(module) and X.dtype.kind in "iu" else dtype
        check_finite(X, row_dtype, getattr(self, "feature_names_in_", None))
        probe = dense_rows(X, slice(0, 2), row_dtype, torch.device("cpu"))
        check_module(module, probe, n_classes)
        module.to(device)
        return FederatedRows(X, codes, weight, layout, n_classes, row_dtype, device)

    def _engine_for(self, module: nn.Module, rows: FederatedRows, setup: Setup) -> Engine:
        make = ENGINES[self.engine]
        if not self.early_stopping:
            return make(module, rows)
        held_out = validation_rows(
            setup.seed, rows.layout, rows.y, rows.n_classes, self.validation_fraction
        )
        train, validate = rows.layout.restrict(~held_out), rows.layout.restrict(held_out)
        return make(module, rows.regroup(train), rows.regroup(validate))

    def _prepare(self, module: nn.Module, rows: FederatedRows, setup: Setup) -> Loss:
        """Called with the checked rows before training; returns the loss to train with."""
        return self._resolve_loss()

    def _identity(self, setup: Setup) -> dict[str, Any]:
        """What a checkpoint must have been written for to be gone on with, by name."""
        free = {"n_rounds", "verbose", "device", "warm_start"}
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
        self.hidden_layer_sizes_ = tuple(self.hidden_layer_sizes)
        self.row_shape_ = tuple(setup.row_shape)
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

    # -- scikit-learn --------------------------------------------------------------------------

    def _html_repr(self) -> str:
        from skfedfocal.display import estimator_html

        return estimator_html(self)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {**state, "_module": None} if "_module" in state else state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = self.module is not None
        return tags


def _warn_is_over() -> None:
    warnings.warn(
        "Early stopping has ended this training before; no round was added. Fit anew, or with "
        "early_stopping=False, to train on.",
        UserWarning,
        stacklevel=6,
    )
