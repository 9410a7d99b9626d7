"""What every federated classifier has: parameters, `fit` on rows in this process, tags."""

from __future__ import annotations

from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from torch import nn

from skfedfocal._class_weight import CLASS_WEIGHTS
from skfedfocal._data.digest import digest
from skfedfocal._data.inputs import as_before_on_error, as_rows, check_finite
from skfedfocal._data.queries import settle
from skfedfocal._data.rows import FederatedRows
from skfedfocal._estimators.callbacks import what_may_be_seen
from skfedfocal._estimators.encoding import encoder_before, encoding_of, in_words
from skfedfocal._estimators.engine import open_engine, secured
from skfedfocal._estimators.rows import checked_rows, encoded, rows_for
from skfedfocal._estimators.scales import warn_if_squeezed, warn_if_unscaled
from skfedfocal._estimators.training import FederatedTrainer
from skfedfocal._sklearn import HasMethods, Interval, RealNotInt, StrOptions, _fit_context
from skfedfocal._threads import one_thread
from skfedfocal._training.assembly import Setup, n_selected
from skfedfocal._training.checkpoint import Checkpoint
from skfedfocal._training.parts import check_cohorts
from skfedfocal.aggregation import AGGREGATORS, Aggregator
from skfedfocal.encodings import ENCODINGS, NumericEncoding
from skfedfocal.encodings._encoder import RowEncoder
from skfedfocal.engines import ENGINES, Engine, LoopEngine, Traffic
from skfedfocal.engines._in_process import InProcessEngine
from skfedfocal.losses import Loss
from skfedfocal.privacy._aggregation import SecureAggregation, resolve_secure
from skfedfocal.selection import SELECTIONS, Selection
from skfedfocal.strategies import STRATEGIES, Strategy


class BaseFederatedClassifier(FederatedTrainer):
    """All of a federated classifier but its loss and class weights, which subclasses choose."""

    secure_aggregation: Any

    __metadata_request__fit = {"clients": True}
    __metadata_request__partial_fit = {"clients": True}

    _class_weight_constraint = [
        dict,
        StrOptions(set(CLASS_WEIGHTS)),
        None,
    ]
    _secure_aggregation_constraint = ["boolean", SecureAggregation]
    _parameter_constraints = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "module": [callable, HasMethods("forward"), None],
        "numeric_encoding": [StrOptions(set(ENCODINGS)), NumericEncoding, None],
        "client_gamma": [Interval(Real, 0, None, closed="left")],
        "strategy": [StrOptions(set(STRATEGIES)), Strategy],
        "aggregation": [StrOptions(set(AGGREGATORS)), Aggregator],
        "selection": [StrOptions(set(SELECTIONS)), Selection],
        "clients_per_round": [
            Interval(RealNotInt, 0, 1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
        ],
        "min_clients": [Interval(Integral, 1, None, closed="left")],
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
        numeric_encoding: Any,
        client_gamma: Any,
        strategy: Any,
        aggregation: Any,
        selection: Any,
        clients_per_round: float,
        min_clients: int,
        n_rounds: int,
        n_local_epochs: int,
        batch_size: int,
        learning_rate: Any,
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
        self.numeric_encoding = numeric_encoding
        self.client_gamma = client_gamma
        self.strategy = strategy
        self.aggregation = aggregation
        self.selection = selection
        self.clients_per_round = clients_per_round
        self.min_clients = min_clients
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
            If training diverges, the model of least training loss being kept, if a round was
            good; or if fewer than `min_clients` replies of a round are good, the last good model
            being kept.
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
        kind, cpu = torch.get_default_dtype(), torch.device("cpu")  # those of the MLP as it begins
        given = FederatedRows(X, codes, weight, layout, len(classes), kind, cpu)
        encoding = encoding_of(self, X.shape[1:], dense=not sparse.issparse(X))
        encoder, asked = self._encoder(encoding, given, go_on)
        known = classes, layout.ids, X.shape[1:], None if self.privacy else data

        def connect(
            setup: Setup, module: nn.Module, saved: Checkpoint | None
        ) -> tuple[Engine, Loss]:
            rows = rows_for(self, module, given, setup.encoder)
            engine = self._engine_for(module, rows, setup)
            engine.asked = asked
            return engine, self._prepare(module, rows, setup, saved)

        self._train_over(
            connect,
            partial(Setup, *known, encoding=in_words(encoding), encoder=encoder),
            n_rounds,
            go_on=go_on,
            adds_rows=adds_rows,
            checkpoint=checkpoint,
            identity={
                "sizes of the clients": layout.sizes,
                "label counts": np.bincount(codes, minlength=len(classes)),
                "rows (a hash of them)": data,
            },
            shown=what_may_be_seen(self, X, y, sample_weight),
        )
        if not go_on and self.privacy is None:
            names = getattr(self, "feature_names_in_", None)
            loss = self.history_["loss"][0]
            warn_if_unscaled(loss, len(classes), X, names, encoded=encoder is not None)

    def _encoder(
        self, encoding: NumericEncoding | None, given: FederatedRows, go_on: bool
    ) -> tuple[RowEncoder | None, Traffic]:
        """What rows go through, and what asking for it has cost."""
        if go_on or encoding is None:  # nobody is asked
            return encoder_before(self, encoding) if go_on else None, Traffic()
        names = getattr(self, "feature_names_in_", None)
        check_finite(given.X, given.dtype, names)
        engine = secured(self, LoopEngine(nn.Identity(), given))
        secure, wanted = resolve_secure(self.secure_aggregation), self.clients_per_round
        check_cohorts(secure, engine.sizes, n_selected(wanted, len(engine.sizes)), wanted)
        encoder = settle(encoding.questions(given.X.shape[1]), engine.ask)
        if encoder is not None:
            warn_if_squeezed(given.X, encoder, names)
        return encoder, engine.asked

    def _engine_for(self, module: nn.Module, rows: FederatedRows, setup: Setup) -> Engine:
        return secured(self, self._open_engine(module, rows, setup))

    def _open_engine(self, module: nn.Module, rows: FederatedRows, setup: Setup) -> InProcessEngine:
        """The engine that shows each client's update."""
        return open_engine(self, module, rows, setup.seed)

    def _prepare(
        self, module: nn.Module, rows: FederatedRows, setup: Setup, saved: Checkpoint | None
    ) -> Loss:
        """Called with the checked rows before training; returns the loss to train with."""
        return self._resolve_loss()

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
