"""Steps before a classifier over sites: as in one process, bit for bit; and tables that differ."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("flwr")

from skfedfocal import ClientColumn, FedFocalClassifier, load_model, save_model
from skfedfocal._plain import to_plain
from skfedfocal.flower import (
    SimulatedSites,
    SiteError,
    evaluate,
    export_app,
    federate,
    make_client_app,
    read_export,
)
from skfedfocal.flower._messages import read_facts
from skfedfocal.flower._table import Table
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

SITES = ("north", "south", "west")


def classifier(**params):
    return FedFocalClassifier(**{"n_rounds": 2, "random_state": 0, "engine": "loop"} | params)


@pytest.fixture(scope="module")
def hospitals():
    """A mixed table with gaps, labels and the site of each row, in the order of sites' names."""
    rng, n = np.random.default_rng(0), 120
    frame = pd.DataFrame(
        {
            "age": rng.normal(50, 10, n),
            "beats": rng.integers(50, 99, n),
            "pain": pd.Series(rng.choice(["none", "mild", "severe"], n), dtype=object),
            "smokes": rng.random(n) < 0.4,
            "grade": rng.integers(1, 4, n).astype(float),
        }
    )
    for name in ("age", "pain", "grade"):
        frame.loc[rng.random(n) < 0.2, name] = np.nan
    y = np.where(frame.age.fillna(50) + 5 * frame.smokes > 52, "sick", "well")
    return frame, y, np.repeat(SITES, [30, 40, 50])


def by_site(X, y, site):
    return {name: (X[site == name], y[site == name]) for name in SITES}


def both(pipeline, X, y, site):
    """The pipeline, fitted over sites and in one process."""
    ours = federate(SimulatedSites(by_site(X, y, site)), clone(pipeline))
    names = {f"{name}__clients": site for name, _ in pipeline.steps}
    return ours, clone(pipeline).fit(X, y, **names)


def assert_same_fit(ours, theirs, X):
    """All that the steps have learned, and the bits of the model."""
    for one, other in zip(ours[:-1], theirs[:-1], strict=True):
        learned = {name: v for name, v in getattr(other, "__dict__", {}).items() if name[-1] == "_"}
        for name, value in learned.items():
            pair = (getattr(one, name), value)
            if name == "indicator_" and value is not None:
                pair = tuple(indicator.features_ for indicator in pair)
            assert repr(to_plain(pair[0])) == repr(to_plain(pair[1]))
    assert_array_equal(ours[-1].theta_, theirs[-1].theta_)
    assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


# -- the same numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        [FederatedMinMaxScaler()],
        [FederatedMaxAbsScaler()],
        [FederatedRobustScaler()],
        [FederatedSimpleImputer(), FederatedStandardScaler()],
        [FederatedSimpleImputer(add_indicator=True), FederatedQuantileTransformer(n_quantiles=9)],
        [
            FederatedQuantileTransformer(n_quantiles=7, output_distribution="normal"),
            FederatedSimpleImputer(),
        ],
        [FederatedSimpleImputer(strategy="median"), FederatedRobustScaler()],
        [FederatedSimpleImputer(strategy="constant", fill_value=-1.0), FederatedMinMaxScaler()],
        [FederatedSimpleImputer(strategy="most_frequent"), FederatedMaxAbsScaler()],
        [FederatedStandardScaler(), FederatedSimpleImputer(), FederatedMinMaxScaler((-1, 1))],
        ["passthrough", FederatedStandardScaler()],
    ],
    ids=str,
)
def test_steps_learn_over_sites_what_they_learn_in_one_process(hospitals, steps):
    frame, y, site = hospitals
    X = frame[["age", "beats", "grade"]].copy()
    if not any(isinstance(step, FederatedSimpleImputer) for step in steps):
        X = X.fillna(0) / 100
    pipeline = make_pipeline(*steps, classifier())
    grid = SimulatedSites(by_site(X, y, site))
    ours = federate(grid, clone(pipeline))
    clients = {f"{name}__clients": site for name, step in pipeline.steps if step != "passthrough"}
    assert_same_fit(ours, clone(pipeline).fit(X, y, **clients), X)


