"""Class frequencies where some clients may lie: what their label counts are believed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skfedfocal import FedFocalClassifier
from skfedfocal._disclosure import LABEL_COUNTS
from skfedfocal._training.parts import resolve_parts
from skfedfocal.aggregation import Bucketing, GeometricMedian, Krum, TrimmedMean
from skfedfocal.aggregation._aggregator import rounded_up
from skfedfocal.aggregation._counts import believed_counts
from skfedfocal.losses import CrossEntropyLoss


@settings(max_examples=200)
@given(
    honest=st.lists(st.integers(0, 50), min_size=5, max_size=20),
    lies=st.lists(st.integers(0, 10**6), max_size=9),
    bad_share=st.sampled_from([0.1, 0.2, 0.3, 0.45]),
)
def test_liars_cannot_make_a_class_look_more_frequent(honest, lies, bad_share):
    """A second class, of which everybody has one row, says what counts are believed of."""
    while len(lies) > rounded_up(bad_share, len(honest) + len(lies)):
        lies = lies[1:]
    of_all = np.array([*honest, *lies], float)
    n_bad = rounded_up(bad_share, len(of_all))
    believed = believed_counts(np.stack([of_all, np.ones_like(of_all)], 1), bad_share)
    assert believed[1] == len(of_all) - n_bad
    assert (believed[0] > 0) == (of_all > 0).any()
    if np.count_nonzero(honest) > n_bad:
        assert believed[0] <= sum(honest)
        # Nor can they take more from it than as many of its largest holders have.
        assert believed[0] >= np.sort(honest)[: len(honest) - n_bad].sum()


def test_counts_of_honest_clients_that_are_alike_are_all_believed():
    counts = np.tile([30.0, 10.0, 1.0], (20, 1))
    believed = believed_counts(counts, 0.3)
    np.testing.assert_allclose(believed / believed.sum(), counts[0] / counts[0].sum())


def test_a_class_that_few_clients_have_is_not_lost():
    counts = np.zeros((20, 2))
    counts[:, 0], counts[3, 1], counts[4, 1], counts[5, 1] = 50, 7, 9, 40
    np.testing.assert_array_equal(believed_counts(counts, 0.2)[1], 9)  # of four nobody can tell


@pytest.mark.parametrize(
    ("aggregation", "share"),
    [
        ("mean", 0.0),
        (Krum(0.1), 0.1),
        (TrimmedMean(0.25), 0.25),
        (Bucketing(TrimmedMean(0.4)), 0.2),
        (Bucketing(GeometricMedian(), size=3), 0.1),
        ("median", 0.3),
    ],
)
def test_a_robust_training_weighs_classes_by_counts_that_are_believed(aggregation, share):
    """Two of ten clients call their rows by the rare label: its weight is about what it was."""
    rng = np.random.default_rng(0)
    X, clients = rng.normal(size=(1000, 3)), np.arange(1000) % 10
    y = (rng.random(1000) < 0.05).astype(int)
    settings_ = {"n_rounds": 1, "client_gamma": 0, "random_state": 0, "aggregation": aggregation}
    flipped = np.where(clients < 2, 1 - y, y)
    weights = [
        FedFocalClassifier((3,), **settings_).fit(X, labels, clients=clients).class_weight_
        for labels in (y, flipped)
    ]
    (common, rare), (_, rare_flipped) = weights
    assert rare / common > 5
    assert (rare_flipped > 0.7 * rare) == (share >= 0.2)
    parts = resolve_parts(FedFocalClassifier((3,), **settings_), CrossEntropyLoss(), "balanced")
    assert (LABEL_COUNTS in parts.discloses["aggregation"]) == (share > 0)
