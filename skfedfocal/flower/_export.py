"""From an estimator to a Flower app in a folder, and from there to a SuperLink."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skfedfocal._estimators.files import describe, rebuild
from skfedfocal._plain import from_plain, to_plain
from skfedfocal.flower._client import make_client_app
from skfedfocal.flower._parts import parts_of
from skfedfocal.flower._private import check_private
from skfedfocal.preprocessing._described import unfitted
from skfedfocal.privacy._aggregation import resolve_secure

if TYPE_CHECKING:
    from skfedfocal.privacy import PrivacyBudget

_PACKAGE = "federation"
_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0.0"
description = "A federation of skfedfocal"
license = "BSD-3-Clause"
# Empty on purpose: nothing is to be installed for a run. Every site and the SuperLink have
# skfedfocal, in the same version, already.
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "{publisher}"

[tool.flwr.app.components]
serverapp = "{package}.server:app"
clientapp = "{package}.client:app"

[tool.flwr.app.config]
"""
_SERVER = '''\
"""Runs beside the SuperLink: trains over the sites and writes the model."""

{imports}from skfedfocal.flower import make_server_app, read_export

estimator, options = read_export(__file__{module})
app = make_server_app(estimator, **options)
'''
_CLIENT = '''\
"""Runs at each site, beside its rows."""

{imports}from skfedfocal.flower import make_client_app

app = make_client_app({arguments})
'''


def export_app(
    estimator: Any,
    folder: str | os.PathLike[str],
    *,
    save_to: str | os.PathLike[str],
    load_data: Callable[..., Any] | None = None,
    publisher: str = "skfedfocal",
    evaluated: str | None = None,
    described: bool = False,
    min_rows: int = 10,
    budget: PrivacyBudget | None = None,
    **options: Any,
) -> Path:
    """Write a Flower app for an estimator: a folder of text files to read before they are run.

    Parameters
    ----------
    estimator : FedFocalClassifier, FederatedClassifier or Pipeline
        What to fit, as for `federate`. A `module` and parts of one's own must be importable by
        name at the server and, the module, at the sites.
    folder : str or path-like
        Made if need be; must not hold another app.
    save_to : str or path-like
        Where the server writes the model: a path on the SuperLink's machine, best an absolute
        one.
    load_data : callable or None, default=None
        As for `make_client_app`; a function that is importable by name at the sites.
    publisher : str, default="skfedfocal"
        Flower's name for whose app it is.
    evaluated : {None, "sums", "own"}, default=None
        What the sites' app answers to `evaluate`, as the `evaluation` of `make_client_app`: it
        stands in the app, where sites read it before they agree.
    described : bool, default=False
        Whether the sites' app answers `describe_sites`, as the `description` of `make_client_app`.
    min_rows : int, default=10
        As for `make_client_app`.
    budget : PrivacyBudget or None, default=None
        What the sites' app lets their rows be used for, as the `privacy` of `make_client_app`: the
        training must be private then. Each site's configuration names the file of its own ledger.
    **options : object
        Further parameters of `make_server_app` and `federate`: checkpoint, describe_to,
        evaluate_to, evaluation, sites, classes, min_clients, timeout, wait.

    Returns
    -------
    folder : Path
        The same.

    Examples
    --------
    >>> import tempfile
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.flower import export_app
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     app = export_app(FedFocalClassifier(), folder, save_to="model.skf")
    ...     sorted(path.name for path in app.rglob("*.py"))
    ['__init__.py', 'client.py', 'server.py']
    """
    before, classifier = parts_of(estimator)
    check_private(classifier, before, options.get("classes"))
    secure = classifier.secure_aggregation
    make_client_app(  # what it refuses at sites is refused here
        privacy=budget,
        secure_aggregation=secure,
        evaluation=evaluated,
        description=described,
        min_rows=min_rows,
    )
    if evaluated is None and options.get("evaluate_to") is not None:
        raise ValueError("evaluate_to needs sites that answer: evaluated='sums' or 'own'.")
    if not described and options.get("describe_to") is not None:
        raise ValueError("describe_to needs sites that answer: described=True.")
    if budget is not None and classifier.privacy is None:
        raise ValueError(
            f"budget={budget!r} needs a private training, which is all that sites with a budget "
            "answer; set the classifier's privacy."
        )
    folder = Path(folder)
    package = folder / _PACKAGE
    if folder.exists() and any(folder.iterdir()) and not package.exists():
        raise FileExistsError(f"{folder} is not empty and does not hold an app; use another.")
    module = classifier.module
    options = {"save_to": os.fspath(save_to)} | {
        name: os.fspath(value) if isinstance(value, Path) else value
        for name, value in options.items()
    }
    plain = {"estimator": to_plain(unfitted(describe(estimator))), "options": to_plain(options)}
    imports, names = "", {}
    for parameter, value in {"load_data": load_data, "module": module}.items():
        if value is not None:
            names[parameter] = _importable(value)
            imports += f"from {value.__module__} import {names[parameter]}\n"
    server_module = "" if module is None else f", module={names['module']}"
    server_imports = (
        "" if module is None else f"from {module.__module__} import {names['module']}\n"
    )
    terms = {
        "secure_aggregation": None if secure is False else resolve_secure(secure),
        "privacy": budget,
    }
    for parameter, part in terms.items():
        if part is not None:  # then sites hold to it, whatever the server says
            imports = f"from skfedfocal.privacy import {type(part).__name__}\n{imports}"
            names[parameter] = _in_code(part)
    if evaluated is not None:
        names["evaluation"] = repr(evaluated)
    if described:
        names["description"] = "True"
    if evaluated is not None or described:
        names["min_rows"] = repr(min_rows)
    arguments = ", ".join(f"{parameter}={name}" for parameter, name in names.items())
    package.mkdir(parents=True, exist_ok=True)
    texts = {
        folder / "pyproject.toml": _PYPROJECT.format(
            name=_PACKAGE, publisher=publisher, package=_PACKAGE
        ),
        package / "__init__.py": "",
        package / "server.py": _SERVER.format(imports=server_imports, module=server_module),
        package / "client.py": _CLIENT.format(imports=imports, arguments=arguments),
        package / "federation.json": json.dumps(plain, indent=1) + "\n",
    }
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return folder


