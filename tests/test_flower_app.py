"""Apps in folders, tables at sites, models in files: what surrounds the training over sites."""

import json
import sys
import tomllib

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.pipeline import make_pipeline

pytest.importorskip("flwr")

from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from skfedfocal import (
    FederatedClassifier,
    FederatedTrainingError,
    FedFocalClassifier,
    ModelFileError,
    load_model,
    save_model,
)
from skfedfocal._plain import write_plain
from skfedfocal.flower import (
    SimulatedSites,
    export_app,
    federate,
    load_table,
    make_client_app,
    make_server_app,
    read_export,
    submit,
)
from skfedfocal.preprocessing import FederatedStandardScaler
from skfedfocal.strategies import FedProx

# What Flower packs into an app; everything else is left behind without a word.
_PACKED = {".py", ".toml", ".md", ".yaml", ".yml", ".json", ".jsonl"}


def make_module(n_features, n_classes):
    return torch.nn.Linear(n_features, n_classes)


def load_rows(config):
    return np.ones((2, 1)), np.array([0, 1])


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    tables = {}
    for name in ("a", "b", "c"):
        X = rng.normal(size=(30, 3))
        tables[name] = X, np.where(X[:, 0] + rng.normal(size=30) > 0, "ill", "well")
    return tables


def pipeline(**params):
    params = {"n_rounds": 2, "random_state": 0} | params
    return make_pipeline(FederatedStandardScaler(), FedFocalClassifier((4,), **params))


# -- apps ----------------------------------------------------------------------------------------


def test_an_exported_app_holds_texts_only_and_installs_nothing(tmp_path):
    folder = export_app(pipeline(), tmp_path / "app", save_to="/srv/model.skf")
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= _PACKED
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    assert project["project"]["dependencies"] == []


def test_an_exported_app_is_the_estimator_with_its_options(tmp_path):
    estimator = pipeline(
        strategy=FedProx(0.3), gamma=[1.0, 2.0], class_weight={"ill": 3.0, "well": 1.0}
    )
    folder = export_app(
        estimator,
        tmp_path / "app",
        save_to=tmp_path / "model.skf",
        sites=["a", "b"],
        timeout=12.5,
    )
    back, options = read_export(str(folder / "federation" / "server.py"))
    assert repr(back) == repr(estimator)
    assert options == {"save_to": str(tmp_path / "model.skf"), "sites": ["a", "b"], "timeout": 12.5}


