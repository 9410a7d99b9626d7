"""The ledger of what has been released: plain numbers, from which every epsilon is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any

from skfedfocal.privacy._accounting import ACCOUNTANTS, STEPS, Event, epsilon_of, method_for

UNITS = ("example", "client")
RELATION = "add_or_remove_one"
_FORMAT = 1


@dataclass
class Ledger:
    r"""All noisy releases of a training, and what they amount to.

    A mechanism is :math:`(\varepsilon, \delta)`-differentially private if for all data sets that
    differ in one unit, and all sets of outcomes, :math:`P(A) \le e^\varepsilon P'(A) + \delta`.
    The ledger is written before each release, so that a crash never forgets one, and goes on
    through `partial_fit` and `warm_start`.

    Attributes
    ----------
    unit : {"example", "client"}
        What one neighbour has and the other has not: one row, or all rows of one client.
    events : list of Event, default=[]
        Releases so far; use `add`.
    accountant : {"auto", "pld", "rdp"}, default="auto"
        "pld" composes privacy loss distributions, which is tight within 0.2 %. "rdp" composes
        Rényi divergences: an upper bound that is 10 to 25 % above for most trainings, in a few
        hundredths of a second however long the run. "auto" is "pld" up to a million sampled steps.
        Where every unit is in every release, all are the closed form of the Gaussian mechanism.

    Notes
    -----
    The neighbouring relation is that of adding or removing one unit. Accounting holds for the
    sampler that is named: independent draws of each unit ("poisson") or no sampling ("all"), never
    for shuffled batches or cohorts of fixed size. What it does not cover is listed in the notes of
    `ExampleLevelDP`.

    References
    ----------
    .. [1] S. Meiser, E. Mohammadi, "Tight on budget? Tight bounds for r-fold approximate
       differential privacy", CCS 2018.
    .. [2] V. Doroshenko et al., "Connect the dots: tighter discrete approximations of privacy loss
       distributions", PoPETs 2022.

    Examples
    --------
    >>> from skfedfocal.privacy import Ledger
    >>> ledger = Ledger("example")
    >>> ledger.add(30.0, of="label_counts")
    >>> ledger.add(4.0, sampling_rate=0.3, steps=100)
    >>> round(ledger.epsilon(1e-5), 2)
    3.3
    """

    unit: str
    events: list[Event] = field(default_factory=list)
    accountant: str = "auto"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {UNITS}; got {self.unit!r}.")
        if self.accountant not in ACCOUNTANTS:
            raise ValueError(f"accountant must be one of {ACCOUNTANTS}; got {self.accountant!r}.")

    def add(
        self,
        noise_multiplier: float,
        *,
        sampling_rate: float = 1.0,
        steps: int = 1,
        of: str = STEPS,
    ) -> None:
        """Write down releases, before they are made.

        Parameters
        ----------
        noise_multiplier : float
            Standard deviation of the noise over the most that one unit can change the sum.
        sampling_rate : float, default=1.0
            Chance of each unit to be in a release, in (0, 1].
        steps : int, default=1
            Number of releases.
        of : str, default="steps"
            What is released: "steps", "label_counts", "moments" or any other word.
        """
        self.record(Event(float(noise_multiplier), float(sampling_rate), int(steps), of))

    def epsilon(self, delta: float) -> float:
        """Return the epsilon of all releases together, at `delta`; infinite without noise."""
        return epsilon_of(self.events, delta, self.accountant)

    def merged(self, later: Ledger) -> Ledger:
        """Return a ledger of the releases of this one and of a later one, on the same data.

        Parameters
        ----------
        later : Ledger
            Of the same unit.

        Returns
        -------
        ledger : Ledger
            With the later one's accountant.

        Raises
        ------
        ValueError
            Where the units differ: budgets of rows and of clients do not add up.
        """
        if self.unit != later.unit:
            raise ValueError(
                f"A ledger of unit {self.unit!r} cannot go on with unit {later.unit!r}: their "
                "epsilons do not add up. Keep to one unit, or begin anew with other data."
            )
        both = Ledger(self.unit, accountant=later.accountant)
        for event in [*self.events, *later.events]:
            both.record(event)
        return both

    def to_plain(self) -> dict[str, Any]:
        """Return what JSON can hold: the releases, and all that their accounting rests on."""
        return {
            "format": _FORMAT,
            "unit": self.unit,
            "relation": RELATION,
            "accountant": self.accountant,
            "method": method_for(self.events, self.accountant),
            "versions": _versions(),
            "events": [
                {"mechanism": "gaussian", "sampler": event.sampler, **asdict(event)}
                for event in self.events
            ],
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Ledger:
        """Make a ledger from the result of `to_plain`.

        Parameters
        ----------
        plain : dict
            As `to_plain` returns it, or as JSON brings it back.

        Returns
        -------
        ledger : Ledger
            With the same releases.

        Raises
        ------
        ValueError
            Where a mechanism, sampler, relation or format is not one that this version accounts
            for.
        """
        if plain["format"] != _FORMAT:
            raise ValueError(f"A ledger of format {plain['format']!r} cannot be read.")
        if plain["relation"] != RELATION:
            raise ValueError(
                f"A ledger of relation {plain['relation']!r} cannot be read; only {RELATION!r} can."
            )
        ledger = cls(plain["unit"], accountant=plain["accountant"])
        for event in _events(plain["events"]):
            ledger.record(event)
        return ledger

    def record(self, event: Event) -> None:
        """Write down one event, before it is released; equal ones are counted together."""
        for place, known in enumerate(self.events):
            if asdict(known) | {"steps": 0} == asdict(event) | {"steps": 0}:
                self.events[place] = Event(
                    event.noise_multiplier,
                    event.sampling_rate,
                    known.steps + event.steps,
                    event.of,
                )
                return
        self.events.append(event)


def _events(plain: Iterable[Mapping[str, Any]]) -> Iterable[Event]:
    for entry in plain:
        fields = dict(entry)
        mechanism, sampler = fields.pop("mechanism"), fields.pop("sampler")
        event = Event(**fields)
        if mechanism != "gaussian" or sampler != event.sampler:
            raise ValueError(
                f"Releases by {mechanism!r} and {sampler!r} at rate {event.sampling_rate} cannot "
                "be accounted for."
            )
        yield event


def _versions() -> dict[str, str]:
    """Return the versions that the numbers depend on, where installed."""
    found = {}
    for name in ("dp-accounting", "skfedfocal"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