def read_export(beside: str, *, module: Any = None) -> tuple[Any, dict[str, Any]]:
    """The estimator and the options of an exported app; called by the app itself.

    Parameters
    ----------
    beside : str
        A file in the same folder.
    module : callable, torch.nn.Module or None, default=None
        The estimator's `module` parameter.

    Returns
    -------
    estimator : object
        Not fitted.
    options : dict
        For `make_server_app`.

    Examples
    --------
    >>> import tempfile
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.flower import export_app, read_export
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     app = export_app(FedFocalClassifier(gamma=2.0), folder, save_to="model.skf")
    ...     estimator, options = read_export(next(app.rglob("server.py")))
    >>> estimator, options
    (FedFocalClassifier(gamma=2.0), {'save_to': 'model.skf'})
    """
    text = (Path(beside).parent / "federation.json").read_text(encoding="utf-8")
    plain = json.loads(text)
    return rebuild(from_plain(plain["estimator"]), module), from_plain(plain["options"])


def submit(
    folder: str | os.PathLike[str],
    superlink: str,
    *,
    wait: bool = True,
    timeout: float | None = None,
) -> int:
    """Hand an exported app to a SuperLink, by Flower's own command line.

    Parameters
    ----------
    folder : str or path-like
        As `export_app` wrote it.
    superlink : str
        Name of the connection in Flower's configuration, ``config.toml`` in ``FLWR_HOME``.
    wait : bool, default=True
        Whether to wait for the end of the run.
    timeout : float or None, default=None
        Seconds to wait at most; the run goes on when they are over.

    Returns
    -------
    run_id : int
        Flower's number of the run, for ``flwr log`` and ``flwr stop``.

    Raises
    ------
    RuntimeError
        If the SuperLink does not take the run, or the run ends otherwise than well; with Flower's
        reason and the end of the run's log.
    TimeoutError
        If it has not ended in time.

    Examples
    --------
    With a SuperLink that the configuration calls "hospitals":

    >>> from skfedfocal.flower import export_app, submit
    >>> def train(model):
    ...     export_app(model, "app", save_to="/srv/model.skf", sites=["north", "south"])
    ...     return submit("app", "hospitals")
    """
    answer = _flwr("run", os.fspath(folder), superlink, "--format", "json")
    run_id = int(answer["run-id"])
    if not wait:
        return run_id
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        listed = _flwr("list", superlink, "--run-id", str(run_id), "--format", "json")
        status = str(listed["runs"][0]["status"])
        why = listed["runs"][0].get("status-details", "")
        if status.startswith("finished"):
            break
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"Run {run_id} is {status} after {timeout:g} s.")
        time.sleep(5)  # each question is a process of some CPU-seconds
    if status != "finished:completed":
        log = _command("log", str(run_id), superlink, "--show").stdout
        # All there is of a server app that was killed: its log says nothing.
        why = "" if why in ("", "N/A") else f" ({why})"
        raise RuntimeError(f"Run {run_id} ended as {status}{why}.\n{log[-2000:]}")
    return run_id


def _flwr(*arguments: str) -> dict[str, Any]:
    done = _command(*arguments)
    try:
        answer = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        answer = {}
    if done.returncode or not answer.get("success", False):
        said = answer.get("error-message") or done.stderr[-2000:] or done.stdout[-2000:]
        raise RuntimeError(f"flwr {arguments[0]} failed: {said}")
    return answer


def _command(*arguments: str) -> subprocess.CompletedProcess[str]:
    flwr = Path(sys.executable).with_name("flwr")
    return subprocess.run(
        [os.fspath(flwr) if flwr.exists() else "flwr", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def _in_code(part: Any) -> str:
    """A part with all its parameters, as an expression."""
    params = ", ".join(
        f"{name}={(os.fspath(value) if isinstance(value, os.PathLike) else value)!r}"
        for name, value in part.get_params().items()
    )
    return f"{type(part).__name__}({params})"


def _importable(value: Any) -> str:
    name, home = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    if name is None or "." in name or "<" in name or home in (None, "__main__"):
        raise ValueError(
            f"{value!r} must be a function or class at the top of an importable module, so that "
            "the app can import it by name; a Module object cannot travel, pass what makes it."
        )
    return str(name)
