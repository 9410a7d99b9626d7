"""The design page has every file in its place; files are short; public names have examples."""

import ast
import inspect
import re
import tomllib
from pathlib import Path

import pytest
import test_doctests

import skfedfocal

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "skfedfocal"
PAGE = (ROOT / "docs/design.md").read_text(encoding="utf-8")
FILES = sorted(HOUSE.rglob("*.py"))
# Classifiers write out all their parameters, so that a user need not look elsewhere.
LONG = {f"_estimators/{name}.py": 450 for name in ("classifier", "classifier_cv", "personalized")}


def layers():
    """Of the page's table: the rooms of each layer, and the files that it names."""
    (table,) = re.findall(r"^\| layer \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, flags=re.M)
    rooms, files = [], []
    for line in table.splitlines():
        here = []
        for bold, name in re.findall(r"(\*\*)?`([\w/.]+)`", line.split("|", 2)[2]):
            if bold:
                here.append(name)
            if name.endswith(".py"):
                files.append(name if bold else here[-1] + name)
        rooms.append(here)
    return rooms, files


def test_every_file_has_its_place_in_the_table():
    _, named = layers()
    there = [path.relative_to(HOUSE).as_posix() for path in FILES if path.name != "__init__.py"]
    assert sorted(named) == there


def test_layers_are_those_of_the_contract():
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (wanted,) = [c["layers"] for c in contracts if c["type"] == "layers"]
    built = [
        {room for room in re.split(r" [|:] ", layer) if not room.startswith("(")}
        for layer in wanted
    ]
    rooms, _ = layers()
    assert [{room.removesuffix(".py").rstrip("/") for room in here} for here in rooms] == built
    for here in rooms:
        assert all((HOUSE / room).exists() for room in here)


def test_values_of_the_page_are_classes_of_the_package():
    (table,) = re.findall(r"^\| value \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, flags=re.M)
    classes = {
        node.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    assert set(re.findall(r"^\| `(\w+)`", table, flags=re.M)) <= classes


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(HOUSE).as_posix())
def test_files_are_short(path):
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= LONG.get(path.relative_to(HOUSE).as_posix(), 350)


PUBLIC = [
    "skfedfocal",
    "skfedfocal.aggregation",
    "skfedfocal.datasets",
    "skfedfocal.describe",
    "skfedfocal.display",
    "skfedfocal.encodings",
    "skfedfocal.flower",
    "skfedfocal.losses",
    "skfedfocal.metrics",
    "skfedfocal.partition",
    "skfedfocal.onnx",
    "skfedfocal.preprocessing",
    "skfedfocal.privacy",
    "skfedfocal.selection",
    "skfedfocal.strategies",
]
# submit needs a SuperLink; describe_clients shows its summary; an exception's example is the call
# that raises it.
WITHOUT = {"skfedfocal.flower._export.submit", "skfedfocal.describe.ClientSummary"}


@pytest.mark.parametrize("room", PUBLIC)
def test_every_public_object_has_an_example(room):
    module = pytest.importorskip(room, exc_type=ImportError)
    having = {example.name for example in test_doctests.EXAMPLES}
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == room
    ]
    objects = [getattr(module, name) for name in names]
    public = {
        f"{thing.__module__}.{thing.__qualname__}"
        for thing in objects
        if inspect.isfunction(thing)
        or (inspect.isclass(thing) and not issubclass(thing, Exception))
    }
    assert public - WITHOUT <= having


def test_public_rooms_are_all_looked_at():
    there = {p.name.removesuffix(".py") for p in HOUSE.iterdir() if not p.name.startswith("_")}
    assert {f"skfedfocal.{name}" for name in there} - set(PUBLIC) <= {
        "skfedfocal.engines",  # chosen by name
        "skfedfocal.py.typed",
    }
    assert skfedfocal.__all__