@pytest.mark.parametrize("own", [False, True])
def test_the_parts_of_an_exported_app_are_apps(tmp_path, monkeypatch, own):
    parts = {"module": make_module} if own else {}
    folder = export_app(
        pipeline(**parts),
        tmp_path / "app",
        save_to=tmp_path / "model.skf",
        load_data=load_rows if own else None,
    )
    monkeypatch.syspath_prepend(str(folder))
    for name in ("federation", "federation.server", "federation.client"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from federation import client, server

    assert isinstance(server.app, ServerApp)
    assert isinstance(client.app, ClientApp)
    for name in ("federation", "federation.server", "federation.client"):
        monkeypatch.delitem(sys.modules, name)


def test_what_cannot_be_imported_by_name_cannot_be_exported(tmp_path):
    for wrong in (lambda n, m: None, torch.nn.Linear(3, 2)):
        with pytest.raises(ValueError, match="importable"):
            export_app(pipeline(module=wrong), tmp_path / "app", save_to="m")
    assert not (tmp_path / "app").exists()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match="not empty"):
        export_app(pipeline(), tmp_path, save_to="m")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_submit_says_what_the_command_said(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    monkeypatch.setenv("FLWR_TELEMETRY_ENABLED", "0")
    monkeypatch.setenv("FLWR_DISABLE_UPDATE_CHECK", "1")
    folder = export_app(pipeline(), tmp_path / "app", save_to="m")
    with pytest.raises(RuntimeError, match="flwr run failed"):
        submit(folder, "nowhere")


def run(app, grid):
    app(grid, Context(1, 0, {}, RecordDict(), {}))


def test_the_server_app_writes_the_model(tmp_path, data, capsys):
    path = tmp_path / "model.skf"
    run(make_server_app(pipeline(), save_to=path), SimulatedSites(data))
    model = load_model(path)
    theirs = federate(SimulatedSites(data), pipeline())
    assert_array_equal(model[-1].theta_, theirs[-1].theta_)
    X = data["a"][0]
    assert_array_equal(model.predict_proba(X), theirs.predict_proba(X))
    assert set(model.predict(X)) <= {"ill", "well"}
    assert str(path) in capsys.readouterr().out


def test_the_server_app_writes_the_last_good_model_of_a_training_that_fails(tmp_path, data):
    path = tmp_path / "model.skf"
    faults = {(name, 2): "crash" for name in data}
    with pytest.raises(FederatedTrainingError, match="Round 2"):
        run(
            make_server_app(pipeline(n_rounds=9), save_to=path), SimulatedSites(data, faults=faults)
        )
    assert load_model(path)[-1].n_iter_ == 1


def test_without_a_good_round_there_is_no_file(tmp_path, data):
    path = tmp_path / "model.skf"
    faults = {(name, 1): "crash" for name in data}
    with pytest.raises(FederatedTrainingError, match="Round 1"):
        run(make_server_app(pipeline(), save_to=path), SimulatedSites(data, faults=faults))
    assert not path.exists()


# -- model files ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(data):
    return federate(SimulatedSites(data), pipeline(early_stopping=True))


def test_a_model_comes_back_whole(tmp_path, fitted, data):
    save_model(fitted, tmp_path / "model")
    back = load_model(tmp_path / "model")
    assert repr(back) == repr(fitted)
    for ours, theirs in zip(back.steps, fitted.steps, strict=True):
        state = {n: v for n, v in vars(theirs[1]).items() if n.endswith("_")}
        assert state.keys() == {n for n in vars(ours[1]) if n.endswith("_")}
        for name, value in state.items():
            if name == "loss_":
                assert repr(getattr(ours[1], name)) == repr(value)
            else:
                np.testing.assert_equal(getattr(ours[1], name), value)
    X = data["b"][0]
    assert_array_equal(back.predict_proba(X), fitted.predict_proba(X))


def test_ids_and_labels_of_every_kind_come_back(tmp_path):
    X = np.random.default_rng(0).normal(size=(12, 2))
    for labels in (["no", "yes"], [-5, 10**12], [False, True], [1.0, 2.0]):
        for ids in (["x", "y", "z"], [3, 1, 2], [("a", 1), ("b", 2), ("c", 3)]):
            y, clients = np.array(labels * 6), [ids[i // 4] for i in range(12)]
            model = FederatedClassifier((2,), n_rounds=1, random_state=0)
            model.fit(X, y, clients=clients)
            save_model(model, tmp_path / "model")
            back = load_model(tmp_path / "model")
            assert back.classes_.tolist() == model.classes_.tolist()
            assert back.classes_.dtype == model.classes_.dtype
            assert list(back.clients_) == list(model.clients_)


def test_a_module_of_ones_own_is_given_again(tmp_path, data):
    model = federate(
        SimulatedSites(data, module=make_module),
        FederatedClassifier(module=make_module, n_rounds=1, random_state=0),
    )
    save_model(model, tmp_path / "model")
    with pytest.raises(ModelFileError, match="module="):
        load_model(tmp_path / "model")
    back = load_model(tmp_path / "model", module=make_module)
    X = data["a"][0]
    assert_array_equal(back.predict_proba(X), model.predict_proba(X))


def test_every_flipped_byte_is_found(tmp_path, fitted):
    path = tmp_path / "model"
    save_model(fitted, path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*range(90), *rng.integers(0, len(whole), 200)]:
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(spoilt)
        with pytest.raises(ModelFileError):
            load_model(path)
    for end in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ModelFileError):
            load_model(path)


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "Popen", "params": {"args": "ls"}, "state": {}},
        {"kind": "FedFocalClassifier", "params": {}, "state": {"predict": 1}},
        {"kind": "FedFocalClassifier", "params": {}, "state": {"__class__": 1}},
        {"kind": "FedFocalClassifier", "params": {"nonsense": 1}, "state": {}},
        {"steps": 3},
        [],
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path, value):
    write_plain(tmp_path / "model", value)
    with pytest.raises(ModelFileError):
        load_model(tmp_path / "model")


