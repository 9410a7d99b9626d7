"""Encoders take columns at transform as they were in fit: gaps are gaps in any spelling."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from oracles import SKLEARN

from skfedfocal.preprocessing import (
    FederatedOneHotEncoder,
    FederatedOrdinalEncoder,
    make_table_transformer,
)

WORDS = ["dull", "sharp", "none"]
encoders = pytest.mark.parametrize(
    "encoder",
    [
        FederatedOneHotEncoder(sparse_output=False, handle_unknown="ignore"),
        FederatedOrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
        ),
    ],
)


def objects(values):
    column = np.empty(len(values), object)
    column[:] = values
    return pd.DataFrame({"pain": pd.Series(column, dtype=object)})


SPELLINGS = {
    "NaN": lambda words: objects([np.nan if word is None else word for word in words]),
    "None": objects,
    "pandas.NA": lambda words: objects([pd.NA if word is None else word for word in words]),
    "string": lambda words: objects(words).astype("string"),
    "category": lambda words: objects(words).astype("category"),
    "pandas' own": lambda words: pd.DataFrame({"pain": words}),
}
if SKLEARN >= (1, 9):  # those below find no names in polars 2
    SPELLINGS["polars"] = lambda words: pl.DataFrame({"pain": words})


@encoders
@pytest.mark.parametrize("before", SPELLINGS)
@pytest.mark.parametrize("now", SPELLINGS)
def test_a_gap_is_a_gap(encoder, before, now):
    words = [*WORDS, None, "dull", None]
    encoder.fit(SPELLINGS[before](words), clients=[0, 0, 0, 0, 1, 1])
    same = encoder.transform(SPELLINGS[before](words))
    assert_array_equal(encoder.transform(SPELLINGS[now](words)), same)
    assert len(np.unique(same, axis=0)) == 4  # the gap is no word, and no unknown value


@encoders
@pytest.mark.parametrize("now", SPELLINGS)
def test_a_gap_that_fit_had_not_is_unknown(encoder, now):
    encoder.fit(objects(WORDS))
    assert_array_equal(
        encoder.transform(SPELLINGS[now](["dull", None])), encoder.transform(objects(["dull", "?"]))
    )


@encoders
@pytest.mark.parametrize("with_gaps", [True, False])
def test_a_column_of_gaps_alone_has_any_type(encoder, with_gaps):
    encoder.fit(objects([*WORDS, np.nan] if with_gaps else WORDS))
    gaps = pd.DataFrame({"pain": [np.nan, np.nan]})
    assert gaps.pain.dtype == float
    assert_array_equal(encoder.transform(gaps), encoder.transform(objects([np.nan] * 2)))


def test_of_two_kinds_of_gaps_each_is_its_own_as_in_scikit_learn():
    encoder = FederatedOneHotEncoder(sparse_output=False).fit(objects(["dull", None, np.nan]))
    assert_array_equal(encoder.transform(objects(["dull", None, np.nan])), np.eye(3))


@encoders
def test_numbers_where_fit_had_texts(encoder):
    encoder.fit(pd.DataFrame({"age": ["x", "y"], "code": ["101", "205"]}))
    X = pd.DataFrame({"age": ["x"], "code": [101]})
    for one in (X, X.astype({"code": object}), X.astype({"code": float})):
        with pytest.raises(TypeError, match=r"Column 'code' of X has 101.*'101'.*astype\(str\)"):
            encoder.transform(one)
    assert (encoder.transform(X.astype({"code": str})) >= 0).all()
    with pytest.raises(ValueError, match="feature names should match"):
        encoder.transform(X.rename(columns={"code": "other"}))


@encoders
def test_texts_where_fit_had_numbers(encoder):
    encoder.fit(np.array([[101], [205]]))
    with pytest.raises(TypeError, match=r"Column 0 of X has '101'.*such as 101.*astype\(int\)"):
        encoder.transform([["101"]])


@encoders
def test_values_that_were_withheld_are_no_numbers(encoder):
    encoder.set_params(min_rows=2)
    X = objects(["dull", np.nan, np.nan])
    withheld = encoder.fit(X).transform(X)
    assert_array_equal(withheld[0], encoder.transform(objects(["other"]))[0])
    encoder.set_params(min_rows=1)


@pytest.mark.skipif(SKLEARN < (1, 9), reason="scikit-learn below 1.9 finds no names in polars 2")
def test_a_whole_table_in_other_types():
    table = pd.DataFrame({"age": [61, None, 47, 30], "pain": ["dull", None, "none", "dull"]})
    prepare = make_table_transformer().fit(table)
    for other in (
        table.convert_dtypes(),
        pl.from_pandas(table),
        table.astype("object").astype({"age": float}),
    ):
        assert_array_equal(prepare.transform(other), prepare.transform(table))
