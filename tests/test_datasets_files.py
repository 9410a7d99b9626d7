"""Federations from files: what was written comes back as it was, and what is wrong is named."""

import datetime
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skfedfocal import FedFocalClassifier
from skfedfocal.datasets import load_federation


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.integers(20, 90, 40),
            "pulse": rng.normal(70, 9, 40),
            "site": rng.choice(["oslo", "røst"], 40),
            "finding": rng.choice(["sick", "well"], 40),
            "weight": rng.uniform(0.5, 2, 40),
        }
    )


NAMED = {"target": "finding", "client": "site", "weight": "weight"}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("as_frame", [False, True])
def test_table_comes_back_as_it_was_written(frame, tmp_path, kind, as_frame):
    path = tmp_path / f"f.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path, index=False)
    loaded = load_federation(path, **NAMED, as_frame=as_frame)
    assert loaded.feature_names == ["age", "pulse"]
    assert isinstance(loaded.data, pd.DataFrame if as_frame else np.ndarray)
    np.testing.assert_allclose(np.asarray(loaded.data), frame[["age", "pulse"]], rtol=1e-15)
    assert np.asarray(loaded.target).tolist() == frame.finding.tolist()
    assert np.asarray(loaded.clients).tolist() == frame.site.tolist()
    np.testing.assert_allclose(loaded.sample_weight, frame.weight, rtol=1e-15)
    if as_frame:
        assert list(loaded.frame) == ["age", "pulse", "finding", "site"]
        assert loaded.data.dtypes.tolist() == [np.int64, np.float64]
    else:
        assert loaded.target.dtype.kind == loaded.clients.dtype.kind == "U"
        assert loaded.frame is None


def test_npz_comes_back_as_it_was_written(tmp_path):
    X = np.arange(24, dtype=np.uint8).reshape(4, 3, 2)
    y, client = np.array([1, 0, 1, 1], np.int16), np.array(["a", "b", "b", "a"])
    path = tmp_path / "f.npz"
    names = {"class_names": ["no", "yes"], "feature_names": ["u", "v", "w"]}
    np.savez(path, X=X, y=y, client=client, split=y, **names)
    loaded = load_federation(path)
    for one, two in ((loaded.data, X), (loaded.target, y), (loaded.clients, client)):
        np.testing.assert_array_equal(one, two)
        assert one.dtype == two.dtype
    assert loaded.target_names == ["no", "yes"]
    assert loaded.feature_names == ["u", "v", "w"]
    assert list(loaded.extras) == ["split"]
    assert load_federation(path, client="split").clients.tolist() == [1, 0, 1, 1]
    np.savez(path, X=X, y=y)
    assert load_federation(path).clients is None
    np.savez(path, X=X[:, 0], y=y[:, None], client=client)
    framed = load_federation(path, as_frame=True)
    assert framed.data.dtypes.tolist() == [np.uint8, np.uint8]
    assert list(framed.frame) == ["x0", "x1", "y", "client"]


def test_what_is_loaded_trains(frame, tmp_path):
    frame.to_csv(tmp_path / "f.csv", index=False)
    loaded = load_federation(tmp_path / "f.csv", **NAMED)
    model = FedFocalClassifier(n_rounds=2, random_state=0)
    model.fit(
        loaded.data, loaded.target, sample_weight=loaded.sample_weight, clients=loaded.clients
    )
    assert set(model.clients_) == {"oslo", "røst"}
    assert set(model.classes_) == {"sick", "well"}


plain = st.text("abc019.- éß", min_size=1, max_size=6).map(str.strip).filter(bool)


@settings(deadline=None, derandomize=True, max_examples=50, database=None)
@given(st.lists(plain | st.sampled_from(["01", "1", "1.0", "NA", "nan", "None"]), min_size=1))
def test_distinct_ids_of_a_csv_stay_distinct(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("ids") / "f.csv"
    pd.DataFrame({"x": 1, "y": ids, "who": ids}).to_csv(path, index=False)
    loaded = load_federation(path, target="y", client="who")
    for column in (loaded.target, loaded.clients):
        if column.dtype.kind == "U":
            assert column.tolist() == ids
        elif column.dtype.kind == "i":
            assert [str(value) for value in column] == ids
        else:  # every one of them reads as a number with a fraction
            assert column.tolist() == [float(text) for text in ids]


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", "0"], [1, 0]),
        (["01", "1"], ["01", "1"]),
        (["0.5", "1"], [0.5, 1.0]),
        (["True", "False"], [True, False]),
        (["True", "x"], ["True", "x"]),
        (["NA", "None"], ["NA", "None"]),
        ([" a ", "a"], ["a", "a"]),
        (["1e999", "2"], ["1e999", "2"]),
        (["9" * 30, "2"], [1e30, 2.0]),
    ],
)
def test_labels_become_numbers_only_where_nothing_is_lost(tmp_path, texts, values):
    path = tmp_path / "f.csv"
    path.write_text("x,y\n" + "".join(f"1,{text}\n" for text in texts))
    assert load_federation(path, target="y").target.tolist() == values


