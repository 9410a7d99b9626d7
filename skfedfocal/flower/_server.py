"""The app that a server runs, and what it does: fit an estimator on the rows of sites."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from skfedfocal._estimators.files import save_model
from skfedfocal._plain import write_atomically
from skfedfocal.flower._coordinator import Coordinator
from skfedfocal.flower._description import describe_sites
from skfedfocal.flower._evaluation import evaluate


def make_server_app(
    estimator: Any,
    *,
    save_to: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str] | None = None,
    describe_to: str | os.PathLike[str] | None = None,
    evaluate_to: str | os.PathLike[str] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    **options: Any,
) -> ServerApp:
    """Make the app that drives the rounds and writes the fitted estimator to a file.

    Parameters
    ----------
    estimator : FedFocalClassifier, FederatedClassifier or Pipeline
        As for `federate`.
    save_to : str or path-like
        Where the fitted estimator goes, for `skfedfocal.load_model`; written whole or not at all.
        After a failure it is the model of the last good round, if there was one.
    checkpoint : str, path-like or None, default=None
        As for `federate`.
    describe_to : str, path-like or None, default=None
        Where what `describe_sites` finds before the training goes as JSON: `ClientSummary.as_dict`,
        with "*" for what is withheld and null for what there are no values for. It is printed as
        well. None is for no description.
    evaluate_to : str, path-like or None, default=None
        Where `Evaluation.as_dict` goes as JSON: after the training the model is evaluated over the
        same sites, whose apps have to allow it. None is for no evaluation.
    evaluation : dict or None, default=None
        Parameters of `evaluate`, such as ``{"table": "test"}``.
    **options : object
        Further parameters of `federate`.

    Returns
    -------
    app : flwr.serverapp.ServerApp
        For the SuperLink.

    Examples
    --------
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.flower import make_server_app
    >>> app = make_server_app(FedFocalClassifier(n_rounds=50), save_to="model.skf", min_clients=3)
    """
    common: dict[str, Any] = {n: options[n] for n in ("sites", "timeout", "wait") if n in options}
    told = common | dict(evaluation or {})
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        if describe_to is not None:
            summary = describe_sites(grid, **common)
            _write(summary, _for_file(summary.as_dict()), describe_to, "description")
        try:
            federate(grid, estimator, checkpoint=checkpoint, **options)
        finally:
            if hasattr(estimator, "__sklearn_is_fitted__") and estimator.__sklearn_is_fitted__():
                save_model(estimator, save_to)
                print(f"skfedfocal: the model is in {os.fspath(save_to)}", flush=True)
        if evaluate_to is not None:
            found = evaluate(grid, estimator, **told)
            _write(found, found.as_dict(), evaluate_to, "evaluation")

    return app


def _write(found: Any, plain: dict[str, Any], path: str | os.PathLike[str], what: str) -> None:
    """Into a file as JSON, and into the log as it prints itself."""
    write_atomically(Path(path), json.dumps(plain, allow_nan=False).encode())
    print(f"{found}\nskfedfocal: the {what} is in {os.fspath(path)}", flush=True)


def _for_file(value: Any) -> Any:
    """A description as JSON can hold it."""
    if isinstance(value, dict):
        return {str(key): _for_file(inner) for key, inner in value.items()}
    if value is None:
        return "*"
    return None if isinstance(value, float) and value != value else value


def federate(
    grid: Grid,
    estimator: Any,
    *,
    sites: int | Sequence[str] | None = None,
    classes: Any = None,
    min_clients: int = 2,
    timeout: float = 3600.0,
    wait: float = 600.0,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Any:
    """Fit an estimator on the rows of the sites behind a Grid.

    Parameters
    ----------
    grid : flwr.serverapp.Grid
        Flower's, or `SimulatedSites`.
    estimator : FedFocalClassifier, FederatedClassifier or Pipeline
        Fitted in place. Before the classifier, a pipeline may have the transformers of
        `skfedfocal.preprocessing`, scikit-learn's StandardScaler, and a ColumnTransformer or
        pipelines of these: they are fitted from sums, one after the other, before round 1. `device`
        is not looked at: sites compute on the CPU, by the engine that `engine` names.
    sites : int, sequence of str or None, default=None
        How many sites there are, or their names: training begins when all are there. None is
        whoever is there when `min_clients` are.
    classes : array-like of shape (n_classes,) or None, default=None
        All labels there may be; a site with others is an error. None is what the sites have, which
        a training with `privacy` that does not trust the server must not ask.
    min_clients : int, default=2
        Sites without which training does not begin. Rounds need as many good replies, or as the
        estimator's own `min_clients` says where that is more.
    timeout : float, default=3600.0
        Seconds that sites have for a round.
    wait : float, default=600.0
        Seconds to wait for the sites to come.
    checkpoint : str, path-like or None, default=None
        A file written after each round. If it is there already, training goes on from it, to the
        same bits as without interruption; one of other parameters or sites is refused. With
        `privacy` before each round as well, with the ledger.

    Returns
    -------
    estimator : object
        The same, fitted. `failures_` of its classifier has round, site and reason of each reply
        that was missing.

    Raises
    ------
    SiteError
        If the sites do not make a federation; before the first round.
    FederatedTrainingError
        If a round has too few good replies; the model of the last good round is kept.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.flower import SimulatedSites, federate
    >>> X = np.random.default_rng(0).normal(5, 2, size=(60, 3))
    >>> y = np.where(X[:, 0] > 5, "sick", "well")
    >>> grid = SimulatedSites({"north": (X[:20], y[:20]), "south": (X[20:], y[20:])})
    >>> model = make_pipeline(StandardScaler(), FedFocalClassifier(n_rounds=3, random_state=0))
    >>> federate(grid, model, sites=["north", "south"])[-1].client_sizes_
    array([20., 40.])
    """
    coordinator = Coordinator(grid, estimator, classes, min_clients, timeout, checkpoint)
    coordinator.gather(sites, wait)
    coordinator.train()
    return estimator
