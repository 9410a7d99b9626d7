"""Which classes the clients have."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skfedfocal.display._style import (
    CALM,
    GREY,
    PALE,
    RARE,
    STRONG,
    VERMILION,
    axes_for,
    client_codes,
    plain,
    short,
)

_MAX_BARS = 30  # clients as bars; more are columns of a map
_THIN = 200  # clients whose columns of a map may be thinner than a dot of the picture


class ClientClassesDisplay:
    """Rows by client and class: as bars, or as a map where clients or classes are many.

    Rare classes, those with less than a tenth of the rows of the most frequent one, are drawn so
    that a single row shows: in bars they come first and have an edge, and in a map of more than 200
    clients each client that has them has a mark.

    Parameters
    ----------
    counts : array-like of shape (n_clients, n_classes)
        Rows by client and class.
    clients : array-like of shape (n_clients,)
        Names of the clients.
    classes : array-like of shape (n_classes,)
        Names of the classes.

    Attributes
    ----------
    ax_ : Axes
        What was drawn on.
    figure_ : Figure
        The figure that has it.
    bars_ : list of BarContainer or None
        For each class, in the order of `classes`, its bars, the largest client first.
    image_ : AxesImage or None
        The map, of shape (n_classes, n_clients): the rarest class on top, and clients by their
        most frequent class.
    order_ : ndarray of shape (n_clients,)
        Places in `clients` in the order in which they are drawn.

    See Also
    --------
    ClientScoresDisplay : How well a model does at each client.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from skfedfocal.display import ClientClassesDisplay
    >>> display = ClientClassesDisplay.from_labels(
    ...     ["well", "well", "sick"], ["north", "south", "south"], ax=Figure().subplots()
    ... )
    >>> display.counts
    array([[0, 1],
           [1, 1]])
    """

    def __init__(self, counts: ArrayLike, clients: ArrayLike, classes: ArrayLike):
        self.counts = counts
        self.clients = clients
        self.classes = classes

    @classmethod
    def from_labels(
        cls, y: ArrayLike, clients: ArrayLike, *, ax: Any = None, kind: str = "auto", **kwargs: Any
    ) -> Self:
        """Count labels by client, and draw.

        Parameters
        ----------
        y : array-like of shape (n_samples,)
            Labels.
        clients : array-like of shape (n_samples,)
            Id of each row's client.
        ax : Axes, default=None
            Axes to draw on. None makes a new figure.
        kind : {"auto", "bars", "map"}, default="auto"
            As in `plot`.
        **kwargs : dict
            Passed on to the bars or the image.

        Returns
        -------
        display : ClientClassesDisplay
            What was drawn.
        """
        classes, labels = np.unique(np.asarray(y), return_inverse=True)
        ids, codes = client_codes(clients, len(labels))
        cells = np.bincount(codes * len(classes) + labels, minlength=len(ids) * len(classes))
        counts = cells.reshape(len(ids), len(classes))
        return cls(counts, ids, classes).plot(ax=ax, kind=kind, **kwargs)

    @classmethod
    def from_summary(
        cls, summary: Any, *, ax: Any = None, kind: str = "auto", **kwargs: Any
    ) -> Self:
        """Draw what a summary shows of the classes, in this process or at sites.

        Parameters
        ----------
        summary : ClientSummary
            Of `skfedfocal.describe.describe_clients` or `skfedfocal.flower.describe_sites`. Counts
            that are withheld are not drawn; names of clients that have such end in "*".
        ax : Axes, default=None
            Axes to draw on. None makes a new figure.
        kind : {"auto", "bars", "map"}, default="auto"
            As in `plot`.
        **kwargs : dict
            Passed on to the bars or the image.

        Returns
        -------
        display : ClientClassesDisplay
            What was drawn.
        """
        classes, lines = list(summary.overall["classes"]), summary.clients
        if not classes:
            raise ValueError("The summary has no classes: pass y to what describes the clients.")
        shown = [list(line["classes"].values()) for line in lines.values()]
        names = [
            f"{name}*" if None in counts else str(name)
            for name, counts in zip(lines, shown, strict=True)
        ]
        counts = np.array([[n or 0 for n in own] for own in shown], np.int64)
        return cls(counts, np.array(names, object), np.array(classes)).plot(
            ax=ax, kind=kind, **kwargs
        )

    def plot(self, *, ax: Any = None, kind: str = "auto", **kwargs: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw on. None makes a new figure.
        kind : {"auto", "bars", "map"}, default="auto"
            Bars are for up to 8 classes; "auto" draws them for up to 30 clients.
        **kwargs : dict
            Passed on to the bars or the image.

        Returns
        -------
        self : ClientClassesDisplay
            With what was drawn as attributes.
        """
        counts = np.asarray(self.counts)
        n_colors = len(STRONG) + len(CALM)
        if kind not in ("auto", "bars", "map"):
            raise ValueError(f"kind must be 'auto', 'bars' or 'map'; got {kind!r}.")
        if kind == "bars" and counts.shape[1] > n_colors:
            raise ValueError(
                f"There are {counts.shape[1]} classes, and colours for {n_colors}; take kind='map'."
            )
        if kind == "auto":
            few = len(counts) <= _MAX_BARS and counts.shape[1] <= n_colors
            kind = "bars" if few else "map"
        n_lines = counts.shape[kind == "map"]
        self.ax_ = axes_for(ax, "ClientClassesDisplay", 0.16 * n_lines)
        self.figure_ = self.ax_.figure
        self.bars_: list[Any] | None = None
        self.image_: Any = None
        totals = counts.sum(0)
        rarest_first = np.argsort(totals, kind="stable")
        n_rare = int(np.sum(totals < RARE * totals.max()))
        draw = self._draw_bars if kind == "bars" else self._draw_map
        draw(counts, rarest_first, n_rare, kwargs)
        return self

    def _draw_bars(self, counts: NDArray[Any], by_rarity: Any, n_rare: int, kwargs: Any) -> None:
        ax = self.ax_
        self.order_ = np.argsort(-counts.sum(1), kind="stable")
        counts = counts[self.order_]
        places = np.arange(len(counts))
        colors = (STRONG[:n_rare] + CALM + STRONG[n_rare:] + CALM)[: len(by_rarity)]
        left = np.zeros(len(counts))
        bars: dict[int, Any] = {}
        for i, c in enumerate(by_rarity):
            # The edge is what remains to be seen of a bar that is thinner than a line.
            edge = {"edgecolor": colors[i], "linewidth": 1.2} if i < n_rare else {"linewidth": 0}
            there = {"lw": [edge["linewidth"] if n else 0 for n in counts[:, c]]}
            style = {"color": colors[i], "zorder": 2 + max(0, n_rare - i)} | edge | kwargs
            style.pop("linewidth")
            bars[c] = ax.barh(places, counts[:, c], left=left, **(style | there))
            bars[c].set_label(self._name(c, counts))
            left += counts[:, c]
        self.bars_ = [bars[c] for c in range(len(by_rarity))]
        names = [short(name) for name in np.asarray(self.clients)[self.order_]]
        ax.set_yticks(places, names, fontsize=10 if len(names) <= 20 else 7)
        ax.set_ylim(len(counts) - 0.4, -0.6)
        ax.set_xlim(0, 1.4 * counts.sum(1).max())  # room for the legend
        plain(ax, "Classes by client", "x")
        ax.set_xlabel("rows", color=GREY)
        ax.legend(
            [bars[c] for c in by_rarity],
            [bars[c].get_label() for c in by_rarity],
            loc="lower right",
            frameon=True,
            framealpha=0.9,
            edgecolor="none",
            title="rarest first",
            alignment="left",
        )

    def _draw_map(self, counts: NDArray[Any], by_rarity: Any, n_rare: int, kwargs: Any) -> None:
        from matplotlib.colors import LogNorm

        ax = self.ax_
        commonest = counts.argmax(1)
        self.order_ = np.lexsort((-counts.max(1) / counts.sum(1), commonest))
        cells = counts[self.order_][:, by_rarity].T
        style = {"cmap": "cividis_r", "norm": LogNorm(1, max(2, cells.max()))} | kwargs
        self.image_ = ax.imshow(
            np.ma.masked_equal(cells, 0), aspect="auto", interpolation="nearest", **style
        )
        plain(ax, "Rows by class and client; rare classes bold", "x")
        ax.grid(False)
        ax.set_facecolor(PALE)
        for place in range(n_rare if len(counts) > _THIN else 0):
            having = np.flatnonzero(cells[place])
            style = {"ls": "", "marker": "|", "ms": 4, "mew": 0.8, "color": VERMILION}
            ax.plot(having, np.full(len(having), place), **style)
        n_names = 7 * self.figure_.get_size_inches()[1]  # that fit one above the other
        shown = np.arange(0, len(by_rarity), int(np.ceil(len(by_rarity) / n_names)))
        ax.set_yticks(
            shown,
            [self._name(by_rarity[place], counts) for place in shown],
            fontsize=10 if len(shown) <= 15 else 6,
        )
        for label, row in zip(ax.get_yticklabels(), shown, strict=True):
            label.set_weight("bold" if row < n_rare else "normal")
        if len(counts) <= _MAX_BARS:
            names = [short(name, 12) for name in np.asarray(self.clients)[self.order_]]
            ax.set_xticks(range(len(counts)), names, rotation=90)
        else:
            ax.set_xticks([])
        ax.set_xlabel(f"{len(counts):,} clients, by their most frequent class", color=GREY)
        bar = self.figure_.colorbar(self.image_, ax=ax, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("rows of the client (none: grey)", color=GREY)

    def _name(self, c: int, counts: NDArray[Any]) -> str:
        return f"{short(np.asarray(self.classes)[c])} ({counts[:, c].sum():,})"
