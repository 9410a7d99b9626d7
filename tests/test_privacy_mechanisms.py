"""Mechanisms: what they settle before a training, what they refuse, and what bounds influence."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.base import clone

from skfedfocal._component import InvalidParameterError
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.queries import PlainRows
from skfedfocal.privacy import ClientLevelDP, ExampleLevelDP, Ledger
from skfedfocal.privacy._accounting import Event, gaussian_mu
from skfedfocal.privacy._calibration import gaussian_of
from skfedfocal.privacy._clipping import (
    adapted_clip_norm,
    clip_factors,
    split_noise,
)
from skfedfocal.privacy._counts import NoisyLabelCounts, plausible
from skfedfocal.privacy._plan import PrivateStep

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")

both = pytest.mark.parametrize("mechanism", [ExampleLevelDP, ClientLevelDP])


# ── parameters ───────────────────────────────────────────────────────────────────────


@both
def test_exactly_one_of_noise_and_epsilon_is_given(mechanism):
    for wrong in (mechanism(), mechanism(noise_multiplier=1.0, target_epsilon=1.0)):
        with pytest.raises(InvalidParameterError, match="exactly one of"):
            wrong.check_params()
    mechanism(noise_multiplier=0.0).check_params()
    mechanism(target_epsilon=2).check_params()


@both
@pytest.mark.parametrize(
    "wrong",
    [
        {"clip_norm": 0.0},
        {"clip_norm": "median"},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.5},
        {"delta": 0.0},
        {"delta": 1.0},
        {"counts_noise": 0.0},
        {"trust": "nobody"},
        {"noise": "numpy"},
        {"n_honest": 0},
    ],
)
def test_parameters_out_of_range_are_refused(mechanism, wrong):
    with pytest.raises(InvalidParameterError, match=next(iter(wrong))):
        mechanism(noise_multiplier=1.0, **wrong).check_params()
    with pytest.raises(InvalidParameterError, match="noise_multiplier"):
        mechanism(noise_multiplier=-1.0).check_params()


@both
def test_mechanisms_are_components(mechanism):
    one = mechanism(target_epsilon=3.0)
    assert clone(one).get_params() == one.get_params()
    assert one.set_params(clip_norm=2.0).clip_norm == 2.0
    assert "target_epsilon=3.0" in repr(one)


def test_denominators_never_rest_on_exact_numbers_of_rows():
    with pytest.raises(InvalidParameterError, match="expected_batch"):
        ExampleLevelDP(1.0, counts_noise=None).check_params()
    fixed = ExampleLevelDP(1.0, counts_noise=None, expected_batch=64).plan(
        5, n_clients=3, n_rows=99
    )
    assert fixed.counts_event is None
    assert fixed.step_for().denominator == 64
    counted = ExampleLevelDP(1.0, sampling_rate=0.5).plan(5, n_clients=3, n_rows=99)
    assert counted.step_for(noisy_rows=90).denominator == 45
    assert counted.step_for(noisy_rows=-7).denominator == 0.5
    with pytest.raises(ValueError, match="noisy label counts"):
        counted.step_for()


# ── plans ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("previous", [None, Ledger("example", [Event(9.0, 0.3, 50)])])
def test_a_plan_spends_its_target_with_all_that_it_releases(previous):
    mechanism = ExampleLevelDP(target_epsilon=3.0, delta=1e-5)
    plan = mechanism.plan(50, steps_per_round=2, n_clients=4, n_rows=5000, previous=previous)
    ledger = Ledger("example", list(plan.ledger.events))
    ledger.record(plan.counts_event)
    for _ in range(50):
        ledger.record(plan.round_event)
    assert plan.epsilon == pytest.approx(ledger.epsilon(1e-5))
    assert 0.997 * 3 <= plan.epsilon <= 3


@pytest.mark.parametrize("n_releases", [1, 4])
@pytest.mark.parametrize("sampling_rate", [0.2, 1.0])
@both
def test_label_counts_take_a_tenth_of_the_budget(mechanism, sampling_rate, n_releases):
    """Of what Gaussian releases add up in, by the noise and by epsilon alike."""
    options = {"n_clients": 900, "label_counts": n_releases}
    options |= {"n_rows": 9000} if mechanism is ExampleLevelDP else {}
    budget = mechanism(target_epsilon=3.0, delta=1e-5, sampling_rate=sampling_rate)
    plan = budget.plan(100, **options)
    counts = Ledger(budget.unit, [plan.counts_event] * n_releases)
    whole = Ledger(budget.unit, [Event(gaussian_of(3.0, 1e-5) ** -1)])
    mus = [gaussian_mu(ledger.events) for ledger in (counts, whole)]
    assert mus[0] ** 2 / mus[1] ** 2 == pytest.approx(0.1)
    # The steps' own noise asks for the same, up to what they have spent less than the target,
    # and however many rounds there are: a training in stages is like the whole.
    by_noise = clone(budget).set_params(target_epsilon=None, noise_multiplier=plan.noise_multiplier)
    found = by_noise.plan(7, **options).counts_event.noise_multiplier
    assert plan.counts_event.noise_multiplier < found < 1.15 * plan.counts_event.noise_multiplier


@both
def test_counts_beside_no_noise_have_none_and_beside_no_signal_have_some(mechanism):
    options = {"n_clients": 900} | ({"n_rows": 9000} if mechanism is ExampleLevelDP else {})
    assert mechanism(0.0).plan(3, **options).counts_event.noise_multiplier == 0
    much = mechanism(1e6).plan(3, **options).counts_event.noise_multiplier
    assert 100 < much < 1e6


@pytest.mark.parametrize("n", [30, 99, 100, 101, 920, 1000, 10**6])
def test_delta_by_default_is_a_power_of_ten_below_one_over_the_number(n):
    delta = ClientLevelDP(1.0).plan(1, n_clients=n).delta
    assert delta < 1 / n <= 10.000001 * delta
    assert math.log10(delta) == pytest.approx(round(math.log10(delta)))


@both
def test_a_delta_that_gives_one_unit_away_is_refused(mechanism):
    number = {"n_rows": 100} if mechanism is ExampleLevelDP else {}
    with pytest.raises(ValueError, match="below 1 / 100"):
        mechanism(1.0, delta=0.01).plan(10, n_clients=100, **number)


def test_delta_is_needed_where_rows_are_not_counted():
    with pytest.raises(ValueError, match="needs delta"):
        ExampleLevelDP(1.0).plan(10, n_clients=3)
    assert ExampleLevelDP(1.0, delta=1e-4).plan(10, n_clients=3).delta == 1e-4


def test_an_unreachable_target_says_what_is_reachable():
    with pytest.raises(ValueError, match="least reachable"):
        ExampleLevelDP(target_epsilon=1.0, counts_noise=2.0).plan(10, n_clients=3, n_rows=900)


def test_few_clients_are_sent_to_the_example_level():
    with pytest.raises(ValueError, match="ExampleLevelDP"):
        ClientLevelDP(target_epsilon=3.0).plan(10, n_clients=29)
    with pytest.raises(ValueError, match="ExampleLevelDP"):
        ClientLevelDP(noise_multiplier=10.0).plan(10, n_clients=5)
    ClientLevelDP(target_epsilon=3.0).plan(10, n_clients=30)
    ClientLevelDP(target_epsilon=8.1).plan(10, n_clients=5)


def test_noise_is_where_the_trust_is_and_enough_of_it():
    def total(**params):
        mechanism = ExampleLevelDP(2.0, clip_norm=0.5, counts_noise=30.0, **params)
        return mechanism.plan(10, n_clients=5, n_rows=900)

    local = total(trust="local")
    assert (local.step.total.client_noise, local.step.total.server_noise) == (1.0, 0.0)
    assert (local.counts.client_noise, local.counts.server_noise) == (30.0, 0.0)
    server = total(trust="server")
    assert (server.step.total.client_noise, server.step.total.server_noise) == (0.0, 1.0)
    for n_honest, honest in ((None, 4), (3, 3), (5, 5)):
        shared = total(trust="distributed", n_honest=n_honest)
        assert math.sqrt(honest) * shared.step.total.client_noise == pytest.approx(1.0)
        assert math.sqrt(honest) * shared.counts.client_noise == pytest.approx(30.0)
        assert shared.step.total.server_noise == 0
    with pytest.raises(ValueError, match="n_honest=6"):
        total(trust="distributed", n_honest=6)


@pytest.mark.parametrize("trust", ["distributed", "server"])
def test_noise_on_sums_covers_one_step_between_two_sums(trust):
    with pytest.raises(ValueError, match="one local step"):
        ExampleLevelDP(1.0, trust=trust).plan(9, n_clients=4, n_rows=900, steps_per_round=2)
    ExampleLevelDP(1.0, trust=trust).plan(9, n_clients=4, n_rows=900)
    ExampleLevelDP(1.0).plan(9, n_clients=4, n_rows=900, steps_per_round=2)


def test_sampled_clients_that_share_the_noise_need_a_least_number():
    with pytest.raises(InvalidParameterError, match="n_honest"):
        ClientLevelDP(1.0, trust="distributed", sampling_rate=0.1).check_params()
    ClientLevelDP(1.0, trust="distributed", sampling_rate=0.1, n_honest=50).check_params()


@pytest.mark.parametrize("clip_norm", [2.0, "adaptive"])
def test_a_step_travels_as_plain_numbers(clip_norm):
    step = ClientLevelDP(1.5, clip_norm=clip_norm, sampling_rate=0.2).plan(9, n_clients=500).step
    assert PrivateStep.from_plain(json.loads(json.dumps(step.to_plain()))) == step
    assert step.denominator == 100
    assert step.secure
    assert (step.within is None) == (clip_norm == 2.0)


def test_noise_heeds_a_seed_only_where_that_was_asked_for():
    secure = ExampleLevelDP(1.0).plan(1, n_clients=2, n_rows=900).step
    seeded = ExampleLevelDP(1.0, noise="seeded").plan(1, n_clients=2, n_rows=900).step
    assert seeded.source(3, 1).normal(9).equal(seeded.source(3, 1).normal(9))
    assert not secure.source(3, 1).normal(9).equal(secure.source(3, 1).normal(9))


# ── clipping ─────────────────────────────────────────────────────────────────────────


@given(
    st.lists(st.floats(width=32), min_size=1, max_size=20),
    st.floats(1e-3, 1e3),
)
def test_no_vector_is_longer_than_the_clip_norm(values, clip_norm):
    vectors = torch.tensor(values)[:, None]
    factors = clip_factors(vectors.norm(dim=1), clip_norm)
    clipped = torch.where(vectors.isfinite(), vectors, 0.0) * factors[:, None]
    assert (clipped.norm(dim=1) <= clip_norm * (1 + 1e-6)).all()
    short = vectors.norm(dim=1) <= clip_norm
    assert clipped[short].equal(vectors[short])


def test_vectors_of_nothing_or_of_no_finite_norm_have_their_factors():
    norms = torch.tensor([0.0, 0.5, 4.0, torch.inf, torch.nan])
    assert clip_factors(norms, 1.0).tolist() == [1.0, 1.0, 0.25, 0.0, 0.0]


@given(st.floats(0.3, 30), st.floats(1, 1e4))
def test_the_count_is_paid_for_out_of_the_noise_of_the_step(z, expected):
    update_noise, count_noise = split_noise(z, expected)
    assert update_noise**-2 + (2 * count_noise) ** -2 == pytest.approx(z**-2)
    assert z < update_noise < 1.16 * z


@pytest.mark.parametrize("start", [0.1, 0.9, 5.0])
@pytest.mark.parametrize("quantile", [0.5, 0.8])
def test_the_clip_norm_finds_its_quantile_from_either_side(start, quantile):
    rng = np.random.default_rng(0)
    _, count_noise = split_noise(1.0, 1000)
    c = start
    path = []
    for _ in range(120):
        within = (np.exp(rng.normal(size=1000)) <= c).sum() - 500.0
        c = adapted_clip_norm(c, within + count_noise * rng.normal(), 1000, quantile)
        path.append(c)
    assert np.median(path[-40:]) == pytest.approx(np.exp(norm.ppf(quantile)), rel=0.1)


def test_an_adaptive_plan_has_both_noises_in_one_event():
    plan = ClientLevelDP(2.0, clip_norm="adaptive", sampling_rate=0.5).plan(9, n_clients=200)
    z_updates = plan.step.total.server_noise / plan.step.clip_norm
    z_count = plan.step.within.server_noise / plan.step.within.bound
    assert plan.round_event.noise_multiplier == 2.0
    assert z_updates**-2 + z_count**-2 == pytest.approx(2.0**-2)
    longer = plan.step.clipped_at(3.0)
    assert longer.clip_norm == 3.0
    assert longer.total.server_noise == pytest.approx(3.0 * z_updates)
    assert longer.within == plan.step.within


# ── label counts ─────────────────────────────────────────────────────────────────────


def counts_of(query, counts):
    """Answers of clients with so many rows of each class."""
    counts = np.atleast_2d(counts)
    y = np.concatenate([np.repeat(np.arange(counts.shape[1]), own) for own in counts])
    clients = np.repeat(np.arange(len(counts)), counts.sum(1))
    layout = ClientLayout(
        np.arange(len(counts)),
        np.concatenate([[0], np.cumsum(counts.sum(1))]),
        np.argsort(clients, kind="stable"),
    )
    return query.answers(PlainRows(None, y, None, layout), np.arange(len(counts)))


@pytest.mark.parametrize("seed", [None, (0, 3)])
def test_label_counts_have_the_noise_of_each_client(seed):
    counts = np.tile([[50, 0, 7]], (2000, 1))
    apart = counts_of(NoisyLabelCounts(3, 10.0, seed=seed), counts) - counts
    assert np.abs(apart.mean(0)).max() < 5 * 10 / 2000**0.5
    np.testing.assert_allclose(apart.std(0), 10, rtol=0.1)
    assert np.abs(np.corrcoef(apart.T)[~np.eye(3, dtype=bool)]).max() < 0.12
    np.testing.assert_array_equal(counts_of(NoisyLabelCounts(3, 0.0), counts), counts)


def test_classes_that_the_noise_may_hide_share_their_mean():
    counts = np.array([900.0, 25.0, -14.0, 10.0, 31.0])
    np.testing.assert_array_equal(plausible(counts, 10.0), [900, 7, 7, 7, 31])
    np.testing.assert_allclose(plausible(-counts, 10.0), [10 / 5**0.5] * 5)
    np.testing.assert_array_equal(plausible(np.array([7.0, 0.25]), 0.0), [7, 1])


def test_shared_counts_are_nearer_than_each_by_itself():
    """In logarithms, of which weights are made: rare classes beside noise of their own size."""
    true = np.array([6000.0, 6000, 130, 110, 120])
    noisy = true + 60 * np.random.default_rng(0).normal(size=(400, 5))
    shared = np.array([plausible(row, 60.0) for row in noisy])
    by_itself = np.maximum(noisy, 1.0)
    assert np.std(np.log(shared / true)) < 0.7 * np.std(np.log(by_itself / true))


@given(st.lists(st.integers(0, 10_000), min_size=3, max_size=3))
def test_no_client_moves_the_counts_by_more_than_the_bound(own):
    others = [[900, 900, 900], [7, 0, 1]]
    query = NoisyLabelCounts(3, 0.0, client_bound=30.0)
    moved = counts_of(query, [*others, own]).sum(0) - counts_of(query, others).sum(0)
    assert np.linalg.norm(moved) <= 30 * (1 + 1e-9)
