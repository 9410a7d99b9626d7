"""Rows in a mapped file: the pages that are announced are those of the rows."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skfedfocal import FedFocalClassifier
from skfedfocal.engines import _mapped
from skfedfocal.engines._mapped import MappedRows


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(_mapped, "_LARGE", 0)
    X = np.random.default_rng(0).normal(size=(500, 30))
    np.save(tmp_path / "X.npy", X)
    return tmp_path / "X.npy"


@given(
    start=st.integers(0, 3 * mmap.PAGESIZE),
    row_bytes=st.integers(1, 3 * mmap.PAGESIZE),
    rows=st.lists(st.integers(0, 200), max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_ranges_are_the_pages_of_the_rows_and_no_others(start, row_bytes, rows):
    size = start + 201 * row_bytes
    with mmap.mmap(-1, size) as mapping:
        ranges = MappedRows(mapping, start, row_bytes).ranges(np.array(rows, np.int64))
    announced = [page for lo, hi in ranges for page in range(lo, hi, mmap.PAGESIZE)]
    held = {
        byte // mmap.PAGESIZE * mmap.PAGESIZE
        for row in rows
        for byte in (
            *range(start + row * row_bytes, start + (row + 1) * row_bytes, mmap.PAGESIZE),
            start + (row + 1) * row_bytes - 1,
        )
    }
    assert announced == sorted(held)  # each once, in order
    assert all(lo % mmap.PAGESIZE == 0 and lo < hi <= size for lo, hi in ranges)


def test_rows_are_found_in_the_file(path):
    mapped = np.load(path, mmap_mode="r")
    for X in (mapped, np.asarray(mapped), mapped[7:], mapped[:100].reshape(100, 5, 6)):
        found = MappedRows.of(X)
        for row in (0, 9):
            begin = found.start + row * found.row_bytes
            stored = np.frombuffer(found.mapping, X.dtype, X[0].size, begin)
            np.testing.assert_array_equal(stored, X[row].ravel())
        found.announce(np.arange(len(X)))


def test_a_fit_announces_each_rounds_clients_alone(path, monkeypatch):
    announced = []
    monkeypatch.setattr(MappedRows, "announce", lambda self, rows: announced.append(set(rows)))
    X, clients = np.load(path, mmap_mode="r"), np.repeat(np.arange(50), 10)
    y = np.arange(500) % 2
    model = FedFocalClassifier(n_rounds=4, clients_per_round=3, random_state=0)
    model.fit(X, y, clients=clients)
    assert announced
    assert all(len(rows) <= 30 for rows in announced)
    assert len(set().union(*announced)) <= 4 * 30


def test_advice_that_is_refused_is_no_error():
    class Refusing:
        def __len__(self):
            return 100 * mmap.PAGESIZE

        def madvise(self, *advice):
            asked.append(advice)
            raise OSError("not a file")

    asked = []
    MappedRows(Refusing(), 0, 100).announce(np.arange(3))
    assert asked == [(mmap.MADV_WILLNEED, 0, mmap.PAGESIZE)]


def test_other_rows_are_let_alone(path, monkeypatch):
    mapped = np.load(path, mmap_mode="r")
    assert MappedRows.of(mapped[:, :3]) is None
    assert MappedRows.of(np.array(mapped)) is None
    assert MappedRows.of([[1.0]]) is None
    monkeypatch.setattr(_mapped, "_LARGE", 1 << 20)
    assert MappedRows.of(mapped) is None
