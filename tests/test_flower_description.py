"""A look at sites is the look at their rows in one place, as far as it is shown."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("flwr")

from flwr.app import Context, RecordDict

from skfedfocal import FedFocalClassifier
from skfedfocal.describe import describe_clients
from skfedfocal.flower import (
    SimulatedSites,
    SiteError,
    describe_sites,
    export_app,
    make_client_app,
    make_server_app,
)
from skfedfocal.privacy import SecureAggregation


def grid_of(X, y, clients, **app):
    parts = {k: (X[clients == k], y[clients == k]) for k in np.unique(clients)}
    made = make_client_app(lambda config: parts[config["site"]], **{"description": True} | app)
    return SimulatedSites({str(k): {"site": k} for k in parts}, app=made)


@st.composite
def federations(draw):
    """Tables with gaps, constant and empty columns, of sites large and small."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.lists(st.integers(1, 30), min_size=1, max_size=4))
    n = sum(sizes)
    X = pd.DataFrame(
        {
            "age": rng.normal(50, 10, n).round(draw(st.integers(0, 9))),
            "beats": rng.integers(50, 50 + draw(st.integers(1, 9)), n),
            "pain": rng.choice(["none", "mild", "severe"][: draw(st.integers(1, 3))], n),
        }
    ).astype({"pain": object})
    clients = np.repeat(list("abcd")[: len(sizes)], sizes)
    X.loc[rng.random(n) < draw(st.sampled_from([0.0, 0.4])), ["age", "pain"]] = np.nan
    for column in draw(st.lists(st.sampled_from(["age", "pain"]), max_size=1)):
        X.loc[clients == "a", column] = np.nan  # never measured there
    y = rng.choice(["ill", "well", "unsure"][: draw(st.integers(1, 3))], n)
    return X, y, clients, draw(st.sampled_from([1, 2, 5, 10]))


@settings(max_examples=40)
@given(federations())
def test_lines_are_those_of_one_place(made):
    X, y, clients, min_rows = made
    ours = describe_sites(grid_of(X, y, clients, min_rows=1), min_rows=min_rows)
    theirs = describe_clients(X, y, clients, min_rows=min_rows)
    assert list(ours.clients) == list(theirs.clients)
    for client, line in theirs.clients.items():
        assert ours.clients[client]["rows"] == line["rows"]
        assert ours.clients[client]["classes"] == line["classes"]
        assert_same_cells(ours.clients[client]["columns"], line["columns"])
        assert ours.clients[client]["withheld"] == line["withheld"]
    assert {n: ours.overall[n] for n in ("rows", "classes")} == {
        n: theirs.overall[n] for n in ("rows", "classes")
    }
    there = {
        column: cells if "mean" in cells else cells | dict.fromkeys(["distinct", "top", "top rows"])
        for column, cells in theirs.overall["columns"].items()
    }
    assert_same_cells(ours.overall["columns"], there)


def assert_same_cells(ours, theirs):
    assert list(ours) == list(theirs)
    for column, cells in theirs.items():
        assert list(ours[column]) == list(cells)
        for name, value in cells.items():
            if isinstance(value, float):
                assert ours[column][name] == pytest.approx(value, rel=1e-12, nan_ok=True)
            else:
                assert ours[column][name] == value


def federation(n=60):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"age": rng.normal(50, 9, n), "pain": rng.choice(["dull", "none"], n)})
    return (
        X.astype({"pain": object}),
        np.array(["ill", "well"] * (n // 2)),
        np.repeat([*"abc"], n // 3),
    )


def test_dates_are_no_obstacle_and_reordered_columns_are_aligned():
    X, y, clients = federation()
    X["seen"] = pd.Timestamp("2026-01-31")
    parts = {k: (X[clients == k], y[clients == k]) for k in "abc"}
    parts["b"] = (parts["b"][0][["seen", "pain", "age"]], parts["b"][1])
    found = describe_sites(SimulatedSites(parts))
    wanted = describe_clients(X, y, clients)
    assert_same_cells(
        {"age": found.clients["b"]["columns"]["age"]},
        {"age": wanted.clients["b"]["columns"]["age"]},
    )
    assert found.to_frame().shape == wanted.to_frame().shape


def test_a_site_withholds_by_its_own_number_and_answers_only_where_its_app_says_so():
    X, y, clients = federation()
    shy = describe_sites(grid_of(X, y, clients, min_rows=15), min_rows=1)
    assert shy.clients == describe_clients(X, y, clients, min_rows=15).clients
    with pytest.raises(SiteError, match=r"\['a', 'b', 'c'\] do not describe .*description=True"):
        describe_sites(grid_of(X, y, clients, description=False))
    with pytest.raises(ValueError, match="min_rows must be"):
        describe_sites(grid_of(X, y, clients), min_rows=0)
    with pytest.raises(ValueError, match="has no noise and no mask"):
        make_client_app(description=True, secure_aggregation=SecureAggregation())
    words = X.assign(age="old")
    mixed = SimulatedSites({"a": (X, y), "b": (words, y)})
    with pytest.raises(SiteError, match="'age'"):
        describe_sites(mixed)


def test_an_app_describes_before_it_trains(tmp_path, capsys):
    X, y, clients = federation()
    X = X[["age"]] / 50
    target = tmp_path / "sites.json"
    app = make_server_app(
        FedFocalClassifier(n_rounds=1), save_to=tmp_path / "model", describe_to=target
    )
    app(grid_of(X, y, clients), Context(1, 0, {}, RecordDict(), {}))
    found = json.loads(target.read_text())
    assert found["clients"]["b"]["rows"] == 20
    assert found["all"]["columns"]["age"]["mean"] == pytest.approx(X["age"].mean())
    assert found["all"]["classes"] == {"ill": 30, "well": 30}
    assert "all shown" in capsys.readouterr().out
    options = {"save_to": "model.skf", "describe_to": "sites.json"}
    with pytest.raises(ValueError, match="described=True"):
        export_app(FedFocalClassifier(), tmp_path / "app", **options)
    folder = export_app(FedFocalClassifier(), tmp_path / "app", described=True, **options)
    client = next(folder.rglob("client.py")).read_text()
    assert "make_client_app(description=True, min_rows=10)" in client
