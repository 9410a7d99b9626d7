"""What every federated classifier does: train, predict, and be a scikit-learn estimator."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    RealNotInt,
    StrOptions,
)
from sklearn.utils.validation import (
    _check_sample_weight,
    validate_data,
)
from torch import nn

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.inputs import (
    ACCEPTED,
    as_before_on_error,
    as_rows,
    check_finite,
    check_labels,
    distinct,
    places_among,
)
from skfedfocal._data.validation import validation_rows
from skfedfocal._estimators.prediction import FederatedPredictor
from skfedfocal._module import build_module, check_module, load_flat, takes_indices
from skfedfocal._threads import one_thread
from skfedfocal._training.assembly import assemble, resume
from skfedfocal._training.progress import progress
from skfedfocal._training.training import Checkpoint, Patience, Training
from skfedfocal.engines import ENGINES, Engine, FederatedRows, dense_rows
from skfedfocal.losses import Loss
from skfedfocal.selection import SELECTIONS, Selection
from skfedfocal.strategies import STRATEGIES, Strategy


class BaseFederatedClassifier(FederatedPredictor):
    """All of a federated classifier but its loss and class weights, which subclasses choose."""

    warm_start: bool
    history_: dict[str, NDArray[Any]]

    __metadata_request__fit = {"clients": True}
    __metadata_request__partial_fit = {"clients": True}

    _class_weight_constraint = [
        dict,
        StrOptions({"balanced", "local", "effective", "estimated"}),
        None,
    ]
    _parameter_constraints = {
        "hidden_layer_sizes": ["array-like"],
        "module": [callable, HasMethods("forward"), None],
        "client_gamma": [Interval(Real, 0, None, closed="left")],
        "strategy": [StrOptions(set(STRATEGIES)), Strategy],
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
    }

    def __init__(
        self,
        hidden_layer_sizes: Any,
        *,
        module: Any,
        client_gamma: float,
        strategy: Any,
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
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.module = module
        self.client_gamma = client_gamma
        self.strategy = strategy
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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, clients: Any = None) -> Self:
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
        with as_before_on_error(self):
            self._train(X, y, sample_weight, clients, self.n_rounds, go_on=go_on)
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
        go_on = hasattr(self, "theta_")
        with as_before_on_error(self):
            self._train(X, y, sample_weight, clients, 1, go_on=go_on, classes=classes)
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
    ) -> None:
        self._check_parts()  # a wrong parameter is found before the data are read
        X, y, sample_weight, clients = as_rows(X, y, sample_weight, clients)
        X, y, sample_weight, layout = self._validate_rows(X, y, sample_weight, clients, not go_on)
        classes, codes = self._encode(y, layout, classes, go_on)
        device = _device(self.device)
        seed = self.seed_ if go_on else check_random_state(self.random_state).randint(2**31 - 1)
        module = self._build_module(X.shape[1:], len(classes), seed)
        dtype = next(module.parameters()).dtype
        row_dtype = torch.int64 if takes_indices(module) and X.dtype.kind in "iu" else dtype
        check_finite(X, row_dtype, getattr(self, "feature_names_in_", None))
        check_module(
            module, dense_rows(X, slice(0, 2), row_dtype, torch.device("cpu")), len(classes)
        )
        if go_on:
            load_flat(module, torch.from_numpy(self.last_theta_))
        module.to(device)

        rows = FederatedRows(X, codes, sample_weight, layout, len(classes), row_dtype, device)
        loss = self._prepare(module, rows, classes, seed)
        if self.early_stopping:
            held_out = validation_rows(seed, layout, codes, len(classes), self.validation_fraction)
            train, validate = layout.restrict(~held_out), layout.restrict(held_out)
            engine = ENGINES[self.engine](module, rows.regroup(train), rows.regroup(validate))
        else:
            engine = ENGINES[self.engine](module, rows)
        self._run(
            engine, module, loss, classes, layout.ids, X.shape[1:], seed, n_rounds, go_on=go_on
        )

    def _prepare(
        self, module: nn.Module, rows: FederatedRows, classes: NDArray[Any], seed: int
    ) -> Loss:
        """Called with the checked rows before training; returns the loss to train with."""
        return self._resolve_loss()

    def _run(
        self,
        engine: Engine,
        module: nn.Module,
        loss: Loss,
        classes: NDArray[Any],
        client_ids: NDArray[Any],
        row_shape: tuple[int, ...],
        seed: int,
        n_rounds: int,
        *,
        go_on: bool,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Train with the clients behind an engine, wherever they are, and keep the outcome."""
        with one_thread():
            federation, class_weight, prior = assemble(
                self, engine, module, loss, self._class_weight(), classes, seed
            )
            if go_on:
                federation = resume(federation, self.strategy_state_, self.n_iter_)
            training = Training(federation, self.average_rounds, self._patience(), checkpoint)
            try:
                rounds = training.rounds(engine, n_rounds)
                for _ in progress(rounds, n_rounds, self.verbose, engine):
                    pass
            finally:  # whatever ends the training, there is a usable model if a round was good
                if training.history:
                    self._keep(
                        training, client_ids, classes, class_weight, prior, row_shape, seed, go_on
                    )

    def _patience(self) -> Patience | None:
        if not self.early_stopping:
            return None
        if self.average_rounds > 1:
            raise ValueError(
                "early_stopping returns to the best round and average_rounds takes the mean of the "
                "last ones; use one of them."
            )
        return Patience(self.n_iter_no_change, self.tol)

    def _validate_rows(
        self, X: Any, y: Any, sample_weight: Any, clients: Any, reset: bool
    ) -> tuple[Any, NDArray[Any], NDArray[np.float64] | None, ClientLayout]:
        """Checked rows, and whose they are: of those of weight 0, nobody's."""
        X, y = validate_data(self, X, y, reset=reset, **ACCEPTED)
        if X.dtype.kind not in "biuf":
            raise TypeError(f"X has type {X.dtype}, which is not a number; convert it first.")
        check_labels(y)
        layout = ClientLayout.from_ids(clients, X.shape[0])
        if sample_weight is None:
            return X, y, None, layout
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        keep = weights > 0
        if not keep.any():
            raise ValueError("sample_weight is zero for every row; nothing is left to train on.")
        # Rows stay where they are, so that their numbers do; those of weight 0 have no client.
        return X, y, weights, layout if keep.all() else layout.restrict(keep).without_empty()

    def _encode(
        self, y: NDArray[Any], layout: ClientLayout, classes: Any, go_on: bool
    ) -> tuple[Any, NDArray[Any]]:
        """Classes, and the labels as numbers of the smallest type that holds them."""
        present = distinct(y if layout.offsets[-1] == len(y) else y[layout.order])
        if go_on:
            known = self.classes_
            if classes is not None and not np.array_equal(np.unique(classes), known):
                raise ValueError(f"classes={classes!r} differ from those before: {known!r}.")
        elif classes is not None:
            known = np.unique(classes)
        else:
            known = present
        unknown = np.setdiff1d(present, known)
        if len(unknown):
            raise ValueError(f"y has classes {unknown!r} that are not among {known!r}.")
        if len(known) < 2:
            raise ValueError(
                f"y has one class only, {known!r}; a classifier needs at least two classes."
            )
        return known, places_among(known, y)

    def _keep(
        self,
        training: Training,
        client_ids: NDArray[Any],
        classes: NDArray[Any],
        class_weight: Any,
        prior: NDArray[np.float64] | None,
        row_shape: tuple[int, ...],
        seed: int,
        go_on: bool,
    ) -> None:
        """Store the fitted state: arrays and plain numbers only."""
        federation = training.federation
        history = training.table()
        if go_on:
            history = _joined(self.history_, history)
        self.history_ = history
        self.classes_ = classes
        self.clients_ = client_ids
        self.client_sizes_ = federation.stats.sizes
        self.class_prior_ = prior
        self.class_weight_ = class_weight
        self.theta_ = training.model().cpu().numpy()
        self.last_theta_ = federation.theta.cpu().numpy()
        self.strategy_state_ = {n: v.cpu().numpy() for n, v in federation.state.items()}
        self.n_iter_ = federation.n_rounds
        self.row_shape_ = tuple(row_shape)
        self.seed_ = int(seed)
        self._module = None
        _ = self.module_  # built now, so that prediction leaves the estimator as it is

    def _build_module(self, row_shape: tuple[int, ...], n_classes: int, seed: int) -> nn.Module:
        return build_module(self.module, self.hidden_layer_sizes, row_shape, n_classes, seed)

    def _check_parts(self) -> None:
        self._resolve_loss()

    # -- scikit-learn --------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {**state, "_module": None} if "_module" in state else state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = self.module is not None
        return tags


def _joined(
    before: dict[str, NDArray[Any]], after: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Columns of two histories one below the other; NaN where one does not have the column."""
    gaps = [np.full(len(part["round"]), np.nan) for part in (before, after)]
    return {
        name: np.concatenate([before.get(name, gaps[0]), after.get(name, gaps[1])])
        for name in before | after
    }


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidParameterError(
            f"device={name!r} cannot be used here: {str(error).splitlines()[0]}"
        ) from error
    return device
