"""Categories and extremes from sums are those that scikit-learn finds on all rows."""

from unittest.mock import patch

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, OneHotEncoder, OrdinalEncoder
from sklearn.utils.estimator_checks import parametrize_with_checks

from skfedfocal import ClientColumn, FedFocalClassifier, preprocessing
from skfedfocal._data.queries import Query
from skfedfocal._disclosure import FACTS, SINGLE
from skfedfocal._training.parts import disclosure_table
from skfedfocal.preprocessing import (
    FederatedMaxAbsScaler,
    FederatedMinMaxScaler,
    FederatedOneHotEncoder,
    FederatedOrdinalEncoder,
    FederatedQuantileTransformer,
    FederatedRobustScaler,
    FederatedSimpleImputer,
    FederatedStandardScaler,
)
from skfedfocal.preprocessing._ask import settle_here
from skfedfocal.preprocessing._categories import (
    PrefixCounts,
    column_categories,
    read,
    written,
)

CHECKED = [
    FederatedOneHotEncoder(),
    FederatedOrdinalEncoder(),
    FederatedMinMaxScaler(),
    FederatedMaxAbsScaler(),
    FederatedSimpleImputer(strategy="most_frequent"),
]


@parametrize_with_checks(CHECKED, expected_failed_checks=lambda estimator: {})
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# -- tables --------------------------------------------------------------------------------------

texts = st.sampled_from(["yes", "Yes", "no", "", "n", "noé", "a longer answer", "a longer word"])
wholes = st.sampled_from([0, 1, 10, 12, -3, 2**40])
numbers = st.one_of(st.just(np.nan), st.sampled_from([0.0, 1.0, 0.1, 1e300, 5e-324, -2.5]))
with_missing = st.one_of(texts, st.just(np.nan), st.none())
rows = st.lists(st.tuples(with_missing, wholes, numbers, texts, st.booleans()), min_size=1)


def frame_of(rows):
    frame = pd.DataFrame(rows, columns=["word", "whole", "number", "text", "flag"])
    kinds = {"whole": np.int64, "number": np.float64, "text": object, "flag": bool}
    # pandas makes one of None and NaN unless it is told that these are objects.
    word = np.empty(len(rows), object)
    word[:] = [row[0] for row in rows]
    return frame.astype(kinds).assign(word=pd.Series(word, dtype=object))


def array_of(rows, place):
    column = np.empty((len(rows), 1), object)
    column[:, 0] = [row[place] for row in rows]
    return column if place in (0, 3) else column.astype({1: np.int64, 2: float, 4: bool}[place])


forms = st.sampled_from(
    [
        frame_of,
        lambda rows: frame_of(rows)[["text"]].astype("string"),
        lambda rows: frame_of(rows)[["text", "flag"]].astype("category"),
        lambda rows: frame_of(rows)[["number"]].clip(-9, 9).astype(np.float32),
        lambda rows: pl.DataFrame({"text": [row[3] for row in rows]}),
        lambda rows: [[row[3], row[3]] for row in rows],
        lambda rows: np.array([[row[3]] for row in rows]),
        *(lambda rows, place=place: array_of(rows, place) for place in range(5)),
    ]
)


def clients_of(n_rows, seed):
    return np.random.default_rng(seed).integers(0, 5, n_rows)


def fitted(estimator, X, **params):
    """The estimator, or the kind of error that it raises."""
    try:
        return estimator.fit(X, **params)
    except (TypeError, ValueError) as error:
        return type(error)


def assert_same_state(ours, theirs):
    """All that scikit-learn's encoder has learned, private or not."""
    learned = {k: v for k, v in vars(theirs).items() if k not in theirs.get_params()}
    mine = {k: v for k, v in vars(ours).items() if k not in ours.get_params()}
    assert mine.keys() == learned.keys()
    for name, value in learned.items():
        if isinstance(value, list):
            assert len(mine[name]) == len(value)
            for one, other in zip(mine[name], value, strict=True):
                assert getattr(one, "dtype", None) == getattr(other, "dtype", None)
                np.testing.assert_equal(*(np.asarray(v).tolist() for v in (one, other)))
        else:
            np.testing.assert_equal(mine[name], value)


