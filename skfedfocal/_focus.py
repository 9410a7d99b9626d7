r"""Fed-Focal's client focusing: clients on which the model does poorly count more.

One formula for two uses: as a factor of a client's weight in the mean of updates, which each
client applies to itself, and as its odds of being selected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Focus:
    r"""The score :math:`\max(1 - q_k, \mathrm{floor})^{\gamma_c}` of client k.

    :math:`q_k = (n_k r_k + s/2) / (n_k + s)`: as if the client had s more rows of which the
    model gets half right, so that the luck of a few rows does not decide. The floor bounds how far
    any client, a noisy one say, can outweigh another.

    Attributes
    ----------
    client_gamma : float
        Client focusing, at least 0.
    smoothing : float
        Rows s added, at least 0.
    floor : float
        Least ``1 - recall`` that counts, in (0, 1].
    """

    client_gamma: float = 1.0
    smoothing: float = 20.0
    floor: float = 0.1

    def __call__(self, recalls: NDArray[np.float64], n_rows: NDArray[Any]) -> NDArray[np.float64]:
        """Scores of clients with these recalls and numbers of rows, each of shape (m,).

        Between ``floor ** client_gamma`` and 1. Rows are counted, not weighed: weights of rows
        have no unit.
        """
        smoothed = (n_rows * recalls + self.smoothing / 2) / (n_rows + self.smoothing)
        return np.maximum(1 - smoothed, self.floor) ** self.client_gamma
