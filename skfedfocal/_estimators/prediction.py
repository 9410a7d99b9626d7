"""What a fitted federated classifier says of new rows."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from skfedfocal._data.inputs import ACCEPTED, check_finite, numbers, plain
from skfedfocal._data.not_numbers import naming_what_is_no_number
from skfedfocal._estimators.posterior import PosteriorModule
from skfedfocal._indices import row_dtype
from skfedfocal._module import build_module, load_flat
from skfedfocal._threads import one_thread
from skfedfocal.encodings._encoder import EncodedModule, RowEncoder
from skfedfocal.engines import module_rows
from skfedfocal.losses import Loss

_TO_PREDICT = (
    "classes_",
    "encoder_",
    "hidden_layer_sizes_",
    "loss_",
    "loss_constants_",
    "n_features_in_",
    "row_shape_",
    "seed_",
)
_PREDICT_VALUES = 1 << 18  # features per block of prediction: activations stay in the cache


class FederatedPredictor(ClassifierMixin, BaseEstimator):
    """Predictions from the fitted state: a module, a loss and the class frequencies it is about.

    Nothing here looks at a parameter, which may have been set anew since the fit.
    """

    classes_: NDArray[Any]
    class_prior_: NDArray[np.float64] | None
    class_weight_: NDArray[np.float64] | None
    decision_prior_: NDArray[np.float64] | None
    encoder_: RowEncoder | None
    encoding_: str | None
    loss_: Loss
    loss_constants_: NDArray[np.float64] | None
    hidden_layer_sizes_: tuple[int, ...]
    row_shape_: tuple[int, ...]
    seed_: int
    theta_: NDArray[Any]
    _made_from: Any  # the parameter `module` as it was
    _module: nn.Module | None

    @one_thread()
    def decision_function(self, X: Any) -> NDArray[Any]:
        """Scores of the classes: log-odds of the second of two, else log-probabilities.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,) for two classes, else (n_samples, n_classes)
            Above 0, or largest, for the class that `predict` returns.
        """
        log_posterior = self._log_posterior(X)
        if len(self.classes_) == 2:
            return (log_posterior[:, 1] - log_posterior[:, 0]).numpy()
        return log_posterior.numpy()

    @one_thread()
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the most probable class of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Class labels.
        """
        logits = self._logits(X)
        decided = self.loss_.decide(logits, self._constants(logits))
        return self.classes_[decided.cpu().numpy()]

    @one_thread()
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probability of each class in the population that training weighed.

        The loss's posterior map is applied, so that these are probabilities for every loss. With
        ``class_weight=None`` the population is that of the training rows; with "balanced" or
        "local" it is one in which all classes are equally frequent. `predict_posterior` gives
        probabilities for any other.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Rows sum to 1; columns in the order of `classes_`.
        """
        return self._log_posterior(X).exp().numpy()

    @one_thread()
    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Logarithm of the probabilities of `predict_proba`, finite where they round to 0.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        log_probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        return self._log_posterior(X).numpy()

    @one_thread()
    def predict_posterior(self, X: Any, class_prior: Any = "population") -> NDArray[Any]:
        """Probability of each class in a population of the given class frequencies.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.
        class_prior : {"population", "uniform"} or array-like of shape (n_classes,), \