@pytest.mark.parametrize(
    "encoder",
    [
        FederatedOneHotEncoder(drop="if_binary"),
        FederatedOneHotEncoder(sparse_output=False, min_frequency=0.3, dtype=np.float32),
        FederatedOneHotEncoder(min_rows=10, handle_unknown="infrequent_if_exist"),
        FederatedOrdinalEncoder(encoded_missing_value=-1),
        FederatedOrdinalEncoder(
            max_categories=2,
            encoded_missing_value=9,
            handle_unknown="use_encoded_value",
            unknown_value=-1,
        ),
    ],
    ids=str,
)
def test_encoders_learn_over_sites_what_they_learn_in_one_process(hospitals, encoder):
    frame, y, site = hospitals
    X = frame[["pain", "smokes", "grade"]]
    assert_same_fit(*both(make_pipeline(encoder, classifier()), X, y, site), X)


def preparation(remainder="drop", sparse_threshold=0.3, scale=FederatedMinMaxScaler):
    return make_column_transformer(
        (make_pipeline(FederatedSimpleImputer(strategy="median"), scale()), ["age", "beats"]),
        (
            make_pipeline(
                FederatedSimpleImputer(strategy="most_frequent"), FederatedOneHotEncoder()
            ),
            ["pain"],
        ),
        (FederatedOrdinalEncoder(), [3]),
        ("drop", ["grade"]),
        remainder=remainder,
        sparse_threshold=sparse_threshold,
    )


