"""Engines: the vectorised one gives the numbers of the plain loop, whatever the module and plan."""

from __future__ import annotations

import copy
import math
import random
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cnn64, federation, mlp64
from scipy import sparse
from sklearn.metrics import accuracy_score, recall_score
from torch import nn
from torch.nn import functional

from skfedfocal import FedFocalClassifier
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal._module import flatten
from skfedfocal.engines import ENGINES, LoopEngine, Task, VectorizedEngine, _batches
from skfedfocal.engines._kernels import dual as _dual
from skfedfocal.engines._kernels import kernel_of_round
from skfedfocal.engines._kernels.dual import DualKernel
from skfedfocal.engines._kernels.mlp import MLPKernel
from skfedfocal.engines._kernels.serial import SerialKernel
from skfedfocal.engines._kernels.vmap import VmapKernel
from skfedfocal.losses import LOSSES, FocalLoss
from skfedfocal.strategies import FedProx

SIZES = [3, 1, 40, 7, 2, 21]  # ragged: one row, and one client as large as the rest together


# ── modules, by the kernel that is to train them ─────────────────────────────────────


def seeded(make):
    def build():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return make().double()

    return build


class Residual(nn.Module):
    """No Sequential: only vmap can batch it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.second(x + functional.gelu(self.first(x)))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(2, 4, batch_first=True)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.gru(x)[0][:, -1])


class FunctionalDropout(nn.Module):
    """Draws random numbers, though none of its layers tells."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(functional.dropout(torch.relu(self.first(x)), 0.3, self.training))


class Unused(nn.Module):
    """Has a layer that its forward pass does not use."""

    other = staticmethod(lambda: nn.Linear(2, 2))

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(5, 3), self.other()

    def forward(self, x):
        return self.used(x)


class UnusedConvolution(Unused):
    other = staticmethod(lambda: nn.Conv1d(2, 2, 1))


class Words(nn.Module):
    """Mean of word embeddings; rows are integers."""

    def __init__(self):
        super().__init__()
        self.embedding, self.last = nn.Embedding(11, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.embedding(x).mean(1))


