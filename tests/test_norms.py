"""Norms of updates and of rows' gradients: those of what is never written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engines import every_module, plan_of, rows_for, task_of
from torch.func import functional_call

from skfedfocal.engines import VectorizedEngine
from skfedfocal.engines._batches import Batch
from skfedfocal.engines._deltas import DenseDeltas, StackedDeltas
from skfedfocal.engines._kernels import kernels_for
from skfedfocal.engines._kernels.dual import DualDeltas, DualKernel
from skfedfocal.engines._kernels.serial import SerialKernel
from skfedfocal.losses import CrossEntropyLoss, FocalLoss, Loss

repeatable = settings(deadline=None, derandomize=True, max_examples=60, database=None)
both_types = st.sampled_from([torch.float32, torch.float64])


def draws(data, shape, dtype):
    """Random values, of which some are large, some small and some zero."""
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6), label="seed"))
    values = rng.normal(size=shape) * 10 ** rng.uniform(-3, 3, size=shape)
    return torch.as_tensor(values * (rng.random(shape) < 0.9)).to(dtype)


def assert_norms(deltas, written_out, scale):
    wanted = written_out.double().norm(dim=1).numpy()
    found = deltas.norms()
    assert found.dtype == np.float64
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-7 * scale)


@repeatable
@given(data=st.data(), dtype=both_types, m=st.integers(1, 5), p=st.integers(1, 40))
def test_norms_of_a_matrix(data, dtype, m, p):
    matrix = draws(data, (m, p), dtype)
    assert_norms(DenseDeltas(matrix), matrix, 0)


def test_norms_of_long_updates_keep_their_digits():
    matrix = torch.full((2, 3_000_001), 0.1)
    matrix[1, 0] = 1e-9
    np.testing.assert_allclose(
        DenseDeltas(matrix).norms(), 0.1 * np.sqrt([3_000_001, 3_000_000]), rtol=1e-6
    )


@repeatable
@given(data=st.data(), dtype=both_types, m=st.integers(1, 5))
def test_norms_of_stacks(data, dtype, m):
    shapes = data.draw(st.lists(st.sampled_from([(3,), (2, 3), (1, 2, 2), (7,)]), min_size=1))
    start = [draws(data, shape, dtype) for shape in shapes]
    stacks = [p + draws(data, (m, *p.shape), dtype) for p in start]
    deltas = StackedDeltas(stacks, start)
    assert_norms(deltas, deltas.matrix(), 0)


@repeatable
@given(
    data=st.data(),
    dtype=both_types,
    m=st.integers(1, 4),
    r=st.integers(1, 6),
    biased=st.booleans(),
    others=st.booleans(),
    cancel=st.booleans(),
)
def test_norms_of_rows_times_derivatives(data, dtype, m, r, biased, others, cancel):
    x, steps = draws(data, (m, r, 5), dtype), draws(data, (m, r, 3), dtype)
    if cancel:  # each row and its like with the opposite step, almost
        x = torch.cat([x, x], 1)
        steps = torch.cat([steps, -steps * (1 + 1e-4)], 1)
    rest = None
    if others:
        start = [draws(data, (2, 3), dtype)]
        rest = StackedDeltas([start[0] + draws(data, (m, 2, 3), dtype)], start)
    exact = DualDeltas(x.double(), steps.double(), biased, None).matrix()
    if rest is not None:
        exact = torch.cat([exact, rest.matrix().double()], 1)
    # What is left of terms that cancel in double precision has half of its digits.
    scale = float((x.double().norm(dim=2) + 1).mul(steps.double().norm(dim=2)).sum(1).max())
    assert_norms(DualDeltas(x, steps, biased, rest), exact, scale)


@every_module
def test_norms_are_those_of_the_updates(name):
    rows, make = rows_for(name)
    module = make()
    for reply in VectorizedEngine(module, rows).train(task_of(module)):
        wanted = reply.deltas.norm(dim=1).numpy()
        assert (wanted > 0).all()
        np.testing.assert_allclose(reply._deltas.norms(), wanted, rtol=1e-10)


# ── gradients of single rows ─────────────────────────────────────────────────────────


def batch_of(kernel, rows, dtype=torch.float64):
    """Parameters of clients near the module's own; a batch with weights, and padding at its end."""
    k = 1 if isinstance(kernel, SerialKernel) else 3
    rng = np.random.default_rng(0)
    params = [
        torch.stack([p.detach() + 0.1 * torch.as_tensor(rng.normal(size=p.shape)).to(dtype)] * k)
        for p in kernel.module.parameters()
        if p.requires_grad
    ]
    places = rng.integers(len(rows.y), size=(k, 6))
    places[:, 4:] = places[:, :1]
    weight = torch.as_tensor(rng.uniform(0.1, 9, size=(k, 6))).to(dtype)
    weight[:, 4:] = 0
    x = rows.features(places.ravel())
    y = torch.as_tensor(rows.labels(places.ravel())).view(k, 6)
    return params, Batch(x.view(k, 6, *x.shape[1:]), y, weight, None)


