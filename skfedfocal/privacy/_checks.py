"""What does not go together with differential privacy, refused by name before data are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skfedfocal._disclosure import (
    COLUMN_SUMS,
    LABEL_COUNTS,
    RECALLS,
    SINGLE_UPDATES,
    VALIDATION_LOSS,
)

_COUNTED = "federated"  # class weights and losses from label counts summed over clients
_FEW_CLIENTS = 30
_SMALL_EPSILON = 8.0

_UNCOVERED = {
    RECALLS: "it tells the server each client's recall, which has no noise; set client_gamma=0 and "
    "selection='uniform'",
    LABEL_COUNTS: "it tells the server each client's label counts; set selection='uniform'",
    VALIDATION_LOSS: "a validation loss each round has no noise; set early_stopping=False, and "
    "n_rounds to what the budget allows",
    COLUMN_SUMS: "it tells the server sums of columns, which have no noise; set "
    "numeric_encoding='auto', which then does nothing, and scale columns by what is known of them "
    "without the rows",
    SINGLE_UPDATES: "it needs single updates, while the noise is on their sum; set "
    "aggregation='mean', or protect rows with ExampleLevelDP(trust='local'), where each client "
    "adds noise of its own",
}


def refusals(
    mechanism: Any,
    settings: Any,
    *,
    discloses: Mapping[str, frozenset[str]],
    class_weight: Any,
    counts: tuple[str | None, str | None],
) -> dict[str, str]:
    """Return the parameters that a mechanism does not cover, each with a remedy.

    Parameters
    ----------
    mechanism : ExampleLevelDP or ClientLevelDP
        The parameter `privacy`.
    settings : estimator
        With the other parameters.
    discloses : mapping
        What each part tells the server, by parameter.
    class_weight : dict, str or None
        As the estimators take it.
    counts : tuple of str or None
        Whose label counts class weights and loss are given.

    Returns
    -------
    refused : dict
        A remedy for each parameter, as text with its value.
    """

    def named(param: str) -> str:
        return f"{param}={getattr(settings, param, None)!r}"

    by_client = mechanism.unit == "client"
    covered = {SINGLE_UPDATES} if mechanism.trust == "local" else set()
    refused = {
        named(param): _UNCOVERED[fact]
        for param, facts in discloses.items()
        for fact in sorted((facts & set(_UNCOVERED)) - covered)
    }
    weights = f"class_weight={class_weight!r}"
    if class_weight == "estimated":
        refused[weights] = (
            "it reads label counts off an update without noise; set class_weight='balanced', "
            "which takes noisy counts"
        )
    elif class_weight == "effective":
        refused[weights] = (
            "weights by effective numbers were not made for counts with noise; set "
            "class_weight='balanced'"
        )
    if not by_client and "local" in counts:
        refused[weights if counts[0] == "local" else named("loss")] = (
            "each row would change the weight of all others at its client; use label counts "
            "that are summed over clients, with noise"
        )
    if _COUNTED in counts and mechanism.counts_noise is None:
        refused[weights if counts[0] == _COUNTED else named("loss")] = (
            "it takes label counts, of which counts_noise=None releases none; set counts_noise"
        )
    if settings.secure_aggregation is not False and (remedy := _of_secure_sums(mechanism)):
        refused[named("secure_aggregation")] = remedy
    if by_client and settings.min_clients > 1:
        refused[named("min_clients")] = (
            "how many clients replied is not told: one that fails counts as zeros; set "
            "min_clients=1"
        )
    if mechanism.trust != "local":
        refused |= _of_sums(settings, by_client, named)
    return refused


def _of_secure_sums(mechanism: Any) -> str | None:
    """Why a mechanism does not go with secure sums; None where it does."""
    if mechanism.trust == "server":
        return (
            "with trust='server' the server adds the noise to what it sees in the clear; set "
            "trust='distributed'"
        )
    if mechanism.trust == "local":
        return (
            "with trust='local' each client tells its own noisy counts and weight; set "
            "trust='distributed', which takes less noise"
        )
    if mechanism.unit == "client" and mechanism.sampling_rate < 1:
        return (
            "who takes part in a secure sum is known to the server, so that sampling_rate="
            f"{mechanism.sampling_rate!r} does not multiply the protection from it; set 1.0"
        )
    return None


def _of_sums(settings: Any, by_client: bool, named: Any) -> dict[str, str]:
    """What does not go with noise on sums over clients."""
    refused = {}
    if settings.clients_per_round != 1.0:
        refused[named("clients_per_round")] = (
            "cohorts of fixed size are no Poisson samples; set clients_per_round=1.0"
            + (", and sampling_rate of the mechanism" if by_client else "")
        )
    if type(settings.selection).__name__ not in ("str", "Uniform"):
        refused[named("selection")] = "who takes part is up to chance alone; set 'uniform'"
    if not by_client and settings.n_local_epochs != 1:
        refused[named("n_local_epochs")] = (
            "noise on sums over sites covers one step between two sums; set n_local_epochs=1, or "
            "trust='local'"
        )
    if not by_client and settings.weight_decay > 0:
        refused[named("weight_decay")] = (
            "each site would add it to the sum; set weight_decay=0, or trust='local'"
        )
    return refused


def check_enough_clients(n_clients: int, epsilon: float) -> None:
    """Refuse a client level that few clients cannot bear.

    Parameters
    ----------
    n_clients : int
        Clients of the federation.
    epsilon : float
        That the training would spend.

    Raises
    ------
    ValueError
        Where the noise that hides one of so few clients hides what they have in common as well.
    """
    if n_clients < _FEW_CLIENTS and epsilon < _SMALL_EPSILON:
        raise ValueError(
            f"ClientLevelDP with {n_clients} clients at epsilon={epsilon:.3g} would add more noise "
            f"than so few clients have signal: below {_FEW_CLIENTS} clients it takes epsilon >= "
            f"{_SMALL_EPSILON:g}. Where clients are sites with many rows each, "
            "privacy=ExampleLevelDP(...) protects their rows instead."
        )
