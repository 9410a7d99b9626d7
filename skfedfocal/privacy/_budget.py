"""What a site lets its own rows be used for in all, with a ledger that it keeps itself."""

from __future__ import annotations

import json
import math
import os
from numbers import Real
from pathlib import Path

import numpy as np

from skfedfocal._component import Component
from skfedfocal._plain import locked, write_atomically
from skfedfocal._sklearn import Interval, StrOptions
from skfedfocal.privacy._accounting import Event, check_delta, epsilon_of
from skfedfocal.privacy._ledger import UNITS, Ledger


class PrivacyRefusal(ValueError):
    """Raised at a site whose budget does not cover what it is asked for: it answers nothing."""


class PrivacyBudget(Component):
    r"""What a site lets its rows be used for in all trainings together, whoever asks.

    Given to `make_client_app`, the site answers private trainings alone. It writes each release
    into a ledger of its own before it is made, by the noise that the site itself adds, and answers
    nothing that would spend more than `epsilon`, whatever the server says or has written down.

    Parameters
    ----------
    epsilon : float
        Most that all releases together may spend, greater than 0.
    delta : float
        In (0, 1), and below one over the number of the site's rows.
    unit : {"example", "client"}, default="example"
        What is protected: each row of the site, or the site as a whole.
    ledger : str, path-like or None, default=None
        The file of the ledger, JSON that `Ledger.from_plain` reads; made where there is none. None
        is the file that the node's configuration names as ``ledger-path``.

    Notes
    -----
    Whoever removes the file begins anew: keep it with the rows, for as long as they are. Rounds
    that a server repeats after a crash are counted again, since their noise is new.

    Under secure sums a site counts on the noise of others: of the fewest that its own terms
    leave in a sum, less those that may collude. A client's protection is not multiplied by a
    server's word that it was drawn by chance; a row's is, since the site draws it.

    Not counted is what a failure tells: that a site's work raises, which the server sees, may be
    due to a row. Its log says when.

    Examples
    --------
    >>> import tempfile
    >>> from skfedfocal.privacy import PrivacyBudget
    >>> from skfedfocal.privacy._accounting import Event
    >>> budget = PrivacyBudget(epsilon=3.0, delta=1e-5)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for _ in range(2):
    ...         print(round(budget.charge(Event(3.0), f"{folder}/ledger.json"), 2))
    1.27
    1.87
    """

    _parameter_constraints = {
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "delta": [Interval(Real, 0, 1, closed="neither")],
        "unit": [StrOptions(set(UNITS))],
        "ledger": [str, os.PathLike, None],
    }

    def __init__(
        self,
        epsilon: float,
        delta: float,
        unit: str = "example",
        ledger: str | os.PathLike[str] | None = None,
    ):
        self.epsilon = epsilon
        self.delta = delta
        self.unit = unit
        self.ledger = ledger

    def check_rows(self, n_rows: int) -> None:
        """Raise PrivacyRefusal where delta promises nothing for so many rows.

        Parameters
        ----------
        n_rows : int
            Of the site.
        """
        try:
            check_delta(self.delta, n_rows if self.unit == "example" else None)
        except ValueError as error:
            raise PrivacyRefusal(str(error)) from error

    def charge(self, event: Event, path: str | os.PathLike[str] | None = None) -> float:
        """Write a release into the ledger, before it is made.

        Parameters
        ----------
        event : Event
            What is to be released.
        path : str, path-like or None, default=None
            The file; None is `ledger`.

        Returns
        -------
        epsilon : float
            What has been spent with it.

        Raises
        ------
        PrivacyRefusal
            If that is more than the budget; nothing is then written.
        """
        file = Path(self._file(path))
        with locked(file, wait=True):
            ledger = Ledger(self.unit)
            if file.exists():
                before = Ledger.from_plain(json.loads(file.read_text(encoding="utf-8")))
                ledger = before.merged(ledger)  # refused where the unit is another
            ledger.record(event)
            spent = _at_least(event, self.delta)
            if spent <= self.epsilon:  # else nobody need compose what may take forever
                spent = ledger.epsilon(self.delta)
            if not spent <= self.epsilon:
                raise PrivacyRefusal(
                    f"This would bring what has been spent to epsilon={spent:.4g} or more at "
                    f"delta={self.delta:g}; the site's budget is {self.epsilon:g}."
                )
            write_atomically(file, (json.dumps(ledger.to_plain(), indent=1) + "\n").encode())
        return spent

    def _file(self, path: str | os.PathLike[str] | None) -> str | os.PathLike[str]:
        found = self.ledger if path is None else path
        if found is None:
            raise PrivacyRefusal(
                "The budget has no file for its ledger: give it ledger=, or the node's "
                "configuration ledger-path=."
            )
        return found


def _at_least(event: Event, delta: float) -> float:
    """Epsilon of one release of an event: exact for one that a unit is taken away from."""
    rate = event.sampling_rate
    if delta >= rate:
        return 0.0
    whole = epsilon_of([Event(event.noise_multiplier)], delta / rate)
    return float(np.logaddexp(math.log1p(-rate) if rate < 1 else -np.inf, math.log(rate) + whole))
