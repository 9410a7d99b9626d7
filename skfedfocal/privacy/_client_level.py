"""Differential privacy of whole clients, as a parameter of a training."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real

from skfedfocal._sklearn import Interval, InvalidParameterError, StrOptions
from skfedfocal.privacy._accounting import Event
from skfedfocal.privacy._checks import check_enough_clients
from skfedfocal.privacy._clipping import CLIP_START, split_noise
from skfedfocal.privacy._ledger import Ledger
from skfedfocal.privacy._mechanism import CONSTRAINTS, POSITIVE, Mechanism, honest_clients
from skfedfocal.privacy._plan import PrivacyPlan, PrivateStep


class ClientLevelDP(Mechanism):
    r"""Differential privacy of whole clients: DP-FedAvg.

    Each round takes every client with probability q, clips its update :math:`\Delta_k` to the norm
    C and steps by :math:`\frac{1}{qN}\left(\sum_k \Delta_k \min(1, C / |\Delta_k|) +
    \mathcal N(0, (zC)^2)\right)`, with N the number of clients and equal weights. It takes many
    clients: below 30, protect rows.

    Parameters
    ----------
    noise_multiplier : float or None, default=None
        Noise z, at least 0. Exactly one of this and `target_epsilon` is given; 0 is no privacy.
    target_epsilon : float or None, default=None
        What the whole training may spend; the least noise is found for it.
    delta : float or None, default=None
        In (0, 1), and below one over the number of clients. None takes the power of ten below that.
    clip_norm : float or "adaptive", default=1.0
        Norm C, greater than 0; about twice the median norm of an update is right. "adaptive"
        steers it towards `quantile` of the norms, from a count with noise of its own.
    quantile : float, default=0.8
        For "adaptive": share of the updates that shall be within the norm, in (0, 1). The median,
        which its authors recommend, clips too much of what rare classes have to say.
    sampling_rate : float, default=1.0
        Chance q of each client to be in a round, in (0, 1]. 1 where clients are few; then few
        rounds and a small model.
    trust : {"distributed", "server"}, default="server"
        Who adds the noise: "distributed", each client a share, which is enough in the sum that
        secure aggregation releases; "server", the server, which sees updates in the clear.
    counts_noise : float, "auto" or None, default="auto"
        Noise on the label counts, released once, in multiples of `counts_bound`; "auto" spends on
        them a tenth of the budget, or of what 100 rounds spend; None releases none.
    counts_bound : float, default=20.0
        Most that a client's label counts, as a vector, may measure in rows: longer ones are scaled
        down to it, and then tell of shares alone.
    n_honest : int or None, default=None
        For "distributed": the least number of clients of a round that answer and keep their share
        of the noise to themselves. None is all but one; to be given where clients are sampled.
    noise : {"secure", "seeded"}, default="secure"
        As in `ExampleLevelDP`.

    Notes
    -----
    Discloses what the ledger lists and nothing else of any client. The number of clients is taken
    to be public. Weights by numbers of rows would be a release and would let one client count more
    than the bound, so there are none; so with recalls, losses and metrics of single clients.

    References
    ----------
    .. [1] B. McMahan, D. Ramage, K. Talwar, L. Zhang, "Learning differentially private recurrent
       language models", ICLR 2018.

    Examples
    --------
    >>> from skfedfocal.privacy import ClientLevelDP
    >>> plan = ClientLevelDP(target_epsilon=8.0, sampling_rate=0.1).plan(60, n_clients=1000)
    >>> plan.step.denominator, round(plan.noise_multiplier, 2)
    (100.0, 0.79)
    """

    unit = "client"

    _parameter_constraints = {
        **CONSTRAINTS,
        "clip_norm": [POSITIVE, StrOptions({"adaptive"})],
        "quantile": [Interval(Real, 0, 1, closed="neither")],
        "trust": [StrOptions({"distributed", "server"})],
        "counts_bound": [POSITIVE],
    }

    def __init__(
        self,
        noise_multiplier: float | None = None,
        target_epsilon: float | None = None,
        delta: float | None = None,
        clip_norm: float | str = 1.0,
        quantile: float = 0.8,
        sampling_rate: float = 1.0,
        trust: str = "server",
        counts_noise: float | str | None = "auto",
        counts_bound: float = 20.0,
        n_honest: int | None = None,
        noise: str = "secure",
    ):
        self.noise_multiplier = noise_multiplier
        self.target_epsilon = target_epsilon
        self.delta = delta
        self.clip_norm = clip_norm
        self.quantile = quantile
        self.sampling_rate = sampling_rate
        self.trust = trust
        self.counts_noise = counts_noise
        self.counts_bound = counts_bound
        self.n_honest = n_honest
        self.noise = noise

    def check_params(self) -> None:
        super().check_params()
        if self.trust == "distributed" and self.sampling_rate < 1 and self.n_honest is None:
            raise InvalidParameterError(
                "ClientLevelDP(trust='distributed') with sampling_rate below 1 has cohorts of "
                "random size, whose noise must not depend on it. Set n_honest to the least number "
                "of clients that a round goes on with."
            )

    def plan(
        self,
        n_rounds: int,
        *,
        n_clients: int,
        label_counts: int = 1,
        previous: Ledger | None = None,
    ) -> PrivacyPlan:
        """Settle noise and releases of a training.

        Parameters
        ----------
        n_rounds : int
            Number of rounds, each of which releases one sum of updates.
        n_clients : int
            Number of clients that may be drawn.
        label_counts : int, default=1
            How often the training asks for label counts.
        previous : Ledger or None, default=None
            Of earlier trainings on the same clients.

        Returns
        -------
        plan : PrivacyPlan
            With the releases to record and the step to take.
        """
        self.check_params()
        n_honest = honest_clients(self.n_honest, n_clients)
        delta = self._settle_delta(n_clients)
        previous = Ledger(self.unit) if previous is None else previous
        counts = self._counts_event(label_counts, delta)
        z, epsilon = self._settle_noise(n_rounds, delta, counts, previous)
        check_enough_clients(n_clients, epsilon)
        return PrivacyPlan(
            noise_multiplier=z,
            epsilon=epsilon,
            delta=delta,
            round_event=Event(z, float(self.sampling_rate)),
            counts_event=replace(counts, steps=1) if counts else None,
            counts=(
                self._sum(counts.noise_multiplier, float(self.counts_bound), n_honest)
                if counts
                else None
            ),
            step=self._step(z, self.sampling_rate * n_clients, n_honest),
            ledger=previous,
        )

    def _step(self, z: float, expected: float, n_honest: int) -> PrivateStep:
        adaptive = isinstance(self.clip_norm, str)
        update_noise, count_noise = split_noise(z, expected) if adaptive else (z, 0.0)
        return PrivateStep(
            unit=self.unit,
            sampling_rate=float(self.sampling_rate),
            total=self._sum(
                update_noise, CLIP_START if adaptive else float(self.clip_norm), n_honest
            ),
            denominator=float(expected),
            secure=self.noise == "secure",
            quantile=float(self.quantile) if adaptive else None,
            within=self._sum(2 * count_noise, 0.5, n_honest) if adaptive else None,
        )