@pytest.mark.parametrize("sparse_threshold", [0.0, 0.3, 1.0])
def test_columns_that_go_different_ways(hospitals, tmp_path, sparse_threshold):
    frame, y, site = hospitals
    pipeline = make_pipeline(
        preparation(sparse_threshold=sparse_threshold),
        FederatedStandardScaler(with_mean=False),
        classifier(),
    )
    ours = federate(SimulatedSites(by_site(frame, y, site)), clone(pipeline))
    theirs = ClientColumn(pipeline, "site").fit(frame.assign(site=site), y).estimator_
    assert_array_equal(ours[-1].theta_, theirs[-1].theta_)
    assert_array_equal(ours.predict_proba(frame), theirs.predict_proba(frame))
    assert ours[0].sparse_output_ == theirs[0].sparse_output_
    names = ours[0].get_feature_names_out()
    assert names.tolist() == theirs[0].get_feature_names_out().tolist()
    turned = frame[frame.columns[::-1]]
    assert_array_equal(ours.predict_proba(turned), theirs.predict_proba(frame))
    save_model(ours, tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert_array_equal(again.predict_proba(turned), ours.predict_proba(frame))
    assert again[0].get_feature_names_out().tolist() == names.tolist()


def test_what_remains_and_what_is_passed_through(hospitals):
    frame, y, site = hospitals
    X = frame[["age", "smokes", "grade"]].fillna(1) / 50
    for remainder in ("passthrough", FederatedRobustScaler()):
        ways = [("scale", FederatedMinMaxScaler(), ["age"]), ("as_is", "passthrough", ["smokes"])]
        pipeline = make_pipeline(ColumnTransformer(ways, remainder=remainder), classifier())
        ours = federate(SimulatedSites(by_site(X, y, site)), clone(pipeline))
        theirs = ClientColumn(pipeline, "site").fit(X.assign(site=site), y).estimator_
        assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


def test_columns_by_what_is_in_them(hospitals, tmp_path):
    """Chosen anew by each fit, and as they were then in what is fitted."""
    frame, y, site = hospitals
    steps = make_table_transformer(
        numbers=make_pipeline(FederatedSimpleImputer(), FederatedRobustScaler())
    )
    pipeline = make_pipeline(steps, classifier())
    grid = SimulatedSites(by_site(frame, y, site))
    ours = federate(grid, clone(pipeline))
    theirs = ClientColumn(pipeline, "site").fit(frame.assign(site=site), y).estimator_
    assert_array_equal(ours[-1].theta_, theirs[-1].theta_)
    assert_array_equal(ours.predict_proba(frame), theirs.predict_proba(frame))
    columns = [columns for _, _, columns in ours[0].transformers_]
    assert columns == [columns for _, _, columns in theirs[0].transformers_]
    assert columns == [["age", "beats", "smokes", "grade"], ["pain"]]
    assert repr(ours[0]) == repr(theirs[0]) == repr(steps)
    for model in (ours, theirs):
        save_model(model, tmp_path / "model")
        again = load_model(tmp_path / "model")
        assert_array_equal(again.predict_proba(frame), theirs.predict_proba(frame))
        assert evaluate(grid, again).accuracy == evaluate(grid, ours).accuracy
    folder = export_app(pipeline, tmp_path / "app", save_to="model.skf")
    assert repr(read_export(next(folder.rglob("server.py")))[0]) == repr(pipeline)
    words = frame.assign(beats=frame["beats"].astype(str))
    more = federate(SimulatedSites(by_site(words, y, site)), clone(pipeline))
    assert more[0].transformers_[1][2] == ["beats", "pain"]
    refused = make_pipeline(make_column_transformer((FederatedRobustScaler(), list)), classifier())
    with pytest.raises(TypeError, match="by name, by number, or as ColumnsOf"):
        federate(grid, refused)


def test_sparse_rows(hospitals):
    _, y, site = hospitals
    X = sparse.csr_array(sparse.random(len(y), 6, density=0.4, random_state=0))
    steps = [FederatedMaxAbsScaler(), FederatedStandardScaler(with_mean=False)]
    assert_same_fit(*both(make_pipeline(*steps, classifier()), X, y, site), X)


def test_tables_of_csv_files(hospitals, tmp_path):
    """As pandas reads them in one process."""
    frame, y, site = hospitals
    configs, files = {}, []
    for name in SITES:
        here = frame[site == name].assign(target=y[site == name])
        here.to_csv(tmp_path / f"{name}.csv", index=False)
        files.append(pd.read_csv(tmp_path / f"{name}.csv"))
        configs[name] = {"data-path": str(tmp_path / f"{name}.csv")}
    pipeline = make_pipeline(preparation(scale=FederatedStandardScaler), classifier())
    ours = federate(SimulatedSites(configs, app=make_client_app()), clone(pipeline))
    table = pd.concat(files, ignore_index=True)
    X = table.drop(columns="target").assign(site=site)
    theirs = ClientColumn(pipeline, "site").fit(X, table.target).estimator_
    assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


def test_sample_weights_go_to_what_takes_them(hospitals):
    frame, y, site = hospitals
    X, weight = frame[["age", "beats"]], np.random.default_rng(0).random(len(y)) + 0.5
    data = {n: (X[site == n], y[site == n], weight[site == n]) for n in SITES}
    steps = [FederatedSimpleImputer(), FederatedStandardScaler()]
    ours = federate(SimulatedSites(data), make_pipeline(*steps, classifier()))
    imputer = FederatedSimpleImputer().fit(X, clients=site)
    filled = imputer.transform(X)
    assert_array_equal(ours[0].statistics_, imputer.statistics_)
    scaler = FederatedStandardScaler().fit(filled, sample_weight=weight, clients=site)
    assert_array_equal(ours[1].mean_, scaler.mean_)


def test_secure_sums_give_the_same_categories(hospitals):
    pytest.importorskip("cryptography")
    frame, y, site = hospitals
    pipeline = make_pipeline(preparation(), classifier(secure_aggregation=True, client_gamma=0))
    ours = federate(SimulatedSites(by_site(frame, y, site)), clone(pipeline))
    open_sums = federate(
        SimulatedSites(by_site(frame, y, site)), make_pipeline(preparation(), classifier())
    )
    assert_array_equal(ours[0].transform(frame), open_sums[0].transform(frame))


def test_an_app_and_a_checkpoint_have_the_steps(hospitals, tmp_path):
    frame, y, site = hospitals
    pipeline = make_pipeline(preparation(), classifier(n_rounds=3))
    folder = export_app(pipeline, tmp_path / "app", save_to="model.skf")
    again, _ = read_export(next(folder.rglob("server.py")))
    assert repr(again) == repr(pipeline)
    data, path = by_site(frame, y, site), tmp_path / "checkpoint"
    first = federate(SimulatedSites(data), clone(pipeline), checkpoint=path)
    second = federate(SimulatedSites(data), clone(pipeline), checkpoint=path)
    assert_array_equal(first[-1].theta_, second[-1].theta_)
    other = make_pipeline(preparation(scale=FederatedRobustScaler), classifier(n_rounds=3))
    with pytest.raises(ValueError, match="was written with steps"):
        federate(SimulatedSites(data), other, checkpoint=path)


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_the_kind_of_output_is_kept(hospitals, tmp_path, output):
    frame, y, site = hospitals
    pipeline = make_pipeline(
        FederatedSimpleImputer(), FederatedStandardScaler(), classifier()
    ).set_output(transform=output)
    X = frame[["age", "beats"]]
    ours, theirs = both(pipeline, X, y, site)
    save_model(ours, tmp_path / "model")
    for model in (ours, load_model(tmp_path / "model")):
        assert_array_equal(model.predict_proba(X), theirs.predict_proba(X))
        assert type(model[:-1].transform(X)) is type(theirs[:-1].transform(X))
        assert hasattr(model[-1], "feature_names_in_") == (output == "pandas")


def test_a_column_without_a_value_at_one_site(hospitals):
    frame, y, site = hospitals
    frame = frame.copy()
    frame.loc[site == "south", ["pain", "age"]] = np.nan
    pipeline = make_pipeline(preparation(), classifier())
    ours = federate(SimulatedSites(by_site(frame, y, site)), clone(pipeline))
    theirs = ClientColumn(pipeline, "site").fit(frame.assign(site=site), y).estimator_
    assert_array_equal(ours.predict_proba(frame), theirs.predict_proba(frame))


class Eavesdropper(SimulatedSites):
    """Keeps what sites are asked and what they answer."""

    def push_messages(self, messages):
        messages = list(messages)
        self.__dict__.setdefault("seen", []).extend(messages)
        return super().push_messages(messages)

    def _answer(self, message):
        reply = super()._answer(message)
        self.__dict__.setdefault("replies", []).append(reply)
        return reply


def test_names_of_columns_need_pandas_at_the_server_before_anyone_is_asked(hospitals, monkeypatch):
    frame, y, site = hospitals
    columns = list(frame)
    tables = {
        name: (Table([frame.loc[site == name, c].to_numpy() for c in columns], columns), labels)
        for name, (_, labels) in by_site(frame, y, site).items()
    }
    grid = Eavesdropper(tables)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="needs pandas"):
        federate(grid, make_pipeline(preparation(), classifier()))
    assert not any("answer" in read_facts(r.content["facts"]) for r in grid.replies)


