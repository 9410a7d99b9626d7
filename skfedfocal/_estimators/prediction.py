"""What a fitted federated classifier says of new rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from skfedfocal._data.inputs import ACCEPTED, check_finite, plain
from skfedfocal._module import load_flat, takes_indices
from skfedfocal._threads import one_thread
from skfedfocal.engines import dense_rows
from skfedfocal.losses import Loss

_PREDICT_VALUES = 1 << 18  # features per block of prediction: activations stay in the cache


class FederatedPredictor(ClassifierMixin, BaseEstimator):
    """Predictions from the fitted state: a module, a loss and the class frequencies it is about."""

    classes_: NDArray[Any]
    class_prior_: NDArray[np.float64] | None
    class_weight_: Any
    client_sizes_: NDArray[np.float64]
    row_shape_: tuple[int, ...]
    seed_: int
    theta_: NDArray[Any]
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
        decided = self._resolve_loss().decide(logits, self._constants(logits))
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
            If the prior is not one, or the training prior is needed and was not summed.
        """
        log_posterior = self._log_posterior(X)
        shift = np.log(self._prior(class_prior)) - np.log(self._decision_prior())
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
        from sklearn.metrics import recall_score  # half of this package's own import time

        predicted = self.predict(X)
        present = np.unique(np.asarray(y))
        return float(
            recall_score(y, predicted, labels=present, average="macro", sample_weight=sample_weight)
        )

    @property
    def module_(self) -> nn.Module:
        """The trained module, in evaluation mode; made from `theta_` where it was not kept."""
        check_is_fitted(self)
        module = self.__dict__.get("_module")
        if module is None:
            module = self._build_module(self.row_shape_, len(self.classes_), self.seed_)
            load_flat(module, torch.from_numpy(self.theta_))
            self._module = module.eval()
        return module

    # -- what subclasses say ---------------------------------------------------------------------

    def _resolve_loss(self) -> Loss:
        raise NotImplementedError

    def _class_weight(self) -> Any:
        raise NotImplementedError

    def _build_module(self, row_shape: tuple[int, ...], n_classes: int, seed: int) -> nn.Module:
        raise NotImplementedError

    # -- how -----------------------------------------------------------------------------------

    def _log_posterior(self, X: Any) -> Tensor:
        """Log-probabilities of shape (n_samples, n_classes), on the CPU."""
        logits = self._logits(X)
        return self._resolve_loss().log_posterior(logits, self._constants(logits)).cpu()

    def _constants(self, like: Tensor) -> Tensor | None:
        """The loss's constants, as in training."""
        loss, constants = self._resolve_loss(), None
        if isinstance(self.class_weight_, np.ndarray):
            constants = loss.divide(self.class_weight_)[1]
        if loss.counts == "federated" and self.class_prior_ is not None:
            counts = self.class_prior_ * self.client_sizes_.sum()
            constants = loss.constants(torch.as_tensor(counts))
        return None if constants is None else constants.to(like)

    def _logits(self, X: Any) -> Tensor:
        """What the module gives, of shape (n_samples, n_classes), where the module is."""
        check_is_fitted(self)
        X = validate_data(self, plain(X, "X"), reset=False, **ACCEPTED)
        if X.shape[1:] != self.row_shape_:
            raise ValueError(
                f"X has rows of shape {X.shape[1:]}, but those of fit had {self.row_shape_}."
            )
        module = self.module_
        parameter = next(module.parameters())
        indices = takes_indices(module) and X.dtype.kind in "iu"
        dtype = torch.int64 if indices else parameter.dtype
        check_finite(X, dtype, getattr(self, "feature_names_in_", None))
        step = max(1, _PREDICT_VALUES // max(1, int(np.prod(X.shape[1:]))))
        with torch.no_grad():
            return torch.cat(
                [
                    module(dense_rows(X, slice(i, i + step), dtype, parameter.device))
                    for i in range(0, X.shape[0], step)
                ]
            )

    def _prior(self, class_prior: Any) -> NDArray[np.float64]:
        if isinstance(class_prior, str) and class_prior == "uniform":
            return np.full(len(self.classes_), 1 / len(self.classes_))
        if isinstance(class_prior, str) and class_prior == "population":
            return self._training_prior("class_prior='population'")
        prior = np.asarray(class_prior)
        wanted = f"'population', 'uniform' or {len(self.classes_)} positive numbers"
        if prior.dtype.kind not in "iuf" or prior.shape != self.classes_.shape:
            raise ValueError(f"class_prior must be {wanted}; got {class_prior!r}.")
        if not (np.isfinite(prior).all() and (prior > 0).all()):
            raise ValueError(f"class_prior must be {wanted}; got {class_prior!r}.")
        return prior / prior.sum()

    def _decision_prior(self) -> NDArray[np.float64]:
        """Class prior of the population that `predict_proba` is about."""
        if isinstance(self.class_weight_, str):  # "local": all classes alike, as far as one knows
            return np.full(len(self.classes_), 1 / len(self.classes_))
        wanted = self._class_weight()
        if isinstance(wanted, str) and wanted in ("balanced", "estimated"):
            prior = np.ones(len(self.classes_))  # whatever the rows were
        else:
            prior = self._training_prior("class_prior")
            if self.class_weight_ is not None:
                prior = prior * self.class_weight_
        prior = self._resolve_loss().decision_prior(prior)
        return prior / prior.sum()

    def _training_prior(self, what: str) -> NDArray[np.float64]:
        if self.class_prior_ is None:
            raise ValueError(
                f"{what} needs the class frequencies of the training rows, which "
                f"class_weight={self._class_weight()!r} did not sum over the clients; "
                "pass the frequencies as an array, or fit with class_weight='balanced'."
            )
        return self.class_prior_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "theta_")
