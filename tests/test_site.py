"""What the site shows runs as it is printed, and what is public has an example and its source."""

import ast
import contextlib
import importlib.util
import inspect
import io
import multiprocessing
import os
import re
import tempfile
import traceback
import warnings
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [
    path.relative_to(DOCS).as_posix()
    for path in sorted([*DOCS.glob("*.md"), *DOCS.glob("guide/*.md"), *DOCS.glob("own/*.md")])
    # Run by tests of their own, which also compare figures; deployment.md has pieces for machines.
    if path.name not in ("decisions.md", "deployment.md")
    and "```python\n" in path.read_text(encoding="utf-8")
]
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", flags=re.M | re.S)
NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:e-?\d+)?")


def run(blocks, folder, answers):
    """Each block of a page by itself, in a folder and a namespace of its own."""
    warnings.simplefilter("error")
    for others in ("typer", "mlflow", "tensorboard", "torch", "sklearn", "scipy"):
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=others)
    torch.set_num_threads(1)
    try:
        printed = []
        for number, block in enumerate(blocks):
            os.chdir(tempfile.mkdtemp(dir=folder))
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block, f"block {number}", "exec"), {"__name__": "__main__"})
            printed.append(out.getvalue())
        answers.send((printed, ""))
    except BaseException:
        answers.send(([], traceback.format_exc()))


@pytest.fixture(scope="module")
def processes():
    """A process for each page, forked where that can be, so that torch is not loaded by each."""
    ways = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")
    if "forkserver" in ways:
        context.set_forkserver_preload(["skfedfocal._estimators.classifier_cv"])
    return context


@pytest.mark.parametrize("page", PAGES)
def test_snippets_run_by_themselves_and_print_what_is_shown(page, tmp_path, processes):
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    if any("skfedfocal.flower" in code for code, _ in blocks):
        pytest.importorskip("flwr")
    if any("set_callbacks" in code for code, _ in blocks):
        pytest.importorskip("sklearn.callback")  # from scikit-learn 1.9 on
    if any("mlflow" in code for code, _ in blocks):
        pytest.importorskip("mlflow")
        pytest.importorskip("tensorboard")
    if any("secure_aggregation=True" in code or "privacy=" in code for code, _ in blocks):
        pytest.importorskip("cryptography")
    ours, theirs = processes.Pipe(duplex=False)
    process = processes.Process(target=run, args=([code for code, _ in blocks], tmp_path, theirs))
    process.start()
    theirs.close()
    found, error = ours.recv()
    process.join()
    assert not error, error
    for (_, shown), printed in zip(blocks, found, strict=True):
        assert NUMBER.sub("#", shown).split() == NUMBER.sub("#", printed).split()
        wanted, found = (list(map(float, NUMBER.findall(text))) for text in (shown, printed))
        # Other processors round otherwise, and a row or two is then on the other side.
        assert found == pytest.approx(wanted, abs=0.05, rel=0.2), printed


def public_modules():
    """The table in docs/conf.py, of which the API reference is made."""
    tree = ast.parse((DOCS / "conf.py").read_text(encoding="utf-8"))
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PUBLIC_MODULES"
    )
    return list(ast.literal_eval(table))


def public_objects():
    for name in public_modules():
        if name == "skfedfocal.flower" and importlib.util.find_spec("flwr") is None:
            continue
        if name == "skfedfocal.privacy" and importlib.util.find_spec("dp_accounting") is None:
            continue
        module = importlib.import_module(name)
        for member in module.__all__:
            found = getattr(module, member)
            if inspect.isclass(found) or inspect.isfunction(found):
                yield pytest.param(found, id=f"{name}.{member}")


PUBLIC = list(public_objects())
every_public_object = pytest.mark.parametrize("found", PUBLIC)


def test_reference_lists_every_public_module():
    page = (DOCS / "api" / "index.rst").read_text(encoding="utf-8")
    assert re.findall(r"^   (skfedfocal[\w.]*)$", page, flags=re.M) == public_modules()


@every_public_object
def test_has_an_example(found):
    """Which tests/test_doctests.py runs."""
    assert re.search(r"^Examples\n-+$", inspect.getdoc(found), flags=re.M)
    assert ">>> " in inspect.getdoc(found)


@every_public_object
def test_names_the_paper_that_it_speaks_of(found):
    text = inspect.getdoc(found)
    cited = set(re.findall(r"\[(\d)\]_", text))
    if not cited and not re.search(r"\bet al\.|\bpapers?\b|published", text):
        return
    entries = dict(re.findall(r"^\.\. \[(\d)\] (.*(?:\n   .*)*)", text, flags=re.M))
    assert entries, "speaks of a paper and has no reference"
    assert cited <= set(entries)
    for entry in entries.values():
        assert re.search(r"\b(19|20)\d\d\b|arXiv:\d{4}", entry), entry


# Whose method is in the package: a name, and an author of the paper.
METHODS = {
    "FedFocalClassifier": "Sarkar",
    "FederatedClassifier": "McMahan",
    "FocalLoss": "Lin",
    "SampleDependentFocalLoss": "Mukhoti",
    "LogitAdjustedLoss": "Menon",
    "LDAMLoss": "Cao",
    "FedAvg": "McMahan",
    "FedProx": "Li",
    "FedAvgM": "Hsu",
    "FedOpt": "Reddi",
    "FedAdagrad": "Reddi",
    "FedAdam": "Reddi",
    "FedYogi": "Reddi",
    "FocalSelection": "Sarkar",
    "CategoryCoverage": "Sarkar",
    "CoordinateMedian": "Yin",
    "TrimmedMean": "Yin",
    "GeometricMedian": "Pillutla",
    "Krum": "Blanchard",
    "Bucketing": "Karimireddy",
    "SecureAggregation": "Bonawitz",
    "ExampleLevelDP": "Abadi",
    "ClientLevelDP": "McMahan",
    "Canaries": "Andrew",
    "dirichlet_partition": "Hsu",
    "shard_partition": "McMahan",
}


@pytest.mark.parametrize("name", METHODS)
def test_reference_of_a_method(name):
    objects = {param.id.rpartition(".")[2]: param.values[0] for param in PUBLIC}
    if name not in objects:
        pytest.importorskip("dp_accounting")
    references = inspect.getdoc(objects[name]).partition("References\n")[2]
    assert METHODS[name] in references
