"""What the classifiers take, each form giving the same model; and what they refuse, and how.

After a refusal the estimator is as it was before, unfitted or fitted.
"""

import re

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from oracles import SKLEARN
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn

from skfedfocal import FederatedClassifier, FederatedTrainingError, FedFocalClassifier
from skfedfocal._data.inputs import check_finite, places_among
from skfedfocal.aggregation import TrimmedMean
from skfedfocal.losses import FocalLoss
from skfedfocal.strategies import FedProx

NAMES = list("abcde")


@pytest.fixture
def model():
    return FedFocalClassifier((8,), n_rounds=2, batch_size=8, random_state=0)


@pytest.fixture
def data(federation):
    """Features that float16 holds exactly, so that every type gives the same numbers."""
    X = np.clip(np.round(federation.X * 4) / 4, -8, 8)
    return X, federation.y, federation.clients


def assert_same_model(found, wanted):
    """Bit for bit."""
    np.testing.assert_array_equal(found.theta_, wanted.theta_)
    np.testing.assert_array_equal(found.client_sizes_, wanted.client_sizes_)


# -- features ----------------------------------------------------------------------------------

FEATURES = {
    "list": lambda X: X.tolist(),
    "float32": lambda X: X.astype(np.float32),
    "float16": lambda X: X.astype(np.float16),
    "long double": lambda X: X.astype(np.longdouble),
    "big-endian": lambda X: X.astype(">f8"),
    "object": lambda X: X.astype(object),
    "Fortran": np.asfortranarray,
    "every second": lambda X: np.repeat(X, 2, axis=0)[::2],
    "backwards": lambda X: X[::-1].copy()[::-1],
    "unmasked": lambda X: np.ma.array(X, mask=False),
    "matrix of csr": sparse.csr_matrix,
    "csr": sparse.csr_array,
    "csc": sparse.csc_array,
    "coo": sparse.coo_array,
    "lil": sparse.lil_array,
    "dok": sparse.dok_array,
    "bsr": sparse.bsr_array,
    "dia": sparse.dia_array,
    "tensor": torch.tensor,
    "tensor with gradient": lambda X: torch.tensor(X, requires_grad=True),
    "bfloat16": lambda X: torch.tensor(X).bfloat16(),
    "pandas": lambda X: pd.DataFrame(X, columns=NAMES),
    "pandas without names": pd.DataFrame,
    "pandas Float64": lambda X: pd.DataFrame(X, columns=NAMES).astype("Float64"),
    "pandas pyarrow": lambda X: pd.DataFrame(X, columns=NAMES).astype("float64[pyarrow]"),
    "polars": lambda X: pl.DataFrame(X, schema=NAMES),
}


@pytest.mark.parametrize("form", FEATURES.values(), ids=list(FEATURES))
def test_features_of_any_form(data, model, form):
    X, y, clients = data
    wanted = clone(model).fit(X, y, clients=clients)
    found = model.fit(form(X), y, clients=clients)
    assert_same_model(found, wanted)
    np.testing.assert_array_equal(found.predict_proba(form(X)), wanted.predict_proba(X))


@pytest.mark.parametrize("kind", ["?", "i1", "u1", "i2", "u2", "i4", ">i4", "u4", "i8", "u8"])
def test_features_that_are_whole_numbers(data, model, kind):
    X, y, clients = data
    X = np.abs(X).astype(kind)
    wanted = clone(model).fit(X.astype(float), y, clients=clients)
    found = model.fit(X, y, clients=clients)
    assert_same_model(found, wanted)
    np.testing.assert_array_equal(found.predict_proba(X), wanted.predict_proba(X.astype(float)))


def test_features_on_disk_and_read_only(data, model, tmp_path):
    X, y, clients = data
    wanted = clone(model).fit(X, y, clients=clients)
    np.save(tmp_path / "X.npy", X)
    on_disk = np.load(tmp_path / "X.npy", mmap_mode="r")
    read_only = X.copy()
    read_only.setflags(write=False)
    for given in (on_disk, read_only):
        assert_same_model(clone(model).fit(given, y, clients=clients), wanted)


def test_feature_names(data, model):
    X, y, clients = data
    model.fit(pd.DataFrame(X, columns=NAMES), y, clients=clients)
    assert model.feature_names_in_.tolist() == NAMES
    model.fit(X, y, clients=clients)
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.skipif(SKLEARN < (1, 9), reason="scikit-learn below 1.9 finds no names in polars 2")
def test_feature_names_of_polars(data, model):
    X, y, clients = data
    model.fit(pl.DataFrame(X, schema=NAMES), y, clients=clients)
    assert model.feature_names_in_.tolist() == NAMES


