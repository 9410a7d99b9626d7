"""Across real sites: the same training with Flower (flwr) carrying the messages.

A site runs a client app beside its own table; a coordinator runs a server app that drives the
rounds. What is trained, and with what numbers, is what `fit` would do with all rows in one place.
The package flwr comes with ``pip install skfedfocal[flower]``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    import flwr.app  # noqa: F401  (so that what is missing is said in words)
except ImportError as error:
    raise ImportError(
        "skfedfocal.flower needs the package flwr: pip install 'skfedfocal[flower]'"
    ) from error

from skfedfocal.flower._client import make_client_app
from skfedfocal.flower._sites import SiteError
from skfedfocal.flower._table import load_table

if TYPE_CHECKING:
    from skfedfocal.flower._description import describe_sites
    from skfedfocal.flower._evaluation import evaluate, leave_one_site_out
    from skfedfocal.flower._export import export_app, read_export, submit
    from skfedfocal.flower._rehearsal import SimulatedSites
    from skfedfocal.flower._server import federate, make_server_app

__all__ = [
    "SimulatedSites",
    "SiteError",
    "describe_sites",
    "evaluate",
    "export_app",
    "federate",
    "leave_one_site_out",
    "load_table",
    "make_client_app",
    "make_server_app",
    "read_export",
    "submit",
]

_HOMES = {
    "SimulatedSites": "_rehearsal",
    "describe_sites": "_description",
    "evaluate": "_evaluation",
    "export_app": "_export",
    "federate": "_server",
    "leave_one_site_out": "_evaluation",
    "make_server_app": "_server",
    "read_export": "_export",
    "submit": "_export",
}


def __getattr__(name: str) -> Any:
    """What sites do not need is imported when it is asked for: a site imports this each round."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
