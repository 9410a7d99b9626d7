"""What server and clients agree on: how many may collude or vanish, who masks with whom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from skfedfocal.privacy._secure._encoding import Encoding
from skfedfocal.privacy._secure._refusal import SecureSumError

SPARSE_FROM = 30  # clients; below, everybody masks with everybody
_LEAK = 2.0**-40  # chance that colluders learn more than the sum
_LOSS = 2.0**-20  # chance that a sum is lost though no more vanish than allowed for


@dataclass(frozen=True, kw_only=True)
class Terms:
    r"""The terms of secure sums, the same for the server and all clients.

    Each client masks with k neighbours, and t of a client's neighbours and itself can rebuild what
    unmasks it. By default, fewer than 30 clients mask with everybody, and :math:`t` is the least
    majority; more of them take the least k for which a random ring [1]_ keeps what the shares
    below say, with probability :math:`1 - 2^{-40}` (nothing but the sum is learnt) and
    :math:`1 - 2^{-20}` (the sum is not lost).

    Parameters
    ----------
    encoding : Encoding
        How values become words; also the most clients of a sum.
    min_clients : int, default=3
        Least number of clients of a cohort, and of the survivors whose values are summed, at
        least 3.
    threshold : int or None, default=None
        t, above half of the ``k + 1`` holders. Given without `n_neighbors`, all mask with all.
    n_neighbors : int or None, default=None
        k, even or at least the number of all others.
    colluders : float, default=0.2
        Share of the clients that may tell the server all they know, in [0, 0.5).
    dropouts : float, default=0.1
        Share of the clients that may vanish in a round, in [0, 0.5).
    active : bool, default=False
        Whether the server may lie. Then all mask with all, and t is above ``(2 n + 1) / 3``.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    The threshold is above half so that no two disjoint sets of holders could give both of a
    client's secrets. A server that names different survivors to different clients, and has fewer
    than a third of them on its side, takes two thirds; the little more keeps it, in sessions too,
    from finding pairs of answers that leave a client alone.

    Neighbours or a threshold of one's own replace the stated probabilities. That the honest
    survivors stay connected is counted by a sufficient condition: a ring falls apart only where two
    runs of k/2 neighbours each are all colluding or gone.

    References
    ----------
    .. [1] J. Bell, K. Bonawitz, A. Gascón, T. Lepoint, M. Raykova, "Secure single-server
       aggregation with (poly)logarithmic overhead", CCS 2020.

    Examples
    --------
    >>> from skfedfocal.privacy._secure import Encoding, Terms
    >>> terms = Terms(encoding=Encoding(bound=8.0, n_clients=1000))
    >>> terms.neighbors_and_threshold(10), terms.neighbors_and_threshold(1000)
    ((9, 6), (68, 43))
    """

    encoding: Encoding
    min_clients: int = 3
    threshold: int | None = None
    n_neighbors: int | None = None
    colluders: float = 0.2
    dropouts: float = 0.1
    active: bool = False

    def __post_init__(self) -> None:
        if self.min_clients < 3:
            raise ValueError(
                f"min_clients must be at least 3, got {self.min_clients}: "
                "of a sum of two, each knows the other's value"
            )
        for name in ("colluders", "dropouts"):
            if not 0 <= getattr(self, name) < 0.5:
                raise ValueError(f"{name} must be in [0, 0.5), got {getattr(self, name)}")
        for name in ("threshold", "n_neighbors"):
            value = getattr(self, name)
            if value is not None and value < 2:
                raise ValueError(f"{name} must be at least 2, got {value}")

    def neighbors_and_threshold(self, n_clients: int) -> tuple[int, int]:
        """Number of neighbours k and threshold t in a cohort.

        Parameters
        ----------
        n_clients : int
            Clients of the cohort.

        Returns
        -------
        tuple of int
            (k, t).

        Raises
        ------
        SecureSumError
            If the cohort is too small or too large, or k and t do not suit its size.
        """
        n, most = n_clients, self.encoding.n_clients
        if n < self.min_clients:
            raise SecureSumError(f"a cohort of {n} is below min_clients={self.min_clients}")
        if n > most:
            raise SecureSumError(f"overflow: {n} clients, and the encoding has room for {most}")
        k, t = self.n_neighbors, self.threshold
        if k is None and t is None and not self.active and n >= SPARSE_FROM:
            k, t = sparse_ring(n, self.colluders, self.dropouts)
        k = n - 1 if k is None else min(k, n - 1)
        least = (2 * n + 1) // 3 + 1 if self.active else (k + 1) // 2 + 1
        t = least if t is None else t
        if k < n - 1 and (k % 2 or self.active):
            raise SecureSumError(f"n_neighbors={k} must be even, and all if active=True")
        if not least <= t <= k + 1:
            share = "two thirds" if self.active else "half"
            raise SecureSumError(
                f"threshold={t} is not above {share} of the {k + 1} holders of shares, or above all"
            )
        return k, t

    def least_survivors(self, n_clients: int) -> int:
        """Fewest clients whose sum is unmasked, above half of the cohort."""
        k, t = self.neighbors_and_threshold(n_clients)
        return max(self.min_clients, t if k == n_clients - 1 else n_clients // 2 + 1)

    def to_bytes(self) -> bytes:
        """All terms, equal where they are equal."""
        e = self.encoding
        numbers = [e.bound, e.n_clients, e.max_weight, e.bits, self.min_clients, self.active]
        numbers += [self.threshold or 0, self.n_neighbors or 0, self.colluders, self.dropouts]
        return " ".join(float(number).hex() for number in numbers).encode()


@lru_cache(maxsize=64)
def sparse_ring(n: int, colluders: float, dropouts: float) -> tuple[int, int]:
    """Least even k, and least t for it, that keep the stated probabilities; else everybody."""
    bad, gone = int(colluders * n), int(dropouts * n)
    for k in range(2, n - 1, 2):
        t = np.arange(k // 2 + 1, k + 1)
        leaks = n * _tail(n - 1, bad, k)[t]  # t colluding neighbours of an honest client
        loses = n * _tail(n - 1, gone, k)[k - t + 1]  # fewer than t neighbours left
        splits = n * (n - 1) / 2 * _tail(n, min(n, bad + gone), k)[k]
        good = (leaks < _LEAK) & (loses < _LOSS) & (splits < _LEAK)
        if good.any():
            return k, int(t[good.argmax()])
    return n - 1, n // 2 + 1


def _tail(total: int, marked: int, drawn: int) -> NDArray[np.float64]:
    """P(at least i marked) of the hypergeometric law, for i = 0, ..., drawn + 1."""
    i = np.arange(drawn + 1)
    possible = (i <= marked) & (drawn - i <= total - marked)
    i = i[possible]
    log = _choose(marked, i) + _choose(total - marked, drawn - i) - _choose(total, drawn)
    chance = np.zeros(drawn + 2)
    chance[:-1][possible] = np.exp(log)
    return chance[::-1].cumsum()[::-1]


def _choose(n: int, k: NDArray[np.int64] | int) -> NDArray[np.float64]:
    """Logarithm of the binomial coefficient."""
    return gammaln(n + 1) - gammaln(np.asarray(k) + 1) - gammaln(n - np.asarray(k) + 1)
