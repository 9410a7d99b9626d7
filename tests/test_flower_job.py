"""Preparation, training and evaluation of messy tables: over sites as in one process."""

import runpy
from pathlib import Path

import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline

pytest.importorskip("flwr")

from skfedfocal import ClientColumn, FedFocalClassifier
from skfedfocal.datasets import load_clients
from skfedfocal.flower import SimulatedSites, federate
from skfedfocal.flower import evaluate as evaluate_sites
from skfedfocal.metrics import evaluate
from skfedfocal.preprocessing import (
    FederatedOneHotEncoder,
    FederatedSimpleImputer,
    FederatedStandardScaler,
)

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_messy_tables_over_sites(tmp_path):
    """Bit for bit, with the engine that trains one client after the other as sites do."""
    write_tables = runpy.run_path(str(EXAMPLES / "messy_tables.py"))["write_tables"]
    data = load_clients(write_tables(tmp_path), target="ill", dates="days", client_name="hospital")
    X, y = data.data, data.target.to_numpy()
    texts = [name for name in X if X[name].dtype == object]
    assert len(texts) == 2
    numbers = make_pipeline(FederatedSimpleImputer(add_indicator=True), FederatedStandardScaler())
    columns = make_column_transformer(
        (FederatedOneHotEncoder(handle_unknown="ignore"), texts), remainder=numbers
    )
    classifier = FedFocalClassifier(n_rounds=3, engine="loop", random_state=0)
    pipeline = make_pipeline(columns, classifier)
    here = data.clients.to_numpy()
    sites = {name: (X[here == name], y[here == name]) for name in data.clients.unique()}
    ours = federate(SimulatedSites(sites), clone(pipeline))
    theirs = ClientColumn(pipeline, "hospital").fit(X.assign(hospital=here), y).estimator_
    assert_array_equal(ours[-1].theta_, theirs[-1].theta_)
    assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    judged = evaluate_sites(SimulatedSites(sites), ours, min_rows=1)
    # Probabilities of rows in other blocks may differ in their last bit.
    assert_allclose(judged.sums, evaluate(theirs, X, y, here).sums, rtol=1e-6)