@pytest.mark.parametrize(
    "form", [np.asarray, sparse.csr_array, lambda X: pd.DataFrame(X, columns=NAMES), torch.tensor,
             lambda X: pl.DataFrame(X, schema=NAMES), lambda X: X.tolist()],
    ids=["array", "csr", "pandas", "tensor", "polars", "lists"],
)  # fmt: skip
def test_partitions_of_any_form(data, model, form):
    X, y, clients = data
    at = {client: np.flatnonzero(clients == client) for client in dict.fromkeys(clients)}
    wanted = clone(model).fit(X, y, clients=clients)
    named = model.fit({client: (form(X[rows]), y[rows]) for client, rows in at.items()})
    assert_same_model(named, wanted)
    listed = clone(model).fit(
        [form(X[rows]) for rows in at.values()], [y[rows].tolist() for rows in at.values()]
    )
    assert_same_model(listed, wanted)


def test_partitions_with_whole_numbers_beside_others(data, model):
    X, y, _ = data
    parts = [(X.round(), y), (X, y)]
    wanted = clone(model).fit([a for a, _ in parts], [b for _, b in parts])
    for table in (pd.DataFrame, pl.DataFrame):
        whole = table(X.round().astype(int))
        found = clone(model).fit({0: (whole, y), 1: (table(X), y)})
        np.testing.assert_array_equal(found.theta_, wanted.theta_)


# -- features that modules of one's own take ---------------------------------------------------


def small_cnn(shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(shape[0], 4, 3, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, n_classes),
    )


class LastState(nn.Module):
    """A recurrent classifier of sequences (batch, steps, features)."""

    def __init__(self, shape, n_classes):
        super().__init__()
        self.recurrent = nn.GRU(shape[-1], 6, batch_first=True)
        self.head = nn.Linear(6, n_classes)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


class BagOfWords(nn.Module):
    """A classifier of word numbers (batch, words)."""

    def __init__(self, n_words, n_classes):
        super().__init__()
        self.words = nn.Embedding(20, 6)
        self.head = nn.Linear(6, n_classes)

    def forward(self, x):
        return self.head(self.words(x).mean(1))


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
@pytest.mark.parametrize(
    ("module", "shape"),
    [(small_cnn, (2, 6, 6)), (small_cnn, (1, 5, 7)), (LastState, (4, 3))],
    ids=["images", "images of one channel", "sequences"],
)
def test_rows_of_more_dimensions(model, module, shape, engine):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(24, *shape)).astype(np.float32), np.arange(24) % 3
    model.set_params(module=module, engine=engine).fit(X, y, clients=np.arange(24) % 4)
    assert model.predict_proba(X).shape == (24, 3)
    assert model.row_shape_ == shape
    as_tensor = clone(model).fit(torch.tensor(X), y, clients=np.arange(24) % 4)
    np.testing.assert_array_equal(as_tensor.theta_, model.theta_)
    with pytest.raises(ValueError, match="rows of shape"):
        model.predict(X[..., :-1])


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
def test_words_stay_whole_numbers(model, engine):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 20, (24, 5)), np.arange(24) % 3
    model.set_params(module=BagOfWords, engine=engine)
    wanted = clone(model).fit(X, y, clients=np.arange(24) % 4)
    assert wanted.predict_proba(X).shape == (24, 3)
    for form in (X.astype(np.int32), X.astype(np.uint8), X.tolist(), torch.tensor(X)):
        assert_same_model(clone(model).fit(form, y, clients=np.arange(24) % 4), wanted)


def test_module_object_is_copied(data, model):
    X, y, clients = data
    module = nn.Linear(5, 3)
    before = module.weight.detach().clone()
    fitted = model.set_params(module=module).fit(X, y, clients=clients)
    assert torch.equal(module.weight, before)
    assert fitted.module_ is not module
    assert not torch.equal(fitted.module_.weight, before)


def test_module_class_is_a_callable(data, model):
    X, y, clients = data
    model.set_params(module=nn.Linear).fit(X, y, clients=clients)
    assert isinstance(model.module_, nn.Linear)


# -- labels ------------------------------------------------------------------------------------

WORDS = np.array(["cat", "dog", "hen"])
LABELS = {
    "text": (lambda y: WORDS[y], WORDS),
    "list of text": (lambda y: WORDS[y].tolist(), WORDS),
    "objects": (lambda y: WORDS[y].astype(object), WORDS.astype(object)),
    "categorical": (lambda y: pd.Categorical(WORDS[y]), WORDS.astype(object)),
    "categorical column": (lambda y: pd.Series(WORDS[y]).astype("category"), WORDS.astype(object)),
    "numbers as categories": (lambda y: pd.Categorical(y + 7), np.array([7, 8, 9])),
    "pandas text": (lambda y: pd.Series(WORDS[y], dtype="string"), WORDS.astype(object)),
    "polars text": (lambda y: pl.Series(WORDS[y]), WORDS),
    "polars": (lambda y: pl.Series(y), np.arange(3)),
    "nullable whole numbers": (lambda y: pd.Series(y, dtype="Int64"), np.arange(3)),
    "nullable small numbers": (lambda y: pd.Series(y, dtype="UInt8"), np.arange(3, dtype="u1")),
    "list": (lambda y: y.tolist(), np.arange(3)),
    "int8": (lambda y: y.astype(np.int8), np.arange(3, dtype=np.int8)),
    "negative": (lambda y: y - 5, np.array([-5, -4, -3])),
    "huge": (lambda y: y * 2**61 - 1, np.arange(3) * 2**61 - 1),
    "beyond int64": (lambda y: y.astype("u8") + np.uint64(2**63), np.arange(3, dtype="u8") + 2**63),
    "whole floats": (lambda y: y * 10.0, np.arange(3) * 10.0),
    "tensor": (lambda y: torch.tensor(y), np.arange(3)),
    "dates": (
        lambda y: np.datetime64("2024-01-01") + y,
        np.datetime64("2024-01-01") + np.arange(3),
    ),
}
TWO_LABELS = {
    "booleans": (lambda y: y > 0, np.array([False, True])),
    "nullable booleans": (lambda y: pd.Series(y > 0, dtype="boolean"), np.array([False, True])),
    "minus one and one": (lambda y: np.where(y > 0, 1, -1), np.array([-1, 1])),
}


