"""Input that cannot be trained on: the error says what was found where, and what to do.

After a refusal the estimator is as it was before, unfitted or fitted, and so are the data.
"""

import contextlib
import io
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from faults import diverged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from torch import nn

from skfedfocal import (
    FederatedClassifier,
    FederatedTrainingError,
    FedFocalClassifier,
    FedFocalClassifierCV,
    load_model,
    save_model,
)
from skfedfocal._sklearn import InvalidParameterError

# Rows that are too large on purpose also tell of their scale.
pytestmark = pytest.mark.filterwarnings("ignore:The first round's loss:UserWarning")

NAMES = list("abcde")


@pytest.fixture
def model():
    return FedFocalClassifier((8,), n_rounds=2, batch_size=8, random_state=0)


@pytest.fixture
def data(federation):
    return federation.X, federation.y, federation.clients


@pytest.fixture
def refused(data, model, unchanged):
    """Check that fit refuses with these words, and that nothing is then other than before."""
    X, y, clients = data

    def check(words, X_bad, y_bad=y, *, error=ValueError, estimator=model, params=None, ids=None):
        copy = X_bad.copy() if hasattr(X_bad, "copy") else X_bad
        unfitted = clone(estimator).set_params(**(params or {}))
        fitted = clone(estimator).fit(pd.DataFrame(X, columns=NAMES), y, clients=clients)
        fitted.set_params(**(params or {}))
        for some in (unfitted, fitted):
            with unchanged(some), pytest.raises(error) as raised:
                some.fit(X_bad, y_bad, clients=ids)
            for word in words:
                assert word in str(raised.value)
        same = copy.equals(X_bad) if hasattr(copy, "equals") else np.array_equal(copy, X_bad)
        assert same

    return check


# -- columns that hold no numbers ----------------------------------------------------------------

DATES = pd.date_range("2026-01-01", periods=60)


@pytest.mark.parametrize(
    "column",
    [DATES, DATES.tz_localize("Europe/Oslo"), DATES - DATES[0], pd.Series(DATES).dt.to_period("D")],
    ids=["dates", "with a zone", "durations", "periods"],
)
def test_a_column_of_dates_is_named(data, refused, column):
    X = data[0]
    table = pd.DataFrame(X, columns=NAMES)
    table.insert(2, "seen", column)
    if "period" in str(table["seen"].dtype):
        refused(["column 2 ('seen')", "Period('2026-01-01', 'D') in row 0"], table, error=TypeError)
    else:
        refused(["column 2 ('seen')", "dates or times", "leave the column out"], table)


def test_a_polars_column_of_dates_is_named(data, refused):
    X, _, _ = data
    table = pl.DataFrame(X, schema=NAMES).with_columns(seen=pl.Series(DATES.to_numpy()))
    with pytest.raises(ValueError, match=r"column 5 \('seen'\) of X has dates"):
        FedFocalClassifier().fit(table, data[1])


@pytest.mark.parametrize("kind", ["object", "category", "string"])
def test_a_word_is_named_with_its_column_and_row(data, refused, kind):
    X, _, _ = data
    table = pd.DataFrame(X, columns=NAMES)
    table["job"] = pd.Series(["nurse", "porter"] * 30).astype(kind)
    refused(["column 5 ('job')", "'nurse' in row 0", "encode"], table)


def test_a_word_among_numbers_is_named(data, refused):
    X, _, _ = data
    table = pd.DataFrame(X, columns=NAMES).astype({"c": object})
    table.loc[7, "c"] = "n/a"
    refused(["column 2 ('c')", "'n/a' in row 7"], table)
    array = X.astype(object)
    array[9, 4] = "high"
    refused(["column 4 of X", "'high' in row 9"], array)


def test_words_are_named_at_predict_too(data, model, unchanged):
    X, y, clients = data
    table = pd.DataFrame(X, columns=NAMES)
    model.fit(table, y, clients=clients)
    wrong = table.astype({"c": object})
    wrong.loc[3, "c"] = "n/a"
    with unchanged(model), pytest.raises(ValueError, match=r"column 2 \('c'\) .*'n/a' in row 3"):
        model.predict(wrong)


