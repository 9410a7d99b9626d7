"""What docs/decisions.md says of the code holds, and its commands are there."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.decisions import FIGURES
from skfedfocal import FedFocalClassifier

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")
PARTS = ["Choice", "Figure", "Would change it"]


def test_every_record_has_its_parts_in_ten_lines():
    records = re.findall(r"^### (.*?)\n\n((?:[-` ].*\n)+)", PAGE, flags=re.M)
    assert len(records) == len(re.findall(r"^### ", PAGE, flags=re.M))
    for question, record in records:
        assert question.endswith("?"), question
        assert re.findall(r"^- \*\*(.*?)\.\*\* ", record, flags=re.M) == PARTS, question
        assert record.count("\n") <= 10, question


def test_figures_are_those_of_the_command():
    assert set(re.findall(r"\(`(\w+)`\)", PAGE)) == set(FIGURES)
    assert "2.000000 by sums of squares, 0.996157 by deviations" in PAGE
    found = re.search(r"squares (.*), by .* mean 0\.996157$", FIGURES["moments"]())
    assert found  # what sums of squares lose depends on how a machine adds up
    assert abs(float(found[1]) - 0.996157) > 0.5
    assert re.search(r" 53% as a sum .* 0% as a running mean$", FIGURES["calls"]())
    assert re.search(r" 59\.6 times .* 1\.0 times$", FIGURES["units"]())
    assert "0.018,\n  with 128 rows at random 0.149 (`recall`)" in PAGE
    assert re.search(r" 0\.149 at random, 0\.018 by class$", FIGURES["recall"]())


def test_tests_that_are_named_are_there():
    for path, name in re.findall(r"`(tests/\w+\.py)::(\w+)`", PAGE):
        assert f"\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8"), name


def test_estimated_prior_is_that_of_counts(federation):
    fits = [
        FedFocalClassifier(n_rounds=1, class_weight=how, random_state=0).fit(
            federation.X, federation.y, clients=federation.clients
        )
        for how in ("balanced", "estimated")
    ]
    np.testing.assert_allclose(fits[1].class_prior_, fits[0].class_prior_, atol=1e-6)


def test_a_warm_start_after_early_stopping_adds_no_round(federation):
    model = FedFocalClassifier(
        n_rounds=20,
        early_stopping=True,
        n_iter_no_change=2,
        tol=10.0,
        warm_start=True,
        random_state=0,
    )
    model.fit(federation.X, federation.y, clients=federation.clients)
    assert model.n_iter_ == 3  # the first is the best, and two more
    theta = model.theta_
    with pytest.warns(UserWarning, match="no round was added"):
        model.fit(federation.X, federation.y, clients=federation.clients)
    assert model.n_iter_ == 3
    np.testing.assert_array_equal(model.theta_, theta)


def test_history_does_not_count_what_is_asked_again(federation):
    """Label counts are asked for at each start; only the first is in the history."""
    data = {"X": federation.X, "y": federation.y, "clients": federation.clients}
    whole = FedFocalClassifier(n_rounds=4, random_state=0).fit(**data)
    staged = FedFocalClassifier(n_rounds=2, warm_start=True, random_state=0)
    staged.fit(**data).fit(**data)
    for column in ("bytes_up", "bytes_down"):
        np.testing.assert_array_equal(staged.history_[column], whole.history_[column])
    assert whole.history_["bytes_up"][0] > whole.history_["bytes_up"][1]


def test_equal_calls_have_the_bits_of_a_fit(federation):
    weight = np.random.default_rng(0).uniform(0.1, 3, len(federation.y))
    data = {"clients": federation.clients, "sample_weight": weight}
    whole = FedFocalClassifier(n_rounds=7, random_state=0)
    whole.fit(federation.X, federation.y, **data)
    by_call = FedFocalClassifier(random_state=0)
    for _ in range(7):
        by_call.partial_fit(federation.X, federation.y, **data)
    np.testing.assert_array_equal(by_call.class_prior_, whole.class_prior_)
    np.testing.assert_array_equal(by_call.theta_, whole.theta_)
