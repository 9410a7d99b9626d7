"""Every fault ends as it is named, and leaves the estimator and the data as they were."""

import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from faults import CLIENTS, ERROR, FAULTS, MODEL, STOPS, WARNS, WORKS, X, outcome, y
from sklearn.base import clone


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.case)
@pytest.mark.filterwarnings("ignore")
def test_ends_as_named(fault, tmp_path):
    estimator, data = fault.estimator(), pickle.dumps((X, y, CLIENTS))
    before = copy.deepcopy(estimator.get_params())
    ends, message = outcome(fault, estimator, tmp_path)
    assert ends == fault.ends, message
    for word in fault.words:
        assert word in message
    assert pickle.dumps((X, y, CLIENTS)) == data
    if fault.ends == ERROR and not hasattr(estimator, "theta_"):
        fitted = [name for name in vars(estimator) if name.endswith("_")]
        assert not fitted
    if fault.ends in (WORKS, STOPS, WARNS) and hasattr(estimator, "theta_"):
        assert np.isfinite(estimator.theta_).all()
    assert set(before) == set(estimator.get_params())


def test_cases_differ():
    assert len({fault.case for fault in FAULTS}) == len(FAULTS)


def test_a_wrong_end_is_seen(tmp_path):
    fine = next(fault for fault in FAULTS if fault.ends == WORKS)
    assert outcome(fine, clone(MODEL), tmp_path) == (WORKS, "")


def test_the_page_has_every_case_and_its_end():
    page = (Path(__file__).parents[1] / "docs/faults.md").read_text(encoding="utf-8")
    page = page.partition("## Drawn at random")[0]
    rows = re.findall(r"^\| (.*?) \| (.*?) \| ", page, flags=re.M)
    wanted = [(fault.case, fault.ends) for fault in FAULTS]
    assert sorted(row for row in rows if row[0] != "what is wrong") == sorted(wanted)