@pytest.mark.parametrize(
    ("form", "classes"), [*LABELS.values(), *TWO_LABELS.values()], ids=[*LABELS, *TWO_LABELS]
)
def test_labels_of_any_kind(data, model, form, classes):
    X, y, clients = data
    codes = y if len(classes) == 3 else (y > 0).astype(int)
    wanted = clone(model).fit(X, codes, clients=clients)
    found = model.fit(X, form(y), clients=clients)
    assert_same_model(found, wanted)
    np.testing.assert_array_equal(found.classes_, classes)
    assert found.classes_.dtype == classes.dtype
    np.testing.assert_array_equal(found.predict(X), classes[wanted.predict(X)])
    assert found.predict(X).dtype == classes.dtype
    assert found.score(X, form(y)) == wanted.score(X, codes)


def test_labels_as_a_column_warn_as_in_scikit_learn(data, model):
    X, y, clients = data
    with pytest.warns(DataConversionWarning, match="column-vector"):
        found = clone(model).fit(X, y[:, None], clients=clients)
    assert_same_model(found, model.fit(X, y, clients=clients))


@pytest.mark.parametrize("form", [list, pd.Series, pl.Series, torch.tensor, lambda w: w[:, None]])
def test_sample_weight_of_any_form(data, model, form):
    X, y, clients = data
    weight = np.linspace(0.5, 2, len(y))
    if form(weight).__class__ is np.ndarray:
        with pytest.raises(ValueError, match="1D"):
            model.fit(X, y, sample_weight=form(weight), clients=clients)
        return
    wanted = clone(model).fit(X, y, sample_weight=weight, clients=clients)
    assert_same_model(model.fit(X, y, sample_weight=form(weight), clients=clients), wanted)


# -- refusals ----------------------------------------------------------------------------------


@pytest.fixture
def refused(data, model, unchanged):
    """Check that fit refuses, with these words, and that estimators stay as they were."""
    X, y, clients = data

    def check(error, words, *args, params=None, estimator=model, **kwargs):
        unfitted = clone(estimator).set_params(**(params or {}))
        for method in ("fit", "partial_fit"):
            with unchanged(unfitted), pytest.raises(error) as raised:
                getattr(unfitted, method)(*args, **kwargs)
            for word in [words] if isinstance(words, str) else words:
                assert word in str(raised.value)
        with pytest.raises(NotFittedError):
            unfitted.predict(X)

        names = pd.DataFrame(X, columns=NAMES)  # names are among what may get lost
        fitted = clone(estimator).fit(names, y, clients=clients)
        before = fitted.predict_proba(names)
        fitted.set_params(**(params or {}))
        with unchanged(fitted), pytest.raises(error):
            fitted.fit(*args, **kwargs)
        fitted.set_params(**estimator.get_params(deep=False))
        np.testing.assert_array_equal(fitted.predict_proba(names), before)

    return check


def put(values, value, place=(7, 2)):
    values = np.array(values)
    values[place] = value
    return values


def test_lengths_that_differ(data, refused):
    X, y, clients = data
    refused(ValueError, ["inconsistent", "60", "59"], X, y[:-1], clients=clients)
    refused(ValueError, ["inconsistent", "60", "59"], X[:-1], y, clients=clients)
    refused(ValueError, ["sample_weight", "(59,)", "(60,)"], X, y, sample_weight=np.ones(59))
    refused(ValueError, ["59 entries", "60 rows", "not offsets"], X, y, clients=clients[:-1])
    refused(ValueError, ["2 entries", "60 rows", "not offsets"], X, y, clients=[30, 60])


def test_other_length_names_resampling(data, refused):
    """What a pipeline with a sampler of imbalanced-learn comes to."""
    X, y, clients = data
    more = np.r_[0:60, 0:60]
    words = ["60 entries", "120 rows", "resampled", "ClientColumn"]
    refused(ValueError, words, X[more], y[more], clients=clients)


