"""A training, round by round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skfedfocal.display._style import BACKED, BLUE, GREY, VERMILION, axes_for, plain

_FAILURES = 0.12  # of the height of the axes: the bar of a round in which every client failed


class TrainingDisplay:
    """The losses of a training by round, failed clients, and the round that was kept.

    Made by `from_estimator`, or from a history.

    Parameters
    ----------
    history : mapping of str to array-like of shape (n_rounds,)
        Columns `round` and `loss`, and, where there are such, `validation_loss`, `n_selected` and
        `n_failed`: as the attribute `history_` of a fitted classifier.
    kept_round : int, default=None
        Round to mark as the one that was kept. None is that of the least validation loss, or the
        last where there is none.
    n_averaged : int, default=1
        Number of last rounds whose models were averaged, at least 1.

    Attributes
    ----------
    ax_ : Axes
        What was drawn on.
    figure_ : Figure
        The figure that has it.
    line_ : Line2D
        Training loss.
    validation_line_ : Line2D or None
        Validation loss.
    failures_ : LineCollection or None
        A bar for each round with failures, as high as its share of failed clients.

    See Also
    --------
    ClientScoresDisplay : How well the model does at each client.

    Notes
    -----
    The losses of a round are those of the model that its clients were sent.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.datasets import make_federation
    >>> from skfedfocal.display import TrainingDisplay
    >>> X, y, clients = make_federation(200, random_state=0)
    >>> model = FedFocalClassifier(n_rounds=5, random_state=0).fit(X, y, clients=clients)
    >>> display = TrainingDisplay.from_estimator(model, ax=Figure().subplots())
    >>> display.line_.get_xdata().tolist()
    [1.0, 2.0, 3.0, 4.0, 5.0]
    """

    def __init__(
        self,
        history: Mapping[str, ArrayLike],
        *,
        kept_round: int | None = None,
        n_averaged: int = 1,
    ):
        self.history = history
        self.kept_round = kept_round
        self.n_averaged = n_averaged

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the training of a fitted classifier.

        Parameters
        ----------
        estimator : FedFocalClassifier or FederatedClassifier
            Fitted classifier, or any estimator with a `history_`.
        ax : Axes, default=None
            Axes to draw on. None makes a new figure.
        **kwargs : dict
            Passed on to the lines of both losses.

        Returns
        -------
        display : TrainingDisplay
            What was drawn.
        """
        check_is_fitted(estimator, "history_")
        history = estimator.history_
        losses = history.get("validation_loss")
        kept = None if losses is None else _kept(history, getattr(estimator, "tol", 0.0))
        averaged = getattr(estimator, "average_rounds", 1)
        return cls(history, kept_round=kept, n_averaged=averaged).plot(ax=ax, **kwargs)

    def plot(self, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None makes a new figure.
        **kwargs : dict
            Passed on to the lines of both losses.

        Returns
        -------
        self : TrainingDisplay
            With what was drawn as attributes.
        """
        self.ax_ = ax = axes_for(ax, "TrainingDisplay")
        self.figure_ = ax.figure
        columns = {name: np.asarray(values, float) for name, values in self.history.items()}
        rounds = columns["round"]
        style = {"lw": 2.0, "marker": "o" if len(rounds) == 1 else None} | kwargs
        (self.line_,) = ax.plot(rounds, columns["loss"], **({"color": BLUE} | style))
        self.validation_line_ = None
        lines = [(self.line_, "training loss")]
        if "validation_loss" in columns:
            (self.validation_line_,) = ax.plot(
                rounds, columns["validation_loss"], **({"color": VERMILION} | style)
            )
            lines.append((self.validation_line_, "validation loss"))
        self._mark_kept(rounds, lines[-1][0])
        _label_ends(ax, lines)
        self._draw_failures(rounds, columns)
        plain(ax, "Training", "y")
        ax.set_xlabel("round", color=GREY)
        ax.xaxis.get_major_locator().set_params(integer=True)
        return self

    def _mark_kept(self, rounds: Any, line: Any) -> None:
        kept = self.kept_round
        if kept is None:
            losses = self.history.get("validation_loss")
            kept = int(rounds[-1]) if losses is None else _kept(self.history, 0.0)
        text = f"kept: round {kept}"
        if self.n_averaged > 1:
            first = max(int(rounds[0]), kept - self.n_averaged + 1)
            self.ax_.axvspan(first - 0.5, kept + 0.5, color=GREY, alpha=0.12, lw=0)
            text = f"kept: mean of rounds {first} to {kept}"
        place = int(np.argmin(np.abs(rounds - kept)))
        self.ax_.axvline(kept, color=GREY, lw=1, ls=(0, (2, 3)), zorder=1)
        self.ax_.plot(
            kept, line.get_ydata()[place], "o", ms=9, mfc="none", mec=line.get_color(), mew=1.8
        )
        right = place > len(rounds) / 2
        self.ax_.annotate(
            text,
            (kept, 1),
            xycoords=self.ax_.get_xaxis_transform(),
            xytext=(-5 if right else 5, -4),
            textcoords="offset points",
            ha="right" if right else "left",
            va="top",
            color=GREY,
        )

    def _draw_failures(self, rounds: Any, columns: dict[str, Any]) -> None:
        self.failures_ = None
        failed = columns.get("n_failed", np.zeros(len(rounds)))
        there = np.flatnonzero(failed > 0)
        if not len(there):
            return
        asked = columns.get("n_selected", np.maximum(failed, 1))
        low, high = self.ax_.get_ylim()
        ticks = [tick for tick in self.ax_.get_yticks() if low <= tick <= high]
        self.ax_.set_yticks(ticks)
        self.ax_.set_ylim(low - 0.25 * (high - low), high)  # room for the bars below the curves
        self.failures_ = self.ax_.vlines(
            rounds[there],
            0,
            _FAILURES * failed[there] / asked[there],
            transform=self.ax_.get_xaxis_transform(),
            color="black",
            lw=max(1.0, min(6.0, 150 / len(rounds))),
        )
        self.ax_.text(
            0.01,
            _FAILURES + 0.02,
            f"failed clients: {failed.sum():,.0f} of {asked.sum():,.0f}",
            transform=self.ax_.transAxes,
        )


def _kept(history: Mapping[str, Any], tol: float) -> int:
    """The last round whose validation loss was less by more than `tol` than all before."""
    best, kept = np.inf, int(np.asarray(history["round"])[-1])
    for round_, loss in zip(history["round"], history["validation_loss"], strict=True):
        if loss < best - tol:
            best, kept = loss, int(round_)
    return kept


def _label_ends(ax: Any, lines: list[tuple[Any, str]]) -> None:
    """Names of the curves at their ends: of the upper one above both, of the lower one below."""
    ends = []
    for line, name in lines:
        good = np.flatnonzero(np.isfinite(line.get_ydata()))
        if len(good):
            x, y = line.get_xdata()[good[-1]], line.get_ydata()[good[-1]]
            ends.append((y, x, f"{name} {y:.3g}", line.get_color()))
    n_last = -(-len(lines[0][0].get_ydata()) // 3)  # rounds that the texts lie over
    last = np.concatenate([line.get_ydata()[-n_last:] for line, _ in lines])
    for i, (_, x, text, color) in enumerate(sorted(ends, reverse=True)):
        ax.annotate(
            text,
            (x, np.nanmax(last) if i == 0 else np.nanmin(last)),
            xytext=(-8, 6 if i == 0 else -6),
            textcoords="offset points",
            ha="right",
            va="bottom" if i == 0 else "top",
            color=color,
            weight="bold",
            bbox=BACKED,
        )
    ax.margins(y=0.15)