default="population"
            Class frequencies where predictions are used: those of the training rows, equal ones, or
            given ones in the order of `classes_`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Rows sum to 1.

        Raises
        ------
        ValueError
            If the prior is not one, or the training prior is needed and is not known.
        """
        log_posterior = self._log_posterior(X)
        shift = self._shift(class_prior)
        shifted = log_posterior + torch.as_tensor(shift, dtype=log_posterior.dtype)
        return torch.softmax(shifted, 1).numpy()

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Balanced accuracy: the mean of the recalls of the classes in y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of rows.

        Returns
        -------
        score : float
            Between 0 and 1.
        """
        return balanced_accuracy(y, self.predict(X), sample_weight)

    @property
    def module_(self) -> nn.Module:
        """The trained module, from rows to logits, in evaluation mode.

        The class of the largest logit need not be what `predict` returns: see `posterior_module`.
        It is behind the encoder of its rows, where they have one.
        """
        check_is_fitted(self)
        module = self._trained()
        return module if self.encoder_ is None else EncodedModule(self.encoder_, module).eval()

    def posterior_module(self, class_prior: Any = None) -> nn.Module:
        """Make one torch module from rows to class probabilities, to be handed over.

        `module_` ends in logits, of which the largest need not be the class that `predict` returns.
        This one has the loss's map behind it, and is what `torch.onnx.export` and `torch.export`
        take.

        Parameters
        ----------
        class_prior : {"population", "uniform"}, array-like of shape (n_classes,) or None, \
default=None
            Class frequencies where the module will be used, as in `predict_posterior`; None for
            the probabilities of `predict_proba`.

        Returns
        -------
        module : torch.nn.Module
            On the CPU, in evaluation mode; a copy. Takes rows ``(n, ...)`` and gives probabilities
            ``(n, n_classes)`` in the order of `classes_`.
        """
        module = deepcopy(self.module_).cpu()
        shift = np.zeros(len(self.classes_)) if class_prior is None else self._shift(class_prior)
        return PosteriorModule(module, self.loss_, self.loss_constants_, shift).eval()

    # -- elsewhere -----------------------------------------------------------------------------

    def _described(self) -> dict[str, Any]:
        """What predictions need, and nothing else of a training, as values for `to_plain`."""
        check_is_fitted(self)
        theta = self.theta_
        state = {name: getattr(self, name) for name in _TO_PREDICT}
        return state | {"theta_": theta.tobytes(), "dtype": theta.dtype.str}

    @classmethod
    def _rebuilt(cls, described: dict[str, Any], module: Any) -> Self:
        """The predictor of `_described`."""
        state = dict(described)
        theta = np.frombuffer(state.pop("theta_"), state.pop("dtype"))
        if set(state) != set(_TO_PREDICT):
            raise ValueError(f"{sorted(state)} are not what predictions need.")
        predictor = cls()
        predictor.__dict__.update(state, theta_=theta.copy(), _made_from=module, _module=None)
        return predictor

    # -- how -----------------------------------------------------------------------------------

    def _trained(self) -> nn.Module:
        """The module of encoded rows, made from `theta_` where it was not kept."""
        module = self.__dict__.get("_module")
        if module is None:
            encoder = self.encoder_
            module = build_module(
                self._made_from,
                self.hidden_layer_sizes_,
                self.row_shape_ if encoder is None else (encoder.n_outputs,),
                len(self.classes_),
                self.seed_,
            )
            load_flat(module, torch.from_numpy(self.theta_))
            self._module = module.eval()
        return module

    def _log_posterior(self, X: Any) -> Tensor:
        """Log-probabilities of shape (n_samples, n_classes), on the CPU."""
        logits = self._logits(X)
        return self.loss_.log_posterior(logits, self._constants(logits)).cpu()

    def _constants(self, like: Tensor) -> Tensor | None:
        """The loss's constants, as in training."""
        constants = self.loss_constants_
        return None if constants is None else torch.as_tensor(constants).to(like)

    def _logits(self, X: Any) -> Tensor:
        """What the module gives, of shape (n_samples, n_classes), where the module is."""
        check_is_fitted(self)
        with naming_what_is_no_number(X):
            X = numbers(validate_data(self, plain(X, "X"), reset=False, **ACCEPTED))
        if X.shape[1:] != self.row_shape_:
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}, but those of fit had {self.row_shape_}."
            )
        module, encoder = self._trained(), self.encoder_
        parameter = next(module.parameters())
        names = getattr(self, "feature_names_in_", None)
        check_finite(X, parameter.dtype, names)
        dtype = row_dtype(module, X, names)
        row_values = int(np.prod(X.shape[1:])) if encoder is None else encoder.n_outputs
        n_at_once, device = max(1, _PREDICT_VALUES // max(1, row_values)), parameter.device
        with torch.no_grad():
            logits = torch.cat(
                [
                    module(module_rows(X, slice(i, i + n_at_once), dtype, device, encoder))
                    for i in range(0, X.shape[0], n_at_once)
                ]
            )
        lost = (~torch.isfinite(logits).all(1)).nonzero().flatten().tolist()
        if lost:  # whatever would be decided from these would look like any other
            raise ValueError(
                f"The model's output is not finite for {len(lost)} of {len(logits)} rows, first "
                f"row {lost[0]}: their values are too large for it, or its training has diverged; "
                "scale the columns, or lower learning_rate."
            )
        return logits

    def _shift(self, class_prior: Any) -> NDArray[np.float64]:
        """What takes log-probabilities to a population of the given class frequencies."""
        if isinstance(class_prior, str) and class_prior == "population":
            if self.class_prior_ is None and self.decision_prior_ is None:
                # From the weighted rows to the rows: their frequencies need not be known.
                weights = self.class_weight_
                return np.zeros(len(self.classes_)) if weights is None else -_log(weights)
            wanted = self._known(self.class_prior_, "class_prior='population'")
        else:
            wanted = self._given_prior(class_prior)
        return _log(wanted) - _log(self._known(self.decision_prior_, "class_prior"))

    def _given_prior(self, class_prior: Any) -> NDArray[np.float64]:
        if isinstance(class_prior, str) and class_prior == "uniform":
            return np.full(len(self.classes_), 1 / len(self.classes_))
        prior = np.asarray(class_prior)
        wanted = f"'population', 'uniform' or {len(self.classes_)} positive numbers"
        if prior.dtype.kind not in "iuf" or prior.shape != self.classes_.shape:
            raise ValueError(f"class_prior must be {wanted}; got {class_prior!r}.")
        if not (np.isfinite(prior).all() and (prior > 0).all()):
            raise ValueError(f"class_prior must be {wanted}; got {class_prior!r}.")
        return prior / prior.sum()

    @staticmethod
    def _known(prior: NDArray[np.float64] | None, what: str) -> NDArray[np.float64]:
        if prior is None:
            raise ValueError(
                f"{what} needs the class frequencies of the training rows, which this class_weight "
                "did not sum over the clients; pass the frequencies as an array where that is "
                "possible, or fit with class_weight='balanced'."
            )
        return prior

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "theta_")


def balanced_accuracy(y: Any, predicted: NDArray[Any], sample_weight: Any = None) -> float:
    """The mean of the recalls of the classes in y."""
    from sklearn.metrics import recall_score  # half of this package's own import time

    present = np.unique(np.asarray(y))
    return float(
        recall_score(y, predicted, labels=present, average="macro", sample_weight=sample_weight)
    )


def _log(prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm; of a class that is not there as small as numbers go, not minus infinity."""
    return np.log(np.maximum(prior, np.finfo(np.float64).tiny))