def test_third_argument_by_position(data, model, unchanged):
    """Ids of whole numbers would pass for weights, and rows of client 0 for none."""
    X, y, clients = data
    numbers = np.unique(clients, return_inverse=True)[1]
    for method in (model.fit, model.partial_fit):
        with unchanged(model), pytest.raises(TypeError, match="positional"):
            method(X, y, numbers)


def test_ids_in_another_order_than_the_rows(data, model, refused):
    """pandas rows have labels, which tell; ids are taken by position where they tell nothing."""
    X, y, clients = data
    wanted = clone(model).fit(X, y, clients=clients)
    labels = np.random.default_rng(0).permutation(60) + 7
    table, ids = pd.DataFrame(X, labels), pd.Series(clients, labels)
    shuffled = ids.sort_index()
    refused(ValueError, ["another order", "clients.loc[X.index]"], table, y, clients=shuffled)
    counted = pd.Series(clients)
    refused(ValueError, "another order", pd.DataFrame(X).iloc[::-1], y, clients=counted)
    refused(ValueError, "another order", pd.DataFrame(X), y, clients=counted[::-1])
    refused(ValueError, "another order", table, y, clients=shuffled.to_frame())
    refused(ValueError, ["another index", "to_numpy()"], table, y, clients=ids.set_axis(labels + 1))
    for same in (
        (table, ids),
        (table, shuffled.loc[table.index]),
        (table, shuffled.loc[table.index].to_numpy()),
        (table, counted),  # labels counted from 0 are none
        (X, ids),
        (X, shuffled.loc[table.index]),
        (pl.DataFrame(X), ids),
        (table, pl.Series(clients)),
        (table.set_axis([*"ab"] * 30), ids.set_axis([*"ab"] * 30)),
    ):
        assert_same_model(clone(model).fit(same[0], y, clients=same[1]), wanted)
    with pytest.raises(ValueError, match="59 entries"):
        model.fit(table, y, clients=ids[1:])


def test_nan_and_infinity(data, refused):
    X, y, _ = data
    refused(ValueError, ["1 NaN", "column 2"], put(X, np.nan), y)
    refused(ValueError, ["1 infinity", "column 2"], put(X, -np.inf), y)
    refused(ValueError, ["1 infinity", "column 2"], put(X.astype(np.float16), np.inf), y)
    refused(ValueError, ["1 infinity", "column 2"], put(X.astype(np.longdouble), np.inf), y)
    both = put(put(X, [np.nan, np.inf], (3, slice(3, 5))), np.nan, (9, 1))
    refused(ValueError, ["2 NaN, 1 infinity", "column 1"], both, y)
    refused(ValueError, ["2 NaN", "column 1 ('b')"], pd.DataFrame(both, columns=NAMES), y)
    refused(ValueError, ["2 NaN", "column 1"], sparse.csr_array(both), y)
    nullable = pd.DataFrame(X).astype("Float64")
    refused(ValueError, "1 NaN", nullable.mask(put(X * 0, 1) == 1), y)
    refused(ValueError, "1 NaN", torch.tensor(put(X, np.nan)), y)


def test_values_too_large_for_the_module(data, refused):
    X, y, _ = data
    words = ["too large for torch.float32", "column 2"]
    for value in (1e39, -1e300, np.finfo(np.float64).max):
        refused(ValueError, words, put(X, value), y)
        refused(ValueError, words, sparse.csr_array(put(X, value)), y)
    half = {"module": lambda n, k: nn.Linear(n, k).half()}
    refused(ValueError, "too large for torch.float16", put(X, 70_000.0), y, params=half)
    refused(ValueError, "too large for torch.float16", X.astype(np.int64) + 70_000, y, params=half)


@pytest.mark.filterwarnings("ignore:X has the value:UserWarning")
def test_large_values_that_the_module_can_hold(data, model):
    X, y, clients = data
    model.set_params(module=lambda n, k: nn.Linear(n, k).double(), learning_rate=1e-90)
    with pytest.warns(UserWarning, match="too large a scale"):
        model.fit(put(X, 1e39), y, clients=clients)
    assert np.isfinite(model.predict_proba(put(X, -1e39))).all()
    largest = float(np.finfo(np.float32).max)
    check_finite(np.array([[-largest, largest]]), torch.float32, None)
    with pytest.raises(ValueError, match="1 too large"):
        check_finite(np.array([[-largest, np.nextafter(largest, np.inf)]]), torch.float32, None)
    check_finite(np.array([[2**63 - 1]], np.uint64), torch.int64, None)
    with pytest.raises(ValueError, match=r"1 too large for torch\.int64"):
        check_finite(np.array([[2**63]], np.uint64), torch.int64, None)


