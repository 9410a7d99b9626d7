"""Summaries are what the rows say, and what they withhold cannot be had from what they show."""

import itertools
from collections import defaultdict

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import sparse

from skfedfocal.describe import describe_clients


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.normal(50, 9, 120),
            "stage": rng.choice(["I", "II", "III"], 120),
            "sex": rng.integers(0, 2, 120),
        }
    )
    frame.loc[rng.choice(120, 60, replace=False), "age"] = np.nan
    y = rng.choice(["ill", "well"], 120)
    return frame, y, np.repeat(["oslo", "bergen"], 60)


def test_without_withholding_it_is_what_pandas_says(table):
    X, y, clients = table
    summary = describe_clients(X, y, clients, min_rows=1)
    for line, own in [
        (summary.clients["oslo"], clients == "oslo"),
        (summary.clients["bergen"], clients == "bergen"),
        (summary.overall, np.full(120, True)),
    ]:
        rows, labels = X[own], pd.Series(y[own])
        assert line["rows"] == own.sum()
        assert line["withheld"] == 0
        assert line["classes"] == labels.value_counts().to_dict()
        for name in ("age", "sex"):
            cells, expected = line["columns"][name], rows[name].describe()
            assert cells["missing"] == rows[name].isna().sum()
            for statistic in ("mean", "25%", "50%", "75%"):
                assert_allclose(cells[statistic], expected[statistic])
        counts = rows["stage"].value_counts()
        cells = line["columns"]["stage"]
        assert (cells["missing"], cells["distinct"]) == (0, 3)
        assert counts[cells["top"]] == cells["top rows"] == counts.max()


def test_kinds_of_tables_agree(table):
    X, y, clients = table
    reference = describe_clients(X, y, clients).as_dict()
    assert describe_clients(pl.from_pandas(X), y, clients).as_dict() == reference
    assert describe_clients(X.astype(object), y, clients).as_dict() == reference
    parts = {c: (X[clients == c], y[clients == c]) for c in ("oslo", "bergen")}
    assert describe_clients(parts).as_dict() == reference
    numbers = X[["sex"]].to_numpy()
    dense, thin = (describe_clients(kind(numbers), y) for kind in (np.array, sparse.csr_matrix))
    assert dense.as_dict() == thin.as_dict()
    nullable = X[["age", "sex"]].convert_dtypes()
    expected = describe_clients(X[["age", "sex"]], y, clients)
    assert describe_clients(nullable, y, clients).as_dict() == expected.as_dict()


def test_frame_and_text(table):
    X, y, clients = table
    clients = clients.copy()
    clients[:3] = "røst"
    summary = describe_clients(X, y, clients)
    frame = summary.to_frame()
    assert frame.index.tolist() == ["røst", "oslo", "bergen", "all"]
    assert frame.loc["bergen", ("rows", "")] == 60
    assert (
        frame.loc["bergen", ("age", "mean")] == summary.clients["bergen"]["columns"]["age"]["mean"]
    )
    assert frame.loc["røst"].drop(("withheld", "")).isna().all()
    assert frame.loc["all", ("rows", "")] == 117
    text = repr(summary).splitlines()
    assert text[1].split() == ["røst", "*", "*", "*", str(summary.clients["røst"]["withheld"])]
    assert text[2].split()[:2] == ["oslo", "57"]
    assert "fewer than 10 rows" in text[-1]


def test_columns_without_values_or_of_dates():
    days = pd.Series(pd.to_datetime(["2024-01-01", None, "2024-01-01", "2024-05-01"]))
    X = pd.DataFrame({"none": [np.nan] * 4, "day": days, "far": [np.inf, 1.0, 2.0, 3.0]})
    line = describe_clients(X, min_rows=1).overall
    assert line["columns"]["none"]["missing"] == 4
    assert np.isnan(line["columns"]["none"]["mean"])
    assert line["columns"]["day"] == {
        "missing": 1,
        "distinct": 2,
        "top": days[0],
        "top rows": 2,
    }
    assert line["columns"]["far"]["missing"] == 1
    assert line["columns"]["far"]["mean"] == 2
    assert line["classes"] == {}


@pytest.mark.parametrize("min_rows", [0, -1])
def test_invalid_min_rows(min_rows):
    with pytest.raises(ValueError, match="min_rows"):
        describe_clients([[1.0]], min_rows=min_rows)


