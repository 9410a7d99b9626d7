"""A model for each client, from the global one."""

from __future__ import annotations

from copy import copy, deepcopy
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing, check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted

from skfedfocal._data.clients import ClientLayout, id_column, id_key
from skfedfocal._data.columns import as_table
from skfedfocal._data.inputs import as_before_on_error, as_rows, plain
from skfedfocal._data.rows import FederatedRows
from skfedfocal._estimators.base import BaseFederatedClassifier
from skfedfocal._estimators.handing_on import hand_on
from skfedfocal._estimators.own_models import (
    ask,
    checked_shares,
    own_priors,
    tuning_of,
)
from skfedfocal._estimators.prediction import balanced_accuracy
from skfedfocal._estimators.rows import checked_rows, encoded, rows_for
from skfedfocal._sklearn import HasMethods, Interval, _fit_context
from skfedfocal._steps import last_step, to_last_step, with_last_step
from skfedfocal._threads import one_thread
from skfedfocal._training.parts import learning_rate_of
from skfedfocal._training.personal import personalize
from skfedfocal.engines import ENGINES
from skfedfocal.engines._in_process import InProcessEngine

Array = NDArray[np.float64]


class PersonalizedClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    r"""A model for each client: the global one, trained on by the client as far as that pays.

    After a federated training each client k trains the global model on its own rows, to
    :math:`\theta + \Delta_k`, and goes a share of that way:

    .. math:: \theta_k = \theta + a_k \Delta_k, \quad a_k \in \{0\} \cup \mathtt{shares}

    It chooses :math:`a_k` on rows of its own that the training on did not see, by
    cross-validation, and moves only where the gain exceeds two standard errors: clients with few
    rows, or rows like the others', keep the global model or stay near it. In that training and in
    the choice the classes that the client has weigh as they did in the federation, so that its
    model is about the same population and `predict` remains fair to rare classes; how frequent the
    classes are at the client comes in by `predict_posterior`.

    Use it where clients differ in how the same class looks (persons, sensors, hospitals with other
    devices) and will use the model themselves. For clients not yet seen the global model is what
    there is.

    Parameters
    ----------
    estimator : estimator object
        `FedFocalClassifier`, `FederatedClassifier` or `FedFocalClassifierCV`, or a pipeline that
        ends in one. A clone is fitted; inside a `sklearn.frozen.FrozenEstimator` a fitted one is
        taken as it is.
    n_epochs : int, default=5
        Passes of each client over its own rows.
    learning_rate : float or None, default=None
        Length of a step; None for that of the estimator.
    shares : array-like of float, default=(0.25, 0.5, 0.75, 1.0)
        Shares of the way, in (0, 1], that are tried beside staying.
    n_folds : int, default=4
        Folds of each client's rows, at least 2.
    random_state : int, RandomState instance or None, default=None
        Seed of folds and shuffling.

    Attributes
    ----------
    estimator_ : estimator object
        The fitted global estimator.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    clients_ : ndarray of shape (n_clients,)
        Ids of the clients, in order of first appearance.
    shares_ : ndarray of shape (n_clients,)
        The share that each client took; 0 where it keeps the global model.
    validation_losses_ : ndarray of shape (n_clients, 1 + n_shares)
        Cross-validated log-loss of the global model and of each share, classes weighed as said
        above; NaN for clients with one class alone, which keep the global model.
    class_priors_ : ndarray of shape (n_clients, n_classes)
        Share of each class among the client's rows, with one row's weight spread as in the whole
        federation (evenly, where that is not known), so that none is 0.
    thetas_ : ndarray of shape (n_personal, n_parameters)
        Parameters of the clients that moved, in the order of `clients_`.
    one_client_ : bool
        Whether fit was without `clients`, so that all rows are that one client's.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where X had names that are all strings.

    See Also
    --------
    ClientColumn : Ids as a column of X, for tools that do not hand `clients` on.
    skfedfocal.metrics.client_scores : A score for each client, here by its own model.

    Notes
    -----
    Nothing of this leaves a client: it discloses nothing beyond what the global training does, and
    at a site it is done with the global model and the site's rows alone (see the examples). In this
    process all clients train in one block. The global model has seen the rows that the folds hold
    out, which speaks for it in the choice: gains are underrated.

    A model of the client's own is trained without noise, whatever `privacy` the global one was
    trained with: such an estimator is refused, unless it is fitted and frozen, so that somebody
    has thought of where the models stay.

    References
    ----------
    .. [1] T. Yu, E. Bagdasaryan, V. Shmatikov, "Salvaging federated learning by local adaptation",
       2020, arXiv:2002.04758.
    .. [2] Y. Mansour et al., "Three approaches for personalization with applications to federated
       learning", 2020, arXiv:2002.10619.

    Examples
    --------
    Two clients that call the same things by opposite names:

    >>> import numpy as np
    >>> from skfedfocal import FedFocalClassifier, PersonalizedClassifier
    >>> rng = np.random.default_rng(0)
    >>> X, clients = rng.normal(size=(400, 2)), np.repeat(["a", "b"], 200)
    >>> y = (X[:, 0] > 0) ^ (clients == "b")
    >>> model = PersonalizedClassifier(FedFocalClassifier((16,), random_state=0), random_state=0)
    >>> model = model.fit(X, y, clients=clients)
    >>> bool(model.score(X, y) < 0.7), bool(model.score(X, y, clients=clients) > 0.9)
    (True, True)

    At a site, with the global model of a federation:

    >>> from sklearn.frozen import FrozenEstimator
    >>> site = PersonalizedClassifier(FrozenEstimator(model.estimator_), random_state=0)
    >>> site = site.fit(X[:200], y[:200])
    >>> bool(site.score(X[:200], y[:200]) > 0.9)
    True
    """

    _parameter_constraints = {
        "estimator": [HasMethods("fit")],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "shares": ["array-like"],
        "n_folds": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }
    __metadata_request__fit = {"clients": True}
    __metadata_request__predict = {"clients": True}
    __metadata_request__predict_proba = {"clients": True}
    __metadata_request__predict_log_proba = {"clients": True}
    __metadata_request__decision_function = {"clients": True}
    __metadata_request__score = {"clients": True}

    def __init__(
        self,
        estimator: Any,
        *,
        n_epochs: int = 5,
        learning_rate: float | None = None,
        shares: Any = (0.25, 0.5, 0.75, 1.0),
        n_folds: int = 4,
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate
        self.shares = shares
        self.n_folds = n_folds
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, clients: Any = None) -> Self:
        """Fit the global estimator, then each client's model.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features), dict or list
            As in `FedFocalClassifier.fit`.
        y : array-like of shape (n_samples,), list or None
            As in `FedFocalClassifier.fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of rows.
        clients : array-like of shape (n_samples,), default=None
            Id of each row's client. None is one client, whose model `predict` then takes.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        TypeError
            If the estimator neither is one of this package's classifiers nor ends in one.
        ValueError
            If the data or the shares are unfit; the estimator stays as it was.
        """
        with as_before_on_error(self), one_thread():
            shares = checked_shares(self.shares)
            self._fit(*as_rows(X, y, sample_weight, clients), shares)
        return self

    def predict(self, X: Any, clients: Any = None) -> NDArray[Any]:
        """Predict the most probable class of each row.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features)
            Rows.
        clients : array-like of shape (n_samples,), default=None
            Id of each row's client, whose model is used; unknown ones have the global model, as all
            rows have with None, unless there was one client without an id in fit.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Class labels.
        """
        return self._by_client("predict", X, clients)

    def predict_proba(self, X: Any, clients: Any = None) -> Array:
        """Probability of each class in the population that the global training weighed.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features)
            Rows.
        clients : array-like of shape (n_samples,), default=None
            As in `predict`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Rows sum to 1; columns in the order of `classes_`.
        """
        return self._by_client("predict_proba", X, clients)

    def predict_log_proba(self, X: Any, clients: Any = None) -> Array:
        """Logarithm of the probabilities of `predict_proba`.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features)
            Rows.
        clients : array-like of shape (n_samples,), default=None
            As in `predict`.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        return self._by_client("predict_log_proba", X, clients)

    def decision_function(self, X: Any, clients: Any = None) -> Array:
        """Scores of the classes: log-odds of the second of two, else log-probabilities.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features)
            Rows.
        clients : array-like of shape (n_samples,), default=None
            As in `predict`.

        Returns
        -------
        scores : ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)
            Above 0, or largest, for the class that `predict` returns.
        """
        return self._by_client("decision_function", X, clients)

    def predict_posterior(self, X: Any, class_prior: Any = "client", clients: Any = None) -> Array:
        """Probability of each class in a population of the given class frequencies.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features)
            Rows.
        class_prior : {"client", "population", "uniform"} or array-like of shape (n_classes,), \
