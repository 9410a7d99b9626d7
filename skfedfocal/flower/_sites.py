"""The sites as of round 0, and whether they make a federation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._version import __version__


class SiteError(ValueError):
    """Raised where the sites do not make a federation; names the site and what is wrong.

    Examples
    --------
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.flower import SimulatedSites, SiteError, federate
    >>> X, y = [[0.0], [1.0]], [0, 1]
    >>> grid = SimulatedSites({"north": (X, y), "south": ([[0.0, 1.0]], [0])})
    >>> try:
    ...     federate(grid, FedFocalClassifier())
    ... except SiteError as error:
    ...     print("south" in str(error))
    True
    """


@dataclass
class Site:
    """A client behind the Grid, as of round 0.

    Attributes
    ----------
    name : str
        As the site's own configuration has it.
    node : int
        The node that it is at present; another one after it came back.
    facts : dict
        Its reply to round 0.
    """

    name: str
    node: int
    facts: dict[str, Any]


def check_names(names: list[str], wanted: list[str] | None) -> None:
    """Raise SiteError where a name occurs twice, or the names are not the ones wanted, sorted."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SiteError(
            f"More than one site is called {twice}; give each its own site= in the node's "
            "configuration."
        )
    if wanted is not None and names != wanted:
        raise SiteError(f"The sites are {names}, but {wanted} were expected.")


def check_fits(site: Site, first: Site, allowed: NDArray[Any] | None) -> None:
    """Raise SiteError where a site is not like the first, or has labels it should not have."""
    if site.facts["version"] != __version__:
        raise SiteError(
            f"Site {site.name!r} has skfedfocal {site.facts['version']}, the server {__version__}; "
            "install the same everywhere."
        )
    for fact, word in (("columns", "columns"), ("row_shape", "rows of shape")):
        if site.facts[fact] != first.facts[fact]:
            raise SiteError(
                f"Site {site.name!r} has {word} {site.facts[fact]} but site {first.name!r} has "
                f"{first.facts[fact]}; all need the same in the same order."
            )
    labels, others = site.facts["classes"], first.facts["classes"]
    if (labels.dtype.kind == "U") != (others.dtype.kind == "U"):
        raise SiteError(
            f"Site {site.name!r} has labels {labels.tolist()} but site {first.name!r} has "
            f"{others.tolist()}; all need numbers or all need texts."
        )
    if not (np.isfinite(site.facts["size"]) and site.facts["size"] > 0):
        raise SiteError(f"Site {site.name!r} reports {site.facts['size']} rows.")
    if allowed is not None:
        unknown = [label for label in labels.tolist() if label not in allowed.tolist()]
        if unknown:
            raise SiteError(
                f"Site {site.name!r} has classes {unknown} that are not among {allowed.tolist()}."
            )