# -- what is withheld --------------------------------------------------------------------------


@pytest.mark.parametrize("min_rows", [3, 4])
def test_withheld_counts_cannot_be_told_even_by_one_who_knows_the_rule(min_rows):
    """Of all counts that lead to the same summary, each withheld one takes several values."""
    alike = defaultdict(list)
    for counts in itertools.product(range(10), repeat=3):
        if not min_rows <= sum(counts) < 10:  # of these there are all
            continue
        y = np.append(np.repeat([0, 1, 2], counts), np.repeat([0, 1, 2], min_rows))
        clients = np.repeat([0, 1], [sum(counts), 3 * min_rows])  # one that has all labels
        line = describe_clients(np.zeros((len(y), 1)), y, clients, min_rows=min_rows)
        own = line.clients[0]["classes"]
        alike[repr((line.overall, line.clients))].append((counts, list(own.values())))
    assert len(alike) > 20
    for members in alike.values():
        for place, value in enumerate(members[0][1]):
            possible = {counts[place] for counts, _ in members}
            assert len(possible) > 1 if value is None else possible == {value}


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60),
    st.integers(1, 8),
)
def test_nothing_below_min_rows_is_shown_and_no_difference_is(rows, min_rows):
    y, clients = (np.array(column) for column in zip(*rows, strict=True))
    summary = describe_clients(np.zeros((len(y), 1)), y, clients, min_rows=min_rows)
    sums = defaultdict(int)
    for client, line in summary.clients.items():
        n_rows = (clients == client).sum()
        assert line["rows"] == (None if n_rows < min_rows else n_rows)
        shown = {c: n for c, n in line["classes"].items() if n is not None}
        if line["rows"] is None:
            assert not shown
            continue
        assert all(n == ((clients == client) & (y == c)).sum() for c, n in shown.items())
        assert all(n == 0 or n >= min_rows for n in shown.values())
        rest = line["rows"] - sum(shown.values())
        n_hidden = len(line["classes"]) - len(shown)
        assert (n_hidden, rest) == (0, 0) or (n_hidden > 1 and rest >= min_rows)
        for c, n in shown.items():
            sums[c] += n
    for c, total in summary.overall["classes"].items():
        assert total == sums[c] or (total is None and sums[c] == 0)


@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(0, 4))
def test_rows_of_a_withheld_client_change_nothing(seed, one, other):
    """So that no total minus the others can be of it."""
    rng = np.random.default_rng(seed)
    X, y, clients = rng.normal(size=(40, 2)), rng.integers(0, 2, 40), np.repeat([0, 1], 20)
    summaries = []
    for n in (one, other):
        more = rng.normal(size=(n + 1, 2)) * 1e3
        parts = np.vstack([X, more]), np.append(y, rng.integers(0, 5, n + 1))
        summaries.append(describe_clients(*parts, np.append(clients, [2] * (n + 1)), min_rows=6))
    assert summaries[0].overall == summaries[1].overall
    assert summaries[0].clients == summaries[1].clients
    assert summaries[0].clients[2]["rows"] is None
    assert describe_clients(X, y, clients, min_rows=6).clients == {
        client: summaries[0].clients[client] for client in (0, 1)
    }


@pytest.mark.parametrize(
    "column",
    [
        [0.0] * 17 + [1.0] * 3,  # a mean that is a count of three
        [0.0] * 17 + [np.nan] * 3,
        [np.nan] * 17 + [1.0] * 3,
        ["a"] * 17 + ["b"] * 3,
        ["a"] * 17 + [None] * 3,
        list("abcdefghijklmnopqrst"),
    ],
)
def test_a_column_that_is_about_few_rows_is_withheld(column):
    X = pd.DataFrame({"it": column * 2, "all": np.arange(40.0)})
    X.loc[20:, "it"] = column[0] if column[0] == column[0] else 2.0
    clients = np.repeat(["few", "others"], 20)
    summary = describe_clients(X, None, clients, min_rows=5)
    assert set(summary.clients["few"]["columns"]["it"].values()) == {None}
    assert None not in summary.clients["few"]["columns"]["all"].values()
    # The line of all is about the others alone.
    assert summary.overall["columns"]["it"] == summary.clients["others"]["columns"]["it"]
    assert summary.overall["columns"]["all"]["mean"] == 19.5