def assert_same_rows(some, other):
    some, other = (v.toarray() if sparse.issparse(v) else v for v in (some, other))
    assert some.dtype == other.dtype
    assert_array_equal(some, other)


# -- encoders ------------------------------------------------------------------------------------

least = st.one_of(st.none(), st.integers(1, 4), st.sampled_from([0.1, 0.25, 0.5]))


@given(
    rows,
    forms,
    st.integers(0, 99),
    st.sampled_from([None, "first", "if_binary"]),
    st.booleans(),
    st.sampled_from(["error", "ignore", "infrequent_if_exist"]),
    least,
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_one_hot_encoder_is_scikit_learns(
    rows, form, seed, drop, sparse_output, unknown, min_frequency, max_categories
):
    X, params = (
        form(rows),
        {
            "drop": drop,
            "sparse_output": sparse_output,
            "handle_unknown": unknown,
            "min_frequency": min_frequency,
            "max_categories": max_categories,
        },
    )
    theirs = fitted(OneHotEncoder(**params), X)
    ours = fitted(FederatedOneHotEncoder(**params), X, clients=clients_of(len(rows), seed))
    if isinstance(theirs, type):
        assert ours is theirs
        return
    assert_same_state(ours, theirs)
    assert_same_rows(ours.transform(X), theirs.transform(X))
    names = ours.get_feature_names_out(), theirs.get_feature_names_out()
    assert_array_equal(*names)


@given(
    rows,
    forms,
    st.integers(0, 99),
    st.sampled_from(["error", "use_encoded_value"]),
    st.sampled_from([np.nan, -5]),
    least,
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_ordinal_encoder_is_scikit_learns(
    rows, form, seed, unknown, missing, min_frequency, max_categories
):
    X, params = (
        form(rows),
        {
            "handle_unknown": unknown,
            "unknown_value": None if unknown == "error" else -1,
            "encoded_missing_value": missing,
            "min_frequency": min_frequency,
            "max_categories": max_categories,
        },
    )
    theirs = fitted(OrdinalEncoder(**params), X)
    ours = fitted(FederatedOrdinalEncoder(**params), X, clients=clients_of(len(rows), seed))
    if isinstance(theirs, type):
        assert ours is theirs
        return
    assert_same_state(ours, theirs)
    assert_same_rows(ours.transform(X), theirs.transform(X))


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([1, 2, 7])), min_size=1),
    st.integers(0, 99),
    st.sampled_from([FederatedOneHotEncoder, FederatedOrdinalEncoder]),
    st.sampled_from([["d", "b", "a", "c"], ["a", "b"]]),
    st.sampled_from([[1, 2, 7], [1.0, 2.0, 7.0, 9.0], [7, 2, 1], [1, 2]]),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_categories_that_are_given(rows, seed, kind, words, wholes, strict, min_frequency):
    frame = pd.DataFrame(rows, columns=["word", "whole"]).astype({"word": object})
    is_one_hot = kind is FederatedOneHotEncoder
    params = {"categories": [words, wholes], "min_frequency": min_frequency}
    if not strict:
        params["handle_unknown"] = "ignore" if is_one_hot else "use_encoded_value"
        params |= {} if is_one_hot else {"unknown_value": -1}
    theirs = fitted((OneHotEncoder if is_one_hot else OrdinalEncoder)(**params), frame)
    ours = fitted(kind(**params), frame, clients=clients_of(len(rows), seed))
    if isinstance(theirs, type):
        assert ours is theirs
        return
    assert_same_state(ours, theirs)
    assert_same_rows(ours.transform(frame), theirs.transform(frame))


