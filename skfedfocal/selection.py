"""Selections: which clients take part in a round."""

from __future__ import annotations

from numbers import Real
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from skfedfocal._component import Component
from skfedfocal._data.clients import ClientStats
from skfedfocal._disclosure import LABEL_COUNTS, RECALLS
from skfedfocal._focus import Focus
from skfedfocal._sklearn import Interval, StrOptions

__all__ = ["SELECTIONS", "CategoryCoverage", "FocalSelection", "Selection", "Uniform"]


class Selection(Component):
    """Draws the cohort of a round from what the server knows of the clients.

    A selection of one's own derives from this class and defines `select`.

    Attributes
    ----------
    needs : frozenset of str
        What clients must tell for this selection: recalls, label counts of each, or nothing.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.selection import Selection
    >>> class Largest(Selection):
    ...     def select(self, stats, n_selected, rng):
    ...         return np.argsort(-stats.n_rows, kind="stable")[:n_selected]
    >>> FedFocalClassifier(selection=Largest(), clients_per_round=2).selection
    Largest()
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    @property
    def discloses(self) -> frozenset[str]:
        """What this tells the server beyond what any training does."""
        return self.needs

    def select(
        self, stats: ClientStats, n_selected: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Numbers of the clients selected, distinct and ascending."""
        raise NotImplementedError


class Uniform(Selection):
    """The given number of clients, uniformly at random without replacement.

    Notes
    -----
    Looks at nothing of the clients and discloses nothing.

    Examples
    --------
    >>> from skfedfocal.selection import Uniform
    >>> Uniform()
    Uniform()
    """

    def select(
        self, stats: ClientStats, n_selected: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        if n_selected == stats.n_clients:
            return np.arange(n_selected)
        return np.sort(rng.choice(stats.n_clients, n_selected, replace=False))


class FocalSelection(Selection):
    r"""Fed-Focal's tunable sampling: clients on which the model does poorly are drawn more often.

    Clients are drawn without replacement with probability proportional to
    :math:`\max(1 - q_k, \mathrm{floor})^{\gamma_c}`, with :math:`q_k` the smoothed
    recall that client k last reported; see `skfedfocal.aggregation.WeightedMean`. A client that has
    not reported yet counts as the mean of those that have.

    Parameters
    ----------
    client_gamma : float, default=1.0
        Client focusing, at least 0; 0 is `Uniform`.
    smoothing : float, default=20.0
        Rows of recall one half that are added to each client's own.
    floor : float, default=0.1
        Least ``1 - recall`` that counts, in (0, 1]: no client is drawn more than
        ``floor ** -client_gamma`` times as often as another.

    Notes
    -----
    Discloses each selected client's recall of the global model, every round, estimated as in
    `skfedfocal.aggregation.WeightedMean`. The published method [1]_ states no formula for its
    sampling; this one is ours.

    References
    ----------
    .. [1] D. Sarkar, A. Narang, S. Rai, "Fed-Focal loss for imbalanced data classification in
       federated learning", FL-IJCAI 2020, arXiv:2011.06283.

    Examples
    --------
    >>> from skfedfocal.selection import FocalSelection
    >>> FocalSelection(client_gamma=2.0)
    FocalSelection(client_gamma=2.0)
    """

    needs = frozenset({RECALLS})

    _parameter_constraints = {
        "client_gamma": [Interval(Real, 0, None, closed="left")],
        "smoothing": [Interval(Real, 0, None, closed="left")],
        "floor": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(self, client_gamma: float = 1.0, smoothing: float = 20.0, floor: float = 0.1):
        self.client_gamma = client_gamma
        self.smoothing = smoothing
        self.floor = floor

    def select(
        self, stats: ClientStats, n_selected: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        known = ~np.isnan(stats.recall)
        if not known.any():
            return Uniform().select(stats, n_selected, rng)
        odds = np.empty(stats.n_clients)
        focus = Focus(self.client_gamma, self.smoothing, self.floor)
        odds[known] = focus(stats.recall[known].astype(np.float64), stats.n_rows[known])
        odds[~known] = odds[known].mean()
        # The n smallest of exponential waiting times are a draw without replacement.
        waiting = rng.exponential(size=stats.n_clients) / odds
        return np.sort(np.argpartition(waiting, n_selected - 1)[:n_selected])


class CategoryCoverage(Selection):
    r"""CatFedAvg: clients whose categories together cover all there are.

    Parameters
    ----------
    variant : {"cover", "balance"}, default="cover"
        "cover" adds the client of whose categories the largest share is still missing, and starts
        over when all are covered, until the round is full. "balance" adds the client that brings
        the category distribution of the union nearest to uniform (least sum of squared shares).
        Ties, and in "balance" the first client, are drawn at random.

    Notes
    -----
    Discloses each client's label counts ("cover": which categories it has), once; their bytes count
    in ``history_["bytes_up"]``. The published method [1]_ states neither its solver nor its two
    variants; these are ours.

    References
    ----------
    .. [1] D. Sarkar, S. Rai, A. Narang, "CatFedAvg: optimising communication-efficiency and
       classification accuracy in federated learning", arXiv:2011.07229.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal._data.clients import ClientStats
    >>> from skfedfocal.selection import CategoryCoverage
    >>> counts = np.array([[9.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 5.0, 9.0]])
    >>> CategoryCoverage().select(ClientStats(counts.sum(1), counts), 2, np.random.default_rng(0))
    array([0, 2])
    """

    needs = frozenset({LABEL_COUNTS})

    _parameter_constraints = {"variant": [StrOptions({"cover", "balance"})]}

    def __init__(self, variant: str = "cover"):
        self.variant = variant

    def select(
        self, stats: ClientStats, n_selected: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        assert stats.label_counts is not None
        pick = self._cover if self.variant == "cover" else self._balance
        return np.sort(pick(stats.label_counts, n_selected, rng.permutation(stats.n_clients)))

    @staticmethod
    def _cover(
        counts: NDArray[np.float64], n_selected: int, order: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        has = counts[order] > 0  # in random order, so that the first of the best is a random one
        breadth = np.maximum(has.sum(1), 1)
        free = np.ones(len(order), bool)
        missing = has.any(0)
        chosen: list[int] = []
        while len(chosen) < n_selected:
            # By share: by number, the few clients with most categories would take every round.
            gain = np.where(free, has[:, missing].sum(1) / breadth, -1)
            best = int(gain.argmax())
            if gain[best] == 0 and has[free].any():
                missing = has[free].any(0)  # all covered, or nobody left who has what is missing
                continue
            chosen.append(best)
            free[best] = False
            missing = missing & ~has[best]
            if not missing.any() and len(chosen) < n_selected:
                missing = has[free].any(0)
        return order[chosen]

    @staticmethod
    def _balance(
        counts: NDArray[np.float64], n_selected: int, order: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        counts = counts[order]
        free = np.ones(len(order), bool)
        free[0] = False
        chosen, union = [0], counts[0]
        while len(chosen) < n_selected:
            together = union + counts
            total = np.maximum(together.sum(1, keepdims=True), np.finfo(float).tiny)
            squares = ((together / total) ** 2).sum(1)
            best = int(np.where(free, squares, np.inf).argmin())
            chosen.append(best)
            free[best] = False
            union = together[best]
        return order[chosen]


#: The selections by the names that estimators take.
SELECTIONS: dict[str, type[Selection]] = {
    "uniform": Uniform,
    "focal": FocalSelection,
    "category_coverage": CategoryCoverage,
}
