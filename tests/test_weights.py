"""Weights of rows have no unit: their scale changes nothing, and a row of weight 0 is not there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import federation, mlp64
from sklearn.base import clone

from skfedfocal import FederatedClassifier, FedFocalClassifierCV
from skfedfocal._class_weight import CLASS_WEIGHTS
from skfedfocal.aggregation import AGGREGATORS
from skfedfocal.losses import (
    LOSSES,
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    SampleDependentFocalLoss,
)
from skfedfocal.selection import SELECTIONS, CategoryCoverage

SIZES = [9, 4, 14, 6, 8]
X, y, CLIENTS = federation(SIZES)
y[(y == 2) & (np.arange(len(y)) % 3 > 0)] = 0  # a rare class, that some clients lack
WEIGHT = np.random.default_rng(0).choice([0.5, 1.0, 2.0, 3.0], len(y))

LOSSES_TO_TRY = [
    *(kind() for kind in LOSSES.values()),
    FocalLoss(2.0, 0.6),
    LogitAdjustedLoss(counts="local"),
    LDAMLoss(counts="local"),
    SampleDependentFocalLoss(),
]


@st.composite
def classifiers(draw):
    aggregation = draw(st.sampled_from(["mean", "mean", *sorted(AGGREGATORS)]))
    return FederatedClassifier(
        module=mlp64(hidden=(3,)),
        loss=draw(st.sampled_from(LOSSES_TO_TRY)),
        class_weight=draw(st.sampled_from([*sorted(CLASS_WEIGHTS), None, {2: 3.0}])),
        selection=draw(st.sampled_from([*sorted(SELECTIONS), CategoryCoverage("balance")])),
        aggregation=aggregation,
        client_gamma=draw(st.sampled_from([0.0, 1.0])) if aggregation == "mean" else 0.0,
        early_stopping=draw(st.booleans()),
        validation_fraction=0.3,
        n_iter_no_change=2,
        clients_per_round=draw(st.sampled_from([3, 1.0])),
        engine=draw(st.sampled_from(["loop", "vectorized"])),
        n_rounds=3,
        batch_size=5,
        random_state=draw(st.integers(0, 99)),
    )


def said(classifier, weight):
    fitted = clone(classifier).fit(X, y, sample_weight=weight, clients=CLIENTS)
    history = {k: v for k, v in fitted.history_.items() if k not in ("seconds", "round")}
    population = [fitted.class_prior_, fitted.class_weight_, fitted.decision_prior_]
    return [fitted.theta_, fitted.predict_proba(X), *population, *history.values()]


@settings(max_examples=16)
@given(classifiers(), st.sampled_from([-11, -3, 4, 20]))
def test_the_scale_of_weights_changes_no_bit(classifier, exponent):
    """By powers of two, which round nothing."""
    scaled = said(classifier, 2.0**exponent * WEIGHT)
    np.testing.assert_equal(scaled, said(classifier, WEIGHT))


@settings(max_examples=12)
@given(classifiers(), st.sampled_from([1 / len(y), 1.0, 1000.0]))
def test_equal_weights_are_none(classifier, weight):
    found, wanted = said(classifier, np.full(len(y), weight)), said(classifier, None)
    for one, other in zip(found, wanted, strict=True):
        if other is None:
            assert one is None
        else:
            np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-9)


@settings(max_examples=12)
@given(classifiers(), st.integers(0, 99), st.booleans())
def test_a_row_of_weight_zero_is_not_there(classifier, seed, whole_client):
    """Clients are numbered, and draw, as if the rows were left out: also the first of a client."""
    rng = np.random.default_rng(seed)
    keep = rng.random(len(y)) > 0.3
    keep[np.array([np.flatnonzero(y == c)[-1] for c in range(3)])] = True
    if whole_client:
        keep &= rng.integers(5) != CLIENTS
    if len(np.unique(y[keep])) < 3 or len(np.unique(CLIENTS[keep])) < 4:
        return
    found = clone(classifier).fit(X, y, sample_weight=keep.astype(float), clients=CLIENTS)
    left_out = clone(classifier).fit(X[keep], y[keep], clients=CLIENTS[keep])
    assert found.clients_.tolist() == left_out.clients_.tolist()
    np.testing.assert_allclose(found.theta_, left_out.theta_, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(found.client_sizes_, left_out.client_sizes_)
    np.testing.assert_equal(found.class_prior_, left_out.class_prior_)


def test_rows_of_weight_zero_are_in_no_fold():
    """Nor are they the first client's: a splitter sees neither them nor their owner."""
    seen = []

    class Watching:
        def split(self, rows, labels, groups):
            seen.append((len(rows), np.bincount(groups)))
            yield np.arange(0, len(rows), 2), np.arange(1, len(rows), 2)

        def get_n_splits(self, *args, **kwargs):
            return 1

    keep = np.arange(len(y)) % 4 != 3
    clf = FedFocalClassifierCV((3,), gammas=(0.0, 1.0), cv=Watching(), n_rounds=1, random_state=0)
    clf.fit(X, y, sample_weight=keep.astype(float), clients=CLIENTS)
    assert seen[0][0] == keep.sum()
    by_appearance = list(dict.fromkeys(CLIENTS[keep]))
    sizes = [(CLIENTS[keep] == client).sum() for client in by_appearance]
    np.testing.assert_array_equal(seen[0][1], sizes)


@pytest.mark.parametrize("scale", [1 / len(y), 1000.0])
def test_a_search_does_not_know_the_scale_either(scale):
    clf = FedFocalClassifierCV((3,), gammas=(0.0, 5.0), cv=2, n_rounds=4, random_state=0)
    plain = clone(clf).fit(X, y, sample_weight=WEIGHT, clients=CLIENTS)
    scaled = clone(clf).fit(X, y, sample_weight=scale * WEIGHT, clients=CLIENTS)
    np.testing.assert_array_equal(scaled.predict(X), plain.predict(X))
    for name in ("mean_test_score", "rank_test_score"):
        np.testing.assert_allclose(scaled.cv_results_[name], plain.cv_results_[name], rtol=1e-6)