@given(
    rows,
    st.integers(0, 99),
    st.integers(2, 5),
    least,
    st.one_of(st.none(), st.integers(1, 4)),
)
def test_values_of_few_rows_are_infrequent(rows, seed, min_rows, min_frequency, max_categories):
    """As if scikit-learn's encoder called them infrequent; on all rows, also those."""
    # With gaps of one kind: if None is withheld and NaN is not, None counts as NaN.
    X = frame_of([(np.nan if word is None else word, *row) for word, *row in rows])
    params = {
        "max_categories": max_categories,
        "handle_unknown": "infrequent_if_exist",
        "sparse_output": False,
    }
    ours = FederatedOneHotEncoder(min_rows=min_rows, min_frequency=min_frequency, **params)
    clients = clients_of(len(rows), seed)
    counts = [X[name].value_counts(dropna=False) for name in X]
    if any(one.max() < min_rows for one in counts):
        with pytest.raises(ValueError, match="no value of as many rows"):
            ours.fit(X, clients=clients)
        return
    ours.fit(X, clients=clients)
    share = min_frequency if isinstance(min_frequency, float) else 0
    threshold = max(min_rows, min_frequency or 0, int(np.ceil(share * len(rows))))
    theirs = OneHotEncoder(min_frequency=int(threshold), **params).fit(X)
    assert_same_rows(ours.transform(X), theirs.transform(X))
    assert_array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())


def test_values_of_few_rows_are_unknown_to_the_ordinal_encoder():
    X = np.array([["a"], ["a"], ["b"], ["b"], ["rare"]], object)
    encoder = FederatedOrdinalEncoder(
        min_rows=2, handle_unknown="use_encoded_value", unknown_value=-1
    )
    encoder.fit(X, clients=[0, 1, 0, 1, 1])
    assert encoder.categories_[0].tolist() == ["a", "b"]
    assert encoder.transform(X).ravel().tolist() == [0, 0, 1, 1, -1]


@pytest.mark.parametrize("kind", [FederatedOneHotEncoder, FederatedOrdinalEncoder])
def test_min_rows_needs_a_place_for_what_it_withholds(kind):
    with pytest.raises(ValueError, match="min_rows=2 withholds values"):
        kind(min_rows=2).fit([["a"], ["a"], ["b"]])


# -- what is asked -------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans())))
def test_what_is_written_is_read(values):
    for value in values:
        again = read(written(value))
        assert type(again) is type(value)
        assert again == value or (again != again and value != value)


def asked(X, clients, min_rows):
    """The questions and the sums that answer them."""
    found = []

    def recording():
        questions = column_categories([X.dtype] * X.shape[1], min_rows)
        query = next(questions)
        while True:
            answer = yield query
            found.append((query, answer))
            try:
                query = questions.send(answer)
            except StopIteration as done:
                return done.value

    return settle_here(recording(), X, clients), found


@given(st.lists(st.text("ab", max_size=6), min_size=1), st.integers(0, 99), st.integers(1, 4))
def test_values_of_few_rows_are_asked_about_only_as_far_as_they_are_alike(words, seed, min_rows):
    X = np.array([[word] for word in words], object)
    categories, questions = asked(X, clients_of(len(words), seed), min_rows)
    wanted = {word: words.count(word) for word in words if words.count(word) >= min_rows}
    assert categories == [wanted]
    told = [prefix for query, _ in questions for _, prefix in query.prefixes]
    for prefix in told:
        assert type(prefix) is bytes
        n_rows = sum(written(word).startswith(prefix) for word in words)
        assert n_rows >= min_rows or prefix == b""
    if min_rows > 1:
        assert {query.n_ahead for query, _ in questions} == {1}


def test_few_questions_where_values_branch_rarely():
    words = [["typical angina"], ["atypical angina"], ["asymptomatic"], ["non-anginal pain"]]
    found, questions = asked(np.array(words * 3, object), np.arange(12), 1)
    assert found == [{word: 3 for (word,) in words}]
    assert len(questions) <= 5
    for query, answer in questions:
        assert type(query) is PrefixCounts
        assert ((answer == np.floor(answer)) & (answer >= 0) & (answer <= 12)).all()


