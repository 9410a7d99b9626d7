"""Client ids that travel as a column of X, through tools that pass on nothing but X and y."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from numbers import Integral
from typing import Any, Self

from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, _fit_context, clone
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.columns import (
    as_table,
    count_columns,
    find_column,
    ids_of_column,
    without_column,
)
from skfedfocal._data.inputs import as_before_on_error, as_rows, plain
from skfedfocal._estimators.callbacks import CallbackSupport, followed_inside
from skfedfocal._estimators.handing_on import hand_on
from skfedfocal._sklearn import HasMethods
from skfedfocal._steps import last_step, to_last_step


def _inner_has(method: str) -> Callable[[Any], bool]:
    def check(self: Any) -> bool:
        inner = getattr(self, "estimator_", self.estimator)
        if method == "predict_posterior":
            inner = last_step(inner)
        getattr(inner, method)  # whose AttributeError says more than False
        return True

    return check


class ClientColumn(CallbackSupport, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """A classifier that finds the client ids in a column of X.

    Tools that hand on nothing but X and y (reports, stacking, resampling, conformal prediction)
    would train a federated classifier as one client, in silence. Here the ids are a column of X, so
    that whatever slices, shuffles or resamples rows takes them along. Each fit takes the column out
    of X and gives it as ``clients=`` to all parts of `estimator` that take it: steps of a pipeline,
    branches of a `ColumnTransformer`, the classifier. The rest of X is what `estimator` is
    fitted on. Metadata routing need not be enabled, and stays as it is.

    Parameters
    ----------
    estimator : estimator object
        A classifier that takes ``clients``, or a pipeline or another tool of scikit-learn around
        one.
    column : str, int, callable or None, default="client"
        Where the ids are: a name of a column of a pandas or polars frame; the number of a column,
        from the end where negative, of any X; or a function of X that returns one of these. None
        is for X without ids: one client, or partitions ``{id: (X, y)}``, which say it themselves.

    Attributes
    ----------
    estimator_ : estimator object
        The fitted estimator, which has not seen the column.
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    clients_ : ndarray of shape (n_clients,)
        Client ids, in order of first appearance.
    column_ : int or None
        Number of the column among those of the X of fit.
    n_features_in_ : int
        Number of columns seen during fit, with that of the ids.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, with that of the ids, where X had names that are all strings.

    Raises
    ------
    ValueError
        In fit: if there is no such column, ids are missing or have fractions, ``clients`` is passed
        besides, nothing in `estimator` takes it, or a step inside changes the number of rows.

    See Also
    --------
    FedFocalClassifier : Takes ``clients`` as an argument of fit, where nothing stands between.

    Notes
    -----
    Discloses what `estimator` does.

    Prediction takes X with or without the column, and does not look at it.

    Samplers of imbalanced-learn stand before this estimator, not in it: ids of rows that a sampler
    makes are known only while they are a column of X. ``SMOTENC`` takes the column as categorical;
    ``SMOTE`` would interpolate ids, which is refused where it shows as fractions.

    ``sample_weight`` goes to all parts that take it, unless they decline it by
    ``set_fit_request(sample_weight=False)``.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.ensemble import StackingClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from skfedfocal import ClientColumn, FedFocalClassifier
    >>> from skfedfocal.preprocessing import FederatedStandardScaler
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> X["hospital"] = ["oslo", "bergen", "tromsø"] * 50
    >>> model = make_pipeline(
    ...     FederatedStandardScaler(), FedFocalClassifier(n_rounds=5, random_state=0)
    ... )
    >>> stack = StackingClassifier([("federated", ClientColumn(model, "hospital"))]).fit(X, y)
    >>> [str(client) for client in stack.estimators_[0].clients_]
    ['oslo', 'bergen', 'tromsø']
    """

    _parameter_constraints = {
        "estimator": [HasMethods("fit")],
        "column": [str, Integral, callable, None],
    }

    def __init__(self, estimator: Any, column: Any = "client"):
        self.estimator = estimator
        self.column = column

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, clients: Any = None) -> Self:
        """Fit the estimator on X without the column, and with the column as its clients.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features + 1), or dict
            Rows of all clients, with the column of ids; with ``column=None`` also partitions.
        y : array-like of shape (n_samples,), default=None
            Class labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of rows.
        clients : None
            Refused: the ids are in X.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        with as_before_on_error(self):
            self._fit("fit", clone(self.estimator), X, y, sample_weight, clients)
        return self

    @available_if(_inner_has("partial_fit"))
    @_fit_context(prefer_skip_nested_validation=False)
    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        *,
        classes: Any = None,
        sample_weight: Any = None,
        clients: Any = None,
    ) -> Self:
        """Run one federated round, from the present model if there is one.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features + 1), or dict
            As in `fit`.
        y : array-like of shape (n_samples,), default=None
            As in `fit`.
        classes : array-like of shape (n_classes,), default=None
            All classes there are, in the first call; needed where the first rows lack some.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.
        clients : None
            As in `fit`.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        inner = self.estimator_ if hasattr(self, "estimator_") else clone(self.estimator)
        with as_before_on_error(self):
            self._fit("partial_fit", inner, X, y, sample_weight, clients, classes=classes)
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the class of each row.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features [+ 1])
            Rows, with or without the column of ids.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Class labels.
        """
        return self._ask("predict", X)

    @available_if(_inner_has("predict_proba"))
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probability of each class, as the estimator has it.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features [+ 1])
            Rows, with or without the column of ids.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Rows sum to 1; columns in the order of `classes_`.
        """
        return self._ask("predict_proba", X)

    @available_if(_inner_has("decision_function"))
    def decision_function(self, X: Any) -> NDArray[Any]:
        """Scores of the classes, as the estimator has them.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features [+ 1])
            Rows, with or without the column of ids.

        Returns
        -------
        scores : ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)
            Above 0, or largest, for the class that `predict` returns.
        """
        return self._ask("decision_function", X)

    @available_if(_inner_has("predict_posterior"))
    def predict_posterior(self, X: Any, class_prior: Any = "population") -> NDArray[Any]:
        """Probability of each class in a population of the given class frequencies.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features [+ 1])
            Rows, with or without the column of ids.
        class_prior : {"population", "uniform"} or array-like of shape (n_classes,), \
