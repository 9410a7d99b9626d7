"""What the documentation shows runs, and what it claims is what the code does."""

import re
import runpy
from pathlib import Path

import pytest

from skfedfocal.aggregation import AGGREGATORS
from skfedfocal.losses import LOSSES
from skfedfocal.selection import SELECTIONS
from skfedfocal.strategies import STRATEGIES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO = (ROOT / "docs/guide/demo.md").read_text(encoding="utf-8")
PARTS = (ROOT / "docs/guide/parts.md").read_text(encoding="utf-8")
TABLE_ROW = re.compile(r"^(\S.*?)  +(\d\.\d{3}) +(\d\.\d{3}) +[+-]\d\.\d{3}$", flags=re.M)


def python_blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


def run_blocks(page):
    """Run the page's blocks one after the other, as a reader would who pastes them."""
    blocks = python_blocks((ROOT / page).read_text(encoding="utf-8"))
    namespace = {"__name__": page}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
    return len(blocks)


def test_readme_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_blocks("README.md") == 1
    score = float(re.match(r"balanced accuracy (\d\.\d+)\n", capsys.readouterr().out)[1])
    said = re.search(r"It prints `balanced accuracy (.*)`", README)[1]
    assert score == pytest.approx(float(said), abs=0.03)


def test_decisions_page_runs_and_prints_what_it_says(capsys):
    assert run_blocks("docs/decisions.md") == 1
    page = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
    pattern = r"^(\w+): (\d+)% of the rows .* (\d\.\d{3}) plain, (\d\.\d{3}) clipped$"
    claimed = re.findall(pattern, page, flags=re.M)
    printed = re.findall(pattern, capsys.readouterr().out, flags=re.M)
    assert [row[0] for row in claimed] == ["dirichlet_sizes", "one_large_client"]
    for (name, share, *scores), (found_name, found_share, *found) in zip(
        claimed, printed, strict=True
    ):
        assert found_name == name
        assert abs(int(found_share) - int(share)) <= 3
        assert [float(v) for v in found] == pytest.approx([float(v) for v in scores], abs=0.02)


def test_table_is_what_the_demo_prints(tmp_path, monkeypatch, capsys):
    """Within 0.05, two or three test rows of a rare class: other processors round otherwise."""
    monkeypatch.setattr("sys.argv", ["demo.py", "--out", str(tmp_path / "demo.png")])
    runpy.run_path(str(ROOT / "examples" / "demo.py"), run_name="__main__")
    claimed, printed = TABLE_ROW.findall(DEMO), TABLE_ROW.findall(capsys.readouterr().out)
    assert len(claimed) == 8
    assert [row[0] for row in claimed] == [row[0] for row in printed]
    for (name, *values), (_, *found) in zip(claimed, printed, strict=True):
        assert [float(v) for v in values] == pytest.approx([float(v) for v in found], abs=0.05), (
            name
        )


@pytest.mark.parametrize(
    ("part", "known"),
    [
        ("`loss`", LOSSES),
        ("`strategy`", STRATEGIES),
        ("`selection`", SELECTIONS),
        ("`aggregation`", AGGREGATORS),
    ],
)
def test_named_parts_are_those_there_are(part, known):
    (names,) = re.findall(rf"^\| {re.escape(part)} \| (.*) \|$", PARTS, flags=re.M)
    assert names.split(", ") == list(known)


@pytest.mark.parametrize(
    "page",
    sorted(
        p.relative_to(ROOT).as_posix() for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    ),
)
def test_links_within_the_repository_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target, _, anchor in re.findall(r"\]\((?!http)([^)#]*)(#([^)]*))?\)", text):
        linked = (ROOT / page).parent / target if target else ROOT / page
        if linked.parent.name == "gallery":  # whose pages are made from the examples
            linked = ROOT / "examples" / "gallery" / f"{linked.stem}.py"
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), flags=re.M)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
