"""Preparation, training and evaluation of messy tables: over sites as in one process."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

pytest.importorskip("flwr")

from skfedfocal import ClientColumn, FedFocalClassifier
from skfedfocal.datasets import load_clients
from skfedfocal.flower import SimulatedSites, federate, load_table, make_client_app
from skfedfocal.flower import evaluate as evaluate_sites
from skfedfocal.metrics import evaluate
from skfedfocal.preprocessing import make_table_transformer

EXAMPLES = Path(__file__).parents[1] / "examples"
AS_THEY_ARE = {"target": "ill", "missing": "?", "dates": "days", "fold-case": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    write_tables = runpy.run_path(str(EXAMPLES / "messy_tables.py"))["write_tables"]
    return write_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def patients(folder):
    """In one table, as the tutorial has them."""
    data = load_clients(folder, target="ill", dates="days", client_name="hospital")
    return data.data, data.target, data.clients


def test_sites_read_what_is_read_in_one_place(folder, patients):
    X, y, hospitals = patients
    for path in folder.glob("*.csv"):
        table, labels, _ = load_table({"data-path": path, **AS_THEY_ARE})
        here = hospitals == path.stem
        assert set(table.columns) == set(X)
        for name, column in zip(table.columns, table.arrays, strict=True):
            wanted = X.loc[here, name].to_numpy()
            assert (column.dtype.kind == "O") == (wanted.dtype.kind == "O")
            assert pd.Series(column.astype(wanted.dtype)).equals(pd.Series(wanted))
        assert_array_equal(labels, y[here])


def test_the_job_over_sites_is_done(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hospitals_sites.py", str(folder), "ill"])
    done = runpy.run_path(str(EXAMPLES / "hospitals_sites.py"))
    said = capsys.readouterr().out
    assert "To the bit as with all files in one place: True" in said
    assert done["unseen"].n_rows.sum() == len(done["data"].target)
    assert done["unseen"].balanced_accuracy > 0.65
    assert f"threshold={done['unseen'].threshold(0.9).threshold}" in said


@pytest.mark.parametrize("from_files", [False, True])
def test_messy_tables_over_sites(folder, patients, from_files):
    """Bit for bit, with the engine that trains one client after the other as sites do."""
    X, y, hospitals = patients
    if from_files:
        sites = {path.stem: {"data-path": path} | AS_THEY_ARE for path in folder.glob("*.csv")}
        grid = SimulatedSites(sites, app=make_client_app(evaluation="own"))
    else:
        each = {name: hospitals == name for name in hospitals.unique()}
        grid = SimulatedSites({name: (X[rows], y[rows]) for name, rows in each.items()})
    classifier = FedFocalClassifier(n_rounds=3, engine="loop", random_state=0)
    pipeline = make_pipeline(make_table_transformer(), classifier)
    ours = federate(grid, clone(pipeline))
    theirs = ClientColumn(pipeline, "hospital").fit(X.assign(hospital=hospitals), y).estimator_
    assert_array_equal(ours[-1].theta_, theirs[-1].theta_)
    assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    assert list(map(str, ours[0].get_feature_names_out())) == list(
        theirs[0].get_feature_names_out()
    )
    judged = evaluate_sites(grid, ours, by_site=from_files, min_rows=1)
    wanted = evaluate(theirs, X, y, hospitals, by_client=True)
    assert_array_equal(judged.sums, wanted.sums)
    for site, own in judged.clients.items():
        assert_array_equal(own.sums, wanted.clients[site].sums)
    assert len(judged.clients) == (len(wanted.clients) if from_files else 0)
    assert np.isfinite(judged.log_loss)
