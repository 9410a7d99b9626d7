"""Recalls estimated on a sample of a client's rows: what the sample is, and how good they are."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cnn64, federation, mlp64
from sklearn.metrics import balanced_accuracy_score
from torch import nn

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal._module import flatten
from skfedfocal._random import shuffled_places
from skfedfocal.engines import (
    LoopEngine,
    ManyFederations,
    Request,
    Task,
    VectorizedEngine,
)
from skfedfocal.engines._kernels.dual import DualKernel
from skfedfocal.engines._kernels.mlp import MLPKernel
from skfedfocal.engines._kernels.serial import SerialKernel
from skfedfocal.engines._kernels.vmap import VmapKernel
from skfedfocal.engines._recall import RecallSample
from skfedfocal.losses import FocalLoss

SIZES = [90, 3, 40, 61, 1, 12]
PLAN = LocalPlan(FocalLoss(1.0), None, None, 1, 7, 0.2, 0.0, 0.0, 0.0, seed=5)
BY_CLASS = np.array([1.0, 0.3, 4.0])


def layer_norm():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Linear(5, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3)
        return nn.Sequential(*layers).double()


MODULES = {
    "mlp": (mlp64, (5,), MLPKernel),
    "dual": (lambda: mlp64(130, hidden=(125, 4)), (130,), DualKernel),
    "layer norm": (layer_norm, (5,), VmapKernel),
    "cnn": (cnn64, (2, 6, 6), SerialKernel),
}


def rows_for(row_shape, sizes=SIZES, *, weighted=False):
    X, y, clients = federation(sizes, row_shape)
    weights = np.random.default_rng(1).uniform(0.1, 3, len(y)) if weighted else None
    layout = ClientLayout.from_ids(clients, len(y))
    return FederatedRows(X, y, weights, layout, 3, torch.float64, torch.device("cpu"))


def recalls(engine, module, plan, cohort, round_):
    task = Task(flatten(module), plan, np.asarray(cohort), round_, wants_recall=True)
    return {
        int(k): r
        for reply in engine.train(task)
        for k, r in zip(reply.clients, reply.recalls, strict=True)
    }


def recall_by_hand(module, rows, plan, client, round_):
    """Class by class, the first rows that the client meets in the round, as many as its share."""
    first, end = rows.layout.offsets[client : client + 2]
    met = shuffled_places(plan.seed, round_, 0, np.array([client]), np.array([end - first])) + first
    X, y = rows.X[rows.layout.rows(met)], rows.y[rows.layout.rows(met)]
    weight = np.ones(len(y))
    if rows.sample_weight is not None:
        weight = rows.sample_weight[rows.layout.rows(met)]
    module.eval()
    right = module(torch.as_tensor(X)).argmax(1).detach().numpy() == y
    found = total = 0.0
    present = np.unique(y)
    shares = {}
    for c in present:
        mine = weight[y == c].sum()
        shares[c] = 1.0 if plan.recall_weight is None else plan.recall_weight[c] * mine
    for c in present:
        n_c = plan.recall_rows
        if len(y) > plan.recall_rows:
            n_c = math.ceil(plan.recall_rows * shares[c] / sum(shares.values()) - 1e-7)
        some = np.flatnonzero(y == c)[:n_c]
        found += shares[c] * np.average(right[some], weights=weight[some])
        total += shares[c]
    return found / total


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("kind", [LoopEngine, VectorizedEngine])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("by_class", [None, BY_CLASS], ids=["by client", "by class"])
@pytest.mark.parametrize("n_epochs", [1, 3])
@pytest.mark.parametrize("recall_rows", [10, 128])
def test_every_engine_judges_the_first_rows_of_each_class(
    name, kind, weighted, by_class, n_epochs, recall_rows
):
    make, row_shape, kernel = MODULES[name]
    sizes = SIZES if n_epochs == 1 else [60, *SIZES[1:3], 51, *SIZES[4:]]
    rows, module = rows_for(row_shape, sizes, weighted=weighted), make()
    plan = replace(PLAN, recall_weight=by_class, recall_rows=recall_rows, n_epochs=n_epochs)
    engine, cohort = kind(module, rows), [5, 0, 2, 3, 1, 4]
    found = recalls(engine, module, plan, cohort, round_=4)
    if kind is VectorizedEngine:
        assert engine.way == kernel.way
    assert found.keys() == set(cohort)
    for client, recall in found.items():
        wanted = recall_by_hand(module, rows, plan, client, 4)
        assert recall == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("by_class", [None, BY_CLASS], ids=["by client", "by class"])
def test_several_federations_in_one_block_judge_the_same_rows(by_class):
    rows, module = rows_for((5,)), mlp64()
    keep = np.arange(len(rows.y)) % 3 > 0
    parts = [rows.layout.restrict(keep), rows.layout.restrict(~keep)]
    plan = replace(PLAN, recall_weight=by_class, recall_rows=12)
    theta = flatten(module)
    tasks = [Task(theta, plan, np.array(cohort), 2, True) for cohort in ([0, 2, 3], [3])]
    many = ManyFederations(module, rows, parts)
    requests = [Request(task, part) for part, task in enumerate(tasks)]
    found = {
        (i, int(k)): r
        for i, reply in many.train(requests)
        for k, r in zip(reply.clients, reply.recalls, strict=True)
    }
    assert len(found) == 4
    for (i, client), recall in found.items():
        wanted = recall_by_hand(mlp64(), rows.regroup(parts[i]), plan, client, 2)
        assert recall == pytest.approx(wanted, abs=1e-12)


def sampled(owner, labels, plan, row_weight=1.0, n_clients=None, n_classes=None):
    owner, labels = np.asarray(owner), np.asarray(labels)
    n_clients = n_clients or owner.max() + 1
    return RecallSample.draw(owner, labels, row_weight, n_clients, n_classes or 4, plan)


tables = st.lists(  # rows by client and class
    st.lists(st.integers(0, 60), min_size=4, max_size=4), min_size=1, max_size=4
)
class_weights = st.none() | st.lists(st.floats(0.01, 50), min_size=4, max_size=4).map(np.array)


@settings(deadline=None, derandomize=True, max_examples=60, database=None)
@given(table=tables, size=st.integers(1, 80), by_class=class_weights, seed=st.integers(0, 99))
def test_what_the_sample_is(table, size, by_class, seed):
    table = np.array(table)
    m, n_classes = table.shape
    cells = np.random.default_rng(seed).permutation(np.repeat(np.arange(table.size), table.ravel()))
    owner, labels = np.divmod(cells, n_classes)
    plan = replace(PLAN, recall_weight=by_class, recall_rows=size)
    sample = sampled(owner, labels, plan, n_clients=m)
    np.testing.assert_array_equal(sample.owner, owner[sample.index])
    np.testing.assert_array_equal(sample.labels, labels[sample.index])
    assert len(set(sample.index.tolist())) == len(sample.index)
    for k, n_rows in enumerate(table):
        mine = sample.owner == k
        taken = np.bincount(sample.labels[mine], minlength=n_classes)
        assert ((taken > 0) == (n_rows > 0)).all()
        if n_rows.sum() <= size:
            np.testing.assert_array_equal(taken, n_rows)
        assert taken.sum() <= size + n_classes  # shares are rounded up
        share = np.bincount(sample.labels[mine], sample.weight[mine], n_classes)
        weight = n_rows * by_class if by_class is not None else (n_rows > 0).astype(float)
        np.testing.assert_allclose(share * weight.sum(), weight, atol=1e-9)
        # The variance of a stratified mean of zeros and ones, at its largest.
        drawn = taken < n_rows
        assert (share[drawn] ** 2 / taken[drawn]).sum() / 4 <= (1 + 1e-6) / (4 * size)


def test_the_estimate_is_unbiased_and_as_good_as_it_says():
    rows, module = rows_for((5,), [700, 300, 420]), mlp64()
    plan, codes = replace(PLAN, recall_rows=60), rows.layout.codes()
    predicted = module(torch.as_tensor(rows.X)).argmax(1).numpy()
    engine, n_rounds = LoopEngine(module, rows), 60
    plan = replace(plan, batch_size=700)
    found = [recalls(engine, module, plan, range(3), r) for r in range(n_rounds)]
    bound = 0.5 / math.sqrt(plan.recall_rows)
    for client in range(3):
        exact = balanced_accuracy_score(rows.y[codes == client], predicted[codes == client])
        estimates = np.array([recall[client] for recall in found])
        assert 0.01 < estimates.std() < 1.2 * bound
        assert abs(estimates.mean() - exact) < 4 * bound / math.sqrt(n_rounds)


def test_one_rare_row_is_always_judged():
    """It is half of the recall; among rows drawn at random it would be missing as a rule."""
    owner, labels = np.zeros(1000, int), np.zeros(1000, int)
    labels[617] = 1
    plan = replace(PLAN, recall_weight=np.array([1.0, 999.0, 1.0, 1.0]))
    sample = sampled(owner, labels, plan)
    assert 617 in sample.index
    assert sample.weight[sample.index == 617] == pytest.approx(0.5)
    assert len(sample.index) == 64 + 1
    wrong_there = np.where(sample.index == 617, 0, sample.labels)
    np.testing.assert_allclose(sample.recalls(wrong_there), 0.5)


def test_recall_lies_between_0_and_1_in_spite_of_rounding():
    """Sites' reports outside are refused."""
    for n in range(1, 60):
        sample = sampled(np.zeros(n, int), np.arange(n) % 3, PLAN)
        assert sample.recalls(sample.labels).tolist() == [1.0]
        assert 0 <= sample.recalls(sample.labels + 1)[0] < 1e-12


def test_rows_that_weigh_nothing_ask_for_no_focus():
    plan = replace(PLAN, recall_weight=np.array([0.0, 1.0, 1.0, 1.0]))
    owner, labels = [0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1, 1]
    sample = sampled(owner, labels, plan, n_clients=3)
    decided = np.where(sample.index == 4, 0, sample.labels)
    decided[sample.owner == 0] = 2
    np.testing.assert_allclose(sample.recalls(decided), [1, float(Fraction(2, 3)), 1])
    large = sampled([0] * 500, [0] * 500, plan)  # none of which need to be judged
    assert len(large.index) == 0
    assert large.recalls(large.labels).tolist() == [1.0]