class Convolved(nn.Module):
    """A convolution, whose module is trained one client at a time, and linear layers used `how`."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.conv, self.hidden, self.last = nn.Conv1d(1, 2, 2), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        if self.how == "weights read":
            x = x * self.hidden.weight.square().mean()
        h = self.conv(x.unsqueeze(1)).tanh()
        if self.how == "in three dimensions":
            return self.last(self.hidden(h.flatten(1).unsqueeze(1)).squeeze(1))
        h = self.hidden(h.flatten(1)).tanh()
        if self.how == "twice":
            h = self.hidden(h).tanh()
        return self.last(h.detach() if self.how == "cut off" else h)


CONVOLVED = ["once", "twice", "in three dimensions", "cut off", "weights read"]


def layer_norm_mlp():
    return nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3))


def frozen_first_layer():
    module = mlp64()
    module[0].requires_grad_(False)
    return module


def frozen_bias():
    module = mlp64()
    module[2].bias.requires_grad_(False)
    return module


def tied_weights():
    module = nn.Sequential(nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))
    module[2].weight = module[0].weight
    return module


def same_layer_twice():
    layer = nn.Linear(5, 5)
    return nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(5, 3))


def dropout_mlp():
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3))


MODULES = {
    # name: (module, shape of a row, kernel)
    "linear": (lambda: mlp64(hidden=()), (5,), MLPKernel),
    "relu": (mlp64, (5,), MLPKernel),
    "tanh": (lambda: mlp64(activation=nn.Tanh), (5,), MLPKernel),
    "sigmoid": (lambda: mlp64(activation=nn.Sigmoid), (5,), MLPKernel),
    "leaky": (lambda: mlp64(activation=lambda: nn.LeakyReLU(0.2)), (5,), MLPKernel),
    "elu": (lambda: mlp64(activation=lambda: nn.ELU(0.7)), (5,), MLPKernel),
    "relu in place": (lambda: mlp64(activation=lambda: nn.ReLU(inplace=True)), (5,), MLPKernel),
    "no biases": (lambda: mlp64(bias=False), (5,), MLPKernel),
    "flatten first": (lambda: nn.Sequential(nn.Flatten(), *mlp64(6)), (2, 3), MLPKernel),
    # Wider than twice the rows of any client, and rows wider still: rows times derivatives are less
    # than a copy of the first layer.
    "wide relu": (lambda: mlp64(64, hidden=(56, 4)), (64,), DualKernel),
    "wide tanh": (lambda: mlp64(64, hidden=(56,), activation=nn.Tanh), (64,), DualKernel),
    "wide elu": (lambda: mlp64(64, hidden=(56, 4), activation=nn.ELU), (64,), DualKernel),
    "wide, no biases": (lambda: mlp64(64, hidden=(56, 4), bias=False), (64,), DualKernel),
    "wide, flatten first": (
        lambda: nn.Sequential(nn.Flatten(), *mlp64(64, hidden=(56,))),
        (8, 8),
        DualKernel,
    ),
    "no activation": (
        seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))),
        (5,),
        MLPKernel,
    ),
    "identity": (
        seeded(
            lambda: nn.Sequential(
                nn.Identity(),
                nn.Linear(5, 4),
                nn.Identity(),
                nn.ReLU(),
                nn.Linear(4, 3),
                nn.Identity(),
            )
        ),
        (5,),
        None,  # a last Identity may go either way
    ),
    "layer norm": (seeded(layer_norm_mlp), (5,), VmapKernel),
    "gelu": (lambda: mlp64(activation=nn.GELU), (5,), VmapKernel),
    "two activations": (
        seeded(lambda: nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.ReLU(), nn.Linear(4, 3))),
        (5,),
        VmapKernel,
    ),
    "falling slope": (lambda: mlp64(activation=lambda: nn.LeakyReLU(-0.5)), (5,), VmapKernel),
    "residual": (seeded(Residual), (5,), VmapKernel),
    "frozen layer": (frozen_first_layer, (5,), VmapKernel),
    "frozen bias": (frozen_bias, (5,), VmapKernel),
    "tied weights": (seeded(tied_weights), (5,), VmapKernel),
    "same layer twice": (seeded(same_layer_twice), (5,), SerialKernel),
    "unused parameters": (seeded(Unused), (5,), VmapKernel),
    "unused convolution": (seeded(UnusedConvolution), (5,), SerialKernel),
    "embedding": (seeded(Words), (6,), VmapKernel),
    "cnn": (cnn64, (2, 6, 6), SerialKernel),
    **{
        f"linear {how}": (seeded(lambda how=how: Convolved(how)), (5,), SerialKernel)
        for how in CONVOLVED
    },
    "gru": (seeded(Recurrent), (4, 2), SerialKernel),
    "dropout": (seeded(dropout_mlp), (5,), SerialKernel),
    "functional dropout": (seeded(FunctionalDropout), (5,), SerialKernel),
}
every_module = pytest.mark.parametrize("name", MODULES)
# One module for each kernel, where what is tested has nothing to do with the module.
one_per_kernel = pytest.mark.parametrize("name", ["relu", "wide relu", "layer norm", "cnn"])
in_blocks = pytest.mark.parametrize("name", ["relu", "wide relu", "layer norm"])


# ── helpers ──────────────────────────────────────────────────────────────────────────


def rows_for(name, sizes=SIZES, *, sample_weight=False, dtype=torch.float64, as_sparse=False):
    make, row_shape, _ = MODULES[name]
    X, y, clients = federation(sizes, row_shape)
    if name == "embedding":
        X, dtype = np.random.default_rng(0).integers(11, size=X.shape), torch.int64
    weights = np.random.default_rng(1).uniform(0.1, 3, len(y)) if sample_weight else None
    layout = ClientLayout.from_ids(clients, len(y))
    X = sparse.csr_matrix(X) if as_sparse else X
    return FederatedRows(X, y, weights, layout, 3, dtype, torch.device("cpu")), make


def plan_of(**changed):
    values = {
        "loss": FocalLoss(2.0),
        "class_weight": None,
        "constants": None,
        "n_epochs": 2,
        "batch_size": 7,
        "learning_rate": 0.2,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "proximal": 0.0,
        "seed": 5,
    }
    return LocalPlan(**{**values, **changed})


def task_of(module, plan=None, cohort=range(6), round_=0, wants_recall=False):
    return Task(flatten(module), plan or plan_of(), np.asarray(cohort), round_, wants_recall)


def train(engine, module, plan, cohort=None, round_=3, *, recall=True):
    """Replies by client number: (update, loss, weight, recall)."""
    cohort = np.arange(len(engine.sizes)) if cohort is None else np.asarray(cohort)
    replies = {}
    # All blocks before the first is read: one must not be written over by the next.
    blocks = list(engine.train(Task(flatten(module), plan, cohort, round_, recall)))
    for block in blocks:
        updates = block.deltas.numpy()
        for i, client in enumerate(block.clients.tolist()):
            assert client not in replies
            replies[client] = (
                updates[i],
                block.objective[i],
                block.weights[i],
                block.recalls[i] if recall else None,
            )
    assert sorted(replies) == sorted(cohort.tolist())
    return replies


def assert_same(found, wanted, atol=1e-9):
    assert found.keys() == wanted.keys()
    for client in wanted:
        for one, other in zip(found[client], wanted[client], strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=atol)


@contextmanager
def blocks_of(engine, n_clients):
    """Let an engine train so many clients side by side."""
    values = engine.rows.layout.sizes.max() * math.prod(engine.rows.X.shape[1:])
    before = engine.kernel.block_size, _dual._BLOCK_VALUES
    # For the plan's two epochs; with fewer, more clients fit.
    engine.kernel.block_size, _dual._BLOCK_VALUES = n_clients, int(2 * values * n_clients)
    try:
        yield
    finally:
        engine.kernel.block_size, _dual._BLOCK_VALUES = before


def kernel_of(engine, plan):
    """The kernel that trains all clients."""
    return kernel_of_round(engine.kernels, plan, engine.rows.layout.sizes)


def assert_engines_agree(name, plan, cohort=None, **rows_options):
    """Both engines on one module; the vectorised one also in small blocks. Returns the replies."""
    rows, make = rows_for(name, **rows_options)
    module = make()
    by_loop = train(LoopEngine(module, rows), module, plan, cohort)
    engine = VectorizedEngine(module, rows)
    assert_same(train(engine, module, plan, cohort), by_loop)
    if not isinstance(engine.kernel, SerialKernel):
        with blocks_of(engine, 2):
            assert_same(train(engine, module, plan, cohort), by_loop)
    assert max(np.abs(update).max() for update, *_ in by_loop.values()) > 1e-3
    return by_loop


# ── the engines agree ────────────────────────────────────────────────────────────────


@every_module
def test_engines_agree_on_every_module(name):
    assert_engines_agree(name, plan_of())


@every_module
def test_the_kernel_is_the_one_meant(name):
    rows, make = rows_for(name)
    kernel = kernel_of(VectorizedEngine(make(), rows), plan_of())
    wanted = MODULES[name][2]
    assert wanted is None or type(kernel) is wanted
    assert (kernel.block_size == 1) == isinstance(kernel, SerialKernel)


@pytest.mark.parametrize(
    "changed", [{"momentum": 0.1}, {"weight_decay": 0.1}, {"proximal": 0.1}, {"n_epochs": 9}]
)
def test_a_first_layer_of_rows_times_derivatives_is_for_short_plain_training(changed):
    rows, make = rows_for("wide relu")
    engine = VectorizedEngine(make(), rows)
    assert type(kernel_of(engine, plan_of())) is DualKernel
    assert type(kernel_of(engine, plan_of(**changed))) is MLPKernel


def test_a_single_layer_of_rows_times_derivatives():
    module, plan = mlp64(9, 6, hidden=()), plan_of(batch_size=2)
    X, y, clients = federation([3, 1, 4, 2], (9,), n_classes=6)
    layout = ClientLayout.from_ids(clients, len(y))
    rows = FederatedRows(X, y, None, layout, 6, torch.float64, torch.device("cpu"))
    engine = VectorizedEngine(module, rows)
    assert type(kernel_of(engine, plan)) is DualKernel
    assert_same(train(engine, module, plan), train(LoopEngine(module, rows), module, plan))


@one_per_kernel
@pytest.mark.parametrize(
    "changed",
    [
        {"n_epochs": 1, "batch_size": 1},
        {"n_epochs": 3, "batch_size": 1000},
        {"momentum": 0.9},
        {"weight_decay": 0.3},
        {"proximal": 0.8},
        {"momentum": 0.9, "weight_decay": 0.3, "proximal": 0.8, "n_epochs": 3},
        {"class_weight": np.array([0.2, 1.0, 7.0])},
        {"class_weight": "local"},
        {"seed": 2**31 - 2},
    ],
    ids=str,
)
def test_engines_agree_on_every_plan(name, changed):
    assert_engines_agree(name, plan_of(**changed))


@one_per_kernel
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_engines_agree_on_every_loss(name, loss):
    loss = LOSSES[loss]()
    rows, _ = rows_for(name)
    constants = None
    if loss.counts == "federated":
        constants = loss.constants(torch.as_tensor(rows.label_counts(np.arange(6)).sum(0)))
    assert_engines_agree(name, plan_of(loss=loss, constants=constants))
    if "counts" in loss.get_params():
        assert_engines_agree(name, plan_of(loss=loss.set_params(counts="local")))


@one_per_kernel
def test_engines_agree_on_a_gamma_for_each_class(name):
    assert_engines_agree(name, plan_of(loss=FocalLoss([0.0, 0.5, 3.0])))


@one_per_kernel
@pytest.mark.parametrize("class_weight", [None, "local"])
def test_engines_agree_on_sample_weights(name, class_weight):
    plan = plan_of(class_weight=class_weight)
    weighted = assert_engines_agree(name, plan, sample_weight=True)
    plain = assert_engines_agree(name, plan)
    assert np.abs(weighted[2][0] - plain[2][0]).max() > 1e-3


@one_per_kernel
@pytest.mark.parametrize("cohort", [[2], [5, 0, 3], [4, 3, 2, 1, 0], [1, 2]], ids=str)
def test_engines_agree_on_any_cohort_in_any_order(name, cohort):
    assert_engines_agree(name, plan_of(), cohort)


@one_per_kernel
def test_engines_agree_on_equal_clients(name):
    assert_engines_agree(name, plan_of(), sizes=[14] * 5)


@in_blocks
def test_engines_agree_on_sparse_rows(name):
    dense = assert_engines_agree(name, plan_of())
    assert_same(assert_engines_agree(name, plan_of(), as_sparse=True), dense)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.bool_, np.float32])
@pytest.mark.parametrize("name", ["relu", "layer norm", "cnn"])
def test_engines_agree_on_rows_of_every_type(name, kind):
    _, row_shape, _ = MODULES[name]
    X, y, clients = federation(SIZES, row_shape)
    X = np.abs(X).round(1).astype(kind)
    layout, cpu = ClientLayout.from_ids(clients, len(y)), torch.device("cpu")
    module = MODULES[name][0]()
    replies = []
    for given_rows in (X, X.astype(np.float64)):
        rows = FederatedRows(given_rows, y, None, layout, 3, torch.float64, cpu)
        for engine in (LoopEngine(module, rows), VectorizedEngine(module, rows)):
            replies.append(train(engine, module, plan_of()))
    for other in replies[1:]:
        assert_same(other, replies[0])


@settings(deadline=None, derandomize=True, max_examples=30, database=None)
@given(
    sizes=st.lists(st.integers(1, 25), min_size=1, max_size=9),
    batch_size=st.integers(1, 30),
    n_epochs=st.integers(1, 3),
    block_size=st.integers(1, 10),
    width=st.sampled_from([4, 20]),
    data=st.data(),
)
def test_engines_agree_on_any_federation(sizes, batch_size, n_epochs, block_size, width, data):
    numbers = st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=len(sizes), unique=True)
    cohort = data.draw(numbers, label="cohort")
    X, y, clients = federation([*sizes, 3], (width,))  # 3 more rows, so that there are 3 classes
    layout = ClientLayout.from_ids(clients, len(y))
    rows = FederatedRows(X, y, None, layout, 3, torch.float64, torch.device("cpu"))
    module = mlp64(width, hidden=(width,))
    plan = plan_of(batch_size=batch_size, n_epochs=n_epochs, class_weight="local")
    by_loop = train(LoopEngine(module, rows), module, plan, cohort)
    engine = VectorizedEngine(module, rows)
    with blocks_of(engine, block_size):
        assert_same(train(engine, module, plan, cohort), by_loop)


@pytest.mark.parametrize("block_size", [1, 3, 100])
def test_convolutions_through_vmap_are_those_through_autograd(block_size):
    # On an accelerator convolutions are trained in blocks.
    rows, make = rows_for("cnn")
    module, plan = make(), plan_of(momentum=0.5)
    engine = VectorizedEngine(module, rows)
    by_autograd = train(engine, module, plan)
    engine.kernels = [VmapKernel(module, block_size)]
    assert_same(train(engine, module, plan), by_autograd)


@in_blocks
def test_single_precision_differs_by_rounding_only(name):
    rows, make = rows_for(name)
    wanted = train(LoopEngine(make(), rows), make(), plan_of())
    rows, _ = rows_for(name, dtype=torch.float32)
    module = make().float()
    for engine in (LoopEngine(module, rows), VectorizedEngine(module, rows)):
        assert_same(train(engine, module, plan_of()), wanted, atol=1e-4)


# ── a client's reply is its own ──────────────────────────────────────────────────────


@one_per_kernel
@pytest.mark.parametrize("kind", [LoopEngine, VectorizedEngine])
def test_reply_does_not_depend_on_who_else_takes_part(name, kind):
    rows, make = rows_for(name)
    module, plan = make(), plan_of(class_weight="local")
    engine = kind(module, rows)
    together = train(engine, module, plan)
    for cohort in ([0], [1], [5], [4, 2], [3, 1, 0, 5]):
        some = train(engine, module, plan, cohort)
        assert_same(some, {k: together[k] for k in cohort}, atol=1e-12)


@in_blocks
def test_size_of_blocks_changes_nothing(name):
    rows, make = rows_for(name)
    module, plan = make(), plan_of()
    engine = VectorizedEngine(module, rows)
    replies = []
    for n_clients in (1, 2, 3, 5, 1000):
        with blocks_of(engine, n_clients):
            replies.append(train(engine, module, plan))
    for other in replies[1:]:
        assert_same(other, replies[0], atol=1e-12)


@one_per_kernel
def test_rows_fetched_in_pieces_are_the_same_rows(name, monkeypatch):
    rows, make = rows_for(name)
    module, plan = make(), plan_of()
    engine = VectorizedEngine(module, rows)
    at_once = train(engine, module, plan)
    monkeypatch.setattr(_batches, "_SEGMENT_VALUES", 1)  # one step at a time
    assert_same(train(engine, module, plan), at_once, atol=1e-12)


@one_per_kernel
@pytest.mark.parametrize("kind", [LoopEngine, VectorizedEngine])
@pytest.mark.parametrize("bad", [0, 2])
def test_one_clients_infinite_rows_harm_nobody_else(name, kind, bad):
    rows, make = rows_for(name)
    module, plan = make(), plan_of()
    healthy = train(LoopEngine(module, rows), module, plan)
    rows.X[rows.layout.codes() == bad] = np.inf
    engine = kind(module, rows)
    replies = train(engine, module, plan)
    assert not np.isfinite(replies.pop(bad)[0]).all()
    for reply in engine.train(task_of(module, plan, round_=3)):
        np.testing.assert_array_equal(reply.good(), reply.clients != bad)
    del healthy[bad]
    assert_same(replies, healthy)


@one_per_kernel
def test_reply_depends_on_round_and_seed(name):
    rows, make = rows_for(name)
    module = make()
    engine = VectorizedEngine(module, rows)
    first = train(engine, module, plan_of(), round_=0)
    assert_same(train(engine, module, plan_of(), round_=0), first, atol=0)
    for other in (
        train(engine, module, plan_of(), round_=1),
        train(engine, module, plan_of(seed=6), round_=0),
    ):
        assert np.abs(other[2][0] - first[2][0]).max() > 1e-6


@every_module
@pytest.mark.parametrize("kind", [LoopEngine, VectorizedEngine])
def test_training_leaves_the_global_model_as_it_was(name, kind):
    rows, make = rows_for(name)
    module = make()
    before = copy.deepcopy(module.state_dict())
    theta = flatten(module)
    kept = theta.clone()
    for _ in kind(module, rows).train(Task(theta, plan_of(), np.arange(6), 0)):
        pass
    assert torch.equal(theta, kept)
    if kind is LoopEngine:  # trains a copy
        for key, value in module.state_dict().items():
            assert torch.equal(value, before[key])
    for key, p in module.named_parameters():
        if not p.requires_grad:
            assert torch.equal(p, before[key])


@one_per_kernel
@pytest.mark.parametrize("kind", [LoopEngine, VectorizedEngine])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("by_class", [False, True])
def test_recall_is_that_of_the_global_model(name, kind, weighted, by_class):
    rows, make = rows_for(name, sample_weight=weighted)
    module = make()
    class_weight = 1.0 + np.arange(rows.n_classes) if by_class else None
    replies = train(kind(module, rows), module, plan_of(recall_weight=class_weight))
    codes = rows.layout.codes()
    predicted = module(torch.as_tensor(rows.X)).argmax(1).numpy()
    weights = np.random.default_rng(1).uniform(0.1, 3, len(codes)) if weighted else None
    for client, (*_, size, recall) in replies.items():
        mine = codes == client
        own_weights = None if weights is None else weights[mine]
        total = mine.sum() if weights is None else own_weights.sum()
        np.testing.assert_allclose(size, total, rtol=1e-12)
        # scikit-learn's on the client's rows: accuracy with these weights, else balanced accuracy.
        truth, found = rows.y[mine], predicted[mine]
        of_rows = np.ones(len(truth)) if weights is None else own_weights
        if by_class:
            wanted = accuracy_score(truth, found, sample_weight=of_rows * class_weight[truth])
        else:
            wanted = recall_score(
                truth, found, labels=np.unique(truth), average="macro", sample_weight=of_rows
            )
        np.testing.assert_allclose(recall, wanted, atol=1e-12)


@pytest.mark.parametrize("kind", [LoopEngine, VectorizedEngine])
def test_recall_is_computed_only_where_it_is_wanted(kind):
    rows, make = rows_for("relu")
    module = make()
    for block in kind(module, rows).train(task_of(module)):
        assert block.recalls is None


@every_module
@pytest.mark.parametrize("kind", [LoopEngine, VectorizedEngine])
def test_weighted_sums_are_those_of_the_updates(name, kind):
    # Kernels keep updates as they came about, and sum them in their own way.
    rows, make = rows_for(name)
    module = make()
    for reply in kind(module, rows).train(task_of(module)):
        weights = np.random.default_rng(0).uniform(1, 90, len(reply.clients))
        total = torch.ones(reply.deltas.shape[1], dtype=torch.float64)
        reply.add_to(total, weights)
        np.testing.assert_allclose(total - 1, weights @ reply.deltas.numpy(), rtol=0, atol=1e-10)
        assert reply.good().all()
        some = np.arange(len(weights)) % 2 == 0
        part = reply.take(some)
        np.testing.assert_array_equal(part.clients, reply.clients[some])
        np.testing.assert_allclose(part.deltas, reply.deltas[torch.as_tensor(some)])


# ── sample weights ───────────────────────────────────────────────────────────────────


@one_per_kernel
def test_a_weight_of_all_rows_scales_sizes_alone(name):
    rows, make = rows_for(name)
    heavy = FederatedRows(
        rows.X, rows.y, np.full(len(rows.y), 2.5), rows.layout, 3, rows.dtype, rows.device
    )
    module = make()
    plain = train(VectorizedEngine(module, rows), module, plan_of())
    weighted = train(VectorizedEngine(module, heavy), module, plan_of())
    for client, (update, loss, weight, recall) in plain.items():
        np.testing.assert_allclose(weighted[client][0], update, atol=1e-12)
        np.testing.assert_allclose(weighted[client][1], 2.5 * loss, rtol=1e-12)
        np.testing.assert_allclose(weighted[client][2:], (2.5 * weight, recall), rtol=1e-12)


def test_a_row_of_weight_two_is_that_row_twice():
    # With the whole client in one batch; otherwise the batches differ.
    X, y, _ = federation([30])
    twice = np.arange(30) % 3 == 0
    cpu, module = torch.device("cpu"), mlp64()
    plan = plan_of(batch_size=1000, n_epochs=3, class_weight="local")
    one = ClientLayout.from_ids(None, 30)
    weighted = FederatedRows(X, y, 1.0 + twice, one, 3, torch.float64, cpu)
    X_2, y_2 = np.concatenate([X, X[twice]]), np.concatenate([y, y[twice]])
    doubled = FederatedRows(X_2, y_2, None, ClientLayout.from_ids(None, 40), 3, torch.float64, cpu)
    assert_same(
        train(VectorizedEngine(module, weighted), module, plan),
        train(VectorizedEngine(module, doubled), module, plan),
    )


# ── through the public door ──────────────────────────────────────────────────────────


PUBLIC = {
    "balanced": {"class_weight": "balanced"},
    "local": {"class_weight": "local"},
    "dict": {"class_weight": {"a": 2.0, "c": 0.5}},
    "plain": {"class_weight": None, "gamma": 0.0},
    "client focusing": {"client_gamma": 1.5},
    "fedprox": {"strategy": FedProx(mu=0.5), "n_local_epochs": 2},
    "partial": {"clients_per_round": 0.5, "momentum": 0.9, "weight_decay": 0.01},
}


@pytest.mark.parametrize("options", PUBLIC.values(), ids=PUBLIC)
@pytest.mark.parametrize("name", ["relu", "cnn"])
def test_every_engine_fits_the_same_model(name, options):
    make, row_shape, _ = MODULES[name]
    X, y, clients = federation(SIZES, row_shape)
    y = np.array(["a", "b", "c"])[y]
    weights = np.random.default_rng(0).integers(0, 3, len(y)).astype(float)
    fits = [
        FedFocalClassifier(
            module=make(), n_rounds=4, batch_size=7, engine=engine, random_state=1, **options
        ).fit(X, y, sample_weight=weights, clients=clients)
        for engine in ENGINES
    ]
    for clf in fits[1:]:
        np.testing.assert_allclose(clf.theta_, fits[0].theta_, rtol=0, atol=1e-9)
        np.testing.assert_allclose(clf.history_["loss"], fits[0].history_["loss"], atol=1e-9)
        np.testing.assert_allclose(clf.predict_proba(X), fits[0].predict_proba(X), atol=1e-9)


def random_states():
    return (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("name", ["relu", "layer norm", "dropout", "functional dropout", "gru"])
def test_fit_draws_nothing_from_global_generators(name, engine):
    make, row_shape, _ = MODULES[name]
    X, y, clients = federation(SIZES, row_shape)
    clf = FedFocalClassifier(
        module=lambda *_: make(), n_rounds=2, clients_per_round=3, engine=engine, random_state=0
    )
    before = random_states()
    clf.fit(X, y, clients=clients).predict(X)
    after = random_states()
    assert torch.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2] == after[2]


@pytest.mark.parametrize("name", ["dropout", "functional dropout"])
def test_dropout_is_drawn_from_random_state(name):
    make, row_shape, _ = MODULES[name]
    X, y, clients = federation(SIZES, row_shape)
    thetas = []
    for noise in (1, 2):
        torch.manual_seed(noise)  # of no consequence
        clf = FedFocalClassifier(module=make(), n_rounds=2, random_state=0)
        thetas.append(clf.fit(X, y, clients=clients).theta_)
    np.testing.assert_array_equal(*thetas)


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_fit_leaves_the_number_of_threads(engine):
    X, y, clients = federation(SIZES)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        clf = FedFocalClassifier(module=mlp64(), n_rounds=1, engine=engine, random_state=0)
        clf.fit(X, y, clients=clients).predict(X)
        assert torch.get_num_threads() == 2
        with pytest.raises(ValueError, match="clients_per_round"):
            clf.set_params(clients_per_round=99).fit(X, y, clients=clients)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