def test_a_site_that_has_just_started_knows_the_questions(hospitals):
    """Each message comes to a process of its own, which has imported no more than the app does."""
    frame, y, site = hospitals
    grid = Eavesdropper(by_site(frame, y, site))
    federate(grid, make_pipeline(preparation(), classifier()))
    texts = {m.content["task"]["json"] for m in grid.seen if "query" in m.metadata.message_type}
    assert any("PrefixCounts" in text for text in texts)
    code = (
        "import json, sys\n"
        "from skfedfocal.flower import make_client_app\n"
        "from skfedfocal.flower._messages import read_facts\n"
        "assert 'skfedfocal.preprocessing' not in sys.modules\n"
        "for text in json.load(sys.stdin):\n"
        "    print(type(read_facts({'json': text}).get('query')).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(sorted(texts)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) >= {"Behind", "LabelCounts"}


def test_sites_say_sums_and_no_rows(hospitals):
    """An answer has as many numbers however many rows there are."""
    frame, y, site = hospitals
    sizes = []
    for times in (1, 2):
        rows = pd.concat([frame] * times, ignore_index=True)
        grid = Eavesdropper(by_site(rows, np.tile(y, times), np.tile(site, times)))
        federate(grid, make_pipeline(preparation(), classifier()))
        facts = [read_facts(r.content["facts"]) for r in grid.replies if "facts" in r.content]
        sizes.append([np.size(fact["answer"]) for fact in facts if "answer" in fact])
    assert sizes[0] == sizes[1]


# -- tables that differ --------------------------------------------------------------------------


def numbers(hospitals):
    frame, y, site = hospitals
    return by_site((frame[["age", "beats", "grade"]] / 100).fillna(0.5), y, site)


def message_of(data, pipeline=None, **options):
    with pytest.raises(SiteError) as caught:
        federate(SimulatedSites(data), pipeline or classifier(), **options)
    return str(caught.value)


def test_reordered_columns_are_aligned_by_name(hospitals):
    data = numbers(hospitals)
    straight = federate(SimulatedSites(data), classifier())
    X, y = data["west"]
    turned = data | {"west": (X[["grade", "age", "beats"]], y)}
    again = federate(SimulatedSites(turned), classifier())
    assert_array_equal(again.theta_, straight.theta_)
    assert again.feature_names_in_.tolist() == straight.feature_names_in_.tolist()


def test_columns_that_differ_are_one_message_of_differences(hospitals):
    data = numbers(hospitals)
    (north, y_north), (south, y_south) = data["north"], data["south"]
    data |= {
        "north": (north.rename(columns={"beats": "pulse"}), y_north),
        "south": (south.drop(columns="grade").assign(weight=1.0), y_south),
    }
    said = message_of(data)
    assert "'north' lacks ['beats'] and has ['pulse'] besides" in said
    assert "'south' lacks ['grade'] and has ['weight'] besides" in said
    assert "'west'" not in said
    assert "'age'" not in said


def test_types_that_differ_are_one_message_of_differences(hospitals):
    frame, y, site = hospitals
    data = by_site(frame, y, site)
    X, y_south = data["south"]
    data["south"] = (X.assign(age=X.age.astype(str), pain=1.5), y_south)
    said = message_of(data, make_pipeline(preparation(), classifier()))
    assert "'south' has texts in ['age'], others numbers" in said
    assert "'south' has numbers in ['pain'], others texts" in said
    assert "beats" not in said


def test_texts_and_dates_are_refused_by_name(hospitals):
    frame, y, site = hospitals
    frame = frame.assign(visit=pd.Timestamp("2020-01-01"))
    said = message_of(by_site(frame.drop(columns="age").fillna({"grade": 1}), y, site))
    assert "the columns ['pain'] have texts" in said
    assert "the columns ['visit'] have dates" in said
    prepared = make_pipeline(FederatedOneHotEncoder(), classifier())
    assert "['visit'] have dates" in message_of(by_site(frame, y, site), prepared)
    assert "['pain']" not in message_of(by_site(frame, y, site), prepared)
    # A column that no step looks at may be what it is.
    some = make_pipeline(preparation(), classifier())
    assert federate(SimulatedSites(by_site(frame, y, site)), some)[-1].n_iter_ == 2


def test_columns_of_one_name_are_refused(hospitals):
    data = numbers(hospitals)
    X, y = data["south"]
    data["south"] = (X.rename(columns={"beats": "age"}), y)
    assert "'south' has more than one column called ['age']" in message_of(data)


def test_a_label_that_one_site_alone_has_is_named(hospitals):
    data = numbers(hospitals)
    X, y = data["south"]
    data["south"] = (X, np.where(y == "sick", "Sick", y))
    X, y = data["west"]
    data["west"] = (X, np.where(y == "sick", "ill", y))
    match = r"'sick' at 'north', 'Sick' at 'south', 'ill' at 'west'.* \['well'\]"
    with pytest.warns(UserWarning, match=match):
        federate(SimulatedSites(data), classifier())
    said = message_of(data, classes=["sick", "well"])
    assert "'south' has classes ['Sick'] that are not among" in said
    assert "'west' has classes ['ill'] that are not among" in said


@pytest.mark.parametrize("scaler", [FederatedStandardScaler(), StandardScaler()])
def test_a_site_in_other_units_is_named_with_its_column(hospitals, scaler):
    data = numbers(hospitals)
    X, y = data["south"]
    data["south"] = (X.assign(beats=X.beats * 1000), y)
    pipeline = make_pipeline(scaler, classifier())
    with pytest.warns(UserWarning, match=r"other units: 'south' in column 'beats' \(") as caught:
        federate(SimulatedSites(data), clone(pipeline))
    assert not any("'age'" in str(one.message) for one in caught)
    data["south"] = (X / 1000, y)
    with pytest.warns(UserWarning, match=r"'south' in column 'age'.*, 'south' in column 'beats'"):
        federate(SimulatedSites(data), clone(pipeline))


def test_other_populations_are_not_taken_for_other_units(hospitals):
    data = numbers(hospitals)
    X, y = data["south"]
    data["south"] = (X.assign(grade=0.5, beats=X.beats * 8, age=X.age + 3), y)
    federate(SimulatedSites(data), make_pipeline(FederatedStandardScaler(), classifier()))
