"""ONNX files say what the pipelines say that they were made of, as onnxruntime reads them."""

import doctest
import importlib

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.model_selection import TunedThresholdClassifierCV as TunedThreshold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

pytest.importorskip("onnxruntime")
pytest.importorskip("skl2onnx")

import onnxruntime
import skl2onnx

from skfedfocal import (
    ClientColumn,
    FederatedClassifier,
    FedFocalClassifier,
    FedFocalClassifierCV,
    PersonalizedClassifier,
)
from skfedfocal.losses import Loss
from skfedfocal.onnx import compare_onnx, onnx_inputs, register_converters, to_onnx
from skfedfocal.onnx._inputs import input_types
from skfedfocal.preprocessing import (
    FederatedMaxAbsScaler,
    FederatedMinMaxScaler,
    FederatedOneHotEncoder,
    FederatedOrdinalEncoder,
    FederatedQuantileTransformer,
    FederatedRobustScaler,
    FederatedSimpleImputer,
    FederatedStandardScaler,
    make_table_transformer,
)

RNG = np.random.default_rng(0)
N = 120
# Columns of all scales, one so far from 0 that single precision would lose it.
X = RNG.normal(size=(N, 4)) * [1, 1e3, 1e-3, 1] + [0, 1e6, 0, 3]
THREE = np.array(["a", "b", "c"], object)[RNG.integers(0, 3, N)]
SITE = np.repeat(["north", "south", "west"], [30, 40, 50])
SCALING = {
    "FederatedStandardScaler()",
    "FederatedRobustScaler()",
    "FederatedMinMaxScaler(clip=True, feature_range=(-1, 2))",
    "FederatedMaxAbsScaler()",
    "FederatedQuantileTransformer(n_quantiles=7)",
}
SMALL = {"n_rounds": 2, "random_state": 0}


