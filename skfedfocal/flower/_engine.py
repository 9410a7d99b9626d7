"""The engine over Flower's Grid: each client is a site, a node of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray
from torch import Tensor

from skfedfocal._local import LocalPlan
from skfedfocal.engines import Engine, Updates
from skfedfocal.flower._exchange import ask, exchange
from skfedfocal.flower._messages import (
    COUNTS,
    TRAIN,
    BadReply,
    read_delta,
    read_report,
    write_facts,
)
from skfedfocal.flower._sites import Site, SiteError


@dataclass
class Failure:
    """A site that a round had to do without."""

    round: int
    site: str
    reason: str


@dataclass
class GridEngine(Engine):
    """Trains sites over a Grid; the numbers are those of the in-process engine that sites use.

    Attributes
    ----------
    grid : Grid
        Flower's, or `SimulatedSites`.
    sites : list of Site
        Sorted by name; the position is the client's number.
    rows : ndarray of shape (n_sites,)
        Weight of the rows that each trains on.
    counts : ndarray of shape (n_sites, n_classes) or None
        How many of them are of each class, where round 0 asked for that.
    task : dict
        What sites need to know besides model and plan: classes, module, scaling.
    min_clients : int
        Good replies without which a round fails.
    timeout : float
        Seconds within which a site has to reply.
    recognise : callable or None
        Asks new nodes which site they are; finds sites that came back as another node.
    failures : list of Failure
        What went wrong so far.
    """

    way = "at their sites"

    grid: Grid
    sites: list[Site]
    rows: NDArray[np.float64]
    counts: NDArray[np.float64] | None
    task: dict[str, Any]
    min_clients: int
    timeout: float
    recognise: Callable[[set[int]], None] | None = None
    failures: list[Failure] = field(default_factory=list)

    @property
    def sizes(self) -> NDArray[np.float64]:
        """Weight of the rows that each site trains on, of shape (n_sites,)."""
        return self.rows

    def label_counts(self) -> NDArray[np.float64]:
        """Weighted rows by site and class; asked for now if not in round 0."""
        if self.counts is None:
            self.recount(label_counts=True)
        assert self.counts is not None
        return self.counts

    def recount(self, *, label_counts: bool) -> None:
        """Ask every site again for the weight of the rows it trains on, also by class."""
        common = {**self.task, "label_counts": label_counts}
        tasks = {
            site.node: {**common, "number": k, "site": site.name}
            for k, site in enumerate(self.sites)
        }
        answers, failures = ask(self.grid, tasks, COUNTS, self.timeout)
        if failures:
            reasons = {
                k: failures[site.node].reason
                for k, site in enumerate(self.sites)
                if site.node in failures
            }
            raise SiteError(f"Round 0 failed at {self._in_words(reasons)}.")
        found = [answers[site.node][1] for site in self.sites]
        self.rows = np.array([float(reply["size"]) for reply in found])
        if label_counts:
            self.counts = np.array([reply["label_counts"] for reply in found], np.float64)

    def train(
        self,
        theta: Tensor,
        cohort: NDArray[np.int64],
        round_: int,
        plan: LocalPlan,
        *,
        want_recall: bool = False,
        want_validation: bool = False,
    ) -> Iterator[Updates]:
        """Train the sites of the cohort, as `Engine.train` has it; replies come by number."""
        common = {
            **self.task,
            "round": round_,
            "want_recall": want_recall,
            "want_validation": want_validation,
            "plan": {f.name: getattr(plan, f.name) for f in fields(plan)},
        }
        requests, reasons = self._requests(theta, cohort, common)
        replies, failures = exchange(self.grid, requests, TRAIN, self.timeout)
        good = []
        for k in cohort:
            node = self.sites[k].node
            if node in replies:
                try:
                    good.append(
                        self._read(replies[node], int(k), theta, plan, want_recall, want_validation)
                    )
                except BadReply as bad:
                    reasons[int(k)] = str(bad)
            elif node in failures:
                reasons[int(k)] = failures[node].reason
        self._account_for(reasons, round_ + 1, len(good), len(cohort))
        yield from good

    def _requests(
        self, theta: Tensor, cohort: NDArray[np.int64], common: dict[str, Any]
    ) -> tuple[dict[int, RecordDict], dict[int, str]]:
        """What to send to which node, and of the sites that cannot be asked, by number, why not."""
        model = ArrayRecord({"theta": Array(theta.cpu().numpy())})
        online = set(self.grid.get_node_ids())
        if self.recognise is not None and not {self.sites[k].node for k in cohort} <= online:
            self.recognise(online)
        requests, reasons = {}, {}
        for k in cohort:
            site = self.sites[k]
            if site.node in online:
                task = write_facts({**common, "number": int(k), "site": site.name})
                requests[site.node] = RecordDict({"theta": model, "task": task})
            else:
                reasons[int(k)] = "it is not connected"
        return requests, reasons

    def _account_for(
        self, reasons: Mapping[int, str], round_: int, n_good: int, n_asked: int
    ) -> None:
        """Keep why sites are missing; raise where too few are left, else warn."""
        for k, reason in sorted(reasons.items()):
            self.failures.append(Failure(round_, self.sites[k].name, reason))
        needed = min(self.min_clients, n_asked)
        if n_good < needed:
            hint = ""
            if any("not finite" in reason for reason in reasons.values()):
                hint = " The training diverged; lower learning_rate, or scale the columns."
            raise TooFewClients(
                f"Round {round_}: {n_good} of {n_asked} sites replied well, but "
                f"{needed} are needed; not {self._in_words(reasons)}.{hint}"
            )
        if reasons:
            warnings.warn(
                f"Round {round_} goes on without {self._in_words(reasons)}.",
                RuntimeWarning,
                stacklevel=3,
            )

    def _read(
        self,
        content: RecordDict,
        number: int,
        theta: Tensor,
        plan: LocalPlan,
        want_recall: bool,
        want_validation: bool,
    ) -> Updates:
        """Check a reply and take it apart; its size is that of round 0, whatever it says."""
        try:
            delta = read_delta(content, theta.cpu().numpy())
            mean_weight, loss, recall, validation = read_report(
                content, plan.weight_range, want_recall, want_validation
            )
        except BadReply:
            raise
        except Exception as error:
            raise BadReply(f"its reply cannot be read ({type(error).__name__})") from error
        return Updates(
            clients=np.array([number]),
            sizes=self.sizes[[number]],
            mean_weights=np.array([mean_weight]),
            losses=np.array([loss]),
            recalls=None if recall is None else np.array([recall]),
            validation=None if validation is None else np.array([validation]),
            deltas=torch.from_numpy(delta.copy()).to(theta)[None],
        )

    def _in_words(self, reasons: Mapping[int, str]) -> str:
        return "; ".join(f"{self.sites[k].name!r} ({reasons[k]})" for k in sorted(reasons))


class TooFewClients(RuntimeError):
    """Raised where fewer sites replied than a round needs."""
