"""The estimator that chooses its own gamma, class weights and more."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from numbers import Integral, Real
from typing import Any, NoReturn

import numpy as np
from torch import nn

from skfedfocal._component import resolve
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.rows import FederatedRows
from skfedfocal._estimators.base import BaseFederatedClassifier
from skfedfocal._estimators.candidates import (
    LISTS,
    Candidate,
    as_number,
    as_results,
    candidates_of,
    with_candidate,
)
from skfedfocal._sklearn import (
    HasMethods,
    Interval,
    InvalidParameterError,
    validate_parameter_constraints,
)
from skfedfocal._training.assembly import Setup, assemble
from skfedfocal._training.checkpoint import Checkpoint
from skfedfocal._training.folds import splits_of, wrong_cv
from skfedfocal._training.parts import Parts, resolve_parts
from skfedfocal._training.search import Run, balanced_accuracy, gamma_as_constant, race, right
from skfedfocal._training.standing import Standing
from skfedfocal._training.state import TrainingState
from skfedfocal.engines import ENGINES, ManyFederations
from skfedfocal.losses import LOSSES, FocalLoss, Loss


class FedFocalClassifierCV(BaseFederatedClassifier):
    """Fed-Focal classifier that chooses its parameters by federated cross-validation.

    Validation rows stay on their clients: each splits its own rows into folds, and only sums over
    clients (hits and rows by class) make the score, the balanced accuracy. All candidates and folds
    train side by side, for a fraction of a grid search; the best is then trained on all rows.

    Parameters
    ----------
    hidden_layer_sizes : int or tuple of int, default=(100,)
        Widths of the hidden layers of the default module, an MLP with ReLU; a number is one layer.
        Ignored where `module` is given.
    module : callable, torch.nn.Module or None, default=None
        None for the MLP; a callable ``(n_features, n_classes) -> Module``, which is given the shape
        of a row instead of ``n_features`` where X has more than two dimensions; or a Module, which
        is copied. It must map rows ``(batch, ...)`` to logits ``(batch, n_classes)``. Computation
        is in the type of its parameters.
    numeric_encoding : str, NumericEncoding or None, default="auto"
        What columns become before the MLP, from sums over the clients: "standard" is mean 0 and
        deviation 1; "auto" that where columns are not of order 1, up to 256 of them;
        "piecewise_linear" adds how far into each of 16 bins between quantiles a value is. None is
        rows as they are; so is "auto" for sparse rows, more dimensions, a `module` of one's own and
        under `privacy`, where others are refused. See `skfedfocal.encodings`.
    gammas : sequence, default=(1.0, 0.0, 0.5, 2.0, 5.0)
        Focusing parameters to choose from, each a number of at least 0 or one such number for each
        class, as `FedFocalClassifier` takes it. Candidates are the combinations of this and of the
        following lists; the first, of each list's first value, is kept unless another is better by
        more than two standard errors of their difference: as the folds show it, and as those
        validation rows let expect that one of the two alone gets right.
    class_weights : sequence, default=("balanced",)
        Class weights to choose from, each as `FedFocalClassifier` takes it.
    learning_rates : sequence or None, default=None
        Lengths of a step of local SGD to choose from; None is `learning_rate` alone.
    logit_adjustments : sequence or None, default=None
        Shares of the class weighting to choose from; None is `logit_adjustment` alone.
    client_gammas : sequence or None, default=None
        Strengths of client focusing to choose from; None is `client_gamma` alone.
    logit_adjustment : float, default=0.6
        Share of the class weighting that shifts logits instead of weighing rows, in [0, 1]: rows
        weigh their class weight to the power ``1 - logit_adjustment``, and the rest is added to the
        logits in training. 0 weighs rows only. All stand for the same probabilities; something
        between the two trains most steadily. With ``class_weight="local"`` there is no shift.
    cv : int, cross-validation generator or iterable, default=3
        A number of folds: every client's rows of every class are spread evenly over them. Or what
        scikit-learn takes, with the client ids as groups: ``GroupKFold()`` validates on clients
        that did not train.
    racing : bool, default=True
        Whether the worse half of the candidates is dropped in stages, which together take fewer
        rounds than `n_rounds`, and only one that clearly leads the first is then trained, with the
        first, for all of them; otherwise every candidate is.
    client_gamma : float, default=1.0
        Client focusing: clients weigh ``n_k * (1 - r_k) ** client_gamma``, with r_k the share of
        their rows, weighed by class, that the global model gets right, estimated, smoothed and
        bounded as in `skfedfocal.aggregation.WeightedMean`. Above 0 the weight discloses r_k each
        round. Only the weighted mean has it: set 0 beside another aggregation.
    strategy : str or Strategy, default="fedavg"
        The server's step: "fedadagrad", "fedadam", "fedavg", "fedavgm", "fedprox", "fedyogi" or an
        object from `skfedfocal.strategies`.
    aggregation : str or Aggregator, default="mean"
        How updates are combined: "mean", "bucketing", "clipped_mean", "geometric_median", "krum",
        "median", "trimmed_mean" or an object from `skfedfocal.aggregation`.
        Beside all but the mean, the largest label counts of each class are not believed, and the
        server is told each client's.
    selection : str or Selection, default="uniform"
        Which clients take part in a round: "category_coverage", "focal", "uniform" or an object
        from `skfedfocal.selection`.
    clients_per_round : float or int, default=1.0
        Share of the clients (float in (0, 1]) or their number (int) in each round.
    min_clients : int, default=1
        Good replies without which a round ends the training, or all of its cohort where that is
        smaller. A client whose update is not finite, or on whose rows the module raises, is left
        out of the round, warned of once, and listed in `failures_`.
    n_rounds : int, default=100
        Rounds of federated training.
    n_local_epochs : int, default=1
        Passes of a client over its rows in a round.
    batch_size : int, default=32
        Rows of a step of local SGD.
    learning_rate : float, default=0.1
        Length of a step of local SGD.
    momentum : float, default=0.0
        Momentum of local SGD, in [0, 1); it starts anew each round.
    weight_decay : float, default=0.0
        L2 penalty of the local objective, at least 0.
    average_rounds : int, default=1
        The fitted model is the mean of the global models of the last so many rounds.
    early_stopping : bool, default=False
        Whether to hold out validation rows on each client, stop when their loss no longer falls,
        and return to the best round. After each round the new model is sent to all clients, or to
        the same 1,000 of them throughout if there are more. Discloses the sum of their validation
        losses.
    validation_fraction : float, default=0.1
        Share of each client's rows of each class held out, in (0, 1). Only with early stopping.
    n_iter_no_change : int, default=10
        Rounds without a fall of the validation loss by `tol` before training stops. Only with
        early stopping.
    tol : float, default=1e-4
        Fall of the validation loss that counts, at least 0. Only with early stopping.
    engine : {"vectorized", "loop"}, default="vectorized"
        How clients are trained in this process. All give the same numbers; "loop" is slow and
        plain.
    device : str, default="auto"
        "cpu", "cuda", "mps", or "auto" for an accelerator if there is one.
    verbose : int, default=0
        1 draws a progress bar, 2 prints a line a round.
    random_state : int, RandomState instance or None, default=None
        Seed of initial parameters, selection and shuffling.

    Attributes
    ----------
    gamma_ : float or ndarray of shape (n_classes,)
        The gamma chosen.
    best_index_ : int
        Number of the candidate chosen.
    best_params_ : dict
        The candidate chosen: ``{"gamma": ..., "class_weight": ...}``, and what else was searched.
    best_score_ : float
        Its mean balanced accuracy over the folds.
    cv_results_ : dict of ndarrays
        By candidate: param_gamma, param_class_weight and what else was searched, n_rounds (how far
        it came), split0_test_score, ..., mean_test_score, std_test_score, rank_test_score.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    clients_ : ndarray of shape (n_clients,)
        Client ids, in order of first appearance.
    client_sizes_ : ndarray of shape (n_clients,)
        Sum of sample weights (number of rows) of each client.
    class_prior_ : ndarray of shape (n_classes,) or None
        Share of each class in the training rows, where label counts were summed.
    history_ : dict of ndarrays of shape (n_iter_,)
        Row by round: round, loss, n_selected, n_failed, bytes_down, bytes_up, seconds, and
        validation_loss with early stopping.
    failures_ : list of dict
        ``{"round": ..., "client": ..., "reason": ...}`` of each reply that was missing or left out.
    n_iter_ : int
        Rounds trained.
    module_ : torch.nn.Module
        The trained module, in evaluation mode, behind the encoder if there is one.
    theta_ : ndarray of shape (n_parameters,)
        Its trainable parameters as one vector.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    Notes
    -----
    Besides what `FedFocalClassifier` discloses, the server sees by class, summed over clients, the
    rows, hits, and rows that the first candidate or this one alone gets right, of every candidate
    and fold. Secure sums are not offered: choose here, train with that.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skfedfocal import FedFocalClassifierCV, iid_partition
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = FedFocalClassifierCV(gammas=(0.0, 2.0), n_rounds=5, random_state=0)
    >>> model.fit(X, y, clients=iid_partition(y, 5, random_state=0)).cv_results_["param_gamma"]
    array([0., 2.])
    """

    _parameter_constraints = {
        **BaseFederatedClassifier._parameter_constraints,
        "gammas": ["array-like"],
        "class_weights": ["array-like"],
        "learning_rates": ["array-like", None],
        "logit_adjustments": ["array-like", None],
        "client_gammas": ["array-like", None],
        "logit_adjustment": [Interval(Real, 0, 1, closed="both")],
        "racing": ["boolean"],
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split"]), "array-like"],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        *,
        module: Any = None,
        numeric_encoding: Any = "auto",
        gammas: Any = (1.0, 0.0, 0.5, 2.0, 5.0),
        class_weights: Any = ("balanced",),
        learning_rates: Any = None,
        logit_adjustments: Any = None,
        client_gammas: Any = None,
        logit_adjustment: float = 0.6,
        cv: Any = 3,
        racing: bool = True,
        client_gamma: float = 1.0,
        strategy: Any = "fedavg",
        aggregation: Any = "mean",
        selection: Any = "uniform",
        clients_per_round: float = 1.0,
        min_clients: int = 1,
        n_rounds: int = 100,
        n_local_epochs: int = 1,
        batch_size: int = 32,
        learning_rate: float = 0.1,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        average_rounds: int = 1,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        engine: str = "vectorized",
        device: str = "auto",
        verbose: int = 0,
        random_state: Any = None,
    ):
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            module=module,
            numeric_encoding=numeric_encoding,
            client_gamma=client_gamma,
            strategy=strategy,
            aggregation=aggregation,
            selection=selection,
            clients_per_round=clients_per_round,
            min_clients=min_clients,
            n_rounds=n_rounds,
            n_local_epochs=n_local_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            average_rounds=average_rounds,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            engine=engine,
            device=device,
            verbose=verbose,
            random_state=random_state,
        )
        self.gammas = gammas
        self.class_weights = class_weights
        self.learning_rates = learning_rates
        self.logit_adjustments = logit_adjustments
        self.client_gammas = client_gammas
        self.logit_adjustment = logit_adjustment
        self.cv = cv
        self.racing = racing

    @property
    def partial_fit(self) -> NoReturn:
        """Not offered: one round is no ground to choose on."""
        raise AttributeError("FedFocalClassifierCV has no partial_fit; use FedFocalClassifier.")

    warm_start = False  # a search begins anew
    secure_aggregation = False  # candidates train side by side, and not by the protocol
    over_sites = False

    def _check_parts(self) -> None:
        if isinstance(self.cv, str):
            raise wrong_cv(self.cv)
        if self.privacy is not None:
            raise InvalidParameterError(
                f"privacy={type(self.privacy).__name__}(...) cannot go with "
                "FedFocalClassifierCV: each score on validation rows is a release without noise. "
                "Use FedFocalClassifier with parameters settled beforehand."
            )
        constraints = BaseFederatedClassifier._parameter_constraints
        allowed = {
            "class_weight": BaseFederatedClassifier._class_weight_constraint,
            "logit_adjustment": self._parameter_constraints["logit_adjustment"],
            **{name: constraints[name] for name in ("learning_rate", "client_gamma")},
        }
        candidates = candidates_of(self)
        if not candidates:
            lists = ", ".join(LISTS.values())
            raise InvalidParameterError(f"Lists to choose from must not be empty: {lists}.")
        for candidate in candidates:
            for name in allowed.keys() & candidate.keys():
                one = {LISTS[name]: candidate[name]}
                validate_parameter_constraints(
                    {LISTS[name]: allowed[name]}, one, type(self).__name__
                )
            self._parts_of(candidate)

    def _parts_of(self, candidate: Candidate) -> Parts:
        """The parts of a candidate, checked."""
        settled = with_candidate(self, candidate)
        loss = FocalLoss(candidate["gamma"], settled.logit_adjustment)
        loss = resolve(loss, LOSSES, Loss, "gammas")
        return resolve_parts(settled, loss, candidate["class_weight"])

    def _settled(self) -> Any:
        return with_candidate(self, self.best_params_)

    def _resolve_loss(self) -> Loss:
        return FocalLoss(self.gamma_, self._settled().logit_adjustment)

    def _class_weight(self) -> Any:
        return self.best_params_["class_weight"]

    def _identity(self, setup: Setup, module: nn.Module) -> dict[str, Any]:
        """With the rounds, which made the choice, and the kind of `cv`, not its splits."""
        cv = self.cv if isinstance(self.cv, Integral) else type(self.cv).__name__
        return {**super()._identity(setup, module), "cv": cv, "n_rounds": self.n_rounds}

    def _prepare(
        self, module: nn.Module, rows: FederatedRows, setup: Setup, saved: Checkpoint | None
    ) -> Loss:
        """Search for the best candidate on the rows that training is about to use."""
        candidates = candidates_of(self)
        splits = splits_of(self.cv, rows, setup.seed)
        folds = [rows.layout.restrict(train) for train, _ in splits]
        held_out = [rows.regroup(rows.layout.restrict(test)) for _, test in splits]
        many = ManyFederations(copy.deepcopy(module), rows, folds)
        stages = race(len(candidates), self.n_rounds) if self.racing else []
        begun = Standing.of(self._runs(candidates, folds, module, rows, setup), splits)
        if saved is not None:
            saved.start()
            if saved.search is not None:
                begun.check(saved.search)
                begun = saved.read(begun.resumed, saved.search)

        def judge(runs: Sequence[Run]) -> list[tuple[float, float]]:
            firsts = (run for run in runs if run.candidate == 0)
            beside = {run.fold: right(run, many, held_out[run.fold]) for run in firsts}
            return [
                balanced_accuracy(run, beside[run.fold], many, held_out[run.fold]) for run in runs
            ]

        standing = begun
        try:
            for standing in begun.rounds(stages, self.n_rounds, many, judge):
                if saved is not None:
                    saved.save_search(standing.packed())
        except KeyboardInterrupt:
            if not np.isnan(standing.scores).any():  # the leader's model, though of a fold
                self._choose(candidates, standing)
                leader = next(run for run in standing.runs if run.candidate == self.best_index_)
                sizes = many.engines[leader.fold].sizes
                theta = leader.state.server.theta
                loss = self._resolve_loss()
                self._keep(leader.state, theta, loss, setup, leader.population, sizes)
            raise
        self._choose(candidates, standing)
        return self._resolve_loss()

    def _runs(
        self,
        candidates: list[Candidate],
        folds: list[ClientLayout],
        module: nn.Module,
        rows: FederatedRows,
        setup: Setup,
    ) -> list[Run]:
        """Every candidate on every fold, before its first round."""
        runs = []
        for (i, candidate), (fold, part) in product(enumerate(candidates), enumerate(folds)):
            engine = ENGINES[self.engine](module, rows.regroup(part))
            parts = self._parts_of(candidate)
            federation, server, population = assemble(self, parts, engine, module, setup)
            federation = gamma_as_constant(federation, parts.loss, len(setup.classes))
            federation = replace(federation, min_clients=1)  # a fold may have no rows of a client
            runs.append(Run(i, fold, federation, TrainingState(server), population))
        return runs

    def _choose(self, candidates: list[Candidate], standing: Standing) -> None:
        """Keep the scores, and the candidate that they speak for."""
        self.cv_results_ = as_results(candidates, standing)
        self.best_index_ = standing.chosen()
        chosen = candidates[self.best_index_]
        self.gamma_ = as_number(chosen["gamma"])
        self.best_params_ = {**chosen, "gamma": self.gamma_}
        self.best_score_ = float(standing.scores[self.best_index_].mean())