default="population"
            As in `FedFocalClassifier.predict_posterior`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Rows sum to 1.
        """
        return self._ask("predict_posterior", X, class_prior)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score of the estimator: of this package's classifiers, balanced accuracy.

        Parameters
        ----------
        X : array-like, frame or sparse matrix of shape (n_samples, n_features [+ 1])
            Rows, with or without the column of ids.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of rows.

        Returns
        -------
        score : float
            What the estimator's own score says.
        """
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        with config_context(enable_metadata_routing=False):  # weights need no request then
            return self._ask("score", X, y, **weight)

    @property
    def classes_(self) -> NDArray[Any]:
        """Class labels."""
        return self._fitted().classes_

    # -- how -----------------------------------------------------------------------------------

    def _fitted(self) -> Any:
        check_is_fitted(self, "estimator_")
        return self.estimator_

    def _fit(
        self, method: str, inner: Any, X: Any, y: Any, weight: Any, clients: Any, **others: Any
    ) -> None:
        if clients is not None:
            raise ValueError(
                f"clients is passed, but ClientColumn takes the ids from column={self.column!r} "
                "of X; leave clients out."
            )
        X, y, weight, ids = as_rows(X, y, weight, None)
        if self.column is not None and ids is not None:
            raise ValueError("X has partitions, which say whose rows are whose; use column=None.")
        X = as_table(X)
        place = None if self.column is None else find_column(self.column, X)
        validate_data(self, X, skip_check_array=True, reset=method == "fit" or self._is_new())
        if place is not None:
            ids, X = ids_of_column(X, place, self.column), without_column(X, place)
        given = {"clients": ids, "sample_weight": weight, **others}
        with followed_inside(self, inner):
            self.estimator_ = hand_on(inner, method, X, y, **given)
        self.column_ = place
        found = getattr(last_step(self.estimator_), "clients_", None)
        self.clients_ = ClientLayout.from_ids(ids, X.shape[0]).ids if found is None else found

    def _is_new(self) -> bool:
        return not hasattr(self, "estimator_")

    def _ask(self, method: str, X: Any, *given: Any, **more: Any) -> Any:
        """What the estimator says, of each row's client if it asks whose the rows are."""
        inner, (X, place) = self._fitted(), self._table(X)
        last = last_step(inner)
        features = X if place is None else without_column(X, place)
        if place is not None and "clients" in signature(getattr(last, method)).parameters:
            more["clients"] = ids_of_column(X, place, self.column)
        elif hasattr(inner, method):
            return getattr(inner, method)(features, *given, **more)
        # A pipeline hands nothing on without routing, and has not all methods of its last step.
        return getattr(last, method)(to_last_step(inner, features), *given, **more)

    def _table(self, X: Any) -> tuple[Any, int | None]:
        """X, and the number of the column of ids if that is there."""
        place = self.column_
        if place is None:
            return X, None
        X = as_table(plain(X, "X"))
        names = getattr(self, "feature_names_in_", None)
        n_columns = count_columns(X)
        if names is not None and hasattr(X, "columns"):
            there = list(X.columns)
            return X, there.index(names[place]) if names[place] in there else None
        if n_columns not in (self.n_features_in_, self.n_features_in_ - 1):
            raise ValueError(
                f"X has {n_columns} features, but ClientColumn is expecting {self.n_features_in_} "
                f"features as input, or {self.n_features_in_ - 1} without the client ids."
            )
        return X, place if n_columns == self.n_features_in_ else None

    def __sklearn_tags__(self) -> Any:
        tags, inner = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.input_tags.sparse = inner.input_tags.sparse
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        if inner.classifier_tags is not None:
            tags.classifier_tags = inner.classifier_tags
        return tags
