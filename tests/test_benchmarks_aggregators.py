"""The benchmark of robust aggregation measures what it says."""

from __future__ import annotations

import pytest

pytest.importorskip("benchmarks.aggregators", reason="not part of the source distribution")

from benchmarks.aggregators import AGGREGATORS, recalls


def test_one_clients_update_is_less_than_the_mean_of_all():
    mean, krum = (recalls(AGGREGATORS[name], seed=0) for name in ("mean", "Krum"))
    assert all(0 <= recall <= 1 for recall in (*mean, *krum))
    assert mean[1] > krum[1]
    assert mean == recalls(AGGREGATORS["mean"], seed=0)