def test_empty_cells_of_features_are_gaps_in_every_kind(tmp_path):
    (tmp_path / "f.csv").write_text("a,b,y\n1,NA,0\n,2,1\n")
    pq.write_table(pa.table({"a": [1, None], "b": [None, 2], "y": [0, 1]}), tmp_path / "f.parquet")
    for name in ("f.csv", "f.parquet"):
        loaded = load_federation(tmp_path / name, target="y")
        np.testing.assert_array_equal(loaded.data, [[1, np.nan], [np.nan, 2]])


def test_types_of_a_parquet_file_stay(tmp_path):
    columns = {"a": pa.array([1, 2], pa.int8()), "b": pa.array([0.5, 1], pa.float32())}
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({**columns, "y": [True, False]}), path)
    loaded = load_federation(path, target="y")
    assert loaded.data.dtype == np.float32
    assert loaded.target.dtype == bool
    framed = load_federation(path, target="y", as_frame=True)
    assert framed.data.dtypes.tolist() == [np.int8, np.float32]


def test_row_numbers_that_pandas_adds_are_no_feature(frame, tmp_path):
    path = tmp_path / "f.parquet"
    frame.iloc[::2].to_parquet(path)
    assert load_federation(path, target="finding", client="site", weight="weight").feature_names
    assert load_federation(path, **NAMED).feature_names == ["age", "pulse"]


def test_texts_are_kept_in_a_frame_only(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text("age,sex,town,y\n61,f,oslo,0\n47,m,,1\n")
    with pytest.raises(ValueError, match=r"'sex', 'town' are columns of texts.*as_frame=True"):
        load_federation(path, target="y")
    loaded = load_federation(path, target="y", as_frame=True)
    assert loaded.data.sex.tolist() == ["f", "m"]
    assert loaded.data.town.isna().tolist() == [False, True]


# -- what is refused ---------------------------------------------------------------------------

CSV = {
    "": "no line of column names",
    "x,y\n": "no rows below the column names",
    "x,x,y\n1,2,3\n": "more than one column 'x'",
    "x, x ,y\n1,2,3\n": "more than one column 'x'",
    ",x,y\n0,2,3\n": "column 1 has no name; if it holds row numbers",
    "x,y\n1,2\n1,2,3\n": "line 3: 3 cells, but there are 2 column names",
    "x,y\n1,2\n\n1\n": "line 4: 1 cells, but there are 2 column names",
    "x,y\n0,1,2\n1,1,2\n": "line 2: 3 cells",
    'x,y\n1,"2\n3,4\n': "not a csv file",
    "x;y\n1;2\n": "no column 'y'; it has x;y",
    "x,z\n1,2\n": "no column 'y'; it has x, z",
    "x,y\n1,\n2,3\n": "'y' has 1 empty cells",
    "x,y\n1,  \n2,3\n": "'y' has 1 empty cells",
    "y\n1\n": "no column of features besides y",
    "seen,y\n2024-01-31,1\n2024-02-01,0\n": "'seen' is a column of dates",
    "seen,x,left,y\n31/01/2024,1,2024-01-31T10:00,1\n": "'seen', 'left' are columns of dates",
    "sex,y\nf,1\n": "'sex' is a column of texts",
}


@pytest.mark.parametrize("text", CSV)
def test_malformed_csv_is_refused_with_the_place(tmp_path, text):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"^bad\.csv") as error:
        load_federation(path, target="y")
    assert CSV[text] in str(error.value)


@pytest.mark.parametrize("as_frame", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        pa.array([datetime.date(2024, 1, 31)]),
        pa.array([datetime.datetime(2024, 1, 31)]),
        pa.array([datetime.datetime(2024, 1, 31)], pa.timestamp("us", "UTC")),
        pa.array([datetime.timedelta(days=1)]),
        pa.array(["2024-01-31"]),
    ],
    ids=str,
)
def test_dates_are_refused_in_every_form(tmp_path, values, as_frame):
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table({"x": [1], "seen": values, "y": [1]}), path)
    with pytest.raises(ValueError, match="'seen' is a column of dates"):
        load_federation(path, target="y", as_frame=as_frame)


