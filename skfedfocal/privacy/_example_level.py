"""Differential privacy of single rows, as a parameter of a training."""

from __future__ import annotations

from dataclasses import replace

from skfedfocal._sklearn import InvalidParameterError, StrOptions
from skfedfocal.privacy._accounting import Event
from skfedfocal.privacy._ledger import Ledger
from skfedfocal.privacy._mechanism import CONSTRAINTS, POSITIVE, Mechanism, honest_clients
from skfedfocal.privacy._plan import PrivacyPlan, PrivateStep


class ExampleLevelDP(Mechanism):
    r"""Differential privacy of single rows: DP-SGD, with the noise where the trust is.

    Each step takes every row with probability q, clips its gradient :math:`g_i` to the norm C and
    releases :math:`\frac{1}{qn}\left(\sum_i g_i \min(1, C / |g_i|) + \mathcal N(0, (zC)^2)\right)`,
    with n the rows by a noisy count. So whether any one row was there changes the odds of all that
    is released by a factor of at most :math:`e^\varepsilon`, but for a chance of :math:`\delta`.

    Parameters
    ----------
    noise_multiplier : float or None, default=None
        Noise z, at least 0. Exactly one of this and `target_epsilon` is given; 0 is no privacy.
    target_epsilon : float or None, default=None
        What the whole training may spend; the least noise is found for it.
    delta : float or None, default=None
        In (0, 1), and below one over the number of rows. None takes the power of ten below that.
    clip_norm : float, default=1.0
        Norm C, greater than 0.
    sampling_rate : float, default=0.3
        Chance q of each row to be in a step, in (0, 1]. Larger batches are more accurate at the
        same epsilon, and faster.
    trust : {"local", "distributed", "server"}, default="local"
        Who adds the noise. "local": each site all of it, to what it releases; the site trusts
        nobody. "distributed": each site a share, which is enough in the sum that secure
        aggregation releases; far more accurate. "server": the server, which sees sums in the
        clear.
    counts_noise : float, "auto" or None, default="auto"
        Standard deviation, in rows, of the noise on the label counts, which are released once for
        class weights and denominators; "auto" spends on them a tenth of the budget, or of
        what 100 steps spend; None releases none.
    expected_batch : float or None, default=None
        What a noisy sum is divided by, a number that is known without the data; None takes the
        sampling rate times the rows by the noisy label counts.
    n_honest : int or None, default=None
        For "distributed": the least number of sites that answer and keep their share of the noise
        to themselves. None is all sites but one, so that no single site can take off its own.
    noise : {"secure", "seeded"}, default="secure"
        "secure" draws noise and samples by keys from the operating system. "seeded" makes them a
        function of `random_state`, for experiments.

    Notes
    -----
    Discloses what the ledger lists and nothing else of the rows, provided that whatever surrounds
    the training is accounted for or made of public data: scalers, tuning on validation rows, early
    stopping, a choice among seeds. A row that is at two sites has the epsilon of both together;
    rows at one site only have the epsilon that is reported. The denominator is never the exact
    number of rows, of which neighbours differ.

    A setting for all seasons: one hidden layer of 16, ``average_rounds=50``, which takes noise off
    for nothing, and the defaults, whose steps are the shorter the more noise there is; what it
    comes to beside tuned ones is in docs/privacy.md. A setting that was tuned on the data costs
    more than it shows.

    References
    ----------
    .. [1] M. Abadi et al., "Deep learning with differential privacy", CCS 2016.

    Examples
    --------
    >>> from skfedfocal.privacy import ExampleLevelDP
    >>> plan = ExampleLevelDP(target_epsilon=3.0).plan(100, n_clients=4, n_rows=20000)
    >>> plan.delta, round(plan.noise_multiplier, 1)
    (1e-05, 4.6)
    >>> plan.step_for(noisy_rows=5010.0).denominator
    1503.0
    """

    unit = "example"

    _parameter_constraints = {
        **CONSTRAINTS,
        "clip_norm": [POSITIVE],
        "trust": [StrOptions({"local", "distributed", "server"})],
        "expected_batch": [POSITIVE, None],
    }

    def __init__(
        self,
        noise_multiplier: float | None = None,
        target_epsilon: float | None = None,
        delta: float | None = None,
        clip_norm: float = 1.0,
        sampling_rate: float = 0.3,
        trust: str = "local",
        counts_noise: float | str | None = "auto",
        expected_batch: float | None = None,
        n_honest: int | None = None,
        noise: str = "secure",
    ):
        self.noise_multiplier = noise_multiplier
        self.target_epsilon = target_epsilon
        self.delta = delta
        self.clip_norm = clip_norm
        self.sampling_rate = sampling_rate
        self.trust = trust
        self.counts_noise = counts_noise
        self.expected_batch = expected_batch
        self.n_honest = n_honest
        self.noise = noise

    def check_params(self) -> None:
        super().check_params()
        if self.expected_batch is None and self.counts_noise is None:
            raise InvalidParameterError(
                "ExampleLevelDP divides by the expected number of rows in a step, and the exact "
                "one would tell who is there. Set expected_batch to a public number, or "
                "counts_noise to count with noise."
            )

    def plan(
        self,
        n_rounds: int,
        *,
        n_clients: int,
        steps_per_round: int = 1,
        n_rows: int | None = None,
        label_counts: int = 1,
        previous: Ledger | None = None,
    ) -> PrivacyPlan:
        """Settle noise and releases of a training.

        Parameters
        ----------
        n_rounds : int
            Number of rounds.
        n_clients : int
            Number of sites, all of which take part in each round.
        steps_per_round : int, default=1
            Number of steps of each site in a round: 1, but for "local", since noise that is added
            to a sum over sites does not cover what a site did between two sums.
        n_rows : int or None, default=None
            Number of rows, against which delta is checked: of all sites, or with "local" of the
            smallest.
        label_counts : int, default=1
            How often the training asks for label counts; denominators take one.
        previous : Ledger or None, default=None
            Of earlier trainings on the same rows.

        Returns
        -------
        plan : PrivacyPlan
            With the releases to record and the step to take.
        """
        self.check_params()
        if self.trust != "local" and steps_per_round != 1:
            raise ValueError(
                f"ExampleLevelDP(trust={self.trust!r}) adds noise to sums over sites, one for each "
                f"step, and cannot cover {steps_per_round} steps between two sums. Train with one "
                "local step a round, or set trust='local'."
            )
        n_honest = honest_clients(self.n_honest, n_clients)
        delta = self._settle_delta(n_rows)
        previous = Ledger(self.unit) if previous is None else previous
        n_steps = n_rounds * steps_per_round
        n_counts = max(label_counts, int(self.expected_batch is None))
        counts = self._counts_event(n_counts, delta)
        z, epsilon = self._settle_noise(n_steps, delta, counts, previous)
        step = PrivateStep(
            unit=self.unit,
            sampling_rate=float(self.sampling_rate),
            total=self._sum(z, float(self.clip_norm), n_honest),
            denominator=float(self.expected_batch or 0.0),
            secure=self.noise == "secure",
        )
        return PrivacyPlan(
            noise_multiplier=z,
            epsilon=epsilon,
            delta=delta,
            round_event=Event(z, float(self.sampling_rate), steps_per_round),
            counts_event=replace(counts, steps=1) if counts else None,
            counts=self._sum(counts.noise_multiplier, 1.0, n_honest) if counts else None,
            step=step,
            ledger=previous,
        )
