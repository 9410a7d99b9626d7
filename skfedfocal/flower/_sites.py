"""The sites as of round 0, and whether they make a federation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.differences import NOTHING, most, of_columns, of_kinds, usual_kinds
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


def check_fits(
    sites: list[Site],
    allowed: NDArray[Any] | None,
    prepared: bool = False,
    used: set[str] | None = None,
) -> None:
    """Raise SiteError where the sites' tables do not go together: one message, of differences.

    Parameters
    ----------
    sites : list of Site
        All of them.
    allowed : ndarray or None
        Labels that there may be; None for any.
    prepared : bool, default=False
        Whether there are steps before the classifier that take texts.
    used : set of str or None, default=None
        Names of the columns that these look at; None for all.
    """
    for site in sites:
        if site.facts["version"] != __version__:
            raise SiteError(
                f"Site {site.name!r} has skfedfocal {site.facts['version']}, the server "
                f"{__version__}; install the same everywhere."
            )
    problems = _about_columns(sites)
    if not problems:  # else columns cannot be told from one another
        problems = _about_types(sites, prepared, used)
    problems += _about_labels(sites, allowed)
    for site in sites:
        if not (np.isfinite(site.facts["size"]) and site.facts["size"] > 0):
            problems.append(f"{site.name!r} reports {site.facts['size']} rows")
    if problems:
        raise SiteError(f"The sites' tables do not go together: {'; '.join(problems)}.")


def _about_columns(sites: list[Site]) -> list[str]:
    """Columns that some lack, or have besides."""
    usual = most([site.facts["columns"] is None for site in sites])
    no = "names" if usual else "no names"
    problems = [
        f"{site.name!r} has {no} of columns, unlike others"
        for site in sites
        if (site.facts["columns"] is None) != usual
    ]
    if problems:
        return problems
    if not usual:
        return of_columns({repr(site.name): site.facts["columns"] for site in sites})
    shape = most([tuple(site.facts["row_shape"]) for site in sites])
    return [
        f"{site.name!r} has rows of shape {tuple(site.facts['row_shape'])}, others {shape}"
        for site in sites
        if tuple(site.facts["row_shape"]) != shape
    ]


_KINDS = {**dict.fromkeys("biuf", "numbers"), **dict.fromkeys("mM", "dates"), "": NOTHING}
_REMEDIES = {
    "dates": "make numbers of them, such as days since a date, or leave the columns out",
    "texts": "encode them (FederatedOneHotEncoder, FederatedOrdinalEncoder)",
}


def _about_types(sites: list[Site], prepared: bool, used: set[str] | None) -> list[str]:
    """Columns of another type than elsewhere, and of types that nothing can be done with."""
    kinds = {repr(site.name): _kinds_by_column(site) for site in sites}
    usual = {
        column: kind
        for column, kind in usual_kinds(kinds).items()
        if used is None or column in used
    }
    problems = of_kinds(kinds, usual)
    for kind, remedy in _REMEDIES.items():
        columns = [column for column, found in usual.items() if found == kind]
        if columns and not (kind == "texts" and prepared):
            problems.append(f"the columns {columns} have {kind}, which are no numbers: {remedy}")
    return problems


def _kinds_by_column(site: Site) -> dict[Any, str]:
    types = site.facts["types"]
    names = site.facts["columns"] or range(len(types))
    kinds = [np.dtype(kind).kind if kind else "" for kind in types]
    return {name: _KINDS.get(kind, "texts") for name, kind in zip(names, kinds, strict=True)}


def _about_labels(sites: list[Site], allowed: NDArray[Any] | None) -> list[str]:
    texts = [site.facts["classes"].dtype.kind == "U" for site in sites]
    usual, problems = most(texts), []
    for site, is_text in zip(sites, texts, strict=True):
        labels = site.facts["classes"].tolist()
        if is_text != usual:
            kind, other = ("texts", "numbers") if is_text else ("numbers", "texts")
            problems.append(f"{site.name!r} has labels that are {kind}, others {other}")
        elif allowed is not None and set(labels) - set(allowed.tolist()):
            unknown = [label for label in labels if label not in allowed.tolist()]
            problems.append(
                f"{site.name!r} has classes {unknown} that are not among {allowed.tolist()}"
            )
    return problems


def warn_of_lone_labels(sites: list[Site]) -> None:
    """Warn of labels that one site alone has: they may be another label, misspelt."""
    owners: dict[Any, list[str]] = {}
    for site in sites:
        for label in site.facts["classes"].tolist():
            owners.setdefault(label, []).append(site.name)
    lone = [f"{label!r} at {names[0]!r}" for label, names in owners.items() if len(names) == 1]
    if lone and len(sites) > 1:
        shared = [label for label, names in owners.items() if len(names) > 1]
        warnings.warn(
            f"There are labels that one site alone has: {', '.join(lone)}; labels of several "
            f"sites are {shared}. If they are the same, mend them; classes= refuses all others.",
            UserWarning,
            stacklevel=5,
        )


def table_of(sites: list[Site]) -> tuple[list[str] | None, list[Any]]:
    """Names of columns, as the first site has them in order, and the type that serves all."""
    names, dtypes = sites[0].facts["columns"], []
    for j, column in enumerate(_kinds_by_column(sites[0])):
        found = set()
        for site in sites:
            place = j if names is None else site.facts["columns"].index(column)
            found.add(site.facts["types"][place])
        known = [np.dtype(kind) for kind in found if kind] or [np.dtype(np.float64)]
        if len({"t" if kind.kind in "OUS" else "n" for kind in known}) > 1 or any(
            kind.kind == "O" for kind in known
        ):
            dtypes.append(np.dtype(object))
        else:
            dtypes.append(np.result_type(*known))
        if "" in found and dtypes[-1].kind in "biu":
            dtypes[-1] = np.dtype(np.float64)
    return names, dtypes
