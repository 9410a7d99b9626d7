"""Who takes part in a round: nobody, or what is no cohort at all; and aggregates that are none."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import federation, mlp64
from sklearn.base import clone

from skfedfocal import FederatedClassifier, FederatedTrainingError
from skfedfocal._class_weight import CLASS_WEIGHTS
from skfedfocal._data.clients import ClientStats
from skfedfocal._disclosure import RECALLS
from skfedfocal.aggregation import AGGREGATORS, Aggregator
from skfedfocal.losses import LogitAdjustedLoss
from skfedfocal.selection import CategoryCoverage, Selection, Uniform

X, y, CLIENTS = federation([9, 4, 14, 6, 8])
every_engine = pytest.mark.parametrize("engine", ["loop", "vectorized"])


class Now(Uniform):
    """Nobody in the rounds of these numbers, from 1."""

    def __init__(self, empty=()):
        self.empty = empty

    needs = frozenset({RECALLS})  # so that recalls are asked of nobody, too

    def select(self, stats, n_selected, rng):
        Now.round += 1
        cohort = super().select(stats, n_selected, rng)
        return cohort[:0] if Now.round in self.empty else cohort


def settings_of(engine, **options):
    return FederatedClassifier(
        module=mlp64(hidden=(3,)), n_rounds=5, engine=engine, random_state=0, **options
    )


def fitted(classifier):
    Now.round = 0
    return clone(classifier).fit(X, y, clients=CLIENTS)


@every_engine
@pytest.mark.parametrize(
    "options",
    [{"class_weight": name} for name in (*sorted(CLASS_WEIGHTS), None)]
    + [{"client_gamma": 1.0, "class_weight": "local"}, {"loss": LogitAdjustedLoss(counts="local")}]
    + [{"aggregation": name} for name in sorted(AGGREGATORS)]
    + [{"strategy": name, "momentum": 0.9} for name in ("fedadam", "fedavgm", "fedprox")]
    + [{"average_rounds": 2}, {"early_stopping": True}],
    ids=str,
)
def test_a_round_of_nobody_changes_nothing(engine, options):
    clf = settings_of(engine, **options)
    with_gaps = clone(clf).set_params(selection=Now((2, 4)))
    found = fitted(with_gaps)
    assert found.history_["n_selected"].tolist() == [5, 0, 5, 0, 5]
    assert np.isnan(found.history_["loss"]).tolist() == [False, True, False, True, False]
    assert found.history_["n_failed"].tolist() == [0] * 5
    if not options.get("early_stopping"):  # which asks all of them, whoever trains
        assert found.history_["bytes_down"][[1, 3]].tolist() == [0, 0]
        assert found.history_["bytes_up"][[1, 3]].tolist() == [0, 0]
    else:
        losses = found.history_["validation_loss"]
        assert losses[1] == losses[0]
        assert losses[3] == losses[2]
    if "average_rounds" not in options and "early_stopping" not in options:
        for n_rounds in (1, 3):  # the model, and what the server's optimiser carries on
            before, after = (
                fitted(clone(with_gaps).set_params(n_rounds=n)) for n in (n_rounds, n_rounds + 1)
            )
            np.testing.assert_array_equal(after.theta_, before.theta_)
            np.testing.assert_equal(
                after.training_state_["optimizer"], before.training_state_["optimizer"]
            )


@every_engine
def test_nobody_at_all(engine):
    clf = fitted(settings_of(engine, selection=Now(range(9))))
    initial = torch.nn.utils.parameters_to_vector(mlp64(hidden=(3,)).parameters())
    np.testing.assert_array_equal(clf.theta_, initial.detach().numpy())
    assert np.isnan(clf.history_["loss"]).all()


class Says(Selection):
    """The same answer in each round."""

    def __init__(self, answer=None):
        self.answer = answer

    def select(self, stats, n_selected, rng):
        return self.answer


@every_engine
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.array([1, 1, 2]), "distinct clients"),
        ([0, 3, 3], "distinct clients"),
        (np.array([True, False, True, False, False]), "distinct clients"),
        (None, "distinct clients"),
        (2, "distinct clients"),
        (np.array([[0, 1]]), "distinct clients"),
        (np.array([0.0, 1.0]), "distinct clients"),
        (["a"], "distinct clients"),
        (np.array([0, 5]), "selected clients 0 to 5, but the 5 clients have the numbers 0 to 4"),
        (np.array([-1, 2]), "selected clients -1 to 2"),
        (range(6), "selected clients 0 to 5"),
    ],
    ids=repr,
)
def test_what_is_no_cohort_is_refused_by_name(engine, answer, words):
    clf = settings_of(engine, selection=Says(answer))
    with pytest.raises(ValueError, match=words) as raised:
        clf.fit(X, y, clients=CLIENTS)
    assert "Says(" in str(raised.value)
    assert not hasattr(clf, "theta_")


@every_engine
@pytest.mark.parametrize("answer", [[3, 1], (0, 1), np.array([4, 2], np.uint8), range(3)], ids=str)
def test_a_cohort_may_be_anything_that_lists_numbers(engine, answer):
    ordered = settings_of(engine, selection=Says(np.sort(np.array(answer))))
    listed = settings_of(engine, selection=Says(answer))
    np.testing.assert_array_equal(
        listed.fit(X, y, clients=CLIENTS).theta_, ordered.fit(X, y, clients=CLIENTS).theta_
    )


class Gives(Aggregator):
    """The same aggregate in each round."""

    def __init__(self, of=None):
        self.of = of

    def __call__(self, updates, weights):
        return self.of(updates)


def scalar(updates):
    return updates.mean()


def plain_number(updates):
    return 0.0


def row_by_row(updates):
    return updates.mean(1)


def one_row(updates):
    return updates.mean(0, keepdim=True)


def one_too_few(updates):
    return updates.mean(0)[1:]


@every_engine
@pytest.mark.parametrize("of", [scalar, plain_number, row_by_row, one_row, one_too_few])
def test_what_is_no_aggregate_is_refused_by_name(engine, of):
    clf = settings_of(engine, aggregation=Gives(of))
    with pytest.raises(FederatedTrainingError, match=r"Gives\(.* into one of shape \(30,\)"):
        clf.fit(X, y, clients=CLIENTS)
    assert not hasattr(clf, "theta_")


COUNTS = st.integers(1, 12).flatmap(
    lambda m: arrays(float, (m, 3), elements=st.sampled_from([0.0, 0.0, 1.0, 2.0, 1e-300, 1e9]))
)


@pytest.mark.parametrize("variant", ["cover", "balance"])
@given(COUNTS, st.data())
def test_category_coverage_ends_and_draws_nobody_twice(variant, counts, data):
    """Also where clients have no rows of any class."""
    n_selected = data.draw(st.integers(1, len(counts)))
    seed = data.draw(st.integers(0, 99))
    stats = ClientStats(counts.sum(1), counts)
    cohort = CategoryCoverage(variant).select(stats, n_selected, np.random.default_rng(seed))
    assert len(np.unique(cohort)) == len(cohort) == n_selected
    assert cohort.min() >= 0
    assert cohort.max() < len(counts)
