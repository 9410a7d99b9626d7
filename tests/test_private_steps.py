"""Private steps: what one row or client can change before noise, and the noise itself."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cnn64, mlp64
from scipy.stats import chi2
from test_engines import MODULES, layer_norm_mlp, plan_of, rows_for, seeded
from torch import nn

pytest.importorskip("cryptography")

from skfedfocal._data.blocks import poisson_schedule
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.rows import FederatedRows
from skfedfocal._module import flatten
from skfedfocal.engines import LoopEngine, Task, Updates, VectorizedEngine
from skfedfocal.engines._kernels.mlp import MLPKernel
from skfedfocal.engines._kernels.serial import SerialKernel
from skfedfocal.engines._kernels.vmap import VmapKernel
from skfedfocal.engines._private import NoisySumEngine
from skfedfocal.privacy._plan import NoisySum, PrivateStep

# Rows of modules that may draw random numbers, as recurrent layers do, are not clipped.
DRAWING = ["dropout", "functional dropout", "gru"]
CLIPPED = [name for name in MODULES if name not in DRAWING]
repeatable = settings(deadline=None, derandomize=True, max_examples=70, database=None)


def step_of(rate=0.4, clip_norm=0.5, noise=0.0, server_noise=0.0, unit="example", **params):
    total = NoisySum(clip_norm, noise, server_noise)
    return PrivateStep(unit, rate, total, 1.0, **{"secure": False, **params})


def private_plan(n_clients, step, **changed):
    values = {"private": step, "denominators": 1.0 + np.arange(n_clients), **changed}
    return plan_of(**values)


def updates_of(engine, module, plan, round_=3):
    """Updates by client, and weights."""
    cohort = np.arange(len(engine.sizes))
    replies = list(engine.train(Task(flatten(module), plan, cohort, round_)))
    order = np.argsort(np.concatenate([r.clients for r in replies]))
    deltas = np.concatenate([r.deltas.double().numpy() for r in replies])
    return deltas[order], np.concatenate([r.weights for r in replies])[order]


# ── the engines agree ────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", CLIPPED)
def test_clipped_steps_are_those_of_single_rows_by_autograd(name):
    rows, make = rows_for(name)
    module = make()
    plan = private_plan(6, step_of(), class_weight=np.array([1000.0, 1.0, 0.02]), learning_rate=2.0)
    wanted, weights = updates_of(LoopEngine(module, rows), module, plan)
    engine = VectorizedEngine(module, rows)
    assert engine.clips_rows
    found, same = updates_of(engine, module, plan)
    assert np.abs(wanted).max() > 1e-2
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(weights, plan.denominators)
    np.testing.assert_array_equal(same, weights)


@pytest.mark.parametrize("name", ["relu", "layer norm", "cnn"])
def test_in_single_precision_clipped_sums_are_near_those_of_autograd(name):
    rows, make = rows_for(name, dtype=torch.float32)
    module = make().float()
    plan = private_plan(6, step_of(0.5), n_epochs=1)
    wanted, _ = updates_of(LoopEngine(module, rows), module, plan)
    found, _ = updates_of(VectorizedEngine(module, rows), module, plan)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["relu", "layer norm", "cnn"])
def test_what_follows_the_noise_is_the_same_in_every_engine(name):
    rows, make = rows_for(name)
    module = make()
    options = {"n_epochs": 3, "momentum": 0.5, "weight_decay": 0.1, "proximal": 0.3}
    plan = private_plan(6, step_of(noise=0.7), **options)
    wanted, _ = updates_of(LoopEngine(module, rows), module, plan)
    engine = VectorizedEngine(module, rows)
    np.testing.assert_allclose(updates_of(engine, module, plan)[0], wanted, atol=1e-9)
    if name != "cnn":
        engine.kernel.block_size = 2
    np.testing.assert_allclose(updates_of(engine, module, plan)[0], wanted, atol=1e-9)
    other, _ = updates_of(engine, module, plan, round_=4)
    assert np.abs(other - wanted).max() > 0.01


def test_modules_that_draw_random_numbers_do_not_clip_rows():
    for name in DRAWING:
        rows, make = rows_for(name)
        assert not VectorizedEngine(make(), rows).clips_rows
        assert not LoopEngine(make(), rows).clips_rows


# ── what one row can change ──────────────────────────────────────────────────────────

BY_KERNEL = {
    MLPKernel: (lambda: mlp64(), (5,)),
    VmapKernel: (seeded(layer_norm_mlp), (5,)),
    SerialKernel: (cnn64, (2, 6, 6)),
}


def all_rows(X, y, owners, n_clients):
    """Rows of clients of whom some may have none."""
    order = np.argsort(owners, kind="stable")
    offsets = np.searchsorted(owners[order], np.arange(n_clients + 1))
    layout = ClientLayout(np.arange(n_clients), offsets, order)
    return FederatedRows(X, y, None, layout, 3, torch.float64, torch.device("cpu"))


@repeatable
@given(
    kernel=st.sampled_from(list(BY_KERNEL)),
    n=st.integers(1, 12),
    weights=st.lists(st.sampled_from([0.0, 1e-3, 1.0, 1000.0]), min_size=3, max_size=3),
    clip_norm=st.sampled_from([1e-3, 1.0, 50.0]),
    scale=st.sampled_from([0.0, 1.0, 1e4, 1e200, np.nan, np.inf]),
    seed=st.integers(0, 10**6),
    loop=st.booleans(),
)
def test_one_row_changes_the_sum_by_the_clip_norm_at_most(
    kernel, n, weights, clip_norm, scale, seed, loop
):
    make, shape = BY_KERNEL[kernel]
    module, rng = make(), np.random.default_rng(seed)
    X, y = rng.normal(size=(n, *shape)), rng.integers(3, size=n)
    X[0] *= scale
    # The client of the row that comes and goes keeps its place, even if it has no other.
    owners = np.append(0, rng.integers(2, size=n - 1))
    plan = plan_of(
        class_weight=np.array(weights),
        private=step_of(1.0, clip_norm),
        denominators=np.ones(2),
        n_epochs=1,
        learning_rate=1.0,
    )
    sums = []
    for keep in (slice(0, None), slice(1, None)):
        if len(y[keep]) == 0:
            sums.append(0.0)
            continue
        rows = all_rows(X[keep], y[keep], owners[keep], 2)
        engine = (LoopEngine if loop else VectorizedEngine)(copy.deepcopy(module), rows)
        if not loop:
            assert type(engine.kernel) is kernel
        present = np.flatnonzero(rows.layout.sizes)
        replies = list(engine.train(Task(flatten(module), plan, present, 0)))
        sums.append(sum(r.deltas.sum(0) for r in replies))
        assert torch.isfinite(sums[-1]).all()
    assert float(torch.linalg.vector_norm(sums[0] - sums[1])) <= clip_norm * (1 + 1e-6)


@repeatable
@given(
    n=st.integers(1, 8),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e12, 1e300, np.nan, np.inf]),
    clip_norm=st.sampled_from([1e-3, 1.0, 50.0]),
    seed=st.integers(0, 10**6),
)
def test_one_client_changes_the_sum_by_the_clip_norm_at_most(n, scale, clip_norm, seed):
    rng = np.random.default_rng(seed)
    deltas = torch.as_tensor(rng.normal(size=(n, 7)))
    deltas[0] *= scale
    step = step_of(1.0, clip_norm, unit="client")

    def total(some):
        reply = Updates(np.arange(len(some)), np.ones(len(some)), np.ones((len(some), 2)), some)
        engine = NoisySumEngine(Replies(reply), step, scale=1.0, least_noise=0.0, seed=0)
        (found,) = engine.train(Task(torch.zeros(7, dtype=torch.float64), None, reply.clients, 0))
        assert len(found.weights) == len(found.deltas) == 1
        return found.deltas[0]

    apart = float(torch.linalg.vector_norm(total(deltas) - total(deltas[1:])))
    assert apart <= clip_norm * (1 + 1e-6)
    if 1 <= scale <= 1e12:  # a norm that overflows counts as one that is not finite
        assert apart > 0


class Replies(LoopEngine):
    """An engine whose replies are given."""

    def __init__(self, reply):
        module = mlp64()
        super().__init__(module, rows_for("relu")[0])
        self.reply = reply

    def train(self, task):
        yield self.reply


# ── noise ────────────────────────────────────────────────────────────────────────────


def assert_normal(values, deviation):
    """Chi-square of independent normal values within its 1e-5 tails, and their mean near 0."""
    n = values.size
    low, high = chi2.ppf([1e-5, 1 - 1e-5], n)
    assert low < np.square(values / deviation).sum() < high
    assert abs(values.mean()) < 5 * deviation / n**0.5


NOISY = {
    MLPKernel: (lambda: nn.Sequential(nn.Linear(5, 800), nn.ReLU(), nn.Linear(800, 3)), (5,)),
    VmapKernel: (lambda: nn.Sequential(nn.Linear(5, 800), nn.GELU(), nn.Linear(800, 3)), (5,)),
    SerialKernel: (
        lambda: nn.Sequential(nn.Conv2d(2, 60, 3), nn.Flatten(), nn.Linear(960, 3)),
        (2, 6, 6),
    ),
}


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("kernel", NOISY)
def test_noise_of_a_step_has_the_claimed_deviation(kernel, secure):
    make, shape = NOISY[kernel]
    rng = np.random.default_rng(0)
    X, y, owners = rng.normal(size=(40, *shape)), rng.integers(3, size=40), np.arange(40) % 4
    module, rows = make().double(), all_rows(X, y, owners, 4)
    engine = VectorizedEngine(module, rows)
    assert type(engine.kernel) is kernel
    noise = [
        private_plan(4, step_of(1.0, noise=z, secure=secure), n_epochs=1, learning_rate=0.5)
        for z in (0.0, 0.8)
    ]
    without, with_noise = (updates_of(engine, module, plan)[0] for plan in noise)
    for client, (one, other) in enumerate(zip(with_noise, without, strict=True)):
        assert_normal(one - other, 0.5 * 0.8 / (1 + client))
    # That of one client tells nothing of another's.
    apart = (with_noise - without) * (1 + np.arange(4))[:, None]
    assert np.abs(np.corrcoef(apart)[~np.eye(4, dtype=bool)]).max() < 5 / apart.shape[1] ** 0.5


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("n_clients", [0, 1, 9])
def test_noise_on_a_sum_is_the_same_whoever_takes_part(n_clients, secure):
    step = step_of(0.5, 2.0, server_noise=3.0, unit="client", secure=secure)
    assert_normal(noise_of_sum(step, n_clients, least=6.0), 6.0)
    assert_normal(noise_of_sum(step, n_clients, least=0.0), 3.0)


def test_shares_of_clients_add_up_and_never_to_too_little():
    step = step_of(0.5, 2.0, noise=2.0, unit="client")
    assert_normal(noise_of_sum(step, 16, least=6.0), 8.0)
    assert_normal(noise_of_sum(step, 4, least=6.0), 6.0)


def noise_of_sum(step, n_clients, least):
    p = 20_000
    theta = torch.zeros(p, dtype=torch.float64)
    nothing = torch.zeros(n_clients, p, dtype=torch.float64)
    reply = Updates(np.arange(n_clients), np.ones(n_clients), np.ones((n_clients, 2)), nothing)
    engine = NoisySumEngine(Replies(reply), step, scale=1.0, least_noise=least, seed=0)
    (found,) = engine.train(Task(theta, None, reply.clients, 0))
    return found.deltas[0].numpy()


# ── who is in a step ─────────────────────────────────────────────────────────────────


def test_every_row_is_in_a_step_with_the_same_chance():
    offsets = np.array([0, 5, 5, 30, 31])
    clients, n_steps = np.array([0, 2, 3]), 4000
    rng = np.random.default_rng(0)
    (block,) = poisson_schedule(
        clients,
        offsets,
        n_steps=n_steps,
        block_size=10,
        sampler=lambda members: lambda sizes: rng.random(sizes.sum()) < 0.2,
    )
    assert block.members.tolist() == [2, 0, 3]
    assert set(block.share.tolist()) == {0.0, 1.0}
    owner = block.members[block.owners()]
    # Also padding is of the client itself.
    assert ((block.places >= offsets[owner]) & (block.places < offsets[owner + 1])).all()
    found = np.bincount(block.places, block.share, 31) / n_steps
    np.testing.assert_allclose(found, 0.2, atol=5 * (0.16 / n_steps) ** 0.5)
    for s in range(50):  # nobody twice in a step
        here = slice(block.start[s], block.start[s + 1])
        places = block.places[here][block.share[here] > 0]
        assert len(np.unique(places)) == len(places)


def test_a_step_may_be_of_nobody():
    (block,) = poisson_schedule(
        np.array([0, 1]),
        np.array([0, 3, 5]),
        n_steps=2,
        block_size=2,
        sampler=lambda members: lambda sizes: np.zeros(sizes.sum(), bool),
    )
    assert block.n_steps == 2
    assert block.places.tolist() == [0, 3, 0, 3]
    assert block.share.tolist() == [0.0] * 4
