"""What the pictures share: colours, axes and the way clients are told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Of the palette of Okabe and Ito, which colour-blind readers tell apart.
BLUE, VERMILION, GREY, PALE = "#0072B2", "#D55E00", "#6b6b6b", "#e6e6e6"
STRONG = [VERMILION, "#CC79A7", "#E69F00"]
CALM = ["#0072B2", "#56B4E9", "#009E73", "#F0E442", "#000000"]
RARE = 0.1  # of the rows of the most frequent class: a class with fewer is rare


# Behind texts that lie on what is drawn.
BACKED = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}


def axes_for(ax: Any, what: str, height: float = 4.8) -> Any:
    """The given axes, or those of a new figure of at least that height in inches."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{what}.plot needs matplotlib: pip install 'skfedfocal[plot]'"
        ) from error
    if ax is not None:
        return ax
    return plt.subplots(figsize=(6.4, max(4.8, height)), layout="constrained")[1]


def plain(ax: Any, title: str, grid: str) -> None:
    """A title on the left, a pale grid and no frame."""
    ax.set_title(title, loc="left", fontsize=10, color=GREY)
    ax.grid(axis=grid, color=PALE)
    ax.set_axisbelow(True)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)


def client_codes(clients: Any, n_samples: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Ids in order of first appearance, and the number of each row's."""
    from skfedfocal._data.clients import ClientLayout

    layout = ClientLayout.from_ids(clients, n_samples)
    return layout.ids, layout.codes()


def short(name: Any, length: int = 24) -> str:
    text = str(name)
    return text if len(text) <= length else text[: length - 1] + "…"
