"""Label counts with noise, as a question to clients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skfedfocal._data.queries import LabelCounts, Rows
from skfedfocal.privacy._clipping import clip_factors
from skfedfocal.privacy._noise import NoiseSource

_TOLD_APART = 3.0  # deviations of the noise above which a count speaks for itself


def plausible(counts: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
    """Numbers of rows that weights may be made of, from counts with noise.

    Classes that the noise may hide share the mean of their counts, at least as large as its own
    noise may be, and 1: by itself each would be anything, and one row would weigh as much as all
    others together.

    Parameters
    ----------
    counts : ndarray of shape (n_classes,)
        With noise.
    deviation : float
        Standard deviation of the noise on each.

    Returns
    -------
    rows : ndarray of shape (n_classes,)
        At least 1.
    """
    hidden = counts < _TOLD_APART * deviation
    if hidden.any():
        shared = max(counts[hidden].mean(), deviation / hidden.sum() ** 0.5)
        counts = np.where(hidden, shared, counts)
    return np.maximum(counts, 1.0)


class NoisyLabelCounts(LabelCounts):
    """Rows of each class, with the client's part of the noise: (n_classes,).

    Parameters
    ----------
    n_classes : int
        Labels are numbers below it.
    noise : float
        Standard deviation of the noise on each class, in rows; 0 where the server adds it.
    client_bound : float or None, default=None
        Most that a client's counts, as a vector, may measure.
    seed : tuple of int or None, default=None
        Of noise in experiments; None draws it from a key that nobody knows.
    """

    def __init__(
        self,
        n_classes: int,
        noise: float,
        client_bound: float | None = None,
        seed: tuple[int, ...] | None = None,
    ):
        super().__init__(n_classes)
        self.noise = noise
        self.client_bound = client_bound
        self.seed = seed

    def answer(self, X: Any, y: Any, sample_weight: NDArray[np.float64] | None) -> Any:
        """Return the noisy counts of one client."""
        counts = np.bincount(y, minlength=self.n_classes).astype(np.float64)
        return self._released(counts[None], np.zeros(1, np.int64))[0]

    def answers(self, rows: Rows, clients: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return those of several clients, of shape (m, n_classes)."""
        counts = rows.layout.take(clients).sum_by_client(None, rows.y, self.n_classes)
        return self._released(counts.astype(np.float64), clients)

    def _released(
        self, counts: NDArray[np.float64], clients: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        if self.client_bound is not None:
            norms = torch.as_tensor(np.linalg.norm(counts, axis=1))
            counts = counts * clip_factors(norms, self.client_bound).numpy()[:, None]
        if not self.noise:
            return counts
        return counts + self.noise * self._normal(clients)

    def _normal(self, clients: NDArray[np.int64]) -> NDArray[np.float64]:
        if self.seed is None:
            return NoiseSource().normal((len(clients), self.n_classes), torch.float64).numpy()
        sources = [NoiseSource(*self.seed, int(client)) for client in clients]
        return np.stack([s.normal(self.n_classes, torch.float64).numpy() for s in sources])
