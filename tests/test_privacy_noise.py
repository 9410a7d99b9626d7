"""Noise: the law that is claimed, streams of their own, and no two of one key."""

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.stats import binom, chi2, kstest, norm

from skfedfocal.privacy import NoiseSource
from skfedfocal.privacy._noise import _REFINED

pytest.importorskip("cryptography")

N = 100_000
RISK = 1e-9  # that a sound source fails a test
TYPES = (torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", TYPES)
def test_values_follow_the_normal_law(dtype):
    values = NoiseSource().normal(N, dtype).double().numpy()
    assert kstest(values, "norm").pvalue > RISK
    low, high = chi2.ppf([RISK / 2, 1 - RISK / 2], N)
    assert low < (values**2).sum() < high
    assert abs(values.sum()) < norm.isf(RISK / 2) * np.sqrt(N)
    # Neighbours, halves of a pair and squares do not go together either.
    for shift in (1, N // 2):
        for x in (values, values**2 - 1):
            assert abs((x * np.roll(x, shift)).mean()) < 8 * x.var() / np.sqrt(N)


def test_tails_are_as_heavy_as_they_should_be():
    values = NoiseSource().normal(3_000_000)
    for far in (3.5, 4.5):
        seen, p = int((values.abs() > far).sum()), 2 * norm.sf(far)
        assert binom.ppf(RISK / 2, len(values), p) <= seen <= binom.isf(RISK / 2, len(values), p)


def test_small_words_become_uniform_between_their_neighbours():
    words = torch.arange(_REFINED, dtype=torch.float32).repeat(100)
    refined = words.clone()
    NoiseSource()._refine(refined)
    added = (refined - words).double().numpy()
    assert refined.min() > 0  # of which a logarithm is taken
    assert added.min() >= 0
    assert added.max() <= 1
    assert kstest(added, "uniform").pvalue > RISK


@pytest.mark.parametrize("n", [0, 1, 2, 3, 1001, 262_144, 300_001])
@pytest.mark.parametrize("dtype", [*TYPES, torch.float16, torch.bfloat16])
def test_every_place_is_filled_whatever_the_length(n, dtype):
    out = torch.full((n,), torch.nan, dtype=dtype)
    values = NoiseSource().normal(n, dtype, out=out)
    assert values is out
    assert values.isfinite().all()
    if n > 1000:
        assert float(values.float().std()) == pytest.approx(1, abs=0.25)
        assert len(values.double().unique()) > (0.98 * n if dtype in TYPES else 100)


def test_shapes_and_types_are_those_asked_for():
    values = NoiseSource().normal((3, 4, 5), torch.float64)
    assert values.shape == (3, 4, 5)
    assert values.dtype == torch.float64


@pytest.mark.parametrize("probability", [0.001, 0.3, 0.5, 0.97])
def test_poisson_samples_have_their_rate(probability):
    drawn = NoiseSource().bernoulli(N, probability)
    low, high = binom.ppf(RISK / 2, N, probability), binom.isf(RISK / 2, N, probability)
    assert low <= drawn.sum() <= high
    together = drawn & np.roll(drawn, 1)
    assert abs(together.mean() - probability**2) < 8 * np.sqrt(probability**2 / N)


def test_certain_draws_are_certain_and_impossible_ones_refused():
    source = NoiseSource()
    assert source.bernoulli(1000, 1.0).all()
    assert not source.bernoulli(1000, 0.0).any()
    with pytest.raises(ValueError, match="probability"):
        source.bernoulli(3, 1.5)


def test_two_sources_differ_and_a_source_never_repeats():
    one, two = NoiseSource(), NoiseSource()
    first = one.normal(1000)
    assert not first.equal(two.normal(1000))
    assert not first.equal(one.normal(1000))


def test_seeded_sources_repeat_and_each_counter_has_its_own_stream():
    first = NoiseSource(5, 1, 2)
    again = NoiseSource(5, 1, 2)
    assert first.normal(1000).equal(again.normal(1000))
    assert (first.bernoulli(1000, 0.5) == again.bernoulli(1000, 0.5)).all()
    streams = [NoiseSource(*key).normal(100) for key in ((5, 1, 2), (5, 2, 1), (5, 12), (51, 2))]
    for k, stream in enumerate(streams):
        assert not any(stream.equal(other) for other in streams[:k])


def test_global_generators_change_nothing_and_stay_as_they_were():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = NoiseSource().normal(100)
    torch.manual_seed(0)
    assert not one.equal(NoiseSource().normal(100))
    assert torch.get_rng_state().equal(before)


def test_threads_that_share_a_source_get_values_of_their_own():
    source = NoiseSource()
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: source.normal(20_001), range(16)))
    together = torch.cat(parts).double()
    assert kstest(together.numpy(), "norm").pvalue > RISK
    # Equal values happen by chance in single precision; equal stretches do not.
    pairs = torch.stack([together[:-1], together[1:]], 1)
    assert len(pairs.unique(dim=0)) == len(pairs)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_source_refuses_to_be_copied(way):
    with pytest.raises(TypeError, match="cannot be copied"):
        way(NoiseSource())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside threads
def test_a_forked_process_takes_a_key_of_its_own():
    source = NoiseSource()
    source.normal(3)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # without torch's kernels, which may wait for threads that fork left behind
        os.write(writer, bytes(source._bytes(64)[:64]))
        os._exit(0)
    there = os.read(reader, 64)
    os.waitpid(child, 0)
    os.close(reader)
    os.close(writer)
    assert there != bytes(source._bytes(64)[:64])
