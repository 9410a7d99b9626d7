"""Rows in a mapped file: the pages that are announced are those of the rows."""

from __future__ import annotations

import contextlib
import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skfedfocal import FedFocalClassifier
from skfedfocal._data import mapped as _mapped
from skfedfocal._data.mapped import MappedRows


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
        ranges = MappedRows(mapping, start, row_bytes, True).ranges(np.array(rows, np.int64))
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
        with found.at_hand(np.arange(len(X))):
            pass


def test_a_fit_has_each_rounds_clients_at_hand_alone(path, monkeypatch):
    announced = []

    def at_hand(self, rows):
        announced.append(set(rows))
        return contextlib.nullcontext()

    monkeypatch.setattr(MappedRows, "at_hand", at_hand)
    X, clients = np.load(path, mmap_mode="r"), np.repeat(np.arange(50), 10)
    y = np.arange(500) % 2
    model = FedFocalClassifier(n_rounds=4, clients_per_round=3, random_state=0)
    model.fit(X, y, clients=clients)
    assert announced
    assert all(len(rows) <= 30 for rows in announced)
    assert len(set().union(*announced)) <= 4 * 30 + 16  # on which the last model is tried


class Recorder:
    """Stands for a mapping: notes the advice, and takes it or not."""

    def __init__(self, takes=True):
        self.takes = takes
        self.asked = []

    def __len__(self):
        return 100 * mmap.PAGESIZE

    def madvise(self, *advice):
        self.asked.append(advice)
        if not self.takes:
            raise OSError("not a file")


def test_pages_are_let_go_of_unless_they_can_be_written_to():
    for read_only in (True, False):
        mapping = Recorder()
        with MappedRows(mapping, 0, 100, read_only).at_hand(np.arange(3)):
            assert mapping.asked == [(mmap.MADV_WILLNEED, 0, mmap.PAGESIZE)]
        let_go = [advice for advice, *_ in mapping.asked[1:]]
        assert let_go == ([mmap.MADV_DONTNEED] if read_only else [])


def test_only_a_file_opened_for_reading_is_read_only(path):
    found = {mode: MappedRows.of(np.load(path, mmap_mode=mode)).read_only for mode in ("r", "c")}
    assert found == {"r": True, "c": False}


def test_changes_of_a_private_copy_stay(path):
    X = np.load(path, mmap_mode="c")
    X[:] = 7.0
    with MappedRows.of(X).at_hand(np.arange(len(X))):
        pass
    assert (np.asarray(X) == 7.0).all()


def test_advice_that_is_refused_is_no_error():
    mapping = Recorder(takes=False)
    with MappedRows(mapping, 0, 100, True).at_hand(np.arange(3)):
        assert mapping.asked == [(mmap.MADV_WILLNEED, 0, mmap.PAGESIZE)]


def test_other_rows_are_let_alone(path, monkeypatch):
    mapped = np.load(path, mmap_mode="r")
    assert MappedRows.of(mapped[:, :3]) is None
    assert MappedRows.of(np.array(mapped)) is None
    assert MappedRows.of([[1.0]]) is None
    monkeypatch.setattr(_mapped, "_LARGE", 1 << 20)
    assert MappedRows.of(mapped) is None