def test_predict_refuses_what_fit_refuses(data, model, unchanged):
    X, y, clients = data
    model.fit(pd.DataFrame(X, columns=NAMES), y, clients=clients)
    table = lambda values: pd.DataFrame(values, columns=NAMES)  # noqa: E731
    for wrong, word in (
        (table(put(X, np.nan)), "1 NaN; first in column 2 ('c')"),
        (table(put(X, np.inf)), "1 infinity"),
        (table(put(X, 1e39)), "too large for torch.float32"),
        (np.ma.array(X, mask=X > 2), "masked"),
        (table(X)[NAMES[::-1]], "same order as they were in fit"),
        (table(X).rename(columns={"a": "z"}), "unseen at fit time"),
        (table(X)[NAMES[:3]], "missing"),
        (table(X).assign(c="word"), "could not convert"),
        (table(X).assign(c="word").astype({"c": "category"}), "could not convert"),
    ):
        for method in (model.predict, model.predict_proba, model.decision_function):
            with unchanged(model), pytest.raises(ValueError) as raised:
                method(wrong)
            assert word in str(raised.value)


def test_other_things_than_numbers(data, refused):
    X, y, _ = data
    refused(TypeError, "datetime64", np.datetime64("2024-01-01") + X.astype(int), y)
    refused(TypeError, "timedelta64", np.timedelta64(1, "D") * X.astype(int), y)
    words = pd.DataFrame({"a": X[:, 0], "b": ["word"] * 60})
    refused(ValueError, "'word'", words, y)
    refused(ValueError, "'word'", words.astype({"b": "category"}), y)
    refused(ValueError, "not compatible", X.astype(str), y)
    refused(ValueError, "not compatible", X.astype("S"), y)
    refused(ValueError, "Complex", X + 1j, y)
    refused(ValueError, "2D", X[:, 0], y)
    refused(ValueError, "0 sample", X[:0], y[:0])
    refused(ValueError, "0 feature", X[:, :0], y)
    refused(ValueError, "2D", "a file name", y)


def test_masked_arrays(data, refused):
    X, y, clients = data
    refused(ValueError, ["X has 1 masked", "fill"], np.ma.array(X, mask=put(X * 0, 1)), y)
    refused(ValueError, "y has 8 masked", X, np.ma.array(y, mask=y == 2))
    weight = np.ma.array(np.ones(60), mask=y == 2)
    refused(ValueError, "sample_weight has 8 masked", X, y, sample_weight=weight)
    refused(ValueError, "8 missing", X, y, clients=np.ma.array(clients, mask=y == 2))
    part = (np.ma.array(X, mask=put(X * 0, 1)), y)
    refused(ValueError, "X of client 'a' has 1 masked", {"a": part, "b": (X, y)})


def test_labels_that_are_none(data, refused):
    X, y, _ = data
    words = WORDS[y].astype(object)
    refused(ValueError, "y", X, None)
    refused(ValueError, "NaN", X, put(y.astype(float), np.nan, 3))
    refused(ValueError, "NaN", X, pd.Series(y, dtype="Int64").mask(y == 2))
    refused(ValueError, "Unknown label type", X, put(y.astype(object), None, 3))
    refused(ValueError, ["texts", "None"], X, put(words, None, 3))
    refused(ValueError, ["texts", "5"], X, put(words, 5, 3))
    refused(ValueError, "continuous", X, X[:, 0])
    refused(ValueError, "1d", X, np.eye(3, dtype=int)[y])
    refused(ValueError, "Complex", X, y + 1j)
    refused(TypeError, "bytes", X, WORDS[y].astype("S"))


def test_one_class_overall(data, refused):
    X, y, clients = data
    refused(ValueError, "one class only", X, np.zeros(60, int), clients=clients)
    refused(ValueError, "one class only", X, ["same"] * 60, clients=clients)
    refused(ValueError, "one class only", X, y, sample_weight=(y == 0) * 1.0, clients=clients)
    refused(ValueError, "one class only", {"a": (X, y * 0), "b": (X, y * 0)})


def test_sample_weight_that_is_none(data, refused):
    X, y, _ = data
    weight = np.ones(60)
    refused(ValueError, "Negative", X, y, sample_weight=put(weight, -1, 3))
    refused(ValueError, "NaN", X, y, sample_weight=put(weight, np.nan, 3))
    refused(ValueError, "infinity", X, y, sample_weight=put(weight, np.inf, 3))
    refused(ValueError, "zero", X, y, sample_weight=weight * 0)
    refused(ValueError, "could not convert", X, y, sample_weight=["much"] * 60)


def test_client_ids_that_are_none(data, refused):
    X, y, clients = data
    for missing in (None, np.nan, pd.NA, pd.NaT):
        ids = put(clients.astype(object), missing, 3)
        refused(ValueError, ["1 missing", "first in row 3"], X, y, clients=ids)
        refused(ValueError, ["1 missing", "first in row 3"], X, y, clients=ids.tolist())
    refused(ValueError, "60 missing", {None: (X, y), "b": (X, y)})
    refused(ValueError, "missing", {float("nan"): (X, y), 1.0: (X, y)})