def test_a_failed_write_leaves_the_file_before(tmp_path, fitted, monkeypatch):
    path = tmp_path / "model"
    save_model(fitted, path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_model(fitted, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


# -- tables --------------------------------------------------------------------------------------


def test_csv_gives_what_was_written(tmp_path):
    X = np.random.default_rng(0).normal(size=(9, 2)) * [1e-7, 1e9]
    path = tmp_path / "t.csv"
    rows = [
        f'{a!r}, {b!r},"{c}",{w}'
        for (a, b), c, w in zip(X.tolist(), "ynyynynny", range(9), strict=True)
    ]
    path.write_text("age,dose,target,importance\n" + "\n".join(rows) + "\n\n", encoding="utf-8-sig")
    table, y, weight = load_table({"data-path": path, "weight": "importance"})
    assert table.columns == ["age", "dose"]
    assert_array_equal(np.asarray(table), X)
    assert "".join(y) == "ynyynynny"
    assert_array_equal(weight, np.arange(9))


def test_labels_in_csv_are_integers_where_they_can_be(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("x,target\n1,0\n2,1\n")
    assert load_table({"data-path": path})[1].dtype == np.int64
    path.write_text("x,target\n1,0.5\n2,1\n")
    assert load_table({"data-path": path})[1].dtype == np.float64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,target\n1,\n", "'target' has empty cells"),
        ("x,x,target\n1,2,3\n", r"more than one column called \['x'\]"),
        ("x,target\n1,2,3\n", "line 2: 3 cells"),
        ("x,y\n1,2\n", "no column 'target'"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, text, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        load_table({"data-path": path})


def test_columns_have_the_types_that_pandas_finds(tmp_path):
    pd = pytest.importorskip("pandas")
    path = tmp_path / "t.csv"
    path.write_text(
        "whole,number,gap,pain,none,truth,visit,later,target\n"
        "1,1.5,NA,mild,,True,2020-01-02,2020-01-02 10:30:00,a\n"
        "2,2,7,?,,False,2021-12-31,,b\n"
        "3,-1e3,,nan,,True,2020-02-03,2020-02-04 00:00:01,a\n"
    )
    table, y, _ = load_table({"data-path": path, "missing": "? -"})
    theirs = pd.read_csv(path, na_values="?", parse_dates=["visit", "later"]).drop(columns="target")
    assert table.columns == list(theirs)
    assert "".join(y) == "aba"
    for column, name in zip(table.arrays, theirs, strict=True):
        assert column.dtype.kind == {"str": "O"}.get(
            str(theirs[name].dtype), theirs[name].dtype.kind
        )
        assert_array_equal(pd.isna(column), theirs[name].isna())
        assert_array_equal(column[~pd.isna(column)], theirs[name].dropna().to_numpy(column.dtype))


def test_dates_spellings_and_columns_as_the_node_says(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "name,visit,later,pain,target\n"
        "Ann,1970-01-02,NULL, Very  Dull,Yes\n"
        "Bo,1969-12-31,1970-01-01 12:00,None,yes\n"
    )
    table, y, _ = load_table({"data-path": path})
    assert table.columns == ["name", "visit", "later", "pain"]
    assert [column.dtype.kind for column in table.arrays] == ["O", "M", "M", "O"]
    assert table.arrays[3].tolist() == ["Very  Dull", np.nan]
    assert y.tolist() == ["Yes", "yes"]
    says = {"dates": "days", "fold-case": True, "drop": "name, weight"}
    table, y, _ = load_table({"data-path": path, **says})
    assert table.columns == ["visit", "later", "pain"]
    assert_array_equal(table.arrays[0], [1.0, -1.0])
    assert_array_equal(table.arrays[1], [np.nan, 0.5])
    assert table.arrays[2].tolist() == ["very dull", np.nan]
    assert y.tolist() == ["yes", "yes"]
    for wrong in ({"dates": "years"}, {"fold-case": "maybe"}):
        with pytest.raises(ValueError, match=rf"{next(iter(wrong))} must be"):
            load_table({"data-path": path, **wrong})
    path.write_text("visit,target\n03/04/2020,a\n2020-01-31,b\n")
    with pytest.raises(ValueError, match=r"t.csv.*'visit' has dates that are not all written like"):
        load_table({"data-path": path})
    assert load_table({"data-path": path, "drop": "visit"})[0].columns == []


def test_parquet_and_npz(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": [1.5, 2.5], "target": ["a", "b"]}), tmp_path / "t.parquet")
    table, y, _ = load_table({"data-path": tmp_path / "t.parquet"})
    assert_array_equal(np.asarray(table), [[1.5], [2.5]])
    assert list(y) == ["a", "b"]
    gaps = pa.table({"x": [1, None], "word": ["red", None], "target": [0, 1]})
    pq.write_table(gaps, tmp_path / "gaps.parquet")
    table, *_ = load_table({"data-path": tmp_path / "gaps.parquet"})
    assert [column.dtype.kind for column in table.arrays] == ["f", "O"]
    assert all(column[1] != column[1] for column in table.arrays)
    np.savez(tmp_path / "t.npz", X=np.eye(2), y=[0, 1])
    X, y, weight = load_table({"data-path": tmp_path / "t.npz"})
    assert_array_equal(X, np.eye(2))
    assert weight is None
    np.savez(tmp_path / "bad.npz", X=np.array([{}], object), y=[0])
    with pytest.raises(ValueError, match="allow_pickle"):
        load_table({"data-path": tmp_path / "bad.npz"})


@pytest.mark.parametrize("config", [{}, {"data-path": "table.xlsx"}])
def test_configurations_without_a_table(config):
    with pytest.raises(ValueError, match="data-path"):
        load_table(config)


def test_a_client_app_imports_no_more_than_it_needs():
    """A site starts a process per message, so every import is paid for in every round."""
    import subprocess

    code = (
        "import sys, json, skfedfocal.flower\n"
        "print(json.dumps([m for m in sys.modules if m.startswith(('skfedfocal', 'matplotlib'))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    for heavy in ("matplotlib", "skfedfocal._estimators.files", "skfedfocal.flower._server"):
        assert heavy not in loaded
    assert callable(make_client_app)
