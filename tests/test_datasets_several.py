"""One table for each client, as they come: one form, or an error that says whose table differs."""

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from skfedfocal.datasets import load_clients


@pytest.fixture
def write(tmp_path):
    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.csv").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_columns_gaps_spellings_and_labels_come_into_one_form(write):
    folder = write(
        b='ill,age,smokes,id\nYES,?," yes",7\nno,40,,8\n',
        a="age,smokes,ill,id\n61,Yes,No,1\nNA,none,yes,2\n",
    )
    found = load_clients(folder, target="ill", drop=["id"], client_name="site")
    wanted = pd.DataFrame(
        {
            "age": [61.0, np.nan, np.nan, 40.0],
            "smokes": np.array(["yes", "none", "yes", np.nan], object),
            "ill": ["no", "yes", "yes", "no"],
            "site": ["a", "a", "b", "b"],
        }
    )
    assert_frame_equal(found.frame, wanted, check_dtype=False)
    assert found.data["smokes"].dtype == object
    kept = load_clients(folder, target="ill", drop=["id"], fold_case=False)
    assert kept.target.tolist() == ["No", "yes", "YES", "no"]
    assert kept.data["smokes"].tolist()[:3] == ["Yes", "none", "yes"]


def test_files_by_id_and_parquet(write, tmp_path):
    folder = write(a="x,y\n1,0\n")
    pd.DataFrame({"y": [2], "x": [3]}).to_parquet(tmp_path / "p.parquet")
    found = load_clients({7: folder / "a.csv", "p": folder / "p.parquet"}, target="y")
    assert found.data["x"].tolist() == [1, 3]
    assert found.target.tolist() == [0, 2]
    assert found.clients.tolist() == [7, "p"]
    listed = load_clients([folder / "p.parquet"], target="y")
    assert listed.clients.tolist() == ["p"]


def test_dates_are_refused_by_name_or_become_days(write):
    folder = write(a="day,y\n1970-01-03,0\n,1\n")
    with pytest.raises(ValueError, match=r"client 'a': 'day' is a column of dates"):
        load_clients(folder, target="y")
    found = load_clients(folder, target="y", dates="days")
    assert found.data["day"].tolist()[0] == 2.0
    assert np.isnan(found.data["day"][1])
    with pytest.raises(ValueError, match="day and month cannot be told apart"):
        load_clients(write(a="day,y\n03/04/2020,0\n"), target="y", dates="days")
    with pytest.raises(ValueError, match="dates must be"):
        load_clients(folder, target="y", dates="hours")


def test_what_differs_is_said_by_client(write):
    with pytest.raises(ValueError, match=r"client 'b' lacks \['x'\]"):
        load_clients(write(a="x,y\n1,0\n", b="z,y\n1,0\n", c="x,y\n1,0\n"), target="y")
    with pytest.raises(ValueError, match=r"client 'b' has texts in \['x'\], others numbers"):
        load_clients(write(a="x,y\n1,0\n", b="x,y\nlow,0\n", c="x,y\n1,0\n"), target="y")
    with pytest.raises(ValueError, match=r"a\.csv: column 'y' has 1 empty cells"):
        load_clients(write(a="x,y\n1,\n"), target="y")
    with pytest.raises(ValueError, match=r"b\.csv has no column 'y'"):
        load_clients(write(a="x,y\n1,0\n", b="x\n1\n"), target="y")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \.csv or \.parquet file"):
        load_clients(tmp_path, target="y")
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_clients([tmp_path / "a.csv"], target="y")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match="kind"):
        load_clients([tmp_path / "a.txt"], target="y")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.csv").write_text("x,y\n1,0\n")
    with pytest.raises(ValueError, match="Two files have one name"):
        load_clients([tmp_path / "one/a.csv", tmp_path / "two/a.csv"], target="y")
