"""Every example in the package's docstrings runs and prints what it says."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
from sklearn.base import BaseEstimator

import skfedfocal

EXTRAS = {"flwr", "matplotlib"}
PRIVACY = ("cryptography", "dp_accounting")  # which skfedfocal.privacy imports when it is used
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules():
    """The package's modules, but for those whose extra is not installed."""
    yield skfedfocal
    for info in pkgutil.walk_packages(skfedfocal.__path__, "skfedfocal."):
        try:
            yield importlib.import_module(info.name)
        except ImportError as error:
            missing = error.__cause__ or error
            if getattr(missing, "name", None) not in EXTRAS:
                raise


EXAMPLES = [
    example
    for module in modules()
    for example in doctest.DocTestFinder().find(module)
    if example.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example):
    if example.name.startswith("skfedfocal.privacy"):
        for extra in PRIVACY:
            pytest.importorskip(extra)
    if example.name.startswith("skfedfocal.onnx"):
        pytest.importorskip("skl2onnx")  # tests/exports runs these
    report = []
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    results = runner.run(example, out=report.append)
    assert results.attempted == len(example.examples)
    assert results.failed == 0, "".join(report)


def test_every_public_estimator_has_an_example():
    having = {example.name for example in EXAMPLES}
    public = [getattr(skfedfocal, name) for name in skfedfocal.__all__]
    estimators = [c for c in public if inspect.isclass(c) and issubclass(c, BaseEstimator)]
    assert {f"{c.__module__}.{c.__name__}" for c in estimators} <= having
