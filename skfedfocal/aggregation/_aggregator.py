"""What an aggregator is."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from skfedfocal._component import Component
from skfedfocal._disclosure import LABEL_COUNTS, SINGLE_UPDATES
from skfedfocal._focus import Focus

DOUBTED = 0.3  # share of the clients that may lie, to rules that are not told one


class Aggregator(Component):
    """Combines the updates of a cohort, each with the weight that its client gives itself.

    Attributes
    ----------
    linear : bool
        Whether the aggregate is a weighted mean, which is added up reply by reply as updates
        come, so that memory is bounded by the block and not by the cohort, and which a secure sum
        can make.
    bad_share : float
        Share of the clients that may lie, in [0, 0.5): of each class the label counts of so many,
        those that have most of it, are not believed where class frequencies are found; 0 for the
        plain sum of all.
    focus : Focus or None
        How clients may count more that do poorly, where the estimator's ``client_gamma`` asks for
        it; None where this aggregation cannot have that.

    Examples
    --------
    >>> import torch
    >>> from skfedfocal.aggregation import Aggregator
    >>> class Largest(Aggregator):
    ...     def __call__(self, updates, weights):
    ...         return updates[weights.argmax()]
    >>> Largest()(torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 1.0]))
    tensor([1.])
    """

    linear: ClassVar[bool] = False
    bad_share: float = 0.0

    @property
    def focus(self) -> Focus | None:
        """How clients may focus; None where they cannot."""
        return None

    @property
    def discloses(self) -> frozenset[str]:
        """What this tells the server beyond what any training does."""
        # The counts only where class frequencies are found from those of the clients.
        counts = frozenset({LABEL_COUNTS}) if self.bad_share else frozenset()
        return counts if self.linear else counts | {SINGLE_UPDATES}

    def divide(self, total: Tensor, weight: float) -> Tensor:
        """The aggregate from a weighted sum of updates, of shape (p,), and the sum of weights."""
        return total / (weight or 1.0)  # 0 where the whole cohort has weightless rows alone

    def __call__(self, updates: Tensor, weights: Tensor) -> Tensor:
        """Combine updates of shape (m, p) with weights of shape (m,) into one of shape (p,)."""
        raise NotImplementedError


def rounded_up(share: float, m: int) -> int:
    """Clients that a share of m comes to, rounded up, as far as most are left.

    Rounded down, a tenth of nine clients would be nobody, and one attacker would be withstood in
    name only.

    Parameters
    ----------
    share : float
        In [0, 0.5).
    m : int
        Number of clients.

    Returns
    -------
    number : int
        Less than half of m.
    """
    return min(math.ceil(share * m - 1e-9), (m - 1) // 2)  # 0.1 * 30 is more than 3
