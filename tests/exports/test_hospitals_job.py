"""The tutorial's script, from messy csv files to a file in ONNX."""

import ast
import io
import re
import runpy
import sys
import tokenize
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from skfedfocal.datasets import load_clients
from skfedfocal.onnx import compare_onnx

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
    found = np.mean(done["unseen"][done["y"]] >= done["chosen"].threshold)
    assert 0.9 <= found < 0.91
    assert f"recall={found}" in said
    assert done["model"].clients_.tolist() == list(dict.fromkeys(done["X"]["hospital"]))
    assert len(done["model"].clients_) == 4
    for hospital in done["model"].clients_:
        assert re.search(rf"^ *{hospital} +\d+ .* [01]\.\d\d", said, flags=re.M)
    file = compare_onnx(folder / "model.onnx", done["decider"], done["X_test"])
    assert str(file) in said
    assert file.n_rows == len(done["y_test"])
    assert file.other_labels == 0
    assert file.largest_difference < 1e-5
    for name in ("classes.png", "scores.png", "model.onnx"):
        assert (folder / name).stat().st_size > 1000


def lines_of_code(text):
    """Lines that have a token of code: no comment, no blank, no docstring of the file."""
    beside = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER}
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in beside
        for line in range(token.start[0], token.end[0] + 1)
    }
    docstring = ast.parse(text).body[0]
    return len(lines - set(range(docstring.lineno, docstring.end_lineno + 1)))


def test_it_is_short():
    """In lines as they are formatted, however many statements are in them."""
    assert lines_of_code('"""One\n\ntwo."""\n\n# No code.\nx = [\n    1,\n]  # three\n') == 3
    assert lines_of_code((EXAMPLES / "hospitals_job.py").read_text(encoding="utf-8")) < 40


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
