"""ClientLayout and client ids: laws over generated federations, each against plain Python."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skfedfocal._data.clients import ClientLayout, ClientStats, id_column

# Few distinct ids of each kind, so that clients have several rows.
KINDS = [
    st.integers(-2, 3),
    st.sampled_from([2**63, 2**63 + 1, -1, 0]),
    st.sampled_from(["a", "b", "", "é", "a\0"]),
    st.sampled_from([b"a", b"a\0", b""]),
    st.booleans(),
    st.sampled_from([0.0, -0.0, 1e300, 5e-324, -np.inf]),
    st.sampled_from([datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)]),
    st.sampled_from([("a", 1), ("a", 2), ("b",), (), (("a",), 1)]),
    st.sampled_from([1, "1", 1.5, b"1", (1,), frozenset({1})]),
]
ids_of_any_kind = st.one_of([st.lists(kind, min_size=1, max_size=40) for kind in KINDS])


def object_array(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def by_hand(ids):
    """Rows of each client, clients in order of first appearance."""
    rows = {}
    for row, client in enumerate(ids):
        rows.setdefault(client, []).append(row)
    return rows


@given(ids_of_any_kind)
def test_rows_are_grouped_by_client_in_order_of_first_appearance(ids):
    layout = ClientLayout.from_ids(ids, len(ids))
    rows = by_hand(ids)
    assert list(layout.ids) == list(rows)
    assert layout.n_clients == len(rows)
    assert layout.sizes.tolist() == [len(of_client) for of_client in rows.values()]
    for k, of_client in enumerate(rows.values()):
        places = np.arange(layout.offsets[k], layout.offsets[k + 1])
        assert layout.rows(places).tolist() == of_client  # and each client's in their order


@given(ids_of_any_kind)
def test_ids_stay_what_they_are(ids):
    """Texts stay texts; a number may become an equal one of a type that holds all of them."""
    for client in ClientLayout.from_ids(ids, len(ids)).ids.tolist():
        assert client in ids
        assert isinstance(client, int | float) or type(client) in {type(one) for one in ids}


@given(ids_of_any_kind)
def test_lists_tuples_and_object_arrays_are_the_same(ids):
    listed = ClientLayout.from_ids(ids, len(ids))
    for form in (tuple(ids), object_array(ids), object_array(ids)[:, None]):
        other = ClientLayout.from_ids(form, len(ids))
        assert list(other.ids) == list(listed.ids)
        np.testing.assert_array_equal(other.codes(), listed.codes())


@given(ids_of_any_kind)
def test_codes_number_the_clients(ids):
    layout = ClientLayout.from_ids(ids, len(ids))
    assert [layout.ids[code] for code in layout.codes()] == ids
    assert sorted(set(layout.codes().tolist())) == list(range(layout.n_clients))
    np.testing.assert_array_equal(layout.codes()[layout.rows(np.arange(len(ids)))], layout.owners())


@given(ids_of_any_kind)
def test_renaming_changes_nothing_but_the_ids(ids):
    layout = ClientLayout.from_ids(ids, len(ids))
    names = [f"client {ids.index(client)}" for client in ids]
    renamed = ClientLayout.from_ids(names, len(ids))
    np.testing.assert_array_equal(renamed.offsets, layout.offsets)
    np.testing.assert_array_equal(renamed.codes(), layout.codes())


@given(st.lists(st.integers(1, 6), min_size=1, max_size=10))
def test_contiguous_rows_need_no_order(sizes):
    ids = np.repeat(np.arange(len(sizes))[::-1], sizes)
    layout = ClientLayout.from_ids(ids, len(ids))
    assert layout.order is None
    assert layout.sizes.tolist() == sizes
    np.testing.assert_array_equal(layout.rows(np.arange(len(ids))), np.arange(len(ids)))


@given(ids_of_any_kind)
def test_contiguous_and_mixed_rows_are_laid_out_alike(ids):
    """Sorting rows by client first gives the same clients, without an order to keep."""
    mixed = ClientLayout.from_ids(ids, len(ids))
    order = mixed.rows(np.arange(len(ids)))
    contiguous = ClientLayout.from_ids(object_array(ids)[order], len(ids))
    assert contiguous.order is None
    assert list(contiguous.ids) == list(mixed.ids)
    np.testing.assert_array_equal(contiguous.offsets, mixed.offsets)
    np.testing.assert_array_equal(contiguous.codes(), mixed.codes()[order])


@given(st.data(), st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 4))
def test_sums_by_client_and_label(data, ids, n_labels):
    n = len(ids)
    labels = np.array(data.draw(st.lists(st.integers(0, n_labels - 1), min_size=n, max_size=n)))
    values = np.array(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n)), float)
    layout = ClientLayout.from_ids(ids, n)
    rows = by_hand(ids)
    counts = layout.sum_by_client(None, labels, n_labels)
    sums = layout.sum_by_client(values, labels, n_labels)
    assert counts.shape == sums.shape == (len(rows), n_labels)
    assert counts.dtype == sums.dtype == np.float64
    for k, of_client in enumerate(rows.values()):
        for label in range(n_labels):
            here = [row for row in of_client if labels[row] == label]
            assert counts[k, label] == len(here)
            assert sums[k, label] == values[here].sum()
    np.testing.assert_array_equal(counts.sum(1), layout.sizes)


@given(st.data(), st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_restricting_keeps_clients_and_the_order_of_rows(data, ids):
    n = len(ids)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    layout = ClientLayout.from_ids(ids, n).restrict(keep)
    assert list(layout.ids) == list(by_hand(ids))  # also those that lost all rows
    for k, of_client in enumerate(by_hand(ids).values()):
        places = np.arange(layout.offsets[k], layout.offsets[k + 1])
        assert layout.rows(places).tolist() == [row for row in of_client if keep[row]]


def test_none_is_one_client():
    layout = ClientLayout.from_ids(None, 7)
    assert layout.ids.tolist() == [0]
    assert layout.sizes.tolist() == [7]
    assert layout.order is None


def test_many_clients_are_three_arrays():
    ids = np.random.default_rng(0).permutation(np.repeat(np.arange(100_000), 2))
    layout = ClientLayout.from_ids(ids, len(ids))
    assert layout.n_clients == 100_000
    assert (layout.sizes == 2).all()
    assert {type(part) for part in vars(layout).values()} == {np.ndarray}
    places = layout.offsets[:-1]
    np.testing.assert_array_equal(ids[layout.rows(places)], layout.ids)


@pytest.mark.parametrize("kind", ["category", "string", "Int64", "datetime64[ns]", "bool"])
def test_pandas_columns(kind):
    values = pd.Series([1, 0, 1, 1, 0])
    ids = values.astype(str).astype(kind) if kind == "string" else values.astype(kind)
    layout = ClientLayout.from_ids(ids, 5)
    assert list(layout.ids) == [ids[0], ids[1]]
    assert layout.codes().tolist() == [0, 1, 0, 0, 1]


@given(st.data(), ids_of_any_kind)
def test_missing_ids_are_counted_and_the_first_is_named(data, ids):
    missing = [None, float("nan"), np.datetime64("NaT"), pd.NaT, pd.NA, np.float32("nan")]
    rows = data.draw(st.sets(st.integers(0, len(ids) - 1), min_size=1))
    holed = [data.draw(st.sampled_from(missing)) if i in rows else v for i, v in enumerate(ids)]
    for form in (holed, object_array(holed)):
        with pytest.raises(ValueError, match="missing entries") as error:
            id_column(form)
        assert f"clients has {len(rows)} missing entries" in str(error.value)
        assert f"the first in row {min(rows)};" in str(error.value)


@pytest.mark.parametrize(
    "clients", [[[1, 2], [3, 4]], np.zeros((2, 1, 1)), 5, "site", {"a": 1}, np.zeros((0, 2))]
)
def test_other_shapes_are_refused(clients):
    with pytest.raises(ValueError, match="one client id per row"):
        id_column(clients)


@given(st.integers(0, 9), st.integers(0, 9))
def test_wrong_length_is_told_from_offsets(n_ids, n_samples):
    ids = np.arange(n_ids)
    if n_ids == n_samples > 0:
        assert ClientLayout.from_ids(ids, n_samples).n_clients == n_ids
    elif n_ids != n_samples:
        with pytest.raises(ValueError, match="not offsets"):
            ClientLayout.from_ids(ids, n_samples)


def test_stats_begin_unknown():
    stats = ClientStats(np.array([3.0, 5.0]))
    assert stats.n_clients == 2
    assert np.isnan(stats.recall).all()
    assert stats.label_counts is None


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_masked_id_in_a_list_is_missing(kind):
    with pytest.raises(ValueError, match=r"1 .*missing"):
        id_column(kind(["a", np.ma.masked, "b"]))
