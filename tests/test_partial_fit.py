"""Rows that come call by call: what is known of them is known of all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import federation
from sklearn.base import clone

from skfedfocal import FederatedClassifier, FedFocalClassifier
from skfedfocal.selection import FocalSelection

X, y, CLIENTS = federation([12, 9, 14, 10, 8], n_classes=2)
SETTINGS = {"hidden_layer_sizes": (3,), "random_state": 0}


@pytest.mark.parametrize("class_weight", ["balanced", "effective", "estimated"])
def test_ten_calls_with_both_classes_and_one_with_one(class_weight):
    clf = FedFocalClassifier(**SETTINGS, class_weight=class_weight)
    for _ in range(10):
        clf.partial_fit(X, y, clients=CLIENTS)
    before = clf.class_prior_
    np.testing.assert_allclose(before, np.bincount(y) / len(y), atol=1e-6)
    ones = y == 0
    clf.partial_fit(X[ones], y[ones], clients=CLIENTS[ones])
    # The mean of the calls' counts.
    counts = (10 * np.bincount(y) + [ones.sum(), 0]) / 11
    np.testing.assert_allclose(clf.class_prior_, counts / counts.sum(), atol=1e-5)
    assert clf.predict_posterior(X)[:, 1].min() > 0
    assert (clf.class_weight_ > 0).all()


@settings(max_examples=20)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=5), st.booleans())
def test_counts_are_those_of_all_calls(seeds, weighted):
    """Whatever the parts: the mean over calls, each in its own rows."""
    clf = FederatedClassifier(**SETTINGS, class_weight="balanced")
    counts = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        here = rng.permutation(len(y))[: rng.integers(5, len(y))]
        weight = rng.uniform(0.5, 2, len(here)) if weighted else np.ones(len(here))
        clf.partial_fit(
            X[here], y[here], classes=[0, 1], clients=CLIENTS[here], sample_weight=weight
        )
        counts.append(np.bincount(y[here], weight, 2) * len(here) / weight.sum())
    mean = np.mean(counts, axis=0)
    np.testing.assert_allclose(clf.training_state_["label_counts"], mean, rtol=1e-12)
    np.testing.assert_allclose(clf.class_prior_, mean / mean.sum(), rtol=1e-12)


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_focal_selection_remembers_what_clients_said(engine):
    """So it is another training than a uniform one, and the same as without stages."""
    settings_ = {**SETTINGS, "clients_per_round": 2, "engine": engine, "client_gamma": 0.0}
    thetas = {}
    for selection in ("uniform", "focal"):
        clf = FedFocalClassifier(**settings_, selection=selection, n_rounds=12)
        straight = clone(clf).fit(X, y, clients=CLIENTS)
        for _ in range(12):
            clf.partial_fit(X, y, clients=CLIENTS)
        np.testing.assert_array_equal(clf.theta_, straight.theta_)
        thetas[selection] = clf.theta_
    assert not np.array_equal(thetas["focal"], thetas["uniform"])


def test_a_client_is_known_again_by_its_id():
    """Though other clients are there, or their order is another."""
    clf = FedFocalClassifier(**SETTINGS, selection="focal")
    names = np.array(["a", "b", "c", "d", "e"])[CLIENTS]
    clf.partial_fit(X, y, clients=names)
    told = dict(zip(clf.clients_.tolist(), clf.training_state_["recall"].tolist(), strict=True))
    assert len(set(told.values())) > 1
    assert not np.isnan(list(told.values())).any()
    some = np.isin(names, ["e", "b", "c"])
    others = np.where(names == "c", "new", names)[some][::-1]
    seen = []

    class Remembering(FocalSelection):
        def select(self, stats, n_selected, rng):
            seen.append(stats.recall.copy())
            return super().select(stats, n_selected, rng)

    clf.set_params(selection=Remembering())
    clf.partial_fit(X[some][::-1], y[some][::-1], clients=others)
    known = dict(zip(clf.clients_.tolist(), seen[0].tolist(), strict=True))
    assert known["e"] == told["e"]
    assert known["b"] == told["b"]
    assert np.isnan(known["new"])


@pytest.mark.parametrize(("before", "after"), [("fedavg", "fedadam"), ("fedadam", "fedavgm")])
def test_going_on_with_another_strategy_is_refused(federation, unchanged, before, after):
    """Its vectors are not those that the new one carries from round to round."""
    f = federation
    model = FedFocalClassifier(
        (3,), n_rounds=1, strategy=before, warm_start=True, random_state=0
    ).fit(f.X, f.y, clients=f.clients)
    model.set_params(strategy=after)
    with unchanged(model), pytest.raises(ValueError, match="another strategy"):
        model.fit(f.X, f.y, clients=f.clients)
