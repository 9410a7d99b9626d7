"""Evaluation over sites: of a fitted estimator, and of how training does where it has not been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from flwr.serverapp import Grid
from sklearn.base import clone

from skfedfocal._module import module_name
from skfedfocal.flower._coordinator import Coordinator, used_columns
from skfedfocal.flower._figures import asked_of, check_allowed, evaluated, labels_of
from skfedfocal.flower._fitted import fills, fitted_parts, fraction_held_out, task_of
from skfedfocal.flower._gathering import Gathering
from skfedfocal.flower._sites import Site, SiteError, check_fits
from skfedfocal.metrics import Evaluation
from skfedfocal.metrics._sums import check_bins

_ROWS = ("all", "held_out")


def evaluate(
    grid: Grid,
    estimator: Any,
    *,
    sites: int | Sequence[str] | None = None,
    by_site: bool | Sequence[str] = False,
    rows: str = "all",
    table: str | None = None,
    min_rows: int = 10,
    n_bins: int = 1000,
    timeout: float = 3600.0,
    wait: float = 600.0,
) -> Evaluation:
    """Evaluate a fitted classifier on the rows of sites, from sums of what they answer.

    Each site predicts of its own rows with the fitted model and the fitted steps before it, and
    answers with sums by class: predicted classes, losses, histograms of probabilities.

    Parameters
    ----------
    grid : flwr.serverapp.Grid
        Flower's, or `SimulatedSites`.
    estimator : FedFocalClassifier, FedFocalClassifierCV, FederatedClassifier or Pipeline
        Fitted, over sites or in one process. Before the classifier, a pipeline may have what
        `federate` takes.
    sites : int, sequence of str or None, default=None
        How many sites there are, or their names; None is whoever is there.
    by_site : bool or sequence of str, default=False
        Whether to ask sites for their own figures as well: all of them, or these. A site tells them
        if its app was made with ``evaluation="own"``.
    rows : {"all", "held_out"}, default="all"
        Which rows of a site's table: all, or those that early stopping held out in the fit over the
        same sites and tables.
    table : str or None, default=None
        Name of another table of the sites than that which they train on: "test" is the one that
        ``test-data-path`` of a node's configuration names.
    min_rows : int, default=10
        Figures about a class of fewer rows are withheld (NaN). Of their own figures sites withhold
        them by their own `min_rows`, too. In the interval [1, inf).
    n_bins : int, default=1000
        Bins of the histograms. In the interval [2, inf).
    timeout : float, default=3600.0
        Seconds that sites have for an answer.
    wait : float, default=600.0
        Seconds to wait for the sites to come.

    Returns
    -------
    evaluation : Evaluation
        Of all rows together, weighed as the sites' tables say; with `by_site` its `clients` has
        those of sites. Where what is withheld of a class is that of one site alone, the smallest
        other one is withheld with it, as the difference to the sum would tell.

    Raises
    ------
    SiteError
        If the sites do not make a federation or do not go with the model, one of them does not
        allow what is asked, or does not answer.

    See Also
    --------
    skfedfocal.metrics.evaluate : The same in one process.
    leave_one_site_out : How well it does at a site that had no part in the training.

    Notes
    -----
    Discloses, besides round 0, predicted classes, losses and histograms of scores by class, summed
    over the sites; with `by_site` those of each site. Where the classifier's `secure_aggregation`
    is on, nobody has but the sums, and `by_site` is refused; otherwise the server receives each
    site's sums also where it shows but their total. A class that one site alone has is told of that
    site. To sites it discloses the model.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.flower import SimulatedSites, evaluate, federate
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> y = np.where(X[:, 0] > 0, "sick", "well")
    >>> grid = SimulatedSites({"north": (X[:20], y[:20]), "south": (X[20:], y[20:])})
    >>> model = federate(grid, FedFocalClassifier(n_rounds=30, random_state=0))
    >>> found = evaluate(grid, model)
    >>> int(found.confusion_matrix.sum()), found.balanced_accuracy > 0.8
    (60, True)
    """
    _check(min_rows, n_bins)
    if rows not in _ROWS:
        raise ValueError(f"rows must be one of {_ROWS}; got {rows!r}.")
    before, model = fitted_parts(estimator)
    facts = {"lenient": fills(before), "table": table}
    request = {"module": module_name(model._made_from), "evaluation": True, **facts}
    found = Gathering(grid, request, timeout, "Evaluation").gather(sites, 1, wait)
    check_fits(found, model.classes_, fills(before), used_columns(before, found))
    task = task_of(before, model, found) | facts
    if rows == "held_out":
        task["validation_fraction"] = fraction_held_out(model, found)
    return evaluated(grid, found, task, {}, model, by_site, min_rows, n_bins, timeout)


def leave_one_site_out(
    grid: Grid,
    estimator: Any,
    *,
    sites: int | Sequence[str] | None = None,
    classes: Any = None,
    by_site: bool | Sequence[str] = False,
    min_clients: int = 2,
    min_rows: int = 10,
    n_bins: int = 1000,
    timeout: float = 3600.0,
    wait: float = 600.0,
) -> Evaluation:
    """Evaluate at each site what is trained on all the others.

    As scikit-learn's `LeaveOneGroupOut` with ``groups=clients`` in one process: for each site a
    clone of the estimator is fitted over the others, and predicts of that site's rows.

    Parameters
    ----------
    grid : flwr.serverapp.Grid
        Flower's, or `SimulatedSites`.
    estimator : FedFocalClassifier, FederatedClassifier or Pipeline
        As for `federate`; not fitted.
    sites : int, sequence of str or None, default=None
        As for `federate`.
    classes : array-like of shape (n_classes,) or None, default=None
        All labels there may be. None is what the sites have, each label at more than one of them.
    by_site : bool or sequence of str, default=False
        As for `evaluate`.
    min_clients : int, default=2
        As for `federate`, of each training.
    min_rows : int, default=10
        As for `evaluate`.
    n_bins : int, default=1000
        As for `evaluate`.
    timeout : float, default=3600.0
        Seconds that sites have for a round.
    wait : float, default=600.0
        Seconds to wait for the sites to come.

    Returns
    -------
    evaluation : Evaluation
        Of all rows, each with the model of the others; with `by_site` its `clients` has the site
        that was left out.

    Raises
    ------
    SiteError
        As `evaluate` and `federate`.
    FederatedTrainingError
        If one of the trainings fails.

    See Also
    --------
    evaluate : Of one fitted estimator.

    Notes
    -----
    Discloses what as many trainings do, and what `evaluate` does. Trainings on almost the same
    sites tell, by their difference, about the site that is left out. Probabilities of different
    models share one histogram; areas by site are not about that.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.flower import SimulatedSites, leave_one_site_out
    >>> X = np.random.default_rng(0).normal(size=(90, 3))
    >>> y = np.where(X[:, 0] > 0, "sick", "well")
    >>> parts = {name: (X[k::3], y[k::3]) for k, name in enumerate(["north", "south", "west"])}
    >>> grid = SimulatedSites(parts, evaluation="own")
    >>> model = FedFocalClassifier(n_rounds=30, random_state=0)
    >>> found = leave_one_site_out(grid, model, by_site=True)
    >>> found.balanced_accuracy > 0.8, list(found.clients)
    (True, ['north', 'south', 'west'])
    """
    _check(min_rows, n_bins)
    begin = partial(Coordinator, grid, classes=classes, min_clients=min_clients, timeout=timeout)
    first = begin(estimator=clone(estimator))
    gathering = first.gathering
    request = {**gathering.request, "evaluation": True}
    found = replace(gathering, request=request).gather(sites, min_clients + 1, wait)
    first.take(found)
    if classes is None:
        _refuse_lone_labels(found)
    check_allowed(found, asked_of(by_site, found), first.secure)
    own, common = {}, {}
    for site in found:
        coordinator = begin(estimator=clone(estimator))
        coordinator.take([other for other in found if other is not site])
        coordinator.train()
        before, model = fitted_parts(coordinator.estimator)
        task = task_of(before, model, found)
        # With its own order of columns: that of the first site among the others.
        own[site.name] = {name: task[name] for name in ("columns", "steps", "predictor")}
        common = {**task, **own[site.name], "lenient": fills(before), "table": None}
    return evaluated(grid, found, common, own, model, by_site, min_rows, n_bins, timeout)


def _refuse_lone_labels(sites: list[Site]) -> None:
    """Raise SiteError where a label is gone with the site that is left out."""
    owners: dict[Any, list[str]] = {}
    for site in sites:
        for label in labels_of(site):
            owners.setdefault(label, []).append(site.name)
    lone = [f"{label!r} at {names[0]!r}" for label, names in owners.items() if len(names) == 1]
    if lone:
        raise SiteError(
            f"There are labels that one site alone has, {', '.join(lone)}: what is trained without "
            "it would not know them; pass classes=."
        )


def _check(min_rows: int, n_bins: int) -> None:
    check_bins(n_bins)
    if min_rows < 1:
        raise ValueError(f"min_rows must be at least 1; got {min_rows!r}.")
