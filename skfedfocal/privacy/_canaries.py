"""Canary clients: updates in directions of their own, whose traces in the sums tell the noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import dct, idct


class Canaries:
    r"""Orthogonal unit updates of canary clients, of which a random half takes part.

    The directions are columns of :math:`H D C`, with C the cosine transform, D random signs and H
    the reflection that makes them orthogonal to what all updates have in common, which would
    drown their traces. So neither other canaries nor that common update show in a canary's score,
    and no matrix of all directions is held.

    Parameters
    ----------
    n_canaries : int
        At most `n_parameters`, or one less where a common update is given.
    n_parameters : int
        Of the model.
    common : array-like of shape (n_parameters,) or None, default=None
        What the updates of the other clients have in common, such as their mean.
    random_state : int or None, default=None
        Seed of signs and coins.

    Attributes
    ----------
    included : ndarray of shape (n_canaries,)
        Which canaries take part, each by a coin of its own.

    References
    ----------
    .. [1] G. Andrew et al., "One-shot empirical privacy estimation for federated learning", ICLR
       2024; with random directions in place of orthogonal ones.

    Examples
    --------
    Twenty rounds with noise 4, which amount to a mu of 1.118.

    >>> import numpy as np
    >>> from skfedfocal.privacy import Canaries, audit
    >>> rng = np.random.default_rng(0)
    >>> canaries = Canaries(5000, 6000, random_state=0)
    >>> released = [canaries.total() + 4 * rng.normal(size=6000) for _ in range(20)]
    >>> result = audit(canaries.scores(sum(released)), canaries.included, delta=1e-3)
    >>> bool(abs(result.mu - 1.118) < 0.1)
    True
    """

    def __init__(
        self,
        n_canaries: int,
        n_parameters: int,
        common: ArrayLike | None = None,
        random_state: int | None = None,
    ):
        most = n_parameters - (common is not None)
        if not 2 <= n_canaries <= most:
            raise ValueError(f"n_canaries must be between 2 and {most}; got {n_canaries}.")
        rng = np.random.default_rng(random_state)
        self.included = rng.random(n_canaries) < 0.5
        self._signs = rng.choice([-1.0, 1.0], n_parameters)
        self._mirror = np.zeros(n_parameters)
        self._first = int(common is not None)  # the column that the reflection turns to `common`
        if common is not None:
            self._mirror = self._towards(np.asarray(common, np.float64))

    def _towards(self, common: NDArray[np.float64]) -> NDArray[np.float64]:
        length = np.linalg.norm(common)
        if common.shape != self._signs.shape or not (np.isfinite(length) and length > 0):
            raise ValueError(
                "common must be a finite vector other than 0, of n_parameters entries."
            )
        normal = self._combine(np.eye(1, len(common))[0]) - common / length
        size = np.linalg.norm(normal)
        return normal / size if size > 1e-12 else np.zeros_like(normal)

    def direction(self, canary: int) -> NDArray[np.float64]:
        """Return the update of one canary: a unit vector, of the model's length."""
        return self._combine(np.eye(1, len(self._signs), self._first + canary)[0])

    def total(self) -> NDArray[np.float64]:
        """Return the sum of the updates of the canaries that take part."""
        weights = np.zeros(len(self._signs))
        weights[self._first : self._first + len(self.included)] = self.included
        return self._combine(weights)

    def scores(self, released: ArrayLike) -> NDArray[np.float64]:
        """Return each canary's trace in a released sum, or in the sum of several rounds' sums.

        Parameters
        ----------
        released : array-like of shape (n_parameters,)
            Noisy sum of updates.

        Returns
        -------
        scores : ndarray of shape (n_canaries,)
            For `audit`.
        """
        back = dct(self._signs * self._reflect(np.asarray(released, np.float64)), norm="ortho")
        return back[self._first : self._first + len(self.included)]

    def _combine(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._reflect(self._signs * idct(weights, norm="ortho"))

    def _reflect(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        return vector - 2 * (self._mirror @ vector) * self._mirror
