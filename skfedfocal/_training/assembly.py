"""From parts and clients to a federation that is ready for its first round."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skfedfocal._data.clients import ClientStats
from skfedfocal._data.queries import LabelCounts, in_rows
from skfedfocal._disclosure import LABEL_COUNTS
from skfedfocal._local import LocalPlan
from skfedfocal._module import flatten
from skfedfocal._training.federation import Federation, ServerState
from skfedfocal._training.parts import Parts, check_cohorts
from skfedfocal._training.prior import estimate_class_prior
from skfedfocal.aggregation._counts import believed_counts
from skfedfocal.encodings._encoder import RowEncoder
from skfedfocal.engines import Engine

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Setup:
    """What a training is about, wherever its clients are.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        Labels.
    client_ids : ndarray of shape (n_clients,)
        Ids of the clients, by number.
    row_shape : tuple of int
        Shape of a row.
    data : str or None
        Digest of the rows; None where nothing needs it.
    seed : int
        Of initial parameters, selection and shuffling.
    min_clients : int
        Good replies that a round needs at least, whatever the settings say.
    encoding : str or None
        How columns of numbers are encoded, in words; None where they are not.
    encoder : RowEncoder or None
        What rows go through before the module; None for rows as they are.
    """

    classes: NDArray[Any]
    client_ids: NDArray[Any]
    row_shape: tuple[int, ...]
    data: str | None
    seed: int
    min_clients: int = 1
    encoding: str | None = None
    encoder: RowEncoder | None = None

    @property
    def module_shape(self) -> tuple[int, ...]:
        """Shape of a row as the module takes it."""
        return self.row_shape if self.encoder is None else (self.encoder.n_outputs,)


@dataclass(frozen=True)
class Population:
    """Whom the fitted model is about: all that predictions need beside the module and the loss.

    Attributes
    ----------
    class_weight : ndarray of shape (n_classes,) or None
        What each class weighs, before the loss takes its part of it.
    label_counts : ndarray of shape (n_classes,) or None
        Rows by class, where the parts ask for them.
    prior : ndarray of shape (n_classes,) or None
        Share of each class in the rows.
    decision_prior : ndarray of shape (n_classes,) or None
        That in the population which training weighed; None where it is not known.
    constants : Tensor of shape (n_constants,) or None
        The loss's.
    """

    class_weight: Array | None
    label_counts: Array | None
    prior: Array | None
    decision_prior: Array | None
    constants: Tensor | None


class Private(Protocol):
    """What a private training changes in a federation."""

    @property
    def label_counts(self) -> Array | None:
        """Noisy rows of each class."""

    def local(self, plan: LocalPlan) -> LocalPlan:
        """The plan of the clients."""

    def federation(self, federation: Federation) -> Federation:
        """The federation, whose cohorts may be drawn otherwise."""


def assemble(
    settings: Any,
    parts: Parts,
    engine: Engine,
    module: nn.Module,
    setup: Setup,
    counted: tuple[Array | None, int] = (None, 0),
    private: Private | None = None,
) -> tuple[Federation, ServerState, Population]:
    """Put a federation together, before its first round.

    Parameters
    ----------
    settings : estimator
        Whose parameters say how clients train.
    parts : Parts
        Of the same estimator.
    engine : Engine
        Where the clients are.
    module : torch.nn.Module
        With the parameters to begin from.
    setup : Setup
        What the training is about.
    counted : tuple of ndarray and int
        Label counts of earlier rows, the mean over so many calls, which count as well.
    private : Private or None, default=None
        Of a private training, whose label counts have noise.

    Returns
    -------
    federation : Federation
    state : ServerState
        Before the first round.
    population : Population
    """
    theta = flatten(module)
    plan = LocalPlan(
        loss=parts.loss,
        class_weight=None,
        constants=None,
        n_epochs=settings.n_local_epochs,
        batch_size=settings.batch_size,
        learning_rate=parts.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        proximal=parts.strategy.proximal,
        seed=setup.seed,
    )
    n_clients, n_classes = len(setup.client_ids), len(setup.classes)
    per_round = n_selected(settings.clients_per_round, n_clients)
    check_cohorts(parts.secure, engine.sizes, per_round, settings.clients_per_round)
    each = None
    if parts.bad_share or LABEL_COUNTS in parts.selection.needs:
        each = engine.ask_each(LabelCounts(n_classes))
    noisy = None if private is None else private.label_counts
    population = _population(parts, plan, engine, module, setup, each, counted, noisy)
    plan = _weighted(plan, parts, population)
    if private is not None:
        plan = private.local(plan)
    if n_clients == 1:
        plan = replace(plan, focus=None)  # of one client alone, the weight does not matter
    federation = Federation(
        plan,
        parts.selection,
        parts.aggregation,
        parts.strategy,
        per_round,
        max(settings.min_clients, setup.min_clients),
        setup.client_ids,
    )
    if private is not None:
        federation = private.federation(federation)
    stats = ClientStats(engine.n_rows, None if each is None else each[:, :-1])
    return federation, ServerState(theta, stats, parts.strategy.start(theta)), population


def _population(
    parts: Parts,
    plan: LocalPlan,
    engine: Engine,
    module: nn.Module,
    setup: Setup,
    each: Array | None,
    counted: tuple[Array | None, int],
    noisy: Array | None,
) -> Population:
    loss, class_weight, counts = parts.loss, parts.class_weight, None
    if class_weight.counts == "estimated":
        counts = estimate_class_prior(engine, module, plan) * engine.n_rows.sum()
    elif "federated" in (class_weight.counts, loss.counts):
        if parts.privacy is not None:
            counts = noisy
        else:
            found = engine.ask(LabelCounts(len(setup.classes))) if each is None else each.sum(0)
            total = found[:-1]
            if parts.bad_share and each is not None:
                total = believed_counts(each[:, :-1], parts.bad_share)
            counts = in_rows(total, found[-1])
    before, n_calls = counted
    if counts is not None and before is not None:
        counts = before + (counts - before) / (n_calls + 1)  # to the bit the same where they are
    weights, constants = class_weight.weights(counts, setup.classes), None
    if weights is not None:
        constants = loss.divide(weights)[1]
    if loss.counts == "federated":
        constants = loss.constants(torch.as_tensor(counts))
    prior = None if counts is None else counts / counts.sum()
    decision_prior = class_weight.prior(prior, weights)
    if decision_prior is None and class_weight.balances:  # as far as one knows
        decision_prior = np.ones(len(setup.classes))
    elif decision_prior is not None:
        decision_prior = loss.decision_prior(decision_prior)
    if decision_prior is not None:
        decision_prior = decision_prior / decision_prior.sum()
    return Population(weights, counts, prior, decision_prior, constants)


def _weighted(plan: LocalPlan, parts: Parts, population: Population) -> LocalPlan:
    """The plan with its class weights, the loss's constants, and what clients count."""
    weights = population.class_weight
    of_rows: Any = "local" if parts.class_weight.counts == "local" else None
    if weights is not None:
        of_rows = parts.loss.divide(weights)[0]
    return replace(
        plan,
        class_weight=of_rows,
        recall_weight=weights,
        constants=population.constants,
        focus=parts.focus,
    )


def n_selected(wanted: Any, n_clients: int) -> int:
    """Clients of a round, from a share or a number of them."""
    if not isinstance(wanted, Integral):
        return max(1, round(wanted * n_clients))
    number = int(wanted)
    if number > n_clients:
        raise ValueError(
            f"clients_per_round={number} is more than the {n_clients} clients there are."
        )
    return number
