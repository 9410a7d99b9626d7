"""Over sites columns are encoded as in one process: by the same sums, to the same bits."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("flwr")

from skfedfocal import FedFocalClassifier
from skfedfocal.encodings import StandardEncoding
from skfedfocal.flower import SimulatedSites, federate

ENCODINGS = ["auto", "standard", StandardEncoding(3.0), "piecewise_linear"]
SITES = np.repeat(["north", "south", "west"], [30, 25, 35])
MODEL = FedFocalClassifier((6,), n_rounds=3, engine="loop", random_state=0)


def columns():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, len(SITES))
    return rng.normal(y[:, None], 1, (len(y), 4)) * [1, 1e3, 1e-2, 30] + [0, 1e4, 0, 5], y


def by_site(X, y):
    return {name: (X[name == SITES], y[name == SITES]) for name in np.unique(SITES)}


@pytest.mark.parametrize("numeric_encoding", ENCODINGS, ids=str)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_the_same_bits_as_in_one_process(numeric_encoding, early_stopping):
    X, y = columns()
    model = clone(MODEL).set_params(
        numeric_encoding=numeric_encoding, early_stopping=early_stopping, validation_fraction=0.3
    )
    there = federate(SimulatedSites(by_site(X, y)), clone(model))
    here = clone(model).fit(X, y, clients=SITES)
    assert_array_equal(there.theta_, here.theta_)
    assert repr(there.encoder_) == repr(here.encoder_)
    assert there.encoder_ is not None
    for name in here.history_.keys() - {"seconds"}:
        assert_array_equal(there.history_[name], here.history_[name])
    assert_array_equal(there.predict_proba(X), here.predict_proba(X))


def test_behind_a_scaler_columns_are_those_that_it_gives():
    X, y = columns()
    pipeline = make_pipeline(StandardScaler(), clone(MODEL))
    there = federate(SimulatedSites(by_site(X, y)), clone(pipeline))
    assert there[-1].encoder_ is None
    halfway = make_pipeline(StandardScaler(with_std=False), clone(MODEL))
    there = federate(SimulatedSites(by_site(X, y)), clone(halfway))
    here = halfway.fit(X, y, fedfocalclassifier__clients=SITES)
    assert there[-1].encoder_ is not None
    assert_allclose(there[-1].theta_, here[-1].theta_, atol=1e-6)


def test_training_goes_on_with_the_first_encoder():
    X, y = columns()
    model = clone(MODEL).set_params(numeric_encoding="piecewise_linear", warm_start=True)
    grid = SimulatedSites(by_site(X, y))
    there = federate(grid, federate(grid, clone(model)))
    here = clone(model).fit(X, y, clients=SITES).fit(X, y, clients=SITES)
    assert_array_equal(there.theta_, here.theta_)
    with pytest.raises(ValueError, match="numeric_encoding came to"):
        federate(grid, there.set_params(numeric_encoding="standard"))


def test_under_secure_sums_as_without():
    pytest.importorskip("cryptography")
    X, y = columns()
    model = clone(MODEL).set_params(numeric_encoding="piecewise_linear", secure_aggregation=True)
    there = federate(SimulatedSites(by_site(X, y)), clone(model))
    here = clone(model).fit(X, y, clients=SITES)
    assert_array_equal(there.encoder_.low, here.encoder_.low)
    assert_array_equal(there.theta_, here.theta_)


def test_sparse_rows_stay_as_they_are():
    X, y = columns()
    tables = {name: (sparse.csr_matrix(rows), of) for name, (rows, of) in by_site(X, y).items()}
    with pytest.warns(UserWarning, match="too large a scale"):
        there = federate(SimulatedSites(tables), clone(MODEL))
    assert there.encoder_ is None
    with pytest.raises(ValueError, match="sparse"):
        federate(SimulatedSites(tables), clone(MODEL).set_params(numeric_encoding="standard"))


def test_a_site_with_another_unit_is_named():
    X, y = columns()
    X[SITES == "west", 1] *= 1e4
    with pytest.warns(UserWarning, match=r"other units: 'west' in column 1"):
        federate(SimulatedSites(by_site(X, y)), clone(MODEL))
