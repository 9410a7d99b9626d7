"""The page on tools has one row for each test of a tool, and its example runs."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/tools.md").read_text(encoding="utf-8")


def test_one_row_for_each_test():
    rows = re.findall(r"^\|.*\| `(test_\w+\.py::test_\w+)` \|$", PAGE, flags=re.M)
    assert len(rows) == PAGE.count("\n| ") - 1  # the head
    written = [
        f"{path.name}::{node.name}"
        for path in sorted((ROOT / "tests/tools").glob("test_*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert sorted(rows) == sorted(written)


def test_examples_run(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)
    names = {"__name__": "tools"}
    for block in blocks:
        exec(compile(block, "docs/tools.md", "exec"), names)
    assert capsys.readouterr().out == "['oslo' 'bergen']\n"
    assert names["model"].clients_.tolist() == ["oslo", "bergen"]
    assert names["model"].estimator_[0].transform(names["X"].iloc[:, :-1]).shape[1] == 30
