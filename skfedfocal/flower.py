"""Across real sites: the same training with Flower (flwr) carrying the messages.

A site runs a client app beside its own table; a coordinator runs a server app that drives the
rounds. What is trained, and with what numbers, is what `fit` would do with all rows in one place.
The package flwr comes with ``pip install skfedfocal[flower]``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

try:
    from flwr.app import Context, Message, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
except ImportError as error:
    raise ImportError(
        "skfedfocal.flower needs the package flwr: pip install 'skfedfocal[flower]'"
    ) from error

from skfedfocal import __version__, _site
from skfedfocal.engines.flower import (
    SiteError,
    module_name,
    read_facts,
    read_plan,
    read_theta,
    write_error,
    write_facts,
    write_updates,
)

if TYPE_CHECKING:
    from skfedfocal._export import export_app, read_export, submit
    from skfedfocal._rehearsal import SimulatedSites

__all__ = [
    "SimulatedSites",
    "SiteError",
    "export_app",
    "federate",
    "load_table",
    "make_client_app",
    "make_server_app",
    "read_export",
    "submit",
]


def __getattr__(name: str) -> Any:
    """What sites do not need is imported when it is asked for: a site imports this each round."""
    if name in ("export_app", "read_export", "submit"):
        from skfedfocal import _export

        return getattr(_export, name)
    if name == "SimulatedSites":
        from skfedfocal._rehearsal import SimulatedSites

        return SimulatedSites
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


load_table = _site.load_table
_log = logging.getLogger("skfedfocal")


# -- at a site -----------------------------------------------------------------------------------


def make_client_app(load_data: _site.LoadData | None = None, *, module: Any = None) -> ClientApp:
    """Make the app that a site runs beside its own rows.

    Parameters
    ----------
    load_data : callable or None, default=None
        Takes the node's configuration, a mapping, and returns ``(X, y)`` or
        ``(X, y, sample_weight)``. None is `load_table`: the file that the configuration names.
    module : callable, torch.nn.Module or None, default=None
        The `module` parameter of the estimator, if it has one. Sites make the module from their
        own copy; the server only says which one it means.

    Returns
    -------
    app : flwr.clientapp.ClientApp
        Answers round 0 and the rounds.

    Notes
    -----
    The node's configuration should give the site's name as ``site``; without it the name is the
    node's number, which changes the order of sites and so the random streams.

    What leaves the site: in round 0 names of columns, labels that occur and the number of rows, and
    where the estimator needs them label counts and the columns' means and variances; each round
    the model update and the mean training loss, and where asked for the balanced recall and the
    validation loss. Of an exception its type; what it says stays in the site's log.
    """
    load = _site.load_table if load_data is None else load_data
    app = ClientApp()

    def rows(context: Context) -> _site.SiteRows:
        return _site.SiteRows.check(load(dict(context.node_config)))

    def statistics(content: RecordDict, context: Context) -> RecordDict:
        request = read_facts(content["task"])
        _check_module(request["module"], module)
        return RecordDict({"facts": write_facts(_site.statistics(rows(context), request))})

    def counts(content: RecordDict, context: Context) -> RecordDict:
        task = _task_of(content, context)
        return RecordDict({"facts": write_facts(_site.recount(rows(context), task))})

    def train(content: RecordDict, context: Context) -> RecordDict:
        task = _task_of(content, context)
        _check_module(task["module"], module)
        plan, theta = read_plan(task["plan"]), read_theta(content)
        return write_updates(_site.train(rows(context), task, theta, plan, module))

    app.query("statistics")(_answer(statistics))
    app.query("counts")(_answer(counts))
    app.train()(_answer(train))
    return app


Work = Callable[[RecordDict, Context], RecordDict]


def _answer(work: Work) -> Callable[[Message, Context], Message]:
    """Work that always replies: with its result, or with the type of what ended it."""

    def handle(message: Message, context: Context) -> Message:
        try:
            content = work(message.content, context)
        except Exception as error:
            _log.exception("skfedfocal: the work of %s failed", message.metadata.message_type)
            content = write_error(error)
        content["site"] = write_facts({"name": _name(context), "version": __version__})
        return Message(content, reply_to=message)

    return handle


def _name(context: Context) -> str:
    return str(context.node_config.get("site", context.node_id))


def _task_of(content: RecordDict, context: Context) -> dict[str, Any]:
    """The task of a message, if it is meant for this site."""
    task = read_facts(content["task"])
    if "site" in task and task["site"] != _name(context):
        raise ValueError(f"The task is for site {task['site']!r}.")
    return task


def _check_module(wanted: str | None, module: Any) -> None:
    if wanted != module_name(module):
        raise ValueError(
            f"The server trains module {wanted!r}, but this site's app was made with "
            f"{module_name(module)!r}."
        )


# -- at the server -------------------------------------------------------------------------------


def make_server_app(
    estimator: Any,
    *,
    save_to: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str] | None = None,
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
    **options : object
        Further parameters of `federate`.

    Returns
    -------
    app : flwr.serverapp.ServerApp
        For the SuperLink.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        from skfedfocal._models import save_model

        try:
            federate(grid, estimator, checkpoint=checkpoint, **options)
        finally:
            if hasattr(estimator, "__sklearn_is_fitted__") and estimator.__sklearn_is_fitted__():
                save_model(estimator, save_to)
                print(f"skfedfocal: the model is in {os.fspath(save_to)}", flush=True)

    return app


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
        Fitted in place; a pipeline is a StandardScaler or FederatedStandardScaler, fitted from
        sums in round 0, and the classifier. `device` is not looked at: sites compute on the CPU,
        by the engine that `engine` names.
    sites : int, sequence of str or None, default=None
        How many sites there are, or their names: training begins when all are there. None is
        whoever is there when `min_clients` are.
    classes : array-like of shape (n_classes,) or None, default=None
        All labels there may be; a site with others is an error. None is what the sites have.
    min_clients : int, default=2
        Sites without which training does not begin, and good replies without which a round
        fails, or all of its cohort where that is smaller.
    timeout : float, default=3600.0
        Seconds that sites have for a round.
    wait : float, default=600.0
        Seconds to wait for the sites to come.
    checkpoint : str, path-like or None, default=None
        A file written after each round. If it is there already, training goes on from it, to the
        same bits as without interruption; one of other parameters or sites is refused.

    Returns
    -------
    estimator : object
        The same, fitted. Its classifier has `site_failures_`: round, site and reason of each
        reply that was missing.

    Raises
    ------
    SiteError
        If the sites do not make a federation; before the first round.
    FederatedTrainingError
        If a round has too few good replies; the model of the last good round is kept.
    """
    from skfedfocal._coordinator import Coordinator

    coordinator = Coordinator(grid, estimator, classes, min_clients, timeout)
    coordinator.gather(sites, wait)
    coordinator.train(checkpoint)
    return estimator
