"""The tutorial's script, from messy csv files to a file in ONNX."""

import ast
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from skfedfocal.datasets import load_clients

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    write_tables = runpy.run_path(str(EXAMPLES / "messy_tables.py"))["write_tables"]
    return write_tables(tmp_path_factory.mktemp("tables"))


def test_the_job_is_done(folder, capsys, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("skl2onnx")
    monkeypatch.setattr(sys, "argv", ["hospitals_job.py", str(folder), "ill"])
    done = runpy.run_path(str(EXAMPLES / "hospitals_job.py"))
    said = capsys.readouterr().out
    found = np.mean(done["unseen"][done["y"]] >= done["threshold"])
    assert 0.9 <= found < 0.91
    assert f"recall {found:.2f}" in said
    assert done["model"].clients_.tolist() == list(dict.fromkeys(done["X"]["hospital"]))
    assert len(done["model"].clients_) == 4
    for hospital in done["model"].clients_:
        assert re.search(rf"^ *{hospital} +\d+ .* [01]\.\d\d", said, flags=re.M)
    assert "ONNX: 0% other labels" in said
    assert float(said.rpartition("by ")[2]) < 1e-5
    for name in ("classes.png", "scores.png", "model.onnx"):
        assert (folder / name).stat().st_size > 1000


def test_it_is_short():
    text = (EXAMPLES / "hospitals_job.py").read_text(encoding="utf-8")
    assert len(ast.parse(text).body) - 1 < 40  # statements, imports among them


def test_the_tables_are_messy_and_come_into_one_form(folder):
    files = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
    assert len({tuple(table.columns) for table in files.values()}) == len(files) == 4
    assert len({value for table in files.values() for value in table["smokes"]}) > 2
    assert "stabbing" not in set(files["bodo"]["pain"])
    data = load_clients(folder, target="ill", dates="days").data
    assert set(data["smokes"]) == {"yes", "no"}
    assert set(data["pain"].dropna()) == {"none", "dull", "stabbing"}
    others = data.columns.drop(["smokes", "pain"])
    assert all(data[name].dtype == np.float64 for name in others)
    days = pd.concat([table["admitted"] for table in files.values()], ignore_index=True)
    back = pd.Timestamp("1970-01-01") + pd.to_timedelta(data["admitted"], "D")
    assert_array_equal(back.dt.strftime("%Y-%m-%d"), days)