def test_other_errors_about_a_table_are_those_of_scikit_learn(data, model):
    X, y, clients = data
    model.fit(pd.DataFrame(X, columns=NAMES), y, clients=clients)
    with pytest.raises(ValueError, match="unseen at fit time"):
        model.predict(pd.DataFrame(X, columns=list("abcdz")))
    numbers = pd.DataFrame(X, columns=NAMES).astype(object)  # numbers as objects are numbers
    assert model.fit(numbers, y, clients=clients).predict(numbers).shape == y.shape


# -- a single huge value -------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Round .* goes on without:RuntimeWarning")
@pytest.mark.parametrize("value", [1e12, -1e12, 1e20, 1e38])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, "table"], ids=str)
def test_a_single_huge_cell_is_warned_of_before_training(data, model, value, form):
    X, y, clients = data
    X = X.copy()
    X[5, 2] = value
    words = rf"X has the value {value:g} in column 2".replace("+", r"\+")
    if form == "table":
        form, words = lambda X: pd.DataFrame(X, columns=NAMES), words + r" \('c'\)"
    with (
        pytest.warns(UserWarning, match=words) as caught,
        contextlib.suppress(FederatedTrainingError),
    ):
        model.fit(form(X), y, clients=clients)
    assert "X has the value" in str(caught[0].message)  # before any round


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.float32])
def test_large_whole_numbers_are_values_too(data, model, kind):
    X, y, clients = data
    X = np.round(X).astype(kind)
    model.fit(X, y, clients=clients)
    X[5, 2] = 2_000_000_000
    with pytest.warns(UserWarning, match=r"2e\+09 in column 2"):
        model.fit(X, y, clients=clients)


# -- parameters ----------------------------------------------------------------------------------


def test_class_weights_that_leave_nothing_to_tell_apart(data, refused):
    X, y, _ = data
    words = ["class_weight={0: 0, 1: 0}", "every class but one"]
    refused(words, X, params={"class_weight": {0: 0, 1: 0}})
    binary = (y > 0).astype(int)
    with pytest.raises(ValueError, match="weighs every class 0"):
        FedFocalClassifier(class_weight={0: 0, 1: 0}).fit(X, binary)
    with pytest.raises(ValueError, match="weighs every class but one 0"):
        FedFocalClassifier(class_weight={0: 0}).fit(X, binary)


def test_a_class_weight_of_a_class_that_a_fold_lacks_is_ignored(data, model):
    X, y, clients = data
    wanted = clone(model).set_params(class_weight={0: 1, 1: 2, 2: 5}).fit(X, y, clients=clients)
    more = model.set_params(class_weight={0: 1, 1: 2, 2: 5, 9: 7}).fit(X, y, clients=clients)
    np.testing.assert_array_equal(more.theta_, wanted.theta_)
    with pytest.raises(ValueError, match=r"labels \[9\] that are not among \[0, 1, 2\]"):
        model.set_params(class_weight={0: 1, 9: 7}).fit(X, y, clients=clients)


@pytest.mark.parametrize("cv", ["x", "3", [1, 2], [None]])
def test_cv_that_is_none(data, refused, cv):
    X, _, _ = data
    search = FedFocalClassifierCV((8,), gammas=(0.0, 1.0), n_rounds=2, random_state=0)
    words = ["cv must be", "number of folds", "pairs of row numbers", repr(cv)]
    refused(words, X, error=InvalidParameterError, estimator=search, params={"cv": cv})


@pytest.mark.parametrize("width", [50, np.int64(50)])
def test_a_number_of_hidden_units_is_one_layer(data, model, width):
    X, y, clients = data
    wanted = clone(model).set_params(hidden_layer_sizes=(50,)).fit(X, y, clients=clients)
    found = model.set_params(hidden_layer_sizes=width).fit(X, y, clients=clients)
    np.testing.assert_array_equal(found.theta_, wanted.theta_)
    assert found.hidden_layer_sizes_ == (50,)
    assert clone(found).hidden_layer_sizes == width


@pytest.mark.parametrize("width", [0, -3, 2.5, "50"])
def test_other_widths_are_refused(data, refused, width):
    refused(["hidden_layer_sizes"], data[0], params={"hidden_layer_sizes": width})


# -- modules -------------------------------------------------------------------------------------


def lazy(n_features, n_classes):
    return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, n_classes))