def test_partitions_that_do_not_fit_together(data, refused):
    X, y, _ = data
    table = lambda names: pd.DataFrame(X, columns=list(names))  # noqa: E731
    polars = pl.DataFrame(X, schema=NAMES)
    both = "all clients need the same columns"
    refused(ValueError, "client 'b' is empty", {"a": (X, y), "b": (X[:0], y[:0])})
    refused(ValueError, "client 1 is empty", [X, X[:0]], [y, y[:0]])
    refused(ValueError, "no partitions", {})
    refused(ValueError, ["'b'", "'a'", "(3,)", "(5,)", both], {"a": (X, y), "b": (X[:, :3], y)})
    refused(ValueError, ["Client 1", "client 0", both], [X, X[:, :3]], [y, y])
    other = {"a": (table("abcde"), y), "b": (table("abcdf"), y), "c": (table("abcde"), y)}
    refused(ValueError, ["client 'b' lacks ['e'] and has ['f'] besides", "any order"], other)
    twice = {"a": (table("abcde"), y), "b": (table("abcda"), y)}
    refused(ValueError, ["client 'b' has more than one column called ['a']"], twice)
    words = {"a": (table("abcde"), y), "b": (table("abcde").astype({"c": str}), y)}
    refused(ValueError, ["client 'b' has texts in ['c'], others numbers"], words)
    refused(ValueError, ["'b'", both], {"a": (table("abcde"), y), "b": (X, y)})
    refused(ValueError, ["'b'", "polars", "pandas"], {"a": (table(NAMES), y), "b": (polars, y)})
    refused(ValueError, ["'b'", "texts", "'a'"], {"a": (X, y), "b": (X, WORDS[y])})
    refused(ValueError, ["'a'", "60 rows", "59"], {"a": (X, y[:-1]), "b": (X, y)})
    refused(ValueError, ["'a'", "sample_weight", "59"], {"a": (X, y, np.ones(59)), "b": (X, y)})
    refused(ValueError, "for every client or for none", {"a": (X, y, np.ones(60)), "b": (X, y)})
    refused(ValueError, ["'a'", "(X, y)", "ndarray"], {"a": X})
    refused(ValueError, ["2 partitions", "1"], [X, X], [y])
    refused(ValueError, ["2 partitions", "1"], [X, X], [y, y], sample_weight=[np.ones(60)])
    refused(ValueError, "do not pass", {"a": (X, y)}, y)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_columns_of_partitions_are_aligned_by_name(data, model, frame):
    X, y, _ = data
    table = frame(dict(zip("abcde", X.T, strict=True)))
    straight = clone(model).fit({"a": (table, y), "b": (table, y)})
    turned = clone(model).fit({"a": (table, y), "b": (table[list("edcba")], y)})
    np.testing.assert_array_equal(turned.theta_, straight.theta_)


def test_columns_of_one_name_are_refused(data, refused):
    X, y, _ = data
    refused(
        ValueError, ["more than one column", "['a']"], pd.DataFrame(X, columns=list("abcda")), y
    )


def test_labels_that_look_alike_are_named_with_their_clients(data, model):
    """As where one site writes "Yes" and others "yes"; labels that are other words are not."""
    X, y, clients = data
    labels = np.where(y == 0, "yes", "no")
    first = np.unique(clients)[0]
    mixed = np.where((clients == first) & (y == 0), "Yes ", labels)
    with pytest.warns(UserWarning, match=re.escape(f"'Yes ' of client {first.item()!r}")):
        model.fit(X, mixed, clients=clients)
    assert len(model.classes_) == 3
    clone(model).fit(X, np.where(clients == first, "perhaps", labels), clients=clients)
    with pytest.raises(ValueError, match=r"not among .*'Yes ' of client"):
        clone(model).partial_fit(X, mixed, classes=["no", "yes"], clients=clients)


WRONG_PARAMETERS = {
    "gamma": [-1, -0.5, np.nan, np.inf, "two", None, [1, 2, -3], [[1, 2, 3]], [1, np.nan, 2]],
    "client_gamma": [-1, np.nan, np.inf, "two"],
    "class_weight": ["heavy", [1, 2, 3], 2.0],
    "clients_per_round": [0, 0.0, -1, 1.5, np.nan, "all"],
    "n_rounds": [0, -1, 1.5],
    "n_local_epochs": [0, 0.5],
    "batch_size": [0, None],
    "learning_rate": [0, -0.1, np.nan, np.inf],
    "momentum": [-0.1, 1.0],
    "weight_decay": [-1, np.nan],
    "hidden_layer_sizes": [0, (0,), (-1,), (2.5,), ("a",)],
    "module": [5, "mlp"],
    "device": ["abacus", "cpu:-1", 5],
    "verbose": [-1],
    "warm_start": ["yes"],
    "random_state": ["seed", -1],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, v) for name, values in WRONG_PARAMETERS.items() for v in values]
)
def test_parameters_out_of_range(data, refused, name, value):
    X, y, clients = data
    refused(InvalidParameterError, name, X, y, clients=clients, params={name: value})


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("strategy", ["'fedavg'", "'fedprox'", "Strategy"]),
        ("selection", ["'uniform'", "Selection"]),
        ("engine", ["'loop'", "'vectorized'"]),
    ],
)
def test_unknown_names_are_told_the_known_ones(data, refused, name, known):
    X, y, clients = data
    words = [name, "'magic'", *known]
    refused(InvalidParameterError, words, X, y, clients=clients, params={name: "magic"})