def norms_by_autograd(kernel, params, batch, loss):
    """One row after the other; (k, w)."""
    found = torch.zeros(batch.y.shape, dtype=torch.float64)
    kernel.module.train()
    for i, j in np.ndindex(*batch.y.shape):
        leaves = [p[i].clone().requires_grad_() for p in params]
        named = dict(zip(kernel.names, leaves, strict=True))
        logits = functional_call(kernel.module, named, (batch.x[i, j : j + 1],))
        constants = batch.constants
        if constants is not None and constants.ndim == 3:
            constants = constants[i]
        value = loss(logits, batch.y[i, j : j + 1], constants).sum()
        gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
        found[i, j] = torch.cat([g.flatten() for g in gradients]).double().norm()
    return found


@every_module
def test_row_norms_are_those_of_each_rows_own_gradient(name):
    rows, make = rows_for(name)
    kernel = kernels_for(make(), rows)[-1]
    params, batch = batch_of(kernel, rows)
    if not kernel.has_row_norms:
        assert kernel.stochastic
        with pytest.raises(NotImplementedError, match="draws random numbers"):
            kernel.row_norms(params, batch, plan_of())
        return
    k = len(batch.y)
    shift = torch.log(torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64))
    by_client = torch.stack([shift * (i + 1) for i in range(k)])[:, None]
    for loss, constants in ((FocalLoss(2.0), None), (FocalLoss(1.0), shift), (Own(), by_client)):
        batch.constants = constants
        wanted = norms_by_autograd(kernel, params, batch, loss)
        found = kernel.row_norms(params, batch, plan_of(loss=loss))
        assert found.shape == batch.y.shape
        assert not found.requires_grad
        assert (wanted > 1e-6).all()
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found[:, 4], found[:, 0])  # padding is the first row again


class Own(CrossEntropyLoss):
    """With a derivative by automatic differentiation."""

    gradient = Loss.gradient

    def __call__(self, logits, y, constants=None):
        return super().__call__(logits + constants, y)


@pytest.mark.parametrize("name", ["relu", "tanh", "no biases", "layer norm", "cnn"])
def test_row_norms_in_single_precision(name):
    rows, make = rows_for(name, dtype=torch.float32)
    kernel = kernels_for(make().float(), rows)[-1]
    params, batch = batch_of(kernel, rows, torch.float32)
    wanted = norms_by_autograd(kernel, params, batch, FocalLoss(2.0))
    found = kernel.row_norms(params, batch, plan_of())
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=0)


def test_a_first_layer_that_is_not_there_has_no_row_norms():
    rows, make = rows_for("wide relu")
    kernel = kernels_for(make(), rows)[0]
    assert type(kernel) is DualKernel
    assert not kernel.has_row_norms
    with pytest.raises(NotImplementedError, match="use MLPKernel"):
        kernel.row_norms([], None, plan_of())