@pytest.mark.parametrize(
    ("module", "name"), [(lazy, "'0.weight'"), (lambda n, k: nn.LazyLinear(k), "'weight'")]
)
def test_lazy_modules(data, refused, module, name):
    refused(["lazy", name, "n_features"], data[0], params={"module": module})


def test_a_lazy_module_that_has_seen_a_row_is_one_like_others(data, model):
    X, y, clients = data
    module = lazy(5, 3)
    module(torch.zeros(1, 5))
    model.set_params(module=module).fit(X, y, clients=clients)
    assert model.predict(X).shape == y.shape


def test_callables_of_another_signature(data, refused):
    X, _, _ = data

    def one(n_features):
        return nn.Linear(n_features, 3)

    words = ["module(n_features, n_classes)", "'test_callables", "(n_features)"]
    refused(words, X, params={"module": one})
    refused(["module(n_features, n_classes)", "'ReLU6'"], X, params={"module": nn.ReLU6})

    def own(n_features, n_classes):
        raise TypeError("an error of its own")

    refused(["an error of its own"], X, error=TypeError, params={"module": own})


def words_module(n_columns, n_classes):
    return nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(4 * n_columns, n_classes))


class TwoTables(nn.Module):
    """Columns have tables of their own, the first a larger one."""

    def __init__(self, n_columns, n_classes):
        super().__init__()
        self.first, self.rest = nn.Embedding(1000, 3), nn.Embedding(20, 3)
        self.head = nn.Linear(3 * n_columns, n_classes)

    def forward(self, x):
        found = torch.cat([self.first(x[:, :1]), self.rest(x[:, 1:])], 1)
        return self.head(found.flatten(1))


class FindsItsOwn(nn.Module):
    """Takes floats, the first column of which it looks up."""

    def __init__(self, n_columns, n_classes):
        super().__init__()
        self.table, self.head = nn.Embedding(20, 3), nn.Linear(3 + n_columns - 1, n_classes)

    def forward(self, x):
        return self.head(torch.cat([self.table(x[:, 0].long()), x[:, 1:]], 1))


@pytest.fixture
def indices(data):
    return np.random.default_rng(0).integers(0, 20, (60, 5))


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
@pytest.mark.parametrize("value", [20, 25, -1])
def test_an_index_beyond_the_embedding_is_named(data, indices, unchanged, engine, value):
    _, y, clients = data
    model = FederatedClassifier(module=words_module, n_rounds=2, engine=engine, random_state=0)
    wrong = indices.copy()
    wrong[41, 2] = value
    said = rf"no row of number {value} in the embedding that column 2 is"
    with unchanged(model), pytest.raises(ValueError, match=said):
        model.fit(wrong, y, clients=clients)
    model.fit(indices, y, clients=clients)
    with unchanged(model), pytest.raises(ValueError, match=said):
        model.predict(wrong)
    named = pd.DataFrame(wrong, columns=NAMES)
    with pytest.raises(ValueError, match=r"column 2 \('c'\)"):
        model.fit(named, y, clients=clients)


def test_each_column_may_have_a_table_of_its_own(data, indices):
    _, y, clients = data
    model = FederatedClassifier(module=TwoTables, n_rounds=2, random_state=0)
    indices[:, 0] = np.arange(60) * 16
    model.fit(indices, y, clients=clients)
    indices[3, 4] = 20
    with pytest.raises(ValueError, match=r"number 20 .* column 4 is"):
        model.predict(indices)


@pytest.mark.parametrize("form", [np.float64, np.float32, lambda X: sparse.csr_array(X * 1.0)])
def test_indices_written_as_floats_are_indices(data, indices, form):
    _, y, clients = data
    model = FederatedClassifier(module=words_module, n_rounds=2, random_state=0)
    wanted = clone(model).fit(indices, y, clients=clients)
    found = model.fit(form(indices), y, clients=clients)
    np.testing.assert_array_equal(found.theta_, wanted.theta_)
    np.testing.assert_array_equal(found.predict_proba(form(indices)), wanted.predict_proba(indices))


def test_fractions_are_no_indices(data, indices, unchanged):
    _, y, clients = data
    model = FederatedClassifier(module=words_module, n_rounds=2, random_state=0)
    wrong = indices.astype(float)
    wrong[8, 3] = 2.5
    with unchanged(model), pytest.raises(ValueError, match=r"by whole numbers; column 3 has 2\.5"):
        model.fit(wrong, y, clients=clients)


