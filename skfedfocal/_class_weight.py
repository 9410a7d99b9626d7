"""Class weights: what a row counts by its class, and whose label counts that takes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from skfedfocal._component import Component
from skfedfocal._disclosure import LABEL_TOTALS
from skfedfocal._sklearn import InvalidParameterError

Array = NDArray[np.float64]


class ClassWeight(Component):
    """What a row counts by its class.

    Attributes
    ----------
    counts : {None, "federated", "estimated", "local"}
        The label counts that `weights` is given: nobody's; those summed over all clients, asked
        for or read off an aggregate; or each client's own, by itself.
    balances : bool
        Whether all classes weigh alike, so that probabilities are about equally frequent ones.
    """

    counts: ClassVar[Literal["federated", "estimated", "local"] | None] = None
    balances: ClassVar[bool] = False

    @property
    def discloses(self) -> frozenset[str]:
        """What this tells the server beyond what any training does."""
        return frozenset() if self.counts in (None, "local") else frozenset({LABEL_TOTALS})

    def weights(self, counts: Array | None, classes: NDArray[Any]) -> Array | None:
        """Weight of each class, of the shape of the counts; None where all weigh 1."""
        raise NotImplementedError

    def prior(self, training: Array | None, weights: Array | None) -> Array | None:
        """Class frequencies of the population so weighed, up to a factor.

        Parameters
        ----------
        training : ndarray of shape (n_classes,) or None
            Those of the training rows, where they are known.
        weights : ndarray of shape (n_classes,) or None
            Weights of the classes.

        Returns
        -------
        prior : ndarray of shape (n_classes,) or None
            None where it takes frequencies that are not known.
        """
        return training if training is None or weights is None else training * weights


class Unweighted(ClassWeight):
    """Every row counts the same."""

    def weights(self, counts: Array | None, classes: NDArray[Any]) -> None:
        return None


class ByLabel(ClassWeight):
    """Weights as given by label; labels left out weigh 1.

    A label that is not there is ignored where every class that is has its weight, as a fold of
    a cross-validation may lack one; otherwise it is taken for a misspelt one.

    Parameters
    ----------
    given : dict
        Weight of each label, at least 0.
    """

    def __init__(self, given: dict[Any, float]):
        self.given = given

    def check_params(self) -> None:
        numbers = all(np.isscalar(v) and np.isreal(v) for v in self.given.values())
        values = np.array(list(self.given.values()), np.float64) if numbers else np.array([-1.0])
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise InvalidParameterError(
                f"class_weight must have finite weights of at least 0; got {self.given!r}."
            )

    def weights(self, counts: Array | None, classes: NDArray[Any]) -> Array:
        labels = classes.tolist()
        unknown = [label for label in self.given if label not in labels]
        if unknown and not set(labels) <= set(self.given):
            raise ValueError(f"class_weight has labels {unknown} that are not among {labels}.")
        weights = np.array([self.given.get(label, 1.0) for label in labels], np.float64)
        if np.count_nonzero(weights) < 2:
            which = "every class" if not weights.any() else "every class but one"
            raise ValueError(
                f"class_weight={self.given!r} weighs {which} 0; nothing is left to tell apart."
            )
        return weights


class Balanced(ClassWeight):
    """All classes weigh the same: ``n / (n_present * n_c)``, from counts summed over clients."""

    counts: ClassVar[Literal["federated", "estimated"]] = "federated"
    balances = True

    def weights(self, counts: Array | None, classes: NDArray[Any]) -> Array:
        assert counts is not None
        return balanced_class_weights(counts)

    def prior(self, training: Array | None, weights: Array | None) -> Array | None:
        return None if weights is None else np.ones(len(weights))  # whatever the rows were


class Estimated(Balanced):
    """As `Balanced`, with the class frequencies read off the aggregate of one update."""

    counts = "estimated"


class Local(ClassWeight):
    """All classes that a client has weigh the same there, from its own counts."""

    counts = "local"
    balances = True

    def weights(self, counts: Array | None, classes: NDArray[Any]) -> None:
        return None  # each client makes its own

    def prior(self, training: Array | None, weights: Array | None) -> Array | None:
        return None


class EffectiveNumber(ClassWeight):
    """Weights by the effective number of rows of a class, from counts summed over clients.

    ``(1 - beta) / (1 - beta ** n_c)``, rows 1 on average.

    Parameters
    ----------
    beta : float, default=0.999
        How much rows of a class overlap, in [0, 1): 0 weighs all rows alike, near 1 all classes.

    References
    ----------
    .. [1] Y. Cui et al., "Class-balanced loss based on effective number of samples", CVPR 2019.
    """

    counts = "federated"

    def __init__(self, beta: float = 0.999):
        self.beta = beta

    def weights(self, counts: Array | None, classes: NDArray[Any]) -> Array:
        assert counts is not None
        number = 1 - self.beta**counts  # up to a factor, which the last line takes out
        weights = np.divide(1.0, number, out=np.zeros_like(counts), where=counts > 0)
        return weights * counts.sum() / (weights @ counts)


CLASS_WEIGHTS: dict[str, type[ClassWeight]] = {
    "balanced": Balanced,
    "local": Local,
    "effective": EffectiveNumber,
    "estimated": Estimated,
}


def resolve_class_weight(value: Any) -> ClassWeight:
    """The part that a parameter ``class_weight`` means: a name, a dict by label, or None."""
    if value is None:
        return Unweighted()
    part = ByLabel(value) if isinstance(value, dict) else CLASS_WEIGHTS[value]()
    part.check_params()
    return part


def balanced_class_weights(counts: Array) -> Array:
    """Weights ``n / (n_present * n_c)``: each class present weighs the same, rows 1 on average.

    Parameters
    ----------
    counts : ndarray of shape (..., n_classes)
        Rows by class.

    Returns
    -------
    weights : ndarray of shape (..., n_classes)
        0 for a class without rows.
    """
    total = counts.sum(-1, keepdims=True)
    n_present = (counts > 0).sum(-1, keepdims=True)
    return np.divide(total, n_present * counts, out=np.zeros_like(counts), where=counts > 0)


def of_rows(
    weights: Array | None, labels: NDArray[Any], owner: NDArray[Any] | None = None
) -> Array | float:
    """Class weight of each row: by its class, and by its client where each has weights of its own.

    Parameters
    ----------
    weights : ndarray of shape (n_classes,) or (m, n_classes), or None
        Of all clients, or of each.
    labels : ndarray of shape (n,)
        Class numbers.
    owner : ndarray of shape (n,) or None
        Place of each row's client among the m.

    Returns
    -------
    weight : ndarray of shape (n,), or 1.0
        Of each row.
    """
    if weights is None:
        return 1.0
    return weights[labels] if weights.ndim == 1 else weights[owner, labels]
