"""Recalls and balanced accuracy of many clients at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Recalls:
    """Weight of the rows of each client and class, and of those that are right.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        Distinct true labels, sorted.
    total, right : ndarray of shape (n_clients, n_classes)
        Number of rows, or sum of their weights.
    """

    classes: NDArray[Any]
    total: NDArray[np.float64]
    right: NDArray[np.float64]

    @classmethod
    def count(
        cls,
        y_true: NDArray[Any],
        y_pred: NDArray[Any],
        codes: NDArray[np.int64],
        n_clients: int,
        sample_weight: NDArray[np.float64] | None = None,
    ) -> Recalls:
        """Count rows by their client's number and their class."""
        classes, labels = np.unique(y_true, return_inverse=True)
        cells = codes * len(classes) + labels
        weight = np.ones(len(labels)) if sample_weight is None else sample_weight
        shape = (n_clients, len(classes))

        def table(values: NDArray[np.float64]) -> NDArray[np.float64]:
            counts = np.bincount(cells, values, shape[0] * shape[1])
            return counts.astype(np.float64, copy=False).reshape(shape)

        return cls(classes, table(weight), table(weight * (y_true == y_pred)))

    def together(self) -> Recalls:
        """Of all clients' rows as those of one."""
        return Recalls(self.classes, self.total.sum(0)[None], self.right.sum(0)[None])

    @property
    def recall(self) -> NDArray[np.float64]:
        """Of each client and class, (n_clients, n_classes); NaN where there are no rows."""
        missing = np.full(self.total.shape, np.nan)
        return np.divide(self.right, self.total, out=missing, where=self.total > 0)

    @property
    def n_classes(self) -> NDArray[np.int64]:
        """Number of classes that each client has."""
        return (self.total > 0).sum(1)

    @property
    def balanced_accuracy(self) -> NDArray[np.float64]:
        """Mean recall of the classes that a client has, of shape (n_clients,)."""
        n_classes, sums = self.n_classes, np.nansum(self.recall, 1)
        return np.divide(sums, n_classes, out=np.full(len(sums), np.nan), where=n_classes > 0)