def test_unknown_loss_is_told_the_known_ones(data, refused):
    X, y, _ = data
    words = ["loss", "'magic'", "'cross_entropy'", "'focal'", "Loss"]
    general = FederatedClassifier((8,), n_rounds=2, random_state=0)
    for wrong in ("magic", FocalLoss, 5):
        refused(InvalidParameterError, words[::2], X, y, params={"loss": wrong}, estimator=general)


def test_parameters_of_components_out_of_range(data, refused):
    X, y, _ = data
    for param, wrong, words in (
        ("strategy", FedProx(mu=-1), ["'mu'", "FedProx"]),
        ("aggregation", TrimmedMean(0.9), ["TrimmedMean", "0.9"]),
        ("aggregation", "magic", ["'aggregation'", "'magic'"]),
        ("strategy", FedProx, ["'strategy'"]),
    ):
        refused(InvalidParameterError, words, X, y, params={param: wrong})
    general = FederatedClassifier((8,), n_rounds=2, random_state=0)
    refused(InvalidParameterError, "gamma", X, y, params={"loss": FocalLoss(-1)}, estimator=general)


def test_parameters_that_do_not_fit_the_data(data, refused):
    X, y, clients = data
    refused(ValueError, ["gamma", "2", "3 classes"], X, y, params={"gamma": [1.0, 2.0]})
    refused(ValueError, ["[5]", "[0, 1, 2]"], X, y, params={"class_weight": {5: 1.0}})
    for weights in ({0: -1.0}, {1: np.nan}, {1: np.inf}, {0: 0, 1: 0, 2: 0}):
        refused(ValueError, "class_weight", X, y, params={"class_weight": weights})
    words = ["clients_per_round=5", "4 clients"]
    refused(ValueError, words, X, y, clients=clients, params={"clients_per_round": 5})
    refused(ValueError, "rows of shape (1, 5)", X[:, None], y)


# -- modules that cannot be trained ------------------------------------------------------------


