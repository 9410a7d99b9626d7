"""Aggregators: the properties that each must have, over a fixed set of matrices."""

import inspect
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import federation, mlp64
from scipy import stats as scipy_stats
from sklearn.base import clone

import skfedfocal.aggregation
from skfedfocal import FederatedClassifier
from skfedfocal._component import InvalidParameterError
from skfedfocal._focus import Focus
from skfedfocal._training.failures import FederatedTrainingError
from skfedfocal._training.tally import Tally
from skfedfocal.aggregation import (
    AGGREGATORS,
    Aggregator,
    Bucketing,
    ClippedMean,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    TrimmedMean,
    WeightedMean,
)
from skfedfocal.aggregation._aggregator import rounded_up
from skfedfocal.engines import Updates

repeatable = settings(deadline=None, derandomize=True, max_examples=60, database=None)
every = pytest.mark.parametrize("name", sorted(AGGREGATORS))
# A shortened update may leave the range of the others, towards 0.
SHORTENS = {"clipped_mean"}
# Groups are taken in the order given, which the tally makes that of the clients' numbers.
BY_ORDER = {"bucketing"}


def draw(m, p, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return torch.as_tensor(scale * rng.normal(size=(m, p)))


MATRICES = {
    "one client": draw(1, 4),
    "two clients": draw(2, 4),
    "few clients": draw(9, 6),
    "many clients": draw(40, 3),
    "one parameter": draw(9, 1),
    "one direction": draw(9, 1) @ draw(1, 5, seed=1),
    "far from zero": 50 + draw(9, 5),
    "one far away": torch.cat([draw(8, 5), 1000 + draw(1, 5)]),
    "two camps": torch.cat([draw(5, 5) - 10, draw(4, 5) + 10]),
    "small": draw(9, 5, scale=1e-3),
}
matrices = pytest.mark.parametrize("updates", MATRICES.values(), ids=MATRICES)


def weights_for(updates, seed=7):
    return torch.as_tensor(np.random.default_rng(seed).uniform(1, 90, len(updates)))


def assert_close(found, wanted, rtol=1e-9, atol=1e-9):
    torch.testing.assert_close(found, torch.as_tensor(wanted), rtol=rtol, atol=atol)


# ── what every aggregator promises ───────────────────────────────────────────────────


def test_every_aggregator_has_a_name():
    public = {
        part
        for _, part in inspect.getmembers(skfedfocal.aggregation, inspect.isclass)
        if issubclass(part, Aggregator) and part is not Aggregator
    }
    assert set(AGGREGATORS.values()) == public


@every
@matrices
def test_order_of_clients_makes_no_difference(name, updates):
    aggregator, weights = AGGREGATORS[name](), weights_for(updates)
    wanted = aggregator(updates, weights)
    assert wanted.shape == updates.shape[1:]
    for seed in range(0 if name in BY_ORDER else 3):
        order = np.random.default_rng(seed).permutation(len(updates))
        assert_close(aggregator(updates[order], weights[order]), wanted)


@every
@matrices
def test_scale_of_weights_makes_no_difference(name, updates):
    aggregator, weights = AGGREGATORS[name](), weights_for(updates)
    wanted = aggregator(updates, weights)
    for factor in (1e-6, 0.5, 1e6):
        assert_close(aggregator(updates, factor * weights), wanted)


@every
@matrices
def test_equal_updates_aggregate_to_themselves(name, updates):
    same = updates[:1].expand(9, -1)
    assert_close(AGGREGATORS[name]()(same, weights_for(same)), updates[0])


@every
@matrices
def test_aggregate_lies_among_the_updates(name, updates):
    result = AGGREGATORS[name]()(updates, weights_for(updates))
    low, high = updates.amin(0), updates.amax(0)
    if name in SHORTENS:
        low, high = low.clamp(max=0), high.clamp(min=0)
    assert (result >= low - 1e-9).all()
    assert (result <= high + 1e-9).all()


@every
@matrices
def test_turning_the_signs_turns_the_aggregate(name, updates):
    aggregator, weights = AGGREGATORS[name](), weights_for(updates)
    assert_close(aggregator(-updates, weights), -aggregator(updates, weights))


@pytest.mark.parametrize("name", sorted(set(AGGREGATORS) - SHORTENS))
@matrices
def test_moving_all_updates_moves_the_aggregate(name, updates):
    aggregator, weights = AGGREGATORS[name](), weights_for(updates)
    moved = aggregator(updates + 3.0, weights)
    assert_close(moved, aggregator(updates, weights) + 3.0, atol=1e-8)


@every
def test_arguments_stay_as_they_are(name):
    updates = MATRICES["one far away"].clone()
    weights = weights_for(updates)
    before = updates.clone(), weights.clone()
    AGGREGATORS[name]()(updates, weights)
    assert torch.equal(updates, before[0])
    assert torch.equal(weights, before[1])


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_aggregate_has_the_type_of_the_updates(name, dtype):
    updates = MATRICES["few clients"].to(dtype)
    result = AGGREGATORS[name]()(updates, weights_for(updates))  # weights are always double
    assert result.dtype == dtype
    wanted = AGGREGATORS[name]()(MATRICES["few clients"], weights_for(updates))
    torch.testing.assert_close(result.double(), wanted, rtol=1e-5, atol=1e-5)


@every
def test_aggregator_is_a_component(name):
    aggregator = AGGREGATORS[name]()
    twin = clone(aggregator)
    assert type(twin) is type(aggregator)
    assert twin.get_params() == aggregator.get_params()
    aggregator.check_params()


# ── as updates come, block by block ──────────────────────────────────────────────────


def tallied(aggregator, updates, weights, block_size, order):
    """The tally of a round in which replies come in blocks, in the given order."""
    tally = Tally(aggregator, updates.new_zeros(updates.shape[1]))
    for lo in range(0, len(order), block_size):
        some = order[lo : lo + block_size]
        tally.add(
            Updates(
                clients=some,
                weights=weights[some],
                objective=np.ones((len(some), 2)),
                deltas=updates[torch.as_tensor(some)],
            )
        )
    return tally


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", ["few clients", "many clients", "one far away"])
def test_blocks_and_their_order_make_no_difference(name, dtype, case):
    updates, aggregator = MATRICES[case].to(dtype), AGGREGATORS[name]()
    m, rng = len(updates), np.random.default_rng(0)
    weights = rng.uniform(1, 90, m)
    wanted = aggregator(updates, torch.as_tensor(weights))
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    for block_size in (1, 4, m):
        for order in (np.arange(m), rng.permutation(m)):
            delta = tallied(aggregator, updates, weights, block_size, order).aggregate()
            assert delta.dtype == dtype
            torch.testing.assert_close(delta, wanted, rtol=tolerance, atol=tolerance)


@every
def test_a_non_finite_update_never_reaches_the_aggregator(name):
    updates, aggregator = MATRICES["few clients"].clone(), AGGREGATORS[name]()
    weights = np.linspace(1, 9, 9)
    good = np.array([0, 2, 3, 5, 6, 8])
    wanted = aggregator(updates[good], torch.as_tensor(weights[good]))
    updates[1, 0], updates[4, 3], updates[7] = np.nan, np.inf, -np.inf
    for block_size in (1, 4, 9):
        tally = tallied(aggregator, updates, weights, block_size, np.arange(9))
        assert_close(tally.aggregate(), wanted)
        assert sorted(failure.client for failure in tally.failures) == [1, 4, 7]
        assert tally.n_good == 6


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_a_weight_that_is_none_never_reaches_the_aggregator(name, bad):
    updates, aggregator = MATRICES["few clients"], AGGREGATORS[name]()
    weights = np.linspace(1, 9, 9)
    weights[3] = bad
    tally = tallied(aggregator, updates, weights, 2, np.arange(9))
    good = np.flatnonzero(np.arange(9) != 3)
    assert_close(tally.aggregate(), aggregator(updates[good], torch.as_tensor(weights[good])))
    assert [failure.client for failure in tally.failures] == [3]


def test_a_sum_of_clients_is_taken_in_whole_or_not_at_all():
    updates, weights = MATRICES["few clients"], np.linspace(1, 9, 9)
    mean = WeightedMean()(updates, torch.as_tensor(weights))[None]
    for value, n_good in ((0.0, 9), (np.nan, 0)):
        tally = Tally(WeightedMean(), updates.new_zeros(6))
        tally.add(Updates(np.arange(9), weights.sum()[None], np.ones((1, 2)), mean + value))
        assert tally.n_good == n_good
        assert len(tally.failures) == 9 - n_good
        assert_close(tally.aggregate(), mean[0] if n_good else updates.new_zeros(6))


class Scalar(Aggregator):
    """One number for all parameters, which would be broadcast."""

    def __call__(self, updates, weights):
        return updates.mean()


def test_an_aggregate_of_another_shape_is_refused():
    updates = MATRICES["few clients"]
    tally = tallied(Scalar(), updates, np.ones(9), 4, np.arange(9))
    with pytest.raises(FederatedTrainingError, match=r"Scalar\(\).*\(9, 6\).*\(6,\); found \(\)"):
        tally.aggregate()


@every
@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_a_classifier_trains_with_it(name, engine):
    X, y, clients = federation([12] * 8)
    fits = [
        FederatedClassifier(
            module=mlp64(),
            aggregation=aggregation,
            n_rounds=3,
            batch_size=5,
            engine=engine,
            random_state=0,
        ).fit(X, y, clients=clients)
        for aggregation in (name, AGGREGATORS[name]())
    ]
    np.testing.assert_array_equal(fits[0].theta_, fits[1].theta_)
    assert np.isfinite(fits[0].theta_).all()
    assert fits[0].history_["loss"][-1] < fits[0].history_["loss"][0]


# ── each for itself ──────────────────────────────────────────────────────────────────


@matrices
def test_weighted_mean_is_the_weighted_mean(updates):
    weights = weights_for(updates)
    by_hand = np.average(updates.numpy(), axis=0, weights=weights.numpy())
    assert_close(WeightedMean()(updates, weights), by_hand)


@matrices
@pytest.mark.parametrize(
    "mild",
    [TrimmedMean(trim=0), Krum(bad_share=0), ClippedMean(factor=1e12)],
    ids=repr,
)
def test_robust_means_that_leave_out_nothing_are_the_mean(updates, mild):
    weights = weights_for(updates)
    assert_close(mild(updates, weights), WeightedMean()(updates, weights))


@matrices
def test_coordinate_median_is_numpys(updates):
    by_numpy = np.median(updates.numpy(), axis=0)
    assert_close(CoordinateMedian()(updates, weights_for(updates)), by_numpy)


@matrices
@pytest.mark.parametrize("trim", [0.1, 0.25, 0.49])
def test_trimmed_mean_of_equal_weights_is_scipys(updates, trim):
    m = len(updates)
    n_cut = min(-(-round(100 * trim) * m // 100), (m - 1) // 2)  # rounded up
    by_scipy = scipy_stats.trim_mean(updates.numpy(), n_cut / m + 1e-9, axis=0)
    equal = torch.full((len(updates),), 3.0, dtype=torch.float64)
    assert_close(TrimmedMean(trim)(updates, equal), by_scipy)


def test_trimmed_mean_weighs_what_is_left():
    updates = torch.tensor([[-9.0], [1.0], [2.0], [5.0], [99.0]])
    weights = torch.tensor([50.0, 1.0, 2.0, 5.0, 70.0])
    assert_close(TrimmedMean(0.2)(updates, weights), torch.tensor([(1 + 4 + 25) / 8]))


@matrices
def test_geometric_median_has_the_least_distance(updates):
    weights = weights_for(updates)

    def distance(point):
        return float(weights @ (updates - point).norm(dim=1))

    found = GeometricMedian(n_iterations=2000, smoothing=1e-12)(updates, weights)
    scale = float(updates.std(0).mean()) if len(updates) > 1 else 1.0
    for step in (0.3, 0.03):
        for seed in range(20):
            elsewhere = found + step * scale * draw(1, updates.shape[1], seed)[0]
            assert distance(found) <= distance(elsewhere) * (1 + 1e-7)
    few_steps = GeometricMedian()(updates, weights)
    assert distance(few_steps) <= distance(WeightedMean()(updates, weights)) + 1e-9


def test_original_krum_chooses_one_of_the_updates():
    updates = MATRICES["one far away"]
    chosen = Krum(bad_share=0.2, n_keep=1)(updates, weights_for(updates))
    distances = (updates - chosen).norm(dim=1)
    assert distances.min() == 0
    assert distances.argmin() < 8
    # By hand: the least sum of squares to the m - f - 2 nearest others.
    squares = ((updates[:, None] - updates[None]) ** 2).sum(2).sort(1).values[:, 1 : 9 - 2 - 2 + 1]
    assert distances.argmin() == squares.sum(1).argmin()


def test_clipped_mean_shortens_to_three_times_the_median_norm():
    updates = torch.tensor([[3.0, 4.0], [0.0, 5.0], [-5.0, 0.0], [300.0, 400.0]])
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    short = torch.tensor([[3.0, 4.0], [0.0, 5.0], [-5.0, 0.0], [9.0, 12.0]])
    assert_close(ClippedMean()(updates, weights), WeightedMean()(short, weights), 1e-6, 1e-6)


@pytest.mark.parametrize(
    "robust",
    [
        CoordinateMedian(),
        TrimmedMean(0.2),
        GeometricMedian(),
        Krum(0.2),
        Krum(0.2, n_keep=1),
        ClippedMean(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("attack", [1e3, -1e6])
def test_one_attacker_among_nine_moves_little(robust, attack):
    honest = draw(8, 20)
    weights = torch.ones(9, dtype=torch.float64)
    attacked = torch.cat([honest, torch.full((1, 20), attack, dtype=torch.float64)])
    moved = robust(attacked, weights) - honest.mean(0)
    assert moved.norm() < honest.norm(dim=1).mean()
    assert (WeightedMean()(attacked, weights) - honest.mean(0)).norm() > 100


# ── client focusing ──────────────────────────────────────────────────────────────────

gammas = st.floats(0, 8)
recalls_of_two = st.tuples(st.floats(0, 1), st.floats(0, 1))


@repeatable
@given(recalls=recalls_of_two, n_rows=st.floats(0.1, 1e6))
def test_client_gamma_zero_scores_all_alike(recalls, n_rows):
    np.testing.assert_array_equal(Focus(0.0)(np.array(recalls), np.full(2, n_rows)), 1)


@repeatable
@given(recalls=recalls_of_two, n_rows=st.floats(1, 1e5), gamma=gammas)
def test_a_worse_recall_never_scores_less(recalls, n_rows, gamma):
    worse, better = sorted(recalls)
    scores = Focus(gamma)(np.array([worse, better]), np.full(2, n_rows))
    assert scores[0] >= scores[1]


@repeatable
@given(recalls=recalls_of_two, n_rows=st.floats(1, 1e5), gamma=st.floats(0.1, 8))
def test_the_floor_bounds_how_far_clients_differ(recalls, n_rows, gamma):
    scores = Focus(gamma, floor=0.25)(np.array(recalls), np.full(2, n_rows))
    assert scores.max() <= scores.min() * 4**gamma * (1 + 1e-9)
    assert scores.max() <= 1  # a client cannot count more than its rows do


def test_focus_by_hand():
    # Four of five rows right, and 20 rows of which half are: 14 of 25.
    np.testing.assert_allclose(Focus(2.0)(np.array([0.8]), np.array([5.0])), 0.44**2)
    np.testing.assert_allclose(Focus(3.0)(np.array([1.0]), np.array([1e9])), 0.1**3)
    np.testing.assert_allclose(Focus(1.0, 0.0)(np.array([0.3]), np.array([7.0])), 0.7)
    # Of 60 rows 45 are right, and half of 20 more: 25 of 80 are wrong. Of 180: 64 of 200.
    scores = Focus(2.0)(np.array([0.75, 0.7]), np.array([60.0, 180.0]))
    np.testing.assert_allclose(scores, [(25 / 80) ** 2, (64 / 200) ** 2])


@every
def test_only_the_weighted_mean_can_focus(name):
    options = {"aggregation": name, "n_rounds": 1, "client_gamma": 0.5}
    X, y, clients = federation([12] * 4)
    if name == "mean":
        FederatedClassifier(**options).fit(X, y, clients=clients)
        return
    with pytest.raises(InvalidParameterError, match=f"client_gamma=0.5 .*aggregation='{name}'"):
        FederatedClassifier(**options).fit(X, y, clients=clients)
    FederatedClassifier(**{**options, "client_gamma": 0}).fit(X, y, clients=clients)


@pytest.mark.parametrize(
    "wrong",
    [
        WeightedMean(smoothing=-1),
        WeightedMean(smoothing="1"),
        WeightedMean(floor=0),
        WeightedMean(floor=1.5),
        TrimmedMean(0.5),
        TrimmedMean(-0.1),
        GeometricMedian(0),
        GeometricMedian(smoothing=0),
        Krum(0.5),
        Krum(n_keep=0),
        ClippedMean(0),
        Bucketing(size=0),
        Bucketing("median"),
    ],
    ids=repr,
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(InvalidParameterError, match=type(wrong).__name__):
        wrong.check_params()


# ── robustness as published ──────────────────────────────────────────────────────────

# How many of m bad clients each withstands, and how far they may then move the aggregate: in radii
# of the honest, a ball around their mean.
ROBUST = {
    "median": (CoordinateMedian(), lambda m: (m - 1) // 2, 20.0),
    "trimmed mean": (TrimmedMean(0.2), lambda m: math.ceil(0.2 * m), 20.0),
    "geometric median": (GeometricMedian(), lambda m: (m - 1) // 2, 40.0),
    "multi-Krum": (Krum(0.2), lambda m: min(math.ceil(0.2 * m), (m - 3) // 2), 1.0),
    "Krum": (Krum(0.2, n_keep=1), lambda m: min(math.ceil(0.2 * m), (m - 3) // 2), 1.0),
    "clipped mean": (ClippedMean(), lambda m: (m - 1) // 2, 20.0),
    "bucketing": (Bucketing(), lambda m: (-(-m // 2) - 1) // 2, 40.0),
    "bucketed trimmed mean": (
        Bucketing(TrimmedMean(0.4), size=2),
        lambda m: rounded_up(0.4, -(-m // 2)),
        20.0,
    ),
}
robust = pytest.mark.parametrize("name", ROBUST)


def attackers(kind, n_bad, p, far, seed):
    """Bad updates at a distance: all at one place, at opposite ones, or anywhere."""
    one = draw(1, p, seed)
    if kind == "together":
        towards = one.expand(n_bad, -1)
    elif kind == "opposite":
        towards = one * (-1.0) ** torch.arange(n_bad)[:, None]
    else:
        towards = draw(n_bad, p, seed)
    return far * towards / towards.norm(dim=1, keepdim=True)


@robust
@repeatable
@given(
    m=st.integers(5, 24),
    p=st.integers(1, 6),
    seed=st.integers(0, 1000),
    far=st.sampled_from([1e1, 1e3, 1e6, 1e12]),
    kind=st.sampled_from(["together", "opposite", "anywhere"]),
)
def test_up_to_the_breakdown_point_attackers_move_it_by_so_much_and_no_more(
    name, m, p, seed, far, kind
):
    aggregator, withstands, bound = ROBUST[name]
    n_bad = withstands(m)
    honest = draw(m - n_bad, p, seed)
    updates = torch.cat([honest, attackers(kind, n_bad, p, far, seed + 1)])
    updates = updates[torch.as_tensor(np.random.default_rng(seed).permutation(m))]
    radius = max(1.0, float(honest.norm(dim=1).max()))
    moved = aggregator(updates, torch.ones(m, dtype=torch.float64)) - honest.mean(0)
    assert moved.norm() <= bound * radius


@robust
@pytest.mark.parametrize("m", [7, 12, 20])
def test_beyond_half_of_the_clients_attackers_decide(name, m):
    """No rule can withstand that; what bounds the aggregate above is not that it stays put."""
    n_bad = m // 2 + 2
    honest = draw(m - n_bad, 3)
    updates = torch.cat([honest, attackers("together", n_bad, 3, 1e9, 1)])
    found = ROBUST[name][0](updates, torch.ones(m, dtype=torch.float64))
    assert found.norm() > 1e6


@every
@repeatable
@given(log_scale=st.floats(-12, 6), seed=st.integers(0, 100), m=st.integers(1, 12))
def test_updates_in_other_units_have_the_aggregate_in_those_units(name, log_scale, seed, m):
    aggregator, scale = AGGREGATORS[name](), 10.0**log_scale
    updates = draw(m, 4, seed)
    weights = weights_for(updates, seed)
    wanted = scale * aggregator(updates, weights)
    assert_close(aggregator(scale * updates, weights), wanted, rtol=1e-7, atol=1e-9 * scale)


@pytest.mark.parametrize("m", range(1, 30))
@pytest.mark.parametrize("trim", [0.01, 0.1, 0.2, 0.3, 0.49])
def test_a_trimmed_mean_trims_whatever_the_number_of_clients(trim, m):
    """Rounded down, a tenth of nine clients was nobody, and one attacker was too many."""
    updates = torch.arange(m, dtype=torch.float64)[:, None]
    updates[-1] = 1e9
    found = TrimmedMean(trim)(updates, torch.ones(m, dtype=torch.float64))
    assert (found < 1e6) == (m > 2)  # of two clients nobody can say who is bad


def test_a_share_that_is_a_whole_number_of_clients_is_that_number():
    for share, m, wanted in ((0.1, 30, 3), (0.2, 15, 3), (0.3, 10, 3), (0.1, 9, 1), (0.0, 9, 0)):
        assert rounded_up(share, m) == wanted


def test_half_of_the_weight_at_one_point_is_the_geometric_median():
    updates = torch.tensor([[1.0, 2.0]] * 3 + [[9.0, -4.0], [5.0, 5.0]], dtype=torch.float64)
    found = GeometricMedian()(updates, torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0]))
    assert_close(found, updates[0])
    heavy = GeometricMedian()(updates, torch.tensor([1.0, 1.0, 1.0, 9.0, 1.0]))
    assert_close(heavy, updates[3], rtol=1e-4, atol=1e-4)


def test_two_equal_clients_meet_half_way():
    found = GeometricMedian()(torch.tensor([[0.0, 2.0], [4.0, 0.0]]), torch.ones(2))
    assert_close(found, torch.tensor([2.0, 1.0]))


@matrices
@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_buckets_of_a_mean_are_the_mean(updates, size):
    weights = weights_for(updates)
    wanted = WeightedMean()(updates, weights)
    assert_close(Bucketing(WeightedMean(), size)(updates, weights), wanted)


@matrices
def test_buckets_of_one_client_are_the_aggregator(updates):
    weights = weights_for(updates)
    for inside in (CoordinateMedian(), TrimmedMean(0.3), Krum(0.3)):
        assert_close(Bucketing(inside, 1)(updates, weights), inside(updates, weights))


def test_buckets_by_hand():
    updates = torch.tensor([[0.0], [4.0], [3.0], [5.0], [7.0]], dtype=torch.float64)
    weights = torch.tensor([1.0, 3.0, 0.0, 0.0, 2.0], dtype=torch.float64)
    # Means 3, 4 and 7 that weigh 4, 0 and 2.
    assert_close(
        Bucketing(CoordinateMedian())(updates, weights), torch.tensor([4.0], dtype=torch.float64)
    )
    assert_close(
        Bucketing(WeightedMean())(updates, weights), torch.tensor([26 / 6], dtype=torch.float64)
    )


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_buckets_are_drawn_anew_in_each_round_and_the_same_in_each_run(engine, monkeypatch):
    X, y, clients = federation([12] * 8)
    seen = []

    class Watching(CoordinateMedian):
        def __call__(self, updates, weights):
            seen.append(weights.numpy().copy())
            return super().__call__(updates, weights)

    # Weights that tell clients apart, and say who shares a bucket: no two sums are alike.
    weight = 2.0**clients
    options = {"module": mlp64(), "batch_size": 5, "engine": engine, "random_state": 0}
    options["aggregation"] = Bucketing(Watching())
    fits = []
    for n_rounds in ((4,), (4,), (1, 3)):
        clf = FederatedClassifier(warm_start=True, **options)
        for n in n_rounds:
            clf.set_params(n_rounds=n).fit(X, y, sample_weight=weight, clients=clients)
        fits.append(clf.theta_)
    buckets = [np.sort(sums) for sums in seen]
    for a, b, c in zip(buckets[:4], buckets[4:8], buckets[8:], strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert len({tuple(sums) for sums in buckets}) == 4  # another draw in every round
    np.testing.assert_array_equal(fits[0], fits[1])
    np.testing.assert_array_equal(fits[0], fits[2])


def test_buckets_are_those_of_the_clients_whoever_comes_first():
    updates, weights = MATRICES["many clients"], np.random.default_rng(1).uniform(1, 9, 40)
    aggregator = Bucketing(TrimmedMean(0.2), 3)

    def found(order, seed):
        tally = Tally(aggregator, updates.new_zeros(3), np.random.default_rng(seed))
        for k in order:
            some = np.array([k])
            tally.add(Updates(some, weights[some], np.ones((1, 2)), updates[[k]]))
        return tally.aggregate()

    wanted = found(range(40), 0)
    assert_close(found(np.random.default_rng(5).permutation(40), 0), wanted)
    assert not torch.allclose(found(range(40), 1), wanted)


def test_a_cohort_without_weight_changes_nothing():
    for name in AGGREGATORS:
        tally = tallied(AGGREGATORS[name](), MATRICES["few clients"], np.zeros(9), 4, np.arange(9))
        assert_close(tally.aggregate(), torch.zeros(6, dtype=torch.float64))


def test_krum_keeps_the_digits_of_updates_that_are_close():
    """|x|² + |y|² - 2xy would give zero distances here."""
    updates = 1e6 + draw(9, 5, scale=1e-4)
    scores = Krum(0.2, n_keep=1)(updates, torch.ones(9, dtype=torch.float64))
    squares = ((updates[:, None] - updates[None]) ** 2).sum(2).sort(1).values[:, 1:6].sum(1)
    assert torch.equal(scores, updates[squares.argmin()])


def test_krum_of_many_clients_needs_memory_for_updates_and_pairs_alone():
    code = (
        "import resource, torch; from skfedfocal.aggregation import Krum; torch.set_num_threads(1);"
        "x = torch.randn(1000, 1203); w = torch.ones(1000); Krum()(x[:9], w[:9]);"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "before = peak(); Krum()(x, w); print(peak() - before)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    megabytes = int(found.stdout) / (1024 if sys.platform != "darwin" else 1024**2)
    assert megabytes < 150  # 10 of updates in double precision, 8 for each matrix of pairs


@pytest.mark.parametrize("kind", [Krum, CoordinateMedian])
def test_aggregators_that_lose_rare_classes_say_so_in_their_first_line(kind):
    assert "rare classes" in kind.__doc__.splitlines()[0]
