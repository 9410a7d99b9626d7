"""What sites are asked about a model, what they allow, and what may be shown of the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from flwr.serverapp import Grid
from numpy.typing import NDArray

from skfedfocal.engines import Unanswered
from skfedfocal.flower._engine import GridEngine
from skfedfocal.flower._sites import Site, SiteError
from skfedfocal.metrics import Evaluation
from skfedfocal.metrics._sums import WITHHELD, PredictionSums
from skfedfocal.privacy._aggregation import resolve_secure

Array = NDArray[np.float64]


def evaluated(
    grid: Grid,
    sites: list[Site],
    task: dict[str, Any],
    own: Mapping[str, dict[str, Any]],
    model: Any,
    by_site: bool | Sequence[str],
    min_rows: int,
    n_bins: int,
    timeout: float,
) -> Evaluation:
    """Ask the sites, and add up what they answer.

    Parameters
    ----------
    grid : Grid
    sites : list of Site
        As of round 0, which told what they allow.
    task : dict
        As of `task_of`, and which rows are meant.
    own : mapping
        What a site is told in the place of that, by its name.
    model : object
        The fitted classifier.
    by_site, min_rows, n_bins, timeout : object
        As for `evaluate`.
    """
    secure = resolve_secure(getattr(model, "secure_aggregation", False))
    asked = asked_of(by_site, sites)
    check_allowed(sites, asked, secure)
    make: Callable[..., GridEngine] = GridEngine
    if secure is not None:
        from skfedfocal.flower._secure import SecureGridEngine

        make = partial(SecureGridEngine, secure=secure)
    extent = [(float(site.facts["size"]), float(site.facts["n_rows"])) for site in sites]
    engine = make(
        grid=grid, sites=sites, extent=np.array(extent), task=task, timeout=timeout, own=own
    )
    query = PredictionSums(len(model.classes_), n_bins)
    try:
        total, each = engine.ask(query), {}
        if len(asked):
            alone = PredictionSums(len(model.classes_), n_bins, min_rows)
            each = dict(zip(asked.tolist(), engine.ask_each(alone, asked), strict=True))
    except Unanswered as error:
        raise SiteError(f"The evaluation failed: {error}.") from error
    total, each = _covered(total, each, sites, model.classes_)
    clients = {sites[k].name: Evaluation(model.classes_, one, 1) for k, one in each.items()}
    return Evaluation(model.classes_, total, min_rows, clients)


def asked_of(by_site: bool | Sequence[str], sites: list[Site]) -> NDArray[np.int64]:
    """Numbers of the sites that are asked for their own figures."""
    names = [site.name for site in sites]
    if isinstance(by_site, bool):
        return np.arange(len(names) if by_site else 0)
    unknown = sorted(set(by_site) - set(names))
    if unknown:
        raise SiteError(f"by_site names {unknown}; the sites are {names}.")
    return np.array([k for k, name in enumerate(names) if name in by_site], np.int64)


def check_allowed(sites: list[Site], asked: NDArray[np.int64], secure: Any) -> None:
    """Raise where a site does not allow what it is asked for, by name."""
    if len(asked) and secure is not None:
        raise SiteError("Under secure_aggregation there are no figures of single sites: by_site.")
    closed = [site.name for site in sites if site.facts["evaluation"] is None]
    if closed:
        raise SiteError(
            f"{closed} answer no evaluation: their app would have to be made with "
            "evaluation='sums' (make_client_app, export_app)."
        )
    shy = [sites[k].name for k in asked if sites[k].facts["evaluation"] != "own"]
    if shy:
        raise SiteError(
            f"{shy} do not tell their own figures: their app would have to be made with "
            "evaluation='own'; or leave them out of by_site."
        )


def _covered(
    total: Array, each: dict[int, Array], sites: list[Site], classes: NDArray[Any]
) -> tuple[Array, dict[int, Array]]:
    """What may be shown together: no class of which one site alone is withheld.

    The difference of the sum and the others would be that site's figures.
    """
    if not each:
        return total, each
    total, each = total.copy(), {k: one.copy() for k, one in each.items()}
    for c, label in enumerate(classes):
        silent = [k for k, site in enumerate(sites) if k not in each and label in labels_of(site)]
        hidden = silent + [k for k, one in each.items() if one[c, 0] == WITHHELD]
        if len(hidden) != 1:
            continue
        shown = [k for k, one in each.items() if one[c, 0] > 0]
        if shown:
            least = min(shown, key=lambda k: each[k][c, 0])
            each[least][c] = 0.0
            each[least][c, 0] = WITHHELD
        elif hidden != silent:
            total[c] = 0.0
            total[c, 0] = WITHHELD
    return total, each


def labels_of(site: Site) -> list[Any]:
    """Labels that occur at a site."""
    return site.facts["classes"].tolist()