@pytest.mark.parametrize("kind", [FederatedOneHotEncoder, FederatedOrdinalEncoder])
def test_dates_and_other_things_are_refused_by_column(kind):
    frame = pd.DataFrame({"a": [1, 2], "visit": pd.to_datetime(["2020-01-01", "2020-01-02"])})
    with pytest.raises(ValueError, match=r"'visit'.* has dates"):
        kind().fit(frame)
    things = np.full((2, 2), "a", object)
    things[0, 1] = (1, 2)
    with pytest.raises(TypeError, match="Column 1 of X has a value of type tuple"):
        kind().fit(things)


# -- extremes ------------------------------------------------------------------------------------

tables = st.lists(
    st.tuples(*[st.one_of(numbers, st.floats(-1e300, 1e300))] * 2), min_size=1, max_size=30
).map(np.array)


@given(tables, st.integers(0, 99), st.sampled_from([(0, 1), (-3.0, 0.5)]), st.booleans())
def test_min_max_scaler_is_scikit_learns(X, seed, feature_range, clip):
    X, params = X / 4, {"feature_range": feature_range, "clip": clip}
    X = X[:, ~np.isnan(X).all(0)]  # of which scikit-learn warns
    if not X.shape[1]:
        return
    for kind in (np.float64, np.float32):
        with np.errstate(over="ignore"):
            X = np.clip(X, -1e37, 1e37).astype(kind)
        ours = FederatedMinMaxScaler(**params).fit(X, clients=clients_of(len(X), seed))
        theirs = MinMaxScaler(**params).fit(X)
        assert_same_state(ours, theirs)
        assert_same_rows(ours.transform(X), theirs.transform(X))


@given(tables, st.integers(0, 99), st.sampled_from([np.asarray, sparse.csr_array]))
def test_max_abs_scaler_is_scikit_learns(X, seed, kind):
    X = X[:, ~np.isnan(X).all(0)]
    if not X.shape[1]:
        return
    ours = FederatedMaxAbsScaler().fit(kind(X), clients=clients_of(len(X), seed))
    theirs = MaxAbsScaler().fit(kind(X))
    assert_same_state(ours, theirs)
    assert_same_rows(ours.transform(kind(X)), theirs.transform(kind(X)))


def test_scalers_by_extremes_have_no_way_around_the_questions():
    for scaler in (FederatedMinMaxScaler(), FederatedMaxAbsScaler()):
        assert not hasattr(scaler, "partial_fit")
    with pytest.raises(TypeError, match="FederatedMaxAbsScaler"):
        FederatedMinMaxScaler().fit(sparse.csr_array(np.eye(3)))


@pytest.mark.parametrize("step", CHECKED)
def test_partitions_and_ids_in_another_order_are_refused(step):
    step = clone(step)
    with pytest.raises(ValueError, match="ClientColumn"):
        step.fit({"a": ([[0.0]], [0])})
    table = pd.DataFrame({"a": [0.0, 1.0]}, index=[1, 2])
    with pytest.raises(ValueError, match=r"clients\.loc\[X\.index\]"):
        step.fit(table, clients=pd.Series(["x", "y"], index=[2, 1]))


# -- among other parts ---------------------------------------------------------------------------

MIXED = pd.DataFrame(
    {
        "age": [61.0, np.nan, 47.0, 52.0, 70.0, 33.0] * 8,
        "pulse": [70.0, 72.0, 91.0, np.nan, 65.0, 88.0] * 8,
        "pain": pd.Series(["none", "mild", np.nan, "none", "severe", "mild"] * 8, dtype=object),
    }
)
LABELS, CLIENTS = np.array([0, 1, 1, 0] * 12), np.repeat(["a", "b", "c"], 16)


