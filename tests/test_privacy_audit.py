"""Audits: they find what leaks, as much as leaks, and nothing where nothing does."""

import numpy as np
import pytest
import torch
from scipy.stats import binom

from skfedfocal.privacy import Canaries, ClientLevelDP, NoiseSource, audit, audit_membership
from skfedfocal.privacy._audit import clopper_pearson, one_run_bound
from skfedfocal.privacy._clipping import clip_factors

pytest.importorskip("dp_accounting")


P, ROUNDS, DELTA = 40_000, 10, 1e-2


def run(claimed, noise, seed):
    """Audit ten rounds over all clients, canaries among them, of a mechanism as it was planned."""
    mechanism = ClientLevelDP(target_epsilon=claimed, delta=DELTA, clip_norm=0.5, counts_noise=None)
    step = mechanism.plan(ROUNDS, n_clients=50, label_counts=False).step
    common = np.random.default_rng(seed).normal(size=P)
    canaries = Canaries(P - 1, P, common, random_state=seed)
    source = NoiseSource(seed)
    common = 50 * step.clip_norm * common / np.linalg.norm(common)
    released = np.zeros(P)
    for _ in range(ROUNDS):
        updates = 3 * step.clip_norm * canaries.total()  # each canary three times too long,
        clipped = updates * float(clip_factors(torch.tensor(3 * step.clip_norm), step.clip_norm))
        drawn = source.normal(P).double().numpy()
        released += clipped + common + noise * step.total.server_noise * drawn
    return audit(canaries.scores(released), canaries.included, DELTA)


@pytest.mark.parametrize("claimed", [1.0, 3.0, 8.0])
def test_canary_clients_estimate_what_is_promised_and_find_missing_noise(claimed):
    pytest.importorskip("cryptography")
    sound = [run(claimed, 1.0, seed) for seed in range(20)]
    assert all(0.8 * claimed <= found.epsilon <= 1.1 * claimed for found in sound)
    assert all(found.epsilon_lower <= claimed for found in sound)
    halved = [run(claimed, 0.5, seed) for seed in range(20)]
    assert all(found.epsilon >= 1.5 * claimed for found in halved)


def test_canaries_are_orthogonal_unit_vectors_and_to_the_common_update():
    common = np.random.default_rng(0).normal(size=40)
    canaries = Canaries(39, 40, common, random_state=1)
    directions = np.array([canaries.direction(k) for k in range(39)])
    np.testing.assert_allclose(directions @ directions.T, np.eye(39), atol=1e-12)
    np.testing.assert_allclose(directions @ common, 0, atol=1e-12)
    np.testing.assert_allclose(canaries.total(), directions[canaries.included].sum(0), atol=1e-12)
    vector = np.random.default_rng(1).normal(size=40)
    np.testing.assert_allclose(canaries.scores(vector), directions @ vector, atol=1e-12)


def test_canaries_that_do_not_fit_are_refused():
    for n, common in ((41, None), (40, np.ones(40)), (1, None)):
        with pytest.raises(ValueError, match="n_canaries must be between"):
            Canaries(n, 40, common)
    for common in (np.zeros(40), np.ones(39), np.full(40, np.nan)):
        with pytest.raises(ValueError, match="common must be"):
            Canaries(5, 40, common)


def test_scores_that_tell_nothing_leak_nothing_and_perfect_ones_everything():
    rng = np.random.default_rng(0)
    included = rng.random(4000) < 0.5
    nothing = audit(rng.normal(size=4000), included, 1e-5)
    assert nothing.epsilon < 0.5
    assert nothing.epsilon_lower == 0
    everything = audit(included.astype(float), included, 1e-5)
    assert everything.epsilon == np.inf
    assert everything.auc == 1
    assert everything.epsilon_lower > 5


def test_wrong_scores_are_refused():
    for scores, included, message in (
        ([1.0, 2.0], [True], "one entry per canary"),
        ([1.0, np.nan, 0.0, 0.0], [True, True, False, False], "finite"),
        ([1.0, 2.0, 3.0], [True, True, False], "at least two"),
    ):
        with pytest.raises(ValueError, match=message):
            audit(scores, included, 1e-5)


@pytest.mark.parametrize("epsilon", [0.5, 2.0])
def test_the_bound_of_one_run_is_too_high_as_seldom_as_it_says(epsilon):
    """Randomised response of exactly this epsilon, at delta 0: the hardest case there is."""
    rng = np.random.default_rng(0)
    n, n_runs, risk = 200, 2000, 0.05
    right = rng.binomial(n, 1 / (1 + np.exp(-epsilon)), n_runs)
    bounds = {v: one_run_bound(n, n, v, 0.0, risk) for v in np.unique(right)}
    too_high = sum(bounds[v] > epsilon for v in right)
    assert too_high <= binom.isf(1e-6, n_runs, risk)
    assert np.median([bounds[v] for v in right]) > 0.5 * epsilon  # and it is worth something


def test_a_larger_delta_refutes_less():
    bounds = [one_run_bound(1000, 100, 98, delta, 0.05) for delta in (0.0, 1e-5, 1e-4, 1e-2)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[2] > bounds[3] == 0


def test_membership_is_found_in_the_class_that_was_learned_by_heart():
    rng = np.random.default_rng(0)
    y = np.repeat(["common", "rare"], [2000, 100])
    included = np.tile([True, False], 1050)
    losses = rng.normal(size=2100) - 2 * (included & (y == "rare"))
    found = audit_membership(losses, included, y)
    auc, low, high = found["rare"]
    assert low < auc < high
    assert low > 0.75
    auc, low, high = found["common"]
    assert low < 0.5 < high
    by_pairs = (
        losses[included & (y == "rare")][:, None] < losses[~included & (y == "rare")]
    ).mean()
    assert found["rare"][0] == pytest.approx(by_pairs)


def test_the_interval_of_an_auc_covers_it():
    rng = np.random.default_rng(1)
    truth = 0.7602499389  # of normal scores that lie 1 apart: Phi(1 / sqrt 2)
    misses = 0
    for _ in range(400):
        losses = rng.normal(size=80) - np.repeat([1, 0], 40)
        _, low, high = audit_membership(losses, np.repeat([True, False], 40), np.zeros(80))[0]
        misses += not low <= truth <= high
    assert misses <= 20


@pytest.mark.parametrize("k", [0, 1, 7, 20])
def test_clopper_pearson_is_the_exact_interval(k):
    low, high = clopper_pearson(k, 20, 0.95)
    assert low == 0 or binom.sf(k - 1, 20, low) == pytest.approx(0.025)
    assert high == 1 or binom.cdf(k, 20, high) == pytest.approx(0.025)
    assert (low == 0) == (k == 0)
    assert (high == 1) == (k == 20)


def test_rows_of_unequal_number_are_refused():
    with pytest.raises(ValueError, match="one entry per row"):
        audit_membership([0.1, 0.2], [True, False], ["a"])
