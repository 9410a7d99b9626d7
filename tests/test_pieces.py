"""What is done a piece at a time, for memory's sake, is what is done at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import federation

from skfedfocal import FedFocalClassifier
from skfedfocal._data import clients as clients_module
from skfedfocal._data import digest as digest_module
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.digest import digest
from skfedfocal.engines import _engine, _evaluate

PIECES = st.integers(1, 5)
IDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), min_size=1, max_size=30)


@given(IDS, PIECES, st.booleans())
def test_layout(ids, size, as_objects):
    ids = np.array(ids, object) if as_objects else np.array(ids)
    rows = {c: np.flatnonzero(ids == c).tolist() for c in dict.fromkeys(ids.tolist())}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients_module, "_ROWS_AT_A_TIME", size)
        layout = ClientLayout.from_ids(ids, len(ids))
        assert list(layout.ids) == list(rows)
        for k, wanted in enumerate(rows.values()):
            places = np.arange(layout.offsets[k], layout.offsets[k + 1])
            assert layout.rows(places).tolist() == wanted


@given(IDS, PIECES, st.booleans(), st.integers(0, 99))
def test_sums_by_client(ids, size, weighted, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, len(ids))
    values = rng.integers(1, 9, len(ids)).astype(float) if weighted else None
    layout = ClientLayout.from_ids(ids, len(ids))
    wanted = np.zeros((layout.n_clients, 3))
    np.add.at(wanted, (layout.codes(), labels), 1.0 if values is None else values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients_module, "_ROWS_AT_A_TIME", size)
        np.testing.assert_array_equal(layout.sum_by_client(values, labels, 3), wanted)


@given(IDS, PIECES, st.integers(0, 999))
def test_a_hash_sees_every_row(ids, size, seed):
    rng = np.random.default_rng(seed)
    n = len(ids)
    layout = ClientLayout.from_ids(ids, n)
    X, codes, weight = rng.normal(size=(n, 2)), rng.integers(0, 2, n), rng.uniform(1, 2, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digest_module, "_ROWS_AT_A_TIME", size)
        hashed = digest(X, codes, weight, layout)
    assert hashed == digest(X, codes, weight, layout)
    row = rng.integers(n)
    here = np.arange(n) == row
    for changed in (
        (X + 1e-9 * here[:, None], codes, weight),
        (X, np.where(here, 1 - codes, codes), weight),
        (X, codes, weight + 1e-9 * here),
        (X, codes, None),
    ):
        assert digest(*changed, layout) != hashed


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_clients_that_are_asked_in_turns(monkeypatch, engine):
    X, y, clients = federation([9, 4, 14, 6, 8])
    clf = FedFocalClassifier(
        (3,), engine=engine, early_stopping=True, n_rounds=3, random_state=0, selection="focal"
    )
    wanted = clf.fit(X, y, clients=clients).theta_
    losses, n_bytes = clf.history_["validation_loss"], clf.history_["bytes_up"]
    monkeypatch.setattr(_engine, "_ASKED_TOGETHER", 2)
    monkeypatch.setattr(_evaluate, "_SEGMENT_VALUES", 1)
    np.testing.assert_allclose(clf.fit(X, y, clients=clients).theta_, wanted, atol=1e-6)
    np.testing.assert_allclose(clf.history_["validation_loss"], losses, rtol=1e-6)
    np.testing.assert_array_equal(clf.history_["bytes_up"], n_bytes)