class Wrapped(nn.Module):
    """A linear layer, and what else the subclass does with its logits."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        return self.layer(x)


class Raises(Wrapped):
    def forward(self, x):
        raise LookupError("no such thing")


class RaisesInTraining(Wrapped):
    def forward(self, x):
        if self.training:
            raise LookupError("no such thing")
        return self.layer(x)


class Pair(Wrapped):
    def forward(self, x):
        return self.layer(x), x


class Pooled(Wrapped):
    def forward(self, x):
        return self.layer(x).mean(0)


class Detached(Wrapped):
    def forward(self, x):
        return self.layer(x).detach()


class Rounded(Wrapped):
    def forward(self, x):
        return self.layer(x).round().int()


class TwoTypes(Wrapped):
    def __init__(self):
        super().__init__()
        self.other = nn.Linear(3, 3).double()


def with_nan():
    module = nn.Linear(5, 3)
    with torch.no_grad():
        module.bias[1] = torch.nan
    return module


MODULES = {
    "too narrow": (lambda: nn.Linear(5, 2), ["Linear", "(2, 3)", "(2, 2)"]),
    "too wide": (lambda: nn.Linear(5, 4), ["Linear", "3 classes", "(2, 4)"]),
    "other features": (lambda: nn.Linear(4, 3), ["Linear", "(2, 5)", "raised"]),
    "raises": (Raises, ["Raises", "LookupError", "no such thing"]),
    "a pair": (Pair, ["Pair", "tuple"]),
    "no rows": (Pooled, ["Pooled", "(2, 3)", "(3,)"]),
    "detached": (Detached, ["Detached", "gradient"]),
    "rounded": (Rounded, ["Rounded", "torch.int32"]),
    "not finite": (with_nan, ["non-finite", "'bias'"]),
    "no parameters": (nn.ReLU, ["no parameters to train"]),
    "frozen": (lambda: nn.Linear(5, 3).requires_grad_(False), ["no parameters to train"]),
    "two types": (TwoTypes, ["torch.float32", "torch.float64"]),
    "bfloat16": (lambda: nn.Linear(5, 3).bfloat16(), ["torch.bfloat16", "torch.float32"]),
    "batch normalisation": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)),
        ["batch normalisation", "GroupNorm", "LayerNorm"],
    ),
    "nested batch normalisation": (
        lambda: nn.Sequential(nn.Sequential(nn.BatchNorm1d(5)), nn.Linear(5, 3)),
        ["batch normalisation (0.0)"],
    ),
}


@pytest.mark.parametrize(("build", "words"), MODULES.values(), ids=list(MODULES))
def test_modules_that_cannot_be_trained(data, refused, build, words):
    X, y, clients = data
    refused(ValueError, words, X, y, clients=clients, params={"module": build()})
    refused(ValueError, words, X, y, params={"module": lambda n_features, n_classes: build()})


def test_callable_that_makes_no_module(data, refused):
    X, y, _ = data
    refused(ValueError, ["callable", "None"], X, y, params={"module": lambda n, k: None})


@pytest.mark.parametrize("engine", ["vectorized", "loop"])
def test_module_that_raises_in_training(data, refused, engine):
    X, y, clients = data
    params = {"module": RaisesInTraining(), "engine": engine}
    refused(LookupError, "no such thing", X, y, clients=clients, params=params)


@pytest.mark.filterwarnings("ignore:X has the value:UserWarning")
def test_divergence_in_the_first_round(data, refused):
    X, y, clients = data
    double = {"module": lambda n, k: nn.Linear(n, k).double()}
    words = ["Round 1", "diverged", "learning_rate"]
    huge = put(X, 1e300, (slice(None), 0))
    refused(FederatedTrainingError, words, huge, y, clients=clients, params=double)


@pytest.mark.filterwarnings("ignore:Round .* goes on without:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:X has the value:UserWarning")
@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-12, 1e12, 1e30])
def test_columns_of_extreme_scale_train_or_end_in_an_error(data, model, scale):
    X, y, clients = data
    X[:, 0] *= scale
    try:
        model.fit(X, y, clients=clients)
    except FederatedTrainingError:
        assert scale > 1
        assert not hasattr(model, "theta_") or np.isfinite(model.theta_).all()
    else:
        assert np.isfinite(model.theta_).all()
        assert np.isfinite(model.predict_proba(X)).all()


def test_divergence_after_one_wild_round_keeps_no_model(data, model, unchanged):
    X, y, clients = data
    model.set_params(learning_rate=1e30, n_rounds=5, batch_size=100)  # one step in each round
    with pytest.raises(FederatedTrainingError, match="Round 2"), unchanged(model):
        model.fit(X, y, clients=clients)


# -- going on ----------------------------------------------------------------------------------


def test_going_on_with_other_data_or_parts(data, model, unchanged):
    X, y, clients = data
    model.set_params(warm_start=True).fit(pd.DataFrame(X, columns=NAMES), y, clients=clients)
    table = lambda names: pd.DataFrame(X, columns=list(names))  # noqa: E731
    for args, params, words in (
        ((table("abcde"), y + 1), {}, ["[3]", "[0, 1, 2]"]),
        ((table("abcde"), WORDS[y]), {}, ["'cat'", "[0, 1, 2]"]),
        ((table("abcdf"), y), {}, ["unseen at fit time"]),
        ((table("abcde")[NAMES[:4]], y), {}, ["missing"]),
        ((table("abcde"), y), {"hidden_layer_sizes": (9,)}, ["parameters", "warm_start"]),
        ((table("abcde"), y), {"strategy": "fedadam"}, ["strategy", "warm_start"]),
    ):
        before = model.get_params(deep=False)
        model.set_params(**params)
        with unchanged(model), pytest.raises(ValueError) as raised:
            model.fit(*args)
        for word in words:
            assert word in str(raised.value)
        model.set_params(**before)


def test_partial_fit_with_other_classes(data, model, unchanged):
    X, y, clients = data
    with unchanged(model), pytest.raises(ValueError, match=r"classes.*2.*not among"):
        model.partial_fit(X, y, classes=[0, 1], clients=clients)
    model.partial_fit(X, y, classes=[0, 1, 2, 3], clients=clients)
    with unchanged(model), pytest.raises(ValueError, match="differ from those before"):
        model.partial_fit(X, y, classes=[0, 1, 2], clients=clients)
    with unchanged(model), pytest.raises(ValueError, match="not among"):
        model.partial_fit(X, y + 2, clients=clients)


def test_interrupt_keeps_what_was_trained(data, model, unchanged):
    """KeyboardInterrupt comes where it will: here from the module, in some round."""
    X, y, clients = data

    class Interrupted(Wrapped):
        calls_left = 0

        def forward(self, x):
            if self.training:
                Interrupted.calls_left -= 1
                if Interrupted.calls_left < 0:
                    raise KeyboardInterrupt
            return self.layer(x)

    model.set_params(module=lambda n, k: Interrupted(), engine="loop", n_rounds=4)
    with unchanged(model), pytest.raises(KeyboardInterrupt):
        model.fit(X, y, clients=clients)
    n_batches = sum(-(-size // 8) for size in np.unique(clients, return_counts=True)[1])
    Interrupted.calls_left = 2 + 2 * n_batches + 1  # two passes are tried before training
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, clients=clients)
    assert model.n_iter_ == 2
    assert model.predict(X).shape == y.shape


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64, np.uint64, np.float32, bool, "<U1"])
def test_labels_are_numbered_and_not_copied_where_they_are_numbers_already(kind):
    y = np.array([1, 0, 1, 1, 0]).astype(kind)
    places = places_among(np.unique(y), y)
    assert places.tolist() == [1, 0, 1, 1, 0]
    assert np.can_cast(places.dtype, np.int64)
    assert (places is y) == (kind in (np.int8, np.uint8, np.int64))
    assert places_among(np.array([0, 1, 3]), np.array([3, 0])).tolist() == [2, 0]