def preparation(federated):
    """The same preparation, with our parts or with scikit-learn's."""
    if federated:
        impute, scale, encode = (
            FederatedSimpleImputer,
            FederatedMinMaxScaler,
            FederatedOneHotEncoder,
        )
    else:
        impute, scale, encode = SimpleImputer, MinMaxScaler, OneHotEncoder
    return make_column_transformer(
        (make_pipeline(impute(strategy="median"), scale()), ["age", "pulse"]),
        (make_pipeline(impute(strategy="most_frequent"), encode()), ["pain"]),
    )


def test_in_a_column_transformer_with_clients_by_routing_or_as_a_column():
    wanted = preparation(federated=False).fit_transform(MIXED)
    with config_context(enable_metadata_routing=True):
        ours = preparation(federated=True).fit(MIXED, clients=CLIENTS)
    assert_same_rows(ours.transform(MIXED), wanted)
    model = make_pipeline(preparation(federated=True), FedFocalClassifier(random_state=0))
    model = ClientColumn(model, "hospital").fit(MIXED.assign(hospital=CLIENTS), LABELS)
    assert_same_rows(model.estimator_[0].transform(MIXED), wanted)
    assert model.estimator_[-1].clients_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("step", CHECKED)
def test_in_a_pipeline_with_clients(step):
    X = MIXED[["age"]].fillna(0) / 100
    pipeline = make_pipeline(step, FedFocalClassifier(n_rounds=1, random_state=0))
    clients = {f"{name}__clients": CLIENTS for name, _ in pipeline.steps}
    pipeline = clone(pipeline).fit(X, LABELS, **clients)
    alone = clone(step).fit(X, clients=CLIENTS)
    assert_same_rows(pipeline[0].transform(X), alone.transform(X))


def test_fits_disclose_what_the_table_says():
    """What is asked of clients, over the whole of a fit."""
    table = disclosure_table()
    numbers, words = MIXED[["age", "pulse"]], MIXED[["pain"]]
    cases = {
        "FederatedStandardScaler": (FederatedStandardScaler(), numbers),
        "FederatedRobustScaler": (FederatedRobustScaler(), numbers),
        "FederatedMinMaxScaler": (FederatedMinMaxScaler(), numbers),
        "FederatedMaxAbsScaler": (FederatedMaxAbsScaler(), numbers),
        "FederatedOneHotEncoder": (FederatedOneHotEncoder(), words),
        "FederatedOrdinalEncoder": (FederatedOrdinalEncoder(), words),
    }
    for strategy in ("mean", "median", "most_frequent", "constant"):
        imputer = FederatedSimpleImputer(strategy=strategy)
        cases[f'FederatedSimpleImputer(strategy="{strategy}")'] = imputer, numbers
    cases["FederatedSimpleImputer(add_indicator=True)"] = (
        FederatedSimpleImputer(add_indicator=True),
        numbers,
    )
    cases["FederatedQuantileTransformer"] = FederatedQuantileTransformer(n_quantiles=3), numbers
    given = [["none", "mild", "severe", np.nan]]
    for kind in (FederatedOneHotEncoder, FederatedOrdinalEncoder):
        cases[f"{kind.__name__}(categories=[...])"] = kind(categories=given), words
    for option, (step, X) in cases.items():
        told = set()
        answer = Query.answers

        def recording(query, *args, told=told, answer=answer):
            told |= query.discloses
            return answer(query, *args)

        with patch.object(Query, "answers", recording):
            step.fit(X, clients=CLIENTS)
        assert told <= FACTS - SINGLE
        assert f"| `{option}` | {'; '.join(sorted(told))} |" in table
    names = {line.split("`")[1].split("(")[0] for line in table.splitlines() if "| `Fed" in line}
    fitted = {n for n in preprocessing.__all__ if hasattr(getattr(preprocessing, n), "fit")}
    assert names == {*fitted, "FedFocalClassifierCV"}
