"""How well a classifier does, from sums over rows alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skfedfocal.metrics._bounds import (
    Array,
    Bounds,
    average_precision_bounds,
    mean_of,
    roc_auc_bounds,
)
from skfedfocal.metrics._report_text import report_text
from skfedfocal.metrics._sums import WITHHELD, parts_of, thresholds, withheld
from skfedfocal.metrics._threshold import Threshold, check_recall, highest


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Figures of a classifier's predictions, computed from sums over rows by true class.

    Predicted classes are those of `predict`, scores the probabilities of `predict_proba`. What
    comes of a confusion matrix and the log loss are exact; areas under curves come with bounds,
    as of scores there are histograms.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)
        Labels.
    sums : ndarray of shape (n_classes, n_sums)
        What `evaluate` adds up.
    min_rows : int, default=1
        Figures about a class of fewer rows, and not none, are withheld: NaN, and so is all that
        takes them. In the interval [1, inf).
    clients : dict, default={}
        An `Evaluation` of each client whose own figures are known, by id.

    Notes
    -----
    Classes without rows have no recall (NaN), and means over classes are over those that have one;
    as in `classification_report` with ``zero_division=np.nan``.

    Discloses figures by class, and those of `clients`, to whoever is given it.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skfedfocal.metrics import evaluate
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> X = X[:, :3] - X[:, :3].mean(0)
    >>> found = evaluate(LogisticRegression().fit(X, y), X, y)
    >>> found.confusion_matrix.astype(int).tolist()
    [[180, 32], [20, 337]]
    >>> print(found.roc_auc())
    0.9724 to 0.9731
    """

    classes: NDArray[Any]
    sums: Array
    min_rows: int = 1
    clients: dict[Any, Evaluation] = field(default_factory=dict)

    @property
    def n_rows(self) -> Array:
        """Number of rows of each class, of shape (n_classes,)."""
        return self._parts[0]

    @property
    def confusion_matrix(self) -> Array:
        """Weight of the rows by true and by predicted class, of shape (n_classes, n_classes)."""
        return self._parts[3]

    @property
    def recall(self) -> Array:
        """Of each class, of shape (n_classes,)."""
        return _ratio(np.diag(self.confusion_matrix), self.confusion_matrix.sum(1))

    @property
    def precision(self) -> Array:
        """Of each class, of shape (n_classes,)."""
        return _ratio(np.diag(self.confusion_matrix), self.confusion_matrix.sum(0))

    @property
    def f1(self) -> Array:
        """Harmonic mean of precision and recall of each class, of shape (n_classes,)."""
        cells = self.confusion_matrix
        return _ratio(2 * np.diag(cells), cells.sum(0) + cells.sum(1))

    @property
    def accuracy(self) -> float:
        """Share of the rows that are right."""
        cells = self.confusion_matrix
        return float(_ratio(np.trace(cells), cells.sum()))

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes that are there."""
        return _mean(self.recall, self.confusion_matrix.sum(1))

    @property
    def log_loss(self) -> float:
        """Mean of minus the logarithm of the true class's probability, in double precision."""
        return float(_ratio(self._parts[2].sum(), self.confusion_matrix.sum()))

    def roc_auc(self, label: Any = None) -> Bounds:
        """Bounds of the area under the ROC curve of one class against the rest.

        Parameters
        ----------
        label : object, default=None
            The class. None is the second one of two, and of more the mean over all that are there.

        Returns
        -------
        bounds : Bounds
            The area lies between them.
        """
        return self._area(lambda pos, neg: roc_auc_bounds(pos, neg), label)

    def average_precision(self, label: Any = None) -> Bounds:
        """Bounds of average precision of one class against the rest.

        Parameters
        ----------
        label : object, default=None
            The class. None is the second one of two, and of more the mean over all that are there.

        Returns
        -------
        bounds : Bounds
            It lies between them.
        """
        alike = bool(self._parts[1].sum() == 0)  # NaN where it is not known of a class
        return self._area(lambda p, n: average_precision_bounds(p, n, alike=alike), label)

    def threshold(self, recall: float, label: Any = None) -> Threshold:
        """Choose the highest threshold of a probability with which a class has a given recall.

        Parameters
        ----------
        recall : float
            What the class's recall has to be at least, in the interval (0, 1].
        label : object, default=None
            The class; None is the second one of two.

        Returns
        -------
        threshold : Threshold
            The highest one of the histogram's ends of bins. Recall, precision and flagged share
            are exact for it, on these rows.

        Raises
        ------
        ValueError
            If `recall` is none, or the class has no rows, or its figures are withheld.
        """
        check_recall(recall)
        if label is None and len(self.classes) != 2:
            raise ValueError("label is missing: of which class the recall is meant.")
        positives, negatives = self._histograms(self._place(label))
        return highest(positives, negatives, thresholds(positives.shape[-1]), recall)

    def classification_report(
        self, *, digits: int = 2, output_dict: bool = False
    ) -> str | dict[str, Any]:
        """Report precision, recall and F1 of each class.

        Parameters
        ----------
        digits : int, default=2
            Digits after the point in the text.
        output_dict : bool, default=False
            Whether to return numbers instead of a text.

        Returns
        -------
        report : str or dict
            As of `sklearn.metrics.classification_report`.
        """
        support, scores = self.confusion_matrix.sum(1), (self.precision, self.recall, self.f1)
        cells = self.confusion_matrix
        defined = (cells.sum(0), support, cells.sum(0) + support)
        heads = ("precision", "recall", "f1-score", "support")
        labels = map(str, self.classes.tolist())
        lines = dict(zip(labels, zip(*scores, support, strict=True), strict=True))
        total = support.sum()
        averages = {
            "macro avg": [_mean(s, d) for s, d in zip(scores, defined, strict=True)],
            "weighted avg": [_mean(s, d, support) for s, d in zip(scores, defined, strict=True)],
        }
        lines |= {name: (*means, total) for name, means in averages.items()}
        report: dict[str, Any] = {
            name: dict(zip(heads, map(float, line), strict=True)) for name, line in lines.items()
        }
        if output_dict:
            return report | {"accuracy": self.accuracy}
        return report_text(report, self.accuracy, digits)

    def to_frame(self) -> Any:
        """Return a pandas frame with a row for each client and one, ``"all"``, for all rows.

        Returns
        -------
        frame : pandas.DataFrame
            Numbers of rows, balanced accuracy, log loss, recalls, and the bounds of areas.
        """
        import pandas as pd

        lines = [one._figures() for one in (*self.clients.values(), self)]
        return pd.DataFrame(lines, index=pd.Index([*self.clients, "all"], dtype=object))

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers, for a file; `from_dict` makes them an `Evaluation`.

        Returns
        -------
        evaluation : dict
            ``"figures"`` is for people; the rest is all that figures are computed from. NaN is
            None.
        """
        return {
            "figures": {name: _or_none(value) for name, value in self._figures().items()},
            "classes": self.classes.tolist(),
            "sums": self.sums.tolist(),
            "min_rows": self.min_rows,
            "clients": [[client, one.as_dict()] for client, one in self.clients.items()],
        }

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Self:
        """Make an evaluation of what `as_dict` returns.

        Parameters
        ----------
        plain : dict
            As of `as_dict`.

        Returns
        -------
        evaluation : Evaluation
            The same.
        """
        clients: dict[Any, Evaluation] = {
            client: cls.from_dict(one) for client, one in plain["clients"]
        }
        sums = np.array(plain["sums"], np.float64)
        return cls(np.array(plain["classes"]), sums, plain["min_rows"], clients)

    def __repr__(self) -> str:
        two = len(self.classes) == 2
        of = f" of {self.classes[1]}" if two else ", mean over classes"
        lines = [
            str(self.classification_report()),
            f"log loss {self.log_loss:.4f}",
            f"area under the ROC curve{of}: {self.roc_auc()}",
            f"average precision{of}: {self.average_precision()}",
        ]
        if self.clients:
            lines += ["", f"{'':>14}  {'rows':>7}  balanced accuracy  log loss"]
            lines += [
                f"{client!s:>14}  {one.n_rows.sum():>7,.0f}  {one.balanced_accuracy:>17.2f}  "
                f"{one.log_loss:>8.4f}"
                for client, one in self.clients.items()
            ]
        if any((one.sums[:, 0] == WITHHELD).any() for one in (self, *self.clients.values())):
            lines += ["", "nan: not defined, or withheld for few rows"]
        return "\n".join(lines)

    # -- how -----------------------------------------------------------------------------------

    def __post_init__(self) -> None:
        object.__setattr__(self, "sums", withheld(self.sums, self.min_rows))

    @property
    def _parts(self) -> tuple[Array, Array, Array, Array, Array]:
        return parts_of(self.sums)

    def _place(self, label: Any) -> int:
        if label is None:
            return 1
        found = np.flatnonzero(self.classes == label)
        if len(found) != 1:
            raise ValueError(f"{label!r} is none of the classes {self.classes.tolist()}.")
        return int(found[0])

    def _histograms(self, k: int) -> tuple[Array, Array]:
        """Of the probability of a class, over its own rows and over those of the others."""
        of_class = self._parts[4][:, k]
        return of_class[k], np.delete(of_class, k, 0).sum(0)

    def _area(self, bounds: Any, label: Any) -> Bounds:
        if label is not None or len(self.classes) == 2:
            return bounds(*self._histograms(self._place(label)))
        there = np.flatnonzero(self.sums[:, 0] != 0)
        return mean_of([bounds(*self._histograms(int(k))) for k in there])

    def _figures(self) -> dict[str, float]:
        auc, average = self.roc_auc(), self.average_precision()
        return {
            "rows": float(self.n_rows.sum()),
            "balanced accuracy": self.balanced_accuracy,
            "log loss": self.log_loss,
            **{
                f"recall of {label}": float(value)
                for label, value in zip(self.classes.tolist(), self.recall, strict=True)
            },
            "ROC AUC, at least": auc.lower,
            "ROC AUC, at most": auc.upper,
            "average precision, at least": average.lower,
            "average precision, at most": average.upper,
        }


def _ratio(part: Any, whole: Any) -> Any:
    """Part by whole; NaN where there is none."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole != 0)


def _mean(values: Array, defined: Array, weight: Array | None = None) -> float:
    """Mean over the classes where a score is defined, for what it is divided by is not 0."""
    there = defined != 0
    if weight is None:
        return float(values[there].mean()) if there.any() else np.nan
    return float(_ratio((weight * np.where(there, values, 0)).sum(), weight[there].sum()))


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value
