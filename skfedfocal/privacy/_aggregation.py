"""Secure sums as a part of one's choice: the public terms of the protocol."""

from __future__ import annotations

from importlib.util import find_spec
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from skfedfocal._component import Component
from skfedfocal._sklearn import Interval, InvalidParameterError, RealNotInt

if TYPE_CHECKING:
    from skfedfocal.privacy._secure import Encoding, Terms

_LEAST_PRECISION = 1e-6  # of the mean of a parameter's updates
_SLACK = 1.001  # above what weights can be, for the rounding of their means


class SecureAggregation(Component):
    r"""Secure sums: the server learns sums over clients, and no client's own update or answer.

    Each client sends its weight, its weighted update and its loss as integers modulo
    :math:`2^{64}` under masks that cancel in the sum over the cohort [1]_; where there are 30
    clients or more, each masks with some neighbours [2]_. Label counts, sums of columns and losses
    on validation rows are summed the same way. Give it to an estimator as
    ``secure_aggregation=SecureAggregation(...)``; True stands for the defaults.

    Parameters
    ----------
    min_clients : int, default=3
        Least number of clients in a cohort, and of the survivors whose values are summed, at
        least 3.
    threshold : float or None, default=None
        Share of the cohort without which nothing is unmasked, in (0.5, 1); all then mask with all.
        None takes the least majority, and of 30 clients or more the least number of neighbours
        that keeps the protocol's probabilities.
    bound : float, default=1024.0
        Largest absolute value of an update that is sent, above 0.
    colluders : float, default=0.2
        Share of the clients that may tell the server all they know, in [0, 0.5). Of fewer than 30
        it is any minority, whatever is given here.
    dropouts : float, default=0.1
        Share of the clients that may vanish in a round, in [0, 0.5); the same holds.

    Notes
    -----
    The server still learns each client's number of rows, once, who takes part and who vanishes,
    the sums, and how many clients sent nothing of use. A client whose update is not finite or
    beyond `bound` sends zeros with weight zero, since to be left out by value would tell
    something; a warning gives the number of such clients, and they are counted among those that
    replied. A loss that is not finite counts in no mean.

    A sum says what a sum says: of few clients, or of nearly the same clients twice, it can give
    single values away. Differential privacy is for that. In one process, where all secrets share a
    memory, the protocol protects nothing: it shows what training over sites would come to. Needs
    the package cryptography (extra ``privacy``).

    References
    ----------
    .. [1] K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine
       learning", CCS 2017.
    .. [2] J. Bell, K. Bonawitz, A. Gascón, T. Lepoint, M. Raykova, "Secure single-server
       aggregation with (poly)logarithmic overhead", CCS 2020.

    Examples
    --------
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.privacy import SecureAggregation
    >>> FedFocalClassifier(secure_aggregation=SecureAggregation(min_clients=5))
    FedFocalClassifier(secure_aggregation=SecureAggregation(min_clients=5))
    """

    _parameter_constraints = {
        "min_clients": [Interval(Integral, 3, None, closed="left")],
        "threshold": [Interval(RealNotInt, 0.5, 1, closed="neither"), None],
        "bound": [Interval(Real, 0, None, closed="neither")],
        "colluders": [Interval(Real, 0, 0.5, closed="left")],
        "dropouts": [Interval(Real, 0, 0.5, closed="left")],
    }

    def __init__(
        self,
        min_clients: int = 3,
        threshold: float | None = None,
        bound: float = 1024.0,
        colluders: float = 0.2,
        dropouts: float = 0.1,
    ):
        self.min_clients = min_clients
        self.threshold = threshold
        self.bound = bound
        self.colluders = colluders
        self.dropouts = dropouts

    def terms(self, n_clients: int) -> Terms:
        """The terms of a cohort of so many clients, whose words are integers."""
        from skfedfocal.privacy._secure import Encoding, Terms

        threshold = None if self.threshold is None else int(self.threshold * n_clients) + 1
        return Terms(
            # Above what `encoding` can make of an update, which leaves half of the ring free.
            encoding=Encoding(1.25 * 2.0**62 / n_clients, n_clients, fractional_bits=0),
            min_clients=self.min_clients,
            threshold=threshold,
            colluders=self.colluders,
            dropouts=self.dropouts,
        )

    def encoding(
        self,
        n_clients: int,
        sizes: NDArray[np.float64],
        class_weights: tuple[float, float] = (1.0, 1.0),
    ) -> Encoding:
        """How the updates of a cohort become integers.

        Parameters
        ----------
        n_clients : int
            In the cohort.
        sizes : ndarray of shape (n_all_clients,)
            Sums of sample weights, which the server knows.
        class_weights : tuple of float, default=(1.0, 1.0)
            The smallest above 0, and the largest.

        Returns
        -------
        Encoding
            Which leaves half of the ring free.

        Raises
        ------
        InvalidParameterError
            If the ring leaves the mean an error above 1e-6.
        """
        from skfedfocal.privacy._secure import Encoding

        largest = float(sizes.max()) * class_weights[1] * _SLACK or 1.0
        usual = float(sizes.mean()) * class_weights[0] or 1.0
        try:
            encoding = Encoding(float(self.bound), 2 * n_clients, largest)
        except ValueError:
            error = np.inf
        else:
            error = encoding.error / (2 * n_clients * usual)
        if not error <= _LEAST_PRECISION:
            raise InvalidParameterError(
                f"secure_aggregation with bound={self.bound!r} cannot go with {n_clients} clients "
                f"that weigh up to {largest:g}: in 64 bits the mean update would have an error of "
                f"{error:.0e}. Lower bound, or scale sample_weight."
            )
        return encoding

    def n_colluders(self, n_clients: int) -> int:
        """Clients of a cohort whose noise cannot be counted on: they know it; at least one."""
        return max(1, int(self.colluders * n_clients))

    def least_honest(self, n_clients: int) -> int:
        """Clients of a cohort whose noise is in whatever sum comes about.

        Parameters
        ----------
        n_clients : int
            Of the cohort.

        Returns
        -------
        int
            The fewest survivors, less those that may collude: one at least, since survivors are
            more than half of the cohort, and colluders less.
        """
        return self.terms(n_clients).least_survivors(n_clients) - self.n_colluders(n_clients)


def resolve_secure(value: Any) -> SecureAggregation | None:
    """What a parameter ``secure_aggregation`` means, checked; None for no secure sums."""
    if value is False:
        return None
    part = SecureAggregation() if value is True else clone(value)
    part.check_params()
    if find_spec("cryptography") is None:
        raise ImportError(
            "secure_aggregation needs the package cryptography: pip install 'skfedfocal[privacy]'"
        )
    return part
