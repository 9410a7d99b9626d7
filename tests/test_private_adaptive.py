"""A clip norm that follows a quantile of the update norms, by a count with noise of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from test_engines import plan_of
from test_private_steps import Replies, repeatable
from test_private_training import ROWS, data

from skfedfocal import FedFocalClassifier
from skfedfocal.engines import Task, Updates
from skfedfocal.engines._noisy_sum import MaskedSumEngine, NoisySumEngine
from skfedfocal.engines._secure import SecureEngine
from skfedfocal.privacy import ClientLevelDP, SecureAggregation
from skfedfocal.privacy._clipping import CLIP_START

P = 7


def updates(norms, seed=0):
    deltas = np.random.default_rng(seed).normal(size=(len(norms), P))
    deltas *= np.asarray(norms)[:, None] / np.linalg.norm(deltas, axis=1, keepdims=True)
    n = len(norms)
    return Updates(np.arange(n), np.ones(n), np.ones((n, 2)), torch.as_tensor(deltas))


def task_of(n, round_=0):
    return Task(torch.zeros(P, dtype=torch.float64), plan_of(), np.arange(n), round_)


def engine_of(mechanism, reply, masked=False, seed=1):
    n = len(reply.clients)
    step = mechanism.plan(1, n_clients=n).step
    if not masked:
        return NoisySumEngine(Replies(reply), step, scale=1.0, least_noise=0.0, seed=seed)
    secure = SecureEngine(Replies(reply), SecureAggregation())
    secure.share_noise(step, seed)
    return MaskedSumEngine(secure, step, 1, seed)


def without_noise(**params):
    trust = params.pop("trust", "server")
    return ClientLevelDP(0.0, clip_norm="adaptive", trust=trust, **params, **ROWS)


# ── the clip norm ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("masked", [False, True])
@repeatable
@given(
    norms=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=9),
    quantile=st.sampled_from([0.2, 0.5, 0.8]),
)
def test_without_noise_it_moves_by_the_share_of_updates_within_it(masked, norms, quantile):
    trust = "distributed" if masked else "server"
    reply = updates(norms)
    engine = engine_of(without_noise(trust=trust, quantile=quantile), reply, masked)
    clip_norm = CLIP_START
    exact = np.linalg.norm(reply.deltas.numpy(), axis=1)
    for round_ in range(3):
        (found,) = engine.train(task_of(len(norms), round_))
        factors = np.minimum(1.0, clip_norm / exact)
        wanted = factors @ reply.deltas.numpy() / len(norms)
        np.testing.assert_allclose(found.deltas[0].numpy(), wanted, rtol=0, atol=1e-6)
        share = np.mean(exact <= clip_norm)
        clip_norm *= math.exp(-0.2 * (share - quantile))
        assert engine.step.clip_norm == pytest.approx(clip_norm)


@pytest.mark.parametrize("start", [1e-3, 30.0])
def test_it_comes_to_the_quantile_from_both_sides(start):
    norms = np.random.default_rng(0).lognormal(size=40) * start
    engine = engine_of(without_noise(quantile=0.8), updates(norms))
    for round_ in range(200):
        list(engine.train(task_of(40, round_)))
    assert np.mean(norms <= engine.step.clip_norm) == pytest.approx(0.8, abs=1.5 / 40)


def test_updates_that_are_not_finite_are_beyond_it():
    reply = updates([np.nan, np.inf, 1e-9])
    engine = engine_of(without_noise(quantile=0.5), reply)
    list(engine.train(task_of(3)))
    assert engine.step.clip_norm == pytest.approx(CLIP_START * math.exp(-0.2 * (1 / 3 - 0.5)))


# ── the noise ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("masked", [False, True])
def test_the_count_has_the_noise_that_the_account_says(masked):
    """What the plan leaves for the count: read off the steps of the clip norm."""
    n, z, n_seeds = 6, 0.2, 150
    trust = "distributed" if masked else "server"
    mechanism = ClientLevelDP(z, clip_norm="adaptive", trust=trust, n_honest=n, **ROWS)
    reply = updates([1e-9, 1e-9, 1e-9, 9.0, 9.0, 9.0])
    found = []
    for seed in range(n_seeds):
        engine = engine_of(mechanism, reply, masked, seed)
        list(engine.train(task_of(n)))
        share = 0.8 - math.log(engine.step.clip_norm / CLIP_START) / 0.2
        found.append((share - 0.5) * n)
    noise = max(n / 20, z)  # of the count: docs of split_noise
    square = (np.array(found) ** 2).sum() / noise**2
    assert chi2.ppf(1e-6, n_seeds) < square < chi2.ppf(1 - 1e-6, n_seeds)


@repeatable
@given(
    norms=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=6),
    other=st.sampled_from([0.0, 1e-2, 10.0, np.nan, np.inf]),
)
def test_one_client_changes_sum_and_count_by_no_more_than_their_bounds(norms, other):
    """As the account has it: within the clip norm, and half a vote."""
    mechanism, n = without_noise(sampling_rate=0.5), len(norms) + 1
    seen = []
    for with_it in (True, False):
        reply = updates([*norms, other])
        if not with_it:
            reply = reply.take(np.arange(n) < n - 1)
        step = mechanism.plan(1, n_clients=40).step
        engine = NoisySumEngine(Replies(reply), step, scale=1.0, least_noise=0.0, seed=0)
        (found,) = engine.train(task_of(n))
        votes = (0.8 - math.log(engine.step.clip_norm / CLIP_START) / 0.2 - 0.5) * step.denominator
        seen.append((found.deltas[0].numpy() * step.denominator, votes))
    (one, votes), (two, fewer) = seen
    assert np.linalg.norm(one - two) <= CLIP_START * (1 + 1e-6)
    assert abs(votes - fewer) <= 0.5 * (1 + 1e-6)


# ── trainings ────────────────────────────────────────────────────────────────────────


def test_a_training_in_stages_keeps_its_clip_norm():
    X, y, clients = data(40)
    privacy = ClientLevelDP(1.0, clip_norm="adaptive", **ROWS)
    whole = FedFocalClassifier((8,), n_rounds=6, privacy=privacy, random_state=0)
    whole.fit(X, y, clients=clients)
    staged = FedFocalClassifier((8,), n_rounds=3, privacy=privacy, random_state=0, warm_start=True)
    staged.fit(X, y, clients=clients).fit(X, y, clients=clients)
    np.testing.assert_array_equal(staged.theta_, whole.theta_)
    account = whole.training_state_["privacy"]
    assert account["clip_norm"] == staged.training_state_["privacy"]["clip_norm"] != CLIP_START
