"""The app that a site runs beside its rows: it takes messages apart and always replies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from skfedfocal._module import module_name
from skfedfocal._version import __version__
from skfedfocal.engines import Model
from skfedfocal.flower import _site
from skfedfocal.flower._messages import (
    read_facts,
    read_plan,
    read_theta,
    write_error,
    write_facts,
    write_updates,
)
from skfedfocal.flower._rows import SiteRows
from skfedfocal.flower._table import LoadData, config_of, load_table
from skfedfocal.privacy import SecureAggregation
from skfedfocal.privacy._aggregation import resolve_secure

if TYPE_CHECKING:
    from skfedfocal.privacy import PrivacyBudget

_log = logging.getLogger("skfedfocal")
_ALLOWED = (None, "sums", "own")  # of evaluations


def make_client_app(
    load_data: LoadData | None = None,
    *,
    module: Any = None,
    secure_aggregation: Any = False,
    privacy: PrivacyBudget | None = None,
    evaluation: str | None = None,
    description: bool = False,
    min_rows: int = 10,
) -> ClientApp:
    """Make the app that a site runs beside its own rows.

    Parameters
    ----------
    load_data : callable or None, default=None
        Takes the node's configuration, a mapping, and returns ``(X, y)`` or
        ``(X, y, sample_weight)``. None is `load_table`: the file that the configuration names.
    module : callable, torch.nn.Module or None, default=None
        The `module` parameter of the estimator, if it has one. Sites make the module from their
        own copy; the server only says which one it means.
    secure_aggregation : bool or SecureAggregation, default=False
        With True or an object of `skfedfocal.privacy.SecureAggregation` the site trains and
        answers under secure sums on these very terms, and not at all otherwise. With False the
        server decides, by the estimator's parameter.
    privacy : PrivacyBudget or None, default=None
        With an object of `skfedfocal.privacy.PrivacyBudget` the site takes part in trainings alone
        that are private from the server, and keeps a ledger of its own, which ends them. With None
        the server decides, by the estimator's parameter.
    evaluation : {None, "sums", "own"}, default=None
        What the site answers to `evaluate`: nothing; figures that are added up over the sites, of
        which the server's app shows the sums alone (without secure sums it receives each site's);
        or its own figures as well.
    description : bool, default=False
        Whether it answers `describe_sites`, with its own line.
    min_rows : int, default=10
        Its own figures about a class of which it has fewer rows are withheld, and so is what a
        description would say of fewer. In the interval [1, inf).

    Returns
    -------
    app : flwr.clientapp.ClientApp
        Answers round 0, the rounds, and what `evaluation` and `description` allow.

    Notes
    -----
    The node's configuration should give the site's name as ``site``; without it the name is the
    node's number, which changes the order of sites and so the random streams.

    What leaves the site: in round 0 names and types of columns, labels that occur and the number of
    rows, and where the estimator needs them label counts and what its steps before the classifier
    ask (sums of columns, numbers of rows by threshold or by value); each round the model update,
    what it counts and the mean training loss, and where asked for the recall or the validation
    loss; under secure sums instead of all but the first the masked values. In a training that is
    private from the server, of all these names of columns, label counts with noise and updates with
    noise; and without a delta of the estimator's the power of ten above the number of rows. Where
    `evaluation` allows it: by class, the predictions, losses and histograms of scores of a model
    that the server sends, which may be any: it could compute a column, whose distribution by class
    is told then. Of an exception its type; what it says stays in the site's log.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skfedfocal.flower import make_client_app
    >>> app = make_client_app(lambda config: load_iris(return_X_y=True))
    """
    load = load_table if load_data is None else load_data
    own = resolve_secure(secure_aggregation)
    check_evaluation(evaluation, min_rows)
    guard = None if privacy is None else _half("private").Guard(privacy, own)
    if guard is not None and evaluation is not None:
        raise ValueError(
            f"privacy={privacy!r} cannot go with evaluation={evaluation!r}: figures have no noise."
        )
    if description and (guard is not None or own is not None):
        raise ValueError(
            "description=True cannot go with privacy or secure_aggregation: what a site tells of "
            "its rows has no noise and no mask."
        )
    app = ClientApp()

    def rows(context: Context, task: Mapping[str, Any]) -> SiteRows:
        data = load(config_of(dict(context.node_config), task.get("table")))
        return SiteRows.check(data, lenient=bool(task.get("lenient")))

    def statistics(content: RecordDict, context: Context) -> RecordDict:
        request = read_facts(content["task"])
        asked = request.get("described")
        if asked is None:  # else it is about no model
            _check_module(request["module"], module)
        table = rows(context, request)
        if guard is not None:
            guard.at_statistics(request, len(table.y))
        say = _site if request.get("private") is None else _half("private")
        found = say.statistics(table, request)
        if request.get("evaluation"):
            found["evaluation"] = evaluation
        if asked is not None and description:
            found["described"] = _half("description").described(table, max(asked, min_rows))
        return RecordDict({"facts": write_facts(found)})

    def ask(content: RecordDict, context: Context) -> RecordDict:
        task = _task_of(content, context)
        check_terms(own, task.get("secure"))
        if guard is not None:
            guard.at_question(task, context.state, _ledger(context))
        model = None
        if "predictor" in task:
            _check_module(task["module"], module)
            site = _half("evaluation")
            query = site.allowed(task["query"], evaluation, min_rows)
            answer = site.answer(rows(context, task), task, query, module)
        else:
            if "theta" in content:
                _check_module(task["module"], module)
                model = Model(read_theta(content), read_plan(task["plan"]))
            answer = _site.answer(rows(context, task), task, model, module)
        if task.get("secure") is not None:
            return _half("secure").answer(context.state, task, model, answer)
        return RecordDict({"facts": write_facts({"answer": answer})})

    def train(content: RecordDict, context: Context) -> RecordDict:
        task = _task_of(content, context)
        check_terms(own, task.get("secure"))
        _check_module(task["module"], module)
        plan, theta = read_plan(task["plan"]), read_theta(content)
        if guard is not None:
            guard.at_round(task, plan, context.state, _ledger(context))
        if task.get("step") is None:
            updates = _site.train(rows(context, task), task, theta, plan, module)
        else:
            load = partial(rows, context, task)
            updates = _half("private").train(load, task, theta, plan, module)
        if task.get("secure") is not None:
            return _half("secure").train(context.state, task, Model(theta, plan), updates)
        return write_updates(updates)

    def keys(content: RecordDict, context: Context) -> RecordDict:
        task = _task_of(content, context)
        check_terms(own, task)
        return _half("secure").keys(context.state, task)

    def unmask(content: RecordDict, context: Context) -> RecordDict:
        return _half("secure").unmask(context.state, _task_of(content, context))

    app.query("statistics")(_answer(statistics))
    app.query("ask")(_answer(ask))
    app.query("secure_keys")(_answer(keys))
    app.query("secure_unmask")(_answer(unmask))
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


def _half(of: str) -> Any:
    """A site's half of what is not asked of every site, and with it the libraries that it needs."""
    return import_module(f"skfedfocal.flower._{of}_site")


def _ledger(context: Context) -> Any:
    """The file of the site's ledger, where the node's configuration names one."""
    return context.node_config.get("ledger-path")


def check_evaluation(evaluation: str | None, min_rows: int) -> None:
    """Raise where it is not said in these words what a site tells of a model."""
    if evaluation not in _ALLOWED or min_rows < 1:
        raise ValueError(
            f"evaluation must be one of {_ALLOWED} and min_rows at least 1; "
            f"got {evaluation!r} and {min_rows!r}."
        )


def check_terms(own: SecureAggregation | None, asked: Mapping[str, Any] | None) -> None:
    """Raise where a site that takes part in secure sums alone is asked for anything else."""
    if own is None:
        return
    if asked is None:
        raise ValueError("This site takes part in secure sums alone.")
    if asked["terms"].get_params() != own.get_params():
        raise ValueError(f"This site's terms are {own!r}, the server's {asked['terms']!r}.")


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
