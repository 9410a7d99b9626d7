"""Round 0: wait for the sites, ask what their rows are like, and know them again later."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.serverapp import Grid

from skfedfocal._plain import to_plain
from skfedfocal.flower._exchange import NoReply, ask
from skfedfocal.flower._messages import STATISTICS, check_statistics
from skfedfocal.flower._sites import Site, SiteError, check_names

_POLL_SECONDS = 0.5


@dataclass
class Gathering:
    """Who is behind a Grid.

    Attributes
    ----------
    grid : Grid
    request : mapping
        What sites are told beside the question what their rows are like.
    timeout : float
        Seconds for an exchange.
    what : str
        What begins then.
    """

    grid: Grid
    request: Mapping[str, Any]
    timeout: float
    what: str = "Training"

    def gather(self, sites: int | Sequence[str] | None, n_min: int, wait: float) -> list[Site]:
        """Wait for the sites, and ask them for their statistics.

        Parameters
        ----------
        sites : int, sequence of str or None
            How many there are, or their names; None for whoever is there.
        n_min : int
            Without which it does not go on.
        wait : float
            Seconds for them to come.

        Returns
        -------
        sites : list of Site
            Sorted by name.
        """
        names = None if sites is None or isinstance(sites, int) else sorted(map(str, sites))
        wanted = sites if isinstance(sites, int) else len(names or ())
        needed = max(n_min, wanted)
        nodes = self._wait_for(needed, wait)
        replies, failures = self._ask(nodes)
        silent = [f"{name} ({no.reason})" for name, no in failures if no.silent]
        broken = [f"{name} ({no.reason})" for name, no in failures if not no.silent]
        if broken:
            raise SiteError(f"Round 0 failed at {'; '.join(broken)}.")
        found = sorted(replies, key=lambda site: site.name)
        if len(found) < needed:
            raise SiteError(
                f"Round 0: {len(found)} of {needed} sites replied; not {'; '.join(silent)}."
            )
        if silent:
            warnings.warn(
                f"{self.what} begins without {'; '.join(silent)}.", RuntimeWarning, stacklevel=4
            )
        check_names([site.name for site in found], names)
        return found

    def recognise(self, sites: Sequence[Site], online: set[int]) -> None:
        """Find those of the sites that came back as another node."""
        lost = {site.name: site for site in sites if site.node not in online}
        new = online - {site.node for site in sites}
        if not (lost and new):
            return
        for back in self._ask(sorted(new))[0]:
            site = lost.get(back.name)
            if site is None:
                continue
            same = ("size", "n_rows", "row_shape", "columns", "digest")
            if all(to_plain(back.facts.get(k)) == to_plain(site.facts.get(k)) for k in same):
                site.node = back.node

    def _wait_for(self, needed: int, wait: float) -> list[int]:
        deadline = time.monotonic() + wait
        while True:
            nodes = sorted(self.grid.get_node_ids())
            if len(nodes) >= needed:
                return nodes
            if getattr(self.grid, "_nobody_else_comes", False):
                raise SiteError(
                    f"{len(nodes)} of the {needed} sites needed came: these are all that are "
                    "simulated. Give SimulatedSites more, or see min_clients and sites."
                )
            if time.monotonic() >= deadline:
                raise SiteError(
                    f"{len(nodes)} of the {needed} sites needed came within {wait:g} s; see that "
                    "the others are running, reach the server, and are registered with it."
                )
            time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))

    def _ask(self, nodes: Sequence[int]) -> tuple[list[Site], list[tuple[str, NoReply]]]:
        """Statistics of the nodes; and who gave none, by name where it is known."""
        tasks = dict.fromkeys(nodes, self.request)
        answers, failures = ask(self.grid, tasks, STATISTICS, self.timeout, check=check_statistics)
        found = [Site(who, node, facts) for node, (who, facts) in answers.items()]
        failed = [
            (f"node {node}" if no.name is None else f"site {no.name!r}", no)
            for node, no in failures.items()
        ]
        return found, failed