def test_a_module_that_takes_floats_is_given_floats(data, indices):
    X, y, clients = data
    mixed = np.column_stack([indices[:, 0], X[:, 1:]])
    for rows in (mixed, np.round(mixed)):
        model = FederatedClassifier(module=FindsItsOwn, n_rounds=2, random_state=0)
        assert model.fit(rows, y, clients=clients).predict(rows).shape == y.shape


# -- ids -----------------------------------------------------------------------------------------


def test_masked_ids(data, refused):
    X, y, clients = data
    numbers = np.unique(clients, return_inverse=True)[1]
    for values in (numbers, numbers.astype(float), clients):
        masked = np.ma.array(values, mask=y == 2)
        first = int(np.argmax(y == 2))
        words = ["clients has 8 missing entries", f"row {first}"]
        refused(words, X, ids=masked)
        refused(words, X, ids=masked[:, None])
        refused(words, X, ids=list(masked))


def test_ids_that_are_masked_nowhere_are_ids(data, model):
    X, y, clients = data
    wanted = clone(model).fit(X, y, clients=clients)
    found = model.fit(X, y, clients=np.ma.array(clients, mask=False))
    np.testing.assert_array_equal(found.theta_, wanted.theta_)
    assert type(found.clients_) is np.ndarray


def test_ids_with_a_time_zone_are_written_and_read(data, model, tmp_path):
    X, y, clients = data
    days = pd.Timestamp("2026-03-28", tz="Europe/Oslo") + pd.to_timedelta(np.arange(4), unit="D")
    ids = pd.Series(days[np.unique(clients, return_inverse=True)[1]])
    model.fit(X, y, clients=ids)
    save_model(model, tmp_path / "model")
    found = load_model(tmp_path / "model")
    assert found.clients_.tolist() == model.clients_.tolist()
    np.testing.assert_array_equal(found.predict(X), model.predict(X))


def test_ids_that_a_file_cannot_hold_say_so(data, model, tmp_path):
    X, y, _ = data
    exact = pd.Timestamp("2026-03-28", tz="Europe/Oslo") + pd.Timedelta(1, "ns")
    ids = pd.Series([exact] * 30 + [exact + pd.Timedelta(1, "D")] * 30)
    model.fit(X, y, clients=ids)
    with pytest.raises(TypeError, match="nanoseconds"):
        save_model(model, tmp_path / "model")
    assert not list(tmp_path.iterdir())


# -- the progress bar ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "ends"),
    [
        ({}, None),
        ({"early_stopping": True, "n_iter_no_change": 1, "tol": 10.0, "n_rounds": 50}, None),
        ({"learning_rate": 1e30, "n_rounds": 5, "batch_size": 100}, FederatedTrainingError),
    ],
    ids=["to the end", "early", "diverging"],
)
def test_the_progress_bar_ends_its_line(data, model, params, ends, monkeypatch):
    X, y, clients = data
    model.set_params(verbose=1, **params)
    terminal = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        if ends is None:
            model.fit(X, y, clients=clients)
        else:
            with pytest.raises(ends):
                model.fit(X, y, clients=clients)
    text = terminal.getvalue()
    assert text.startswith("\r[")
    assert text.endswith("\n")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "predict_posterior", "score"]
)
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_a_model_that_has_diverged_predicts_nothing(data, model, method, gamma):
    X, y, clients = data
    model.set_params(gamma=gamma, numeric_encoding=None).fit(X, y, clients=clients)
    model = diverged(model)
    given = (X, y) if method == "score" else (X,)
    with pytest.raises(ValueError, match=r"not finite for \d+ of .* training has diverged"):
        getattr(model, method)(*given)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(exponent=st.floats(-45, 38.5), row=st.integers(0, 9), column=st.integers(0, 4))
def test_probabilities_are_numbers_or_refused(data, exponent, row, column):
    X, y, clients = data
    fitted = FedFocalClassifier((8,), n_rounds=2, random_state=0).fit(X, y, clients=clients)
    large = X[:10].copy()
    large[row, column] = 10.0**exponent
    with contextlib.suppress(ValueError) if exponent > 30 else contextlib.nullcontext():
        np.testing.assert_allclose(fitted.predict_proba(large).sum(1), 1, rtol=1e-5)