@pytest.fixture(scope="module")
def frame():
    """A table with gaps, of texts, numbers and truth values."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame(
        {
            "age": rng.normal(50, 10, N),
            "beats": rng.integers(50, 99, N),
            "pain": pd.Series(rng.choice(["none", "mild", "severe", "rare"], N), dtype=object),
            "smokes": rng.random(N) < 0.4,
            "grade": rng.integers(1, 4, N).astype(float),
        }
    )
    for name in ("age", "pain", "grade"):
        table.loc[rng.random(N) < 0.2, name] = np.nan
    return table


@pytest.fixture(scope="module")
def sick(frame):
    return np.where(frame.age.fillna(50) + 5 * frame.smokes > 52, "sick", "well")


def run(model, rows):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, onnx_inputs(model, rows))


def assert_says_the_same(estimator, rows, seen=None):
    model = to_onnx(estimator, rows if seen is None else seen)
    assert [out.name for out in model.graph.output] == ["label", "probabilities"]
    label, probabilities = run(model, rows)
    np.testing.assert_allclose(probabilities, estimator.predict_proba(rows), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(label, estimator.predict(rows))


def preparation(**encoder):
    numbers = make_pipeline(
        FederatedSimpleImputer(strategy="median", add_indicator=True), FederatedStandardScaler()
    )
    words = make_pipeline(
        FederatedSimpleImputer(strategy="most_frequent"), FederatedOneHotEncoder(**encoder)
    )
    return make_column_transformer(
        (numbers, ["age", "beats"]),
        (words, ["pain"]),
        (FederatedOrdinalEncoder(encoded_missing_value=-1), ["grade", "smokes"]),
    )


# -- whole pipelines -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "classifier",
    [
        FedFocalClassifier(**SMALL),
        FedFocalClassifier(numeric_encoding="standard", gamma=2.0, **SMALL),
        FederatedClassifier(numeric_encoding="piecewise_linear", **SMALL),
        FedFocalClassifierCV(gammas=(0.0, 2.0), cv=2, **SMALL),
    ],
    ids=lambda classifier: type(classifier).__name__,
)
def test_columns_that_go_different_ways(frame, sick, classifier):
    model = ClientColumn(make_pipeline(preparation(drop="if_binary"), classifier), "site")
    rows = frame.assign(site=SITE)
    assert_says_the_same(model.fit(rows, sick), rows)
    without = model.estimator_
    assert_says_the_same(without, frame[frame.columns[::-1]], seen=frame)


@pytest.mark.parametrize(
    "step",
    [
        FederatedStandardScaler(),
        FederatedStandardScaler(with_mean=False),
        FederatedStandardScaler(with_std=False),
        FederatedRobustScaler(),
        FederatedRobustScaler(with_centering=False, with_scaling=False),
        FederatedMinMaxScaler((-1, 2), clip=True),
        FederatedMaxAbsScaler(),
        FederatedQuantileTransformer(n_quantiles=7),
        FederatedSimpleImputer(),
        PCA(3),
    ],
    ids=str,
)
def test_steps_before_a_classifier(step):
    rows = X if str(step) in SCALING else (X - X.mean(0)) / 1e3  # of raw columns a fit warns
    model = make_pipeline(step, FedFocalClassifier(numeric_encoding=None, **SMALL)).fit(rows, THREE)
    assert_says_the_same(model, np.vstack([rows, 2 * rows, -rows]))


def step_says(step, rows):
    """What a step gives alone, in ONNX."""
    register_converters()
    opsets = {"": 21, "ai.onnx.ml": 3}
    model = skl2onnx.convert_sklearn(step, initial_types=input_types(rows), target_opset=opsets)
    (found,) = run(model, rows)
    return found


VALUES = {
    "numbers": st.sampled_from([0.0, -0.0, 1.0, 2.5, 1e300, np.nan]),
    "texts": st.sampled_from(["yes", "Yes", "no", "ø", "a,b", np.nan]),
}


@pytest.mark.filterwarnings("ignore:Found unknown categories:UserWarning")
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), kind=st.sampled_from(["numbers", "texts"]))
def test_encoders_and_imputers_of_any_values(data, kind):
    """And of values that they have not seen."""
    lists = st.lists(st.tuples(VALUES[kind], VALUES[kind]), min_size=2, max_size=12)

    def table(rows):
        dtype = object if kind == "texts" else float
        return pd.DataFrame(np.array(rows, dtype), columns=["p", "q"])

    seen, new = table(data.draw(lists)), table(data.draw(lists))
    if kind == "texts":
        seen.iloc[0] = new.iloc[0] = ["yes", "no"]  # of no texts nobody could tell the kind
    unknown = data.draw(st.sampled_from(["ignore", "infrequent_if_exist"]))
    steps = [
        FederatedOneHotEncoder(
            handle_unknown=unknown,
            drop=data.draw(st.sampled_from([None, "if_binary", "first"])),
            min_frequency=data.draw(st.sampled_from([None, 2])),
            sparse_output=data.draw(st.booleans()),
        ),
        FederatedOrdinalEncoder(
            handle_unknown="use_encoded_value",
            unknown_value=data.draw(st.sampled_from([-1, np.nan])),
            encoded_missing_value=data.draw(st.sampled_from([-2, np.nan])),
            max_categories=data.draw(st.sampled_from([None, 2])),
        ),
        FederatedSimpleImputer(
            strategy=data.draw(st.sampled_from(["most_frequent", "constant"])),
            fill_value="none" if kind == "texts" else 7.0,
            add_indicator=kind == "numbers" and data.draw(st.booleans()),
        ),
    ]
    for step in steps:
        step.fit(seen)
        if kind == "numbers" and np.isnan(getattr(step, "statistics_", np.zeros(1))).any():
            continue  # a warning of scikit-learn's
        wanted = step.transform(new)
        wanted = wanted.toarray() if sparse.issparse(wanted) else wanted
        found = step_says(step, new)
        if kind == "texts" and isinstance(step, FederatedSimpleImputer):
            assert found.tolist() == wanted.tolist()
        else:
            np.testing.assert_allclose(found, wanted.astype(float), rtol=1e-12)


@given(
    st.lists(st.sampled_from([0.0, 1.0, 1.5, 3.0, 1e6, -2.0]), min_size=1, max_size=20),
    st.integers(1, 20),
)
@settings(max_examples=25, deadline=None)
def test_quantiles_also_where_they_are_equal(values, n_quantiles):
    rows = np.array(values)[:, None]
    step = FederatedQuantileTransformer(n_quantiles=min(n_quantiles, len(rows))).fit(rows)
    new = np.vstack([rows, rows + 0.25, rows - 1e7, [[np.nan]]])
    np.testing.assert_allclose(step_says(step, new), step.transform(new), atol=1e-12)


# -- classifiers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["cross_entropy", "ldam", "logit_adjusted"])
def test_losses(loss):
    model = FederatedClassifier(loss=loss, **SMALL).fit(X, THREE)
    assert_says_the_same(model, X)


@pytest.mark.parametrize("labels", [[0, 7], [False, True], ["no", "yes"], [1.0, 2.0]], ids=str)
def test_labels_of_two_classes(labels):
    model = FedFocalClassifier(gamma=3.0, **SMALL).fit(X, np.array(labels)[(THREE == "a") * 1])
    assert_says_the_same(model, X)


def test_each_class_its_gamma_and_single_precision():
    rows = (X / 1e6).astype(np.float32)
    model = FedFocalClassifier(gamma=[0.0, 1.0, 2.0], **SMALL).fit(rows, THREE)
    assert_says_the_same(model, rows)


def conv(shape, n_classes):
    return nn.Sequential(
        nn.Conv2d(shape[0], 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, n_classes)
    )


def test_a_module_of_ones_own_on_rows_of_more_dimensions():
    images = RNG.normal(size=(20, 1, 6, 6))
    model = FedFocalClassifier(module=conv, **SMALL).fit(images, np.arange(20) % 3)
    assert_says_the_same(model, images)


def embedding(n_features, n_classes):
    return nn.Sequential(
        nn.Embedding(9, 4), nn.Flatten(), nn.Linear(4 * n_features, n_classes)
    ).double()


def test_a_module_that_looks_rows_up_and_computes_in_double_precision():
    codes = RNG.integers(0, 9, (40, 3))
    model = FedFocalClassifier(module=embedding, **SMALL).fit(codes, np.arange(40) % 3)
    assert_says_the_same(model, codes)


class Branching(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, rows):
        scores = self.linear(rows)
        return scores if torch.isfinite(scores).all() else scores * 2


def test_a_module_that_torch_cannot_export_is_refused_by_name():
    model = FedFocalClassifier(module=Branching, **SMALL).fit(X / 1e6, THREE)
    with pytest.raises(TypeError, match="does not take the module Branching"):
        to_onnx(model, X)


class Reversed(Loss):
    """One that decides for the least probable class."""

    def __call__(self, logits, y, constants=None):
        return nn.functional.cross_entropy(logits, y, reduction="none")

    def log_posterior(self, logits, constants=None):
        return torch.log_softmax(logits, 1)

    def decide(self, logits, constants=None):
        return logits.argmin(-1)


def test_what_a_loss_of_ones_own_decides():
    assert_says_the_same(FederatedClassifier(loss=Reversed(), **SMALL).fit(X, THREE), X)


def test_a_model_for_each_client_is_refused_by_name():
    model = PersonalizedClassifier(FedFocalClassifier(**SMALL)).fit(X, THREE, clients=SITE)
    with pytest.raises(TypeError, match="client_estimator"):
        to_onnx(model, X)
    assert_says_the_same(model.client_estimator("north"), X)


# -- around classifiers --------------------------------------------------------------------------


@pytest.mark.parametrize("positive", ["sick", "well"])
def test_thresholds(frame, sick, positive):
    inside = ClientColumn(make_pipeline(preparation(), FedFocalClassifier(**SMALL)), "site")
    inside.fit(frame.assign(site=SITE), sick)
    model = FixedThresholdClassifier(
        FrozenEstimator(inside.estimator_), threshold=0.3, pos_label=positive
    ).fit(frame, sick)
    assert (model.predict(frame) != inside.predict(frame)).any()
    assert_says_the_same(model, frame)


def test_a_tuned_threshold_and_a_search(frame, sick):
    rows = frame[["age", "beats"]].fillna(50.0)
    pipeline = Pipeline(
        [("scale", FederatedStandardScaler()), ("clf", FedFocalClassifier(**SMALL))]
    )
    search = GridSearchCV(pipeline, {"clf__gamma": [0.0, 2.0]}, cv=2).fit(rows, sick)
    assert_says_the_same(search, rows)
    tuned = TunedThreshold(FrozenEstimator(search.best_estimator_), cv="prefit", refit=False)
    assert_says_the_same(tuned.fit(rows, sick), rows)


def test_ids_of_clients_are_no_input_wherever_they_are_taken_from(frame, sick, tmp_path):
    rows = frame.assign(site=SITE)[["age", "site", *frame.columns[1:]]]
    prepared = make_pipeline(make_table_transformer(), FedFocalClassifier(**SMALL))
    inside = ClientColumn(prepared, "site").fit(rows, sick)
    decider = FixedThresholdClassifier(FrozenEstimator(inside), threshold=0.3).fit(rows, sick)
    model = to_onnx(decider, rows)
    assert [one.name for one in model.graph.input] == list(frame)
    found = compare_onnx(model, decider, rows)
    assert found == compare_onnx(model, decider, frame)
    assert (found.n_rows, found.other_labels) == (N, 0)
    assert 0 < found.largest_difference < 1e-5
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    beside = compare_onnx(str(tmp_path / "model.onnx"), inside, rows)  # without the threshold
    assert beside.other_labels == (decider.predict(rows) != inside.predict(rows)).sum() > 0

    table = np.column_stack([np.arange(N) % 3, X])
    scaled = make_pipeline(FederatedStandardScaler(), FedFocalClassifier(**SMALL))
    search = GridSearchCV(ClientColumn(scaled, 0), {"column": [0]}, cv=2).fit(table, sick)
    assert compare_onnx(to_onnx(search, table), search, table).largest_difference < 1e-5
    behind = make_pipeline(FunctionTransformer(), ClientColumn(scaled, 0)).fit(table, sick)
    with pytest.raises(TypeError, match="put the steps inside the ClientColumn"):
        to_onnx(behind, table)


def test_skl2onnxs_own_function_knows_the_converters():
    register_converters()
    model = make_pipeline(FederatedStandardScaler(), FedFocalClassifier(**SMALL)).fit(X, THREE)
    found = skl2onnx.to_onnx(model, X, options={"zipmap": False})
    np.testing.assert_allclose(run(found, X)[1], model.predict_proba(X), atol=1e-5)


def test_examples_in_docstrings_run():
    for module in ("_comparison", "_convert", "_inputs"):
        module = importlib.import_module(f"skfedfocal.onnx.{module}")
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
        assert result.attempted > 1
        assert result.failed == 0


# -- what goes in --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words(frame, sick):
    pipeline = make_pipeline(FederatedOneHotEncoder(), FedFocalClassifier(**SMALL))
    fitted = pipeline.fit(frame[["pain"]], sick)
    return fitted, to_onnx(fitted, frame[["pain"]])


def test_missing_texts_also_where_all_are(words, frame):
    fitted, model = words
    rows = pd.DataFrame({"pain": [np.nan, np.nan]}, dtype=object)
    for gaps in (rows, rows.astype(float), pd.DataFrame({"pain": [None, None]}, dtype=object)):
        np.testing.assert_allclose(run(model, gaps)[1], fitted.predict_proba(gaps), atol=1e-5)
        np.testing.assert_array_equal(fitted.predict_proba(gaps), fitted.predict_proba(rows))


def test_a_value_that_is_not_known_gives_no_probabilities(words):
    with np.testing.assert_raises(ValueError):
        words[0].predict(pd.DataFrame({"pain": ["worse"]}))
    assert np.isnan(run(words[1], pd.DataFrame({"pain": ["worse", "mild"]}))[1]).any(
        1
    ).tolist() == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("column", "error", "words_of_it"),
    [
        ({"pain": [""]}, ValueError, "empty text"),
        ({"pain": [3]}, TypeError, "takes texts"),
        ({"ache": ["mild"]}, ValueError, "no column 'pain'"),
    ],
)
def test_rows_of_another_kind_are_refused_by_column(words, column, error, words_of_it):
    with pytest.raises(error, match=words_of_it):
        onnx_inputs(words[1], pd.DataFrame(column))


def test_inputs_are_asked_of_the_file_not_of_the_estimator(words):
    with pytest.raises(TypeError, match="type Pipeline; pass what `to_onnx` returned"):
        onnx_inputs(words[0], pd.DataFrame({"pain": ["mild"]}))


def test_what_has_no_form_in_onnx_is_refused_by_name(frame, sick):
    def fitted(*steps, columns):
        return make_pipeline(*steps, FedFocalClassifier(**SMALL)).fit(frame[columns], sick)

    both = ["pain", "smokes"]
    mixed = make_column_transformer(
        (
            make_pipeline(
                FederatedSimpleImputer(strategy="most_frequent"), FederatedOneHotEncoder()
            ),
            both,
        )
    )
    model = make_pipeline(mixed, FedFocalClassifier(**SMALL)).fit(frame, sick)
    with pytest.raises(TypeError, match="branch of its own"):
        to_onnx(model, frame)
    marked = FederatedSimpleImputer(strategy="most_frequent", add_indicator=True)
    model = fitted(marked, FederatedOneHotEncoder(), columns=["pain"])
    with pytest.raises(TypeError, match="add_indicator=True"):
        to_onnx(model, frame[["pain"]])
    normal = FederatedQuantileTransformer(n_quantiles=5, output_distribution="normal")
    model = fitted(normal, columns=["beats"])
    with pytest.raises(TypeError, match="normal quantile"):
        to_onnx(model, frame[["beats"]])
    with pytest.raises(TypeError, match=r"'when' has values of the types"):
        to_onnx(model, frame[["beats"]].assign(when=pd.Timestamp("2026-01-01")))