default="client"
            Class frequencies where predictions are used: those of each client's own rows (of an
            unknown one, of all rows), or as in `FedFocalClassifier.predict_posterior`.
        clients : array-like of shape (n_samples,), default=None
            As in `predict`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Rows sum to 1.
        """
        return self._by_client("predict_posterior", X, clients, class_prior)

    def score(self, X: Any, y: Any, sample_weight: Any = None, clients: Any = None) -> float:
        """Balanced accuracy: the mean of the recalls of the classes in y.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of rows.
        clients : array-like of shape (n_samples,), default=None
            As in `predict`.

        Returns
        -------
        score : float
            Between 0 and 1.
        """
        return balanced_accuracy(y, self.predict(X, clients), sample_weight)

    def client_estimator(self, client: Any) -> Any:
        """The fitted estimator as a client has it, to be handed over to that client.

        Parameters
        ----------
        client : object
            Id of a client.

        Returns
        -------
        estimator : estimator object
            Of the kind of `estimator_`, with the client's parameters and class frequencies; of an
            unknown client the global one.
        """
        check_is_fitted(self)
        number = self._numbers().get(id_key(client))
        if number is None:
            return self.estimator_
        return with_last_step(self.estimator_, self._models(number))

    # -- how -----------------------------------------------------------------------------------

    def _fit(self, X: Any, y: Any, weight: Any, clients: Any, shares: Array) -> None:
        frozen = isinstance(self.estimator, FrozenEstimator)
        inner = self.estimator.estimator if frozen else clone(self.estimator)
        last = last_step(inner)
        if not isinstance(last, BaseFederatedClassifier):
            raise TypeError(
                "estimator must be a federated classifier of skfedfocal, or a pipeline that ends "
                f"in one; got {self.estimator!r}."
            )
        if last.privacy is not None and not frozen:
            raise ValueError(
                f"{type(last).__name__}(privacy=...) cannot go with PersonalizedClassifier: models "
                "of the clients' own are trained without noise, and would be in one object with "
                "it. Fit the global model alone, and personalize it, in a FrozenEstimator, where "
                "each client's rows are."
            )
        if not frozen:
            hand_on(inner, "fit", X, y, clients=clients, sample_weight=weight)
        check_is_fitted(last)
        rows = plain(to_last_step(inner, X), "X")
        rows, y, weight, layout = checked_rows(last, rows, y, weight, clients, reset=False)
        codes = encoded(y, layout, None, last.classes_)[1].astype(np.int64)
        n_classes = len(last.classes_)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        rate = self.learning_rate
        if rate is None:
            rate = learning_rate_of(last._settled())
        tuning = tuning_of(last, shares, self.n_folds, self.n_epochs, rate, seed)
        theta = torch.from_numpy(last.theta_)
        module = deepcopy(last._trained()).train()
        kind = next(module.parameters()).dtype
        given = FederatedRows(rows, codes, None, layout, n_classes, kind, torch.device("cpu"))
        own_rows = rows_for(last, module, given, last.encoder_)

        def engine_of(part: ClientLayout, weights: Array) -> InProcessEngine:
            return ENGINES[last.engine](module, own_rows.regroup(part, weights))

        theta = theta.to(own_rows.device)
        found = personalize(engine_of, theta, layout, codes, weight, n_classes, tuning)
        self.estimator_ = inner
        self.classes_, self.clients_ = last.classes_, layout.ids
        self.shares_, self.thetas_ = found.shares, found.thetas.cpu().numpy()
        self.validation_losses_ = found.losses
        self.class_priors_ = own_priors(layout, codes, weight, last.class_prior_, n_classes)
        self.one_client_ = clients is None
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))

    def _by_client(self, method: str, X: Any, clients: Any, *given: Any) -> NDArray[Any]:
        """What each row's client's model says."""
        check_is_fitted(self)
        X = to_last_step(self.estimator_, as_table(plain(X, "X")))
        if clients is None:
            model = self._models(0 if self.one_client_ else None)
            return ask(model, method, X, *given)
        layout = ClientLayout.from_ids(id_column(clients), X.shape[0])
        numbers = self._numbers()
        answer: Any = None
        for place, client in enumerate(layout.ids):
            rows = layout.rows(np.arange(layout.offsets[place], layout.offsets[place + 1]))
            model = self._models(numbers.get(id_key(client)))
            part = ask(model, method, _safe_indexing(X, rows), *given)
            if answer is None:
                answer = np.empty((X.shape[0], *part.shape[1:]), part.dtype)
            answer[rows] = part
        return answer

    def _numbers(self) -> dict[Any, int]:
        return {id_key(client): number for number, client in enumerate(self.clients_)}

    def _models(self, number: int | None) -> Any:
        """The classifier as a client has it; the global one for none."""
        last = last_step(self.estimator_)
        if number is None:
            return last
        model = copy(last)
        model.class_prior_ = self.class_priors_[number]
        if self.shares_[number]:
            model.theta_ = self.thetas_[np.count_nonzero(self.shares_[:number])]
            model.training_state_ = {**last.training_state_, "theta": model.theta_}
            model._module = None
        return model

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        if inner.classifier_tags is not None:
            tags.classifier_tags = inner.classifier_tags
        return tags
