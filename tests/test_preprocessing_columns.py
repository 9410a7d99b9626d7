"""Columns by what is in them, and the usual preparation of a table."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from skfedfocal import ClientColumn, FedFocalClassifier, load_model, save_model, trusted_types
from skfedfocal._estimators.handing_on import hand_on
from skfedfocal.preprocessing import ColumnsOf, FederatedRobustScaler, make_table_transformer

NUMBERS, TEXTS = ColumnsOf("numbers"), ColumnsOf("texts")
# Of each kind of column: whether it is one of texts.
COLUMNS = {
    "float": (np.array([1.5, np.nan, 2.0]), False),
    "single": (np.array([1, 2, 3], np.float32), False),
    "whole": (np.array([1, 2, 3]), False),
    "truth": (np.array([True, False, True]), False),
    "whole with gaps": (pd.array([1, None, 2], "Int64"), False),
    "truth with gaps": (pd.array([True, None, False], "boolean"), False),
    "nothing": (np.array([None] * 3, object), False),
    "objects": (np.array(["a", None, "b"], object), True),
    "texts": (pd.array(["a", "b", None], "string"), True),
    "category": (pd.Categorical(["a", "b", None]), True),
    "category of numbers": (pd.Categorical([1, 2, 1]), True),
    "truths as objects": (np.array([True, None, False], object), True),
}


@settings(max_examples=50)
@given(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, unique=True))
def test_each_column_is_of_one_kind(names):
    frame = pd.DataFrame({name: COLUMNS[name][0] for name in names})
    assert TEXTS(frame) == [name for name in names if COLUMNS[name][1]]
    assert NUMBERS(frame) == [name for name in names if not COLUMNS[name][1]]
    frame.columns = range(len(names))  # which a ColumnTransformer takes for places
    assert sorted([*TEXTS(frame), *NUMBERS(frame)]) == list(range(len(names)))
    assert TEXTS(frame) == [place for place, name in enumerate(names) if COLUMNS[name][1]]


def test_tables_of_other_kinds():
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None], "c": [True, False], "d": [1.5, None]})
    frame = frame.with_columns(e=pl.Series(["x", "y"], dtype=pl.Categorical))
    assert (NUMBERS(frame), TEXTS(frame)) == (["a", "c", "d"], ["b", "e"])
    for numbers in (np.zeros((2, 3)), sparse.csr_array((2, 3)), np.zeros((2, 3), bool)):
        assert (NUMBERS(numbers), TEXTS(numbers)) == ([0, 1, 2], [])
    words = np.array([["a", "b"]])
    for texts in (words, words.astype(object)):
        assert (NUMBERS(texts), TEXTS(texts)) == ([], [0, 1])


def test_what_is_neither_is_named():
    with pytest.raises(ValueError, match=r"column 1 \('seen'\) of X has dates"):
        TEXTS(pd.DataFrame({"a": [1], "seen": pd.to_datetime(["2026-01-31"])}))
    for kind in (NUMBERS, TEXTS):
        with pytest.raises(ValueError, match=r"column 'age' of X has 61, a number, and is of type"):
            kind(pd.DataFrame({"age": np.array([None, 61], object)}))
        with pytest.raises(ValueError, match=r"column 1 of X has 61, .* as a frame"):
            kind(np.array([["dull", 61]], object))
    with pytest.raises(ValueError, match="'kind' parameter of ColumnsOf must be"):
        ColumnsOf("words")(pd.DataFrame({"a": [1]}))


@st.composite
def tables(draw):
    """A table with gaps, of as many columns of each kind as one likes; and a partition."""
    n, rng = draw(st.integers(2, 40)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns = {}
    for j in range(draw(st.integers(0, 3))):
        columns[f"number {j}"] = rng.normal(j, 1 + j, n)
    for j in range(draw(st.integers(0 if columns else 1, 3))):
        columns[f"text {j}"] = rng.choice(["a", "b", "a b", "c"], n).astype(object)
    frame = pd.DataFrame({name: columns[name] for name in rng.permutation(list(columns)).tolist()})
    gaps = rng.random(frame.shape) < draw(st.sampled_from([0, 0.3]))
    gaps[0] = False  # scikit-learn's imputer drops a column without a value, and warns of it
    return frame.mask(gaps), rng.integers(0, draw(st.integers(1, 5)), n)


@settings(max_examples=50)
@given(tables())
def test_the_usual_preparation_is_scikit_learns(made):
    frame, clients = made
    ours = hand_on(make_table_transformer(), "fit", frame, None, clients=clients)
    theirs = make_column_transformer(
        (
            make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    ).fit(frame)
    ones, others = ours.transform(frame), theirs.transform(frame)
    assert sparse.issparse(ones) == sparse.issparse(others)
    assert_allclose(*(x.toarray() if sparse.issparse(x) else x for x in (ones, others)), atol=1e-9)
    names, wanted = ours.get_feature_names_out(), theirs.get_feature_names_out()
    assert [n.partition("__")[2] for n in names] == [n.partition("__")[2] for n in wanted]


def test_other_steps_files_and_frames_in_another_order(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(50, 9, 60), "pain": ["dull", "none", "sharp"] * 20})
    hospital, ill = rng.choice(["oslo", "bergen"], 60), frame["age"] > 50
    columns = make_table_transformer(numbers=FederatedRobustScaler(), texts="drop")
    for step, n_columns in ((columns, 1), (make_table_transformer(), 4)):
        pipeline = make_pipeline(clone(step), FedFocalClassifier(n_rounds=2, random_state=0))
        model = ClientColumn(pipeline, "hospital").fit(frame.assign(hospital=hospital), ill)
        assert model.estimator_[-1].n_features_in_ == n_columns
        save_model(model.estimator_, tmp_path / "model")
        again = load_model(tmp_path / "model")
        turned = frame[["pain", "age"]].assign(beside=pd.Timestamp(0))  # as they were in fit
        assert_array_equal(again.predict_proba(turned), model.predict_proba(frame))
        assert repr(again[0]) == repr(model.estimator_[0])
        read = skops.io.loads(skops.io.dumps(model), trusted=trusted_types())
        assert_array_equal(read.predict_proba(frame), model.predict_proba(frame))
        save_model(again, tmp_path / "anew")
        assert (tmp_path / "anew").read_bytes() == (tmp_path / "model").read_bytes()
    assert columns.set_params(numbers__with_scaling=False).get_params()["texts"] == "drop"