def test_malformed_parquet_is_refused(tmp_path):
    path = tmp_path / "f.parquet"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="not a parquet file"):
        load_federation(path, target="y")
    pq.write_table(pa.Table.from_arrays([pa.array([1])] * 2, names=["x", "x"]), path)
    with pytest.raises(ValueError, match="more than one column 'x'"):
        load_federation(path, target="y")
    pq.write_table(pa.table({"x": pa.array([], pa.int8()), "y": pa.array([], pa.int8())}), path)
    with pytest.raises(ValueError, match="no rows"):
        load_federation(path, target="y")
    pq.write_table(pa.table({"x": [1, 2], "y": ["a", None]}), path)
    with pytest.raises(ValueError, match="'y' has 1 empty cells"):
        load_federation(path, target="y")


X4, Y4 = np.ones((4, 2)), np.arange(4)


@pytest.mark.parametrize(
    ("arrays", "arguments", "message"),
    [
        ({"y": Y4}, {}, "no array 'X'; it has y"),
        ({"X": X4}, {}, "no array 'y'; it has X"),
        ({"X": X4, "y": Y4}, {"client": "site"}, "no array 'site'; it has X, y"),
        ({"X": X4, "y": Y4[:3]}, {}, r"differ in length; X has 4 rows, and 'y' has shape \(3,\)"),
        ({"X": X4, "y": Y4, "client": X4}, {}, r"'client' has shape \(4, 2\)"),
        ({"X": Y4, "y": Y4}, {}, r"X has shape \(4,\)"),
        ({"X": np.full((4, 2), "a"), "y": Y4}, {}, "a row of numbers"),
        ({"X": np.full((4, 2), None), "y": Y4}, {}, "cannot be read as an npz of plain arrays"),
        ({"X": X4, "y": Y4 * np.nan}, {}, "'y' has 4 empty cells"),
        ({"X": X4, "y": Y4, "client": np.array(["a", "", "b", "b"])}, {}, "'client' has 1 empty"),
        ({"X": X4, "y": Y4, "feature_names": ["a"]}, {}, "1 feature_names for 2 features"),
        ({"X": X4, "y": Y4, "w": -X4[:, 0]}, {"weight": "w"}, "weights 'w' must be numbers"),
        ({"X": X4, "y": Y4, "w": np.full(4, "a")}, {"weight": "w"}, "weights 'w'"),
        ({"X": X4, "y": Y4, "w": np.array([np.nan, 1, 1, 1])}, {"weight": "w"}, "weights 'w'"),
        ({"X": np.ones((4, 2, 2)), "y": Y4}, {"as_frame": True}, "cannot hold"),
        ({"X": X4, "y": Y4}, {"client": "y", "target": "y"}, "must name different columns"),
    ],
)
def test_malformed_npz_is_refused(tmp_path, arrays, arguments, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message):
        load_federation(path, **arguments)


def test_files_of_no_kind_are_refused(tmp_path):
    (tmp_path / "f.txt").write_text("x,y\n1,2\n")
    (tmp_path / "f.npz").write_text("nothing")
    (tmp_path / "f.csv").write_bytes("é,y\n1,2\n".encode("latin-1"))
    np.save(tmp_path / "one.npy", Y4)
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ValueError, match=r"of the kind \.npz, \.csv, \.parquet"):
        load_federation(tmp_path / "f.txt", target="y")
    with pytest.raises(FileNotFoundError, match=r"no file .*absent"):
        load_federation(tmp_path / "absent.csv", target="y")
    for name in ("f.npz", "one.npz"):
        with pytest.raises(ValueError, match="cannot be read as an npz"):
            load_federation(tmp_path / name)
    with pytest.raises(ValueError, match="not text in UTF-8"):
        load_federation(tmp_path / "f.csv", target="y")
    (tmp_path / "g.csv").write_text("x,y\n1,2\n")
    with pytest.raises(ValueError, match=r"target must name the column.* has x, y"):
        load_federation(tmp_path / "g.csv")


@pytest.mark.parametrize(
    ("absent", "name", "message"),
    [
        ("pandas", "f.csv", r"reading a \.csv file needs pandas: pip install pandas$"),
        ("pandas", "f.parquet", "needs pandas: pip install pandas pyarrow"),
        ("pyarrow", "f.parquet", "needs pyarrow: pip install pandas pyarrow"),
    ],
)
def test_what_is_not_installed_is_named(frame, tmp_path, monkeypatch, absent, name, message):
    frame.to_csv(tmp_path / "f.csv")
    frame.to_parquet(tmp_path / "f.parquet")
    np.savez(tmp_path / "f.npz", X=X4, y=Y4)
    monkeypatch.setitem(sys.modules, absent, None)
    with pytest.raises(ImportError, match=message):
        load_federation(tmp_path / name, target="finding")
    load_federation(tmp_path / "f.npz")  # which needs none of it
