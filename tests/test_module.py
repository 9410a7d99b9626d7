"""Modules: built from a seed, checked at the door, and as one flat vector of parameters."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cnn64, federation, mlp64
from torch import nn

from skfedfocal import FederatedClassifier
from skfedfocal._module import (
    ParameterShapes,
    build_module,
    flatten,
    load_flat,
    takes_indices,
    trainable,
)
from skfedfocal._module_check import check_module

repeatable = settings(deadline=None, derandomize=True, max_examples=30, database=None)


def partly_frozen():
    module = mlp64()
    module[0].requires_grad_(False)
    module[2].bias.requires_grad_(False)
    return module


def gru():
    return nn.GRU(2, 3, num_layers=2, batch_first=True).double()


MODULES = {"mlp": mlp64, "cnn": cnn64, "partly frozen": partly_frozen, "gru": gru}
every = pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)


# ── one flat vector ──────────────────────────────────────────────────────────────────


@every
def test_flattening_and_loading_are_inverse(make):
    module = make()
    theta = torch.as_tensor(np.random.default_rng(0).normal(size=len(flatten(module))))
    load_flat(module, theta)
    assert torch.equal(flatten(module), theta)


@every
def test_flat_vector_has_the_trainable_parameters_in_order(make):
    module = make()
    parts = [p.detach().numpy().ravel() for p in module.parameters() if p.requires_grad]
    np.testing.assert_array_equal(flatten(module), np.concatenate(parts))
    assert len(trainable(module)) == len(parts)


@every
def test_flat_vector_is_a_copy(make):
    module = make()
    theta = flatten(module)
    kept = theta.clone()
    load_flat(module, torch.zeros_like(theta))
    assert torch.equal(theta, kept)
    load_flat(module, theta)
    theta.zero_()
    assert torch.equal(flatten(module), kept)
    assert not theta.requires_grad


def test_frozen_parameters_are_no_part_of_it():
    module = partly_frozen()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    load_flat(module, torch.full_like(flatten(module), 7.0))
    for name, p in module.named_parameters():
        assert torch.equal(p, torch.full_like(p, 7.0) if p.requires_grad else before[name])


@every
def test_shapes_split_as_the_module_does(make):
    module = make()
    shapes = ParameterShapes.of(module)
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    assert shapes.names == tuple(name for name, _ in named)
    assert shapes.n_params == len(flatten(module)) == sum(shapes.sizes)
    for part, (_, parameter) in zip(shapes.split(flatten(module)), named, strict=True):
        assert torch.equal(part, parameter)


@repeatable
@given(m=st.integers(0, 5), seed=st.integers(0, 99))
def test_shapes_split_many_vectors_at_once(m, seed):
    shapes = ParameterShapes.of(mlp64())
    thetas = torch.as_tensor(np.random.default_rng(seed).normal(size=(m, shapes.n_params)))
    for part, shape in zip(shapes.split(thetas), shapes.shapes, strict=True):
        assert part.shape == (m, *shape)
    for i in range(m):
        one_by_one = shapes.split(thetas[i])
        for part, single in zip(shapes.split(thetas), one_by_one, strict=True):
            assert torch.equal(part[i], single)


def test_a_vector_of_another_length_is_refused():
    module = mlp64()
    theta = flatten(module)
    for wrong in (theta[:-1], torch.cat([theta, theta[:1]])):
        with pytest.raises(ValueError, match=f"has {len(theta)} parameters to train"):
            load_flat(module, wrong)
    assert torch.equal(flatten(module), theta)


# ── building ─────────────────────────────────────────────────────────────────────────


def random_callable(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 4), nn.Tanh(), nn.Linear(4, n_classes))


@pytest.mark.parametrize("spec", [None, random_callable], ids=["default", "callable"])
def test_initial_parameters_come_from_the_seed(spec):
    torch.manual_seed(11)
    first = flatten(build_module(spec, (6,), (5,), 3, seed=1))
    torch.manual_seed(12)
    assert torch.equal(flatten(build_module(spec, (6,), (5,), 3, seed=1)), first)
    assert not torch.equal(flatten(build_module(spec, (6,), (5,), 3, seed=2)), first)


@pytest.mark.parametrize(
    "spec", [None, random_callable, mlp64()], ids=["default", "callable", "module"]
)
def test_building_leaves_torchs_generator(spec):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    build_module(spec, (6,), (5,), 3, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_is_copied():
    mine = mlp64()
    built = build_module(mine, (), (5,), 3, seed=0)
    assert built is not mine
    assert torch.equal(flatten(built), flatten(mine))
    kept = flatten(mine)
    load_flat(built, torch.zeros_like(kept))
    assert torch.equal(flatten(mine), kept)


@pytest.mark.parametrize(
    ("row_shape", "given_"), [((5,), 5), ((2, 6, 6), (2, 6, 6)), ((4, 2), (4, 2))]
)
def test_a_callable_is_given_features_and_classes(row_shape, given_):
    calls = []

    def make(*args):
        calls.append(args)
        return mlp64()

    build_module(make, (), row_shape, 3, seed=0)
    assert calls == [(given_, 3)]


@pytest.mark.parametrize("widths", [(), (7,), (7, 4), [np.int64(3)]], ids=str)
def test_default_module_is_linear_layers_with_relu(widths):
    module = build_module(None, widths, (5,), 3, seed=0)
    linears, activations = list(module)[::2], list(module)[1::2]
    sizes = [5, *widths, 3]
    assert [(m.in_features, m.out_features) for m in linears] == list(pairwise(sizes))
    assert all(type(m) is nn.ReLU for m in activations)
    assert len(activations) == len(widths)


@pytest.mark.parametrize("widths", [(0,), (-3,), (2.5,), ("7",)], ids=str)
def test_wrong_widths_are_refused(widths):
    X, y, clients = federation([10, 10])
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        FederatedClassifier(widths, n_rounds=1).fit(X, y, clients=clients)


def test_default_module_refuses_rows_of_more_dimensions():
    with pytest.raises(ValueError, match=r"rows of shape \(2, 6, 6\).*reshape X to two dimensions"):
        build_module(None, (5,), (2, 6, 6), 3, seed=0)


@repeatable
@given(
    widths=st.lists(st.integers(1, 9), max_size=3),
    n_features=st.integers(1, 9),
    seed=st.integers(0, 2**31 - 2),
)
def test_default_module_begins_as_torchs_own_layers(widths, n_features, seed):
    sizes = [n_features, *widths, 3]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wanted = [flatten(nn.Linear(n_in, n_out)) for n_in, n_out in pairwise(sizes)]
    found = flatten(build_module(None, widths, (n_features,), 3, seed))
    assert torch.equal(found, torch.cat(wanted))


def test_what_a_callable_returns_is_copied():
    mine = mlp64()
    X, y, clients = federation([10, 10])
    before = flatten(mine)
    fits = [
        FederatedClassifier(module=lambda *_: mine, n_rounds=2, random_state=0).fit(
            X, y, clients=clients
        )
        for _ in range(2)
    ]
    assert torch.equal(flatten(mine), before)
    assert fits[0].module_ is not fits[1].module_
    np.testing.assert_array_equal(fits[0].theta_, fits[1].theta_)


def test_a_callable_that_makes_no_module_is_refused():
    with pytest.raises(ValueError, match=r"module must be a torch\.nn\.Module or a callable"):
        build_module(lambda *_: "module", (), (5,), 3, seed=0)


def test_embeddings_take_indices():
    assert takes_indices(nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(4, 3)))
    assert takes_indices(nn.EmbeddingBag(5, 2))
    assert not takes_indices(mlp64())


# ── checks at the door ───────────────────────────────────────────────────────────────


class Raises(nn.Linear):
    def forward(self, x):
        raise RuntimeError("out of order")


class GivesTuple(nn.Linear):
    def forward(self, x):
        return super().forward(x), None


def mixed_types():
    return nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3).double())


def not_finite():
    module = mlp64()
    with torch.no_grad():
        module[2].bias[1] = torch.nan
    return module


def with_norm(norm):
    return nn.Sequential(nn.Linear(5, 4), norm, nn.Linear(4, 3)).double()


class Standardised(nn.Module):
    """Keeps a running mean of its own."""

    def __init__(self, everywhere=False):
        super().__init__()
        self.register_buffer("mean", torch.zeros(5, dtype=torch.float64))
        self.register_buffer("fixed", torch.full((5,), torch.nan, dtype=torch.float64))
        self.last, self.everywhere = mlp64(), everywhere

    def forward(self, x):
        if self.training or self.everywhere:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return self.last(x - self.mean)


class RunningMaximum(Standardised):
    """Which the same rows do not change twice."""

    def forward(self, x):
        self.mean.copy_(torch.maximum(self.mean, x.detach().amax(0)))
        return self.last(x / (1 + self.mean))


class Remembers(nn.Module):
    """Keeps a tensor that is no buffer."""

    def __init__(self):
        super().__init__()
        self.last, self.before = mlp64(), 0.0

    def forward(self, x):
        shift, self.before = self.before, x.detach().mean()
        return self.last(x - shift)


class Centred(nn.Module):
    """Subtracts the mean of the rows, or of each row."""

    def __init__(self, axis):
        super().__init__()
        self.last, self.axis = mlp64(), axis

    def forward(self, x):
        return self.last(x - x.mean(self.axis, keepdim=True))


class Sequences(nn.Module):
    """The last state of a recurrent layer, over (n, time, features) or (time, n, features)."""

    def __init__(self, kind=nn.LSTM, **options):
        super().__init__()
        self.recurrent = kind(2, 4, **options)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        return self.last(self.recurrent(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.attention = nn.TransformerEncoderLayer(4, 2, 8, batch_first=batch_first)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.attention(x).flatten(1))


class Words(nn.Module):
    """Mean word; `over` the rows too, where that is wanted."""

    def __init__(self, over=1):
        super().__init__()
        self.embedding, self.last, self.over = nn.Embedding(9, 4), nn.Linear(4, 3), over

    def forward(self, x):
        h = self.embedding(x)
        return self.last(h.mean(1) - (h.mean((0, 1)) if self.over == 0 else 0))


class OneRowFails(nn.Linear):
    def forward(self, x):
        return super().forward(x).squeeze()


class Cached(nn.Module):
    """Its buffer is a table made in the first pass."""

    def __init__(self):
        super().__init__()
        self.last = mlp64()
        self.register_buffer("table", None)
        self.register_buffer("lazy", torch.zeros(5, dtype=torch.float64))

    def forward(self, x):
        if self.table is None:
            self.table = torch.arange(5.0, dtype=torch.float64)
            self.lazy.copy_(self.table)
        return self.last(x + self.table + self.lazy)


REFUSED = {
    "running mean": (Standardised, r"buffer that a training pass changes \('mean'\)"),
    "running mean, always": (lambda: Standardised(True), r"training pass changes \('mean'\)"),
    "running maximum": (RunningMaximum, r"training pass changes \('mean'\)"),
    "memory": (Remembers, "keeps something between calls"),
    "mean of the rows": (lambda: Centred(0), "rows influence one another.*batch_first=True"),
    "no single row": (lambda: OneRowFails(5, 3).double(), r"rows of shape \(1, 5\).*found \(3,\)"),
    "batch norm": (lambda: with_norm(nn.BatchNorm1d(4)), r"batch normalisation \(1\).*GroupNorm"),
    "batch norm without running statistics": (
        lambda: with_norm(nn.BatchNorm1d(4, track_running_stats=False)),
        r"batch normalisation \(1\).*LayerNorm",
    ),
    "instance norm with running statistics": (
        lambda: with_norm(nn.InstanceNorm1d(4, track_running_stats=True)),
        "batch normalisation",
    ),
    "nothing to train": (lambda: mlp64().requires_grad_(False), "no parameters to train"),
    "no parameters": (nn.Flatten, "no parameters to train"),
    "mixed types": (mixed_types, r"mixes parameter types \['torch.float32', 'torch.float64'\]"),
    "NaN": (not_finite, "non-finite initial values in its parameter '2.bias'"),
    "too few columns": (lambda: mlp64(5, 2), r"shape \(2, 3\), one column for each.*\(2, 2\)"),
    "too many columns": (lambda: mlp64(5, 4), r"found \(2, 4\)"),
    "other features": (lambda: mlp64(6), "raised RuntimeError on rows of shape"),
    "raises": (lambda: Raises(5, 3).double(), "Raises raised RuntimeError.*out of order"),
    "gives a tuple": (lambda: GivesTuple(5, 3).double(), "found tuple"),
    "one number a row": (
        lambda: nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)).double(),
        r"found \(2,\)",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_fit_refuses_an_unfit_module_before_it_trains(make, message):
    X, y, clients = federation([10, 10])
    clf = FederatedClassifier(module=make(), n_rounds=1)
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y, clients=clients)
    assert not hasattr(clf, "theta_")


@pytest.mark.parametrize(
    "make",
    [
        mlp64,
        partly_frozen,
        lambda: with_norm(nn.LayerNorm(4)),
        lambda: with_norm(nn.GroupNorm(2, 4)),
        lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(5, 3)).double(),
    ],
    ids=["mlp", "partly frozen", "layer norm", "group norm", "dropout"],
)
def test_a_fit_module_passes(make):
    module = make()
    before = flatten(module)
    check_module(module, torch.ones(2, 5, dtype=torch.float64), 3)
    assert torch.equal(flatten(module), before)


APART = {
    # name: (module, shape of a row, type)
    "lstm": (lambda: Sequences(batch_first=True), (4, 2), torch.float32),
    "two-way gru": (
        lambda: Sequences(nn.GRU, batch_first=True, num_layers=2),
        (4, 2),
        torch.float32,
    ),
    "attention": (lambda: Attention(True).double(), (2, 4), torch.float64),
    "attention in single precision": (lambda: Attention(True), (2, 4), torch.float32),
    "words": (Words, (6,), torch.int64),
    "mean of each row": (lambda: Centred(1), (5,), torch.float64),
    "cnn": (cnn64, (2, 6, 6), torch.float64),
    "instance norm": (
        lambda: nn.Sequential(nn.InstanceNorm2d(2), *cnn64()).double(),
        (2, 6, 6),
        torch.float64,
    ),
    "cached table": (Cached, (5,), torch.float64),
    "dropout in every pass": (
        lambda: nn.Sequential(DropsAlways(), nn.Linear(5, 3)),
        (5,),
        torch.float32,
    ),
    "wide": (lambda: mlp64(500, hidden=(300, 200)).float(), (500,), torch.float32),
    "half": (lambda: mlp64().half(), (5,), torch.float16),
}
TOGETHER = {
    "lstm": (Sequences, (4, 2), torch.float32),
    "gru": (lambda: Sequences(nn.GRU).double(), (4, 2), torch.float64),
    "attention": (lambda: Attention(False), (2, 4), torch.float32),
    "words": (lambda: Words(over=0), (6,), torch.int64),
    "half": (lambda: Centred(0).half(), (5,), torch.float16),
}


class DropsAlways(nn.Module):
    def forward(self, x):
        return nn.functional.dropout(x, 0.5)


def few_rows(shape, dtype):
    """Rows to be checked with: all the same, of large values, or ordinary ones."""
    zeros = torch.zeros((2, *shape), dtype=dtype)
    if dtype == torch.int64:
        return [zeros, zeros[:1]]
    ordinary = torch.as_tensor(np.random.default_rng(0).normal(size=(2, *shape))).to(dtype)
    return [zeros, zeros[:1], zeros + 1, ordinary, 1000 * ordinary]


@pytest.mark.parametrize(("make", "shape", "dtype"), APART.values(), ids=APART)
def test_rows_that_stay_apart_pass(make, shape, dtype):
    torch.manual_seed(0)
    for rows in few_rows(shape, dtype):
        module = make()
        before = torch.get_rng_state()
        check_module(module, rows, 3)
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("make", "shape", "dtype"), TOGETHER.values(), ids=TOGETHER)
def test_rows_that_influence_one_another_are_refused(make, shape, dtype):
    torch.manual_seed(0)
    for rows in few_rows(shape, dtype):
        with pytest.raises(ValueError, match="rows influence one another"):
            check_module(make(), rows, 3)


def test_refused_buffers_are_as_they_were():
    module = Standardised()
    with pytest.raises(ValueError, match="mean"):
        check_module(module, torch.ones(2, 5, dtype=torch.float64), 3)
    assert torch.equal(module.mean, torch.zeros(5, dtype=torch.float64))


def test_a_module_that_takes_no_other_rows_is_checked_on_those_given():
    class Codes(nn.Module):
        def __init__(self, over):
            super().__init__()
            self.embedding, self.over = nn.Embedding(3, 3), over

        def forward(self, x):
            h = self.embedding(x[:, 0].long())
            return h - h.mean(self.over, keepdim=True)

    rows = torch.tensor([[0.0], [2.0]])
    check_module(Codes(1), rows, 3)
    with pytest.raises(ValueError, match="influence"):
        check_module(Codes(0), rows, 3)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_module_that_ends_in_a_softmax_is_warned_of(n_classes):
    rows = torch.zeros(2, 5, dtype=torch.float64)
    net = mlp64(5, n_classes)
    with pytest.warns(UserWarning, match="leave out the last softmax"):
        check_module(nn.Sequential(net, nn.Softmax(1)), rows, n_classes)
    check_module(nn.Sequential(net, nn.LogSoftmax(1)), rows, n_classes)
    check_module(nn.Sequential(net, nn.Sigmoid()), rows, n_classes)


def test_a_classifier_computes_in_the_type_of_its_module():
    X, y, clients = federation([10, 10])
    for make, kind in ((mlp64, np.float64), (lambda: mlp64().float(), np.float32)):
        clf = FederatedClassifier(module=make(), n_rounds=1).fit(X, y, clients=clients)
        assert clf.theta_.dtype == kind
        assert clf.predict_proba(X).dtype == kind


def test_frozen_parameters_stay_as_the_module_came():
    X, y, clients = federation([10, 10])
    module = partly_frozen()
    clf = FederatedClassifier(module=module, n_rounds=3).fit(X, y, clients=clients)
    for mine, trained in zip(module.parameters(), clf.module_.parameters(), strict=True):
        assert torch.equal(mine, trained) == (not mine.requires_grad)
