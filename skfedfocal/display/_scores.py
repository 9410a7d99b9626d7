"""How well a model does at each client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skfedfocal.display._style import (
    BACKED,
    BLUE,
    GREY,
    PALE,
    VERMILION,
    axes_for,
    client_codes,
    plain,
    short,
)
from skfedfocal.metrics._recalls import Recalls

_MAX_ROWS = 40  # clients with a row of their own; more are points over their sizes


class ClientScoresDisplay:
    """A score for each client, the worst marked, with the clients' sizes.

    Up to 40 clients have a row each, the best on top; more are points over their numbers of rows,
    where the scores of small clients scatter by chance alone.

    Parameters
    ----------
    scores : array-like of shape (n_clients,)
        Score of each client; more is better, and NaN where there is none.
    sizes : array-like of shape (n_clients,)
        Number of rows that each score is from, at least 1.
    clients : array-like of shape (n_clients,)
        Names of the clients.
    overall : float, default=None
        Score of all rows together.
    score_name : str, default="score"
        What the scores are.

    Attributes
    ----------
    ax_ : Axes
        What was drawn on.
    figure_ : Figure
        The figure that has it.
    points_ : PathCollection
        A point for each client that has a score: the worst last.
    overall_line_ : Line2D or None
        The score of all rows.

    See Also
    --------
    ClientClassesDisplay : Which classes the clients have.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from skfedfocal.display import ClientScoresDisplay
    >>> display = ClientScoresDisplay.from_predictions(
    ...     [0, 1, 0, 1], [0, 1, 0, 0], ["a", "a", "b", "b"], ax=Figure().subplots()
    ... )
    >>> display.scores.tolist(), display.overall
    ([1.0, 0.5], 0.75)
    """

    def __init__(
        self,
        scores: ArrayLike,
        sizes: ArrayLike,
        clients: ArrayLike,
        *,
        overall: float | None = None,
        score_name: str = "score",
    ):
        self.scores = scores
        self.sizes = sizes
        self.clients = clients
        self.overall = overall
        self.score_name = score_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        clients: ArrayLike,
        *,
        metric: Callable[[Any, Any], float] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Predict, score by client, and draw.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier, or pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            True labels.
        clients : array-like of shape (n_samples,)
            Id of each row's client.
        metric : callable, default=None
            As in `from_predictions`.
        ax : Axes, default=None
            Axes to draw on. None makes a new figure.
        **kwargs : dict
            Passed on to the points.

        Returns
        -------
        display : ClientScoresDisplay
            What was drawn.
        """
        return cls.from_predictions(
            y, estimator.predict(X), clients, metric=metric, ax=ax, **kwargs
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        clients: ArrayLike,
        *,
        metric: Callable[[Any, Any], float] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Score by client, and draw.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
            True labels.
        y_pred : array-like of shape (n_samples,)
            Predicted labels.
        clients : array-like of shape (n_samples,)
            Id of each row's client.
        metric : callable, default=None
            ``metric(y_true, y_pred)`` of a client's rows, more being better. None is balanced
            accuracy: the mean recall of the classes that the client has.
        ax : Axes, default=None
            Axes to draw on. None makes a new figure.
        **kwargs : dict
            Passed on to the points.

        Returns
        -------
        display : ClientScoresDisplay
            What was drawn.
        """
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        ids, codes = client_codes(clients, len(y_true))
        sizes = np.bincount(codes, minlength=len(ids))
        if metric is None:
            name = "balanced accuracy"
            recalls = Recalls.count(y_true, y_pred, codes, len(ids))
            scores = recalls.balanced_accuracy
            overall = float(recalls.together().balanced_accuracy[0])
        else:
            name = getattr(metric, "__name__", "score").replace("_", " ")
            rows = np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])
            scores = np.array([metric(y_true[own], y_pred[own]) for own in rows])
            overall = float(metric(y_true, y_pred))
        display = cls(scores, sizes, ids, overall=overall, score_name=name)
        return display.plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, n_worst: int = 1, min_rows: int = 10, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None makes a new figure.
        n_worst : int, default=1
            Number of clients to mark as the worst, at least 0.
        min_rows : int, default=10
            Clients with fewer rows are not marked, unless all have fewer: of many clients with a
            row or two, one always has the worst score there is.
        **kwargs : dict
            Passed on to the points.

        Returns
        -------
        self : ClientScoresDisplay
            With what was drawn as attributes.
        """
        scores, sizes = np.asarray(self.scores, float), np.asarray(self.sizes)
        scored = np.flatnonzero(np.isfinite(scores))
        order = scored[np.argsort(-scores[scored], kind="stable")]
        scores, sizes, names = scores[order], sizes[order], np.asarray(self.clients)[order]
        is_row_each = len(order) <= _MAX_ROWS
        self.ax_ = ax = axes_for(ax, "ClientScoresDisplay", 0.24 * len(order) * is_row_each)
        self.figure_ = ax.figure
        may = np.flatnonzero(sizes >= min(min_rows, sizes.max(initial=0)))
        worst = np.isin(np.arange(len(order)), may[len(may) - min(n_worst, len(may)) :])
        colors = np.where(worst, VERMILION, BLUE).tolist()
        draw = self._draw_rows if is_row_each else self._draw_points
        draw(scores, sizes, names, worst, {"c": colors, "zorder": 3} | kwargs)
        without = len(np.asarray(self.scores)) - len(order)
        note = f"; {without} without a score" if without else ""
        title = f"{self.score_name.capitalize()} by client"
        plain(ax, f"{title}{note}", "x" if is_row_each else "both")
        return self

    def _draw_rows(self, scores: Any, sizes: Any, names: Any, worst: Any, style: Any) -> None:
        ax, places = self.ax_, np.arange(len(scores))
        self.overall_line_ = None
        if self.overall is not None:
            self.overall_line_ = ax.axvline(self.overall, color=GREY, lw=1, ls=(0, (2, 3)))
            left = self.overall > np.mean([scores.min(), scores.max()])
            ax.annotate(
                f"all rows {self.overall:.3g}",
                (self.overall, 1),
                xycoords=ax.get_xaxis_transform(),
                xytext=(-4 if left else 4, -2),
                textcoords="offset points",
                ha="right" if left else "left",
                va="top",
                color=GREY,
            )
        base = scores if self.overall is None else np.full(len(scores), self.overall)
        ax.hlines(places, np.minimum(base, scores), np.maximum(base, scores), color=PALE, lw=2.5)
        self.points_ = ax.scatter(scores, places, **({"s": 45} | style))
        texts = [f"{short(name)}  ({n:,} rows)" for name, n in zip(names, sizes, strict=True)]
        ax.set_yticks(places, texts, fontsize=10 if len(names) <= 20 else 7)
        for i in np.flatnonzero(worst):
            ax.get_yticklabels()[i].set(color=VERMILION, weight="bold")
            ax.annotate(
                f"{scores[i]:.3g}",
                (scores[i], i),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=VERMILION,
                weight="bold",
                bbox=BACKED,
            )
        ax.set_ylim(len(scores) - 0.4, -0.6 - 0.07 * len(scores))  # room for a text on top

    def _draw_points(self, scores: Any, sizes: Any, names: Any, worst: Any, style: Any) -> None:
        ax = self.ax_
        self.points_ = ax.scatter(sizes, scores, **({"s": 14, "alpha": 0.6, "lw": 0} | style))
        ax.set_xscale("log")
        ax.set_xlabel("rows of the client", color=GREY)
        self.overall_line_ = None
        if self.overall is not None:
            self.overall_line_ = ax.axhline(self.overall, color=GREY, lw=1, ls=(0, (2, 3)))
            ax.annotate(
                f"all rows {self.overall:.3g}",
                (1, self.overall),
                xycoords=ax.get_yaxis_transform(),
                xytext=(-2, 3),
                textcoords="offset points",
                ha="right",
                bbox=BACKED,
            )
        middle = np.sqrt(sizes.min() * sizes.max())
        for i in np.flatnonzero(worst):
            left = sizes[i] > middle  # the text goes where there is room
            ax.scatter(sizes[i], scores[i], s=90, facecolors="none", edgecolors=VERMILION, lw=1.8)
            ax.annotate(
                f"{short(names[i])}: {scores[i]:.3g} on {sizes[i]:,} rows",
                (sizes[i], scores[i]),
                xytext=(-9 if left else 9, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
                color=VERMILION,
                weight="bold",
            )
