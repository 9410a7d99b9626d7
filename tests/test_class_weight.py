"""Class weights by themselves: their formulas, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from skfedfocal import FedFocalClassifier
from skfedfocal._class_weight import Balanced, ByLabel, EffectiveNumber
from skfedfocal._sklearn import InvalidParameterError

CLASSES = np.array(["a", "b", "c"])
counts = st.lists(st.integers(0, 5000), min_size=2, max_size=6).filter(any)


@given(counts)
def test_balanced_is_scikit_learns(counts):
    found = Balanced().weights(np.array(counts, float), np.arange(len(counts)))
    y = np.repeat(np.arange(len(counts)), counts)
    present = np.unique(y)
    expected = compute_class_weight("balanced", classes=present, y=y)
    np.testing.assert_allclose(found[present], expected)


@given(counts, st.sampled_from([0.0, 0.5, 0.9, 0.999]))
def test_effective_numbers_are_the_published_ones(counts, beta):
    counts = np.array(counts, float)
    found = EffectiveNumber(beta).weights(counts, np.arange(len(counts)))
    there = counts > 0
    published = (1 - beta) / (1 - beta ** counts[there])
    np.testing.assert_allclose(found[there] / found[there][0], published / published[0])
    np.testing.assert_allclose(found @ counts, counts.sum())  # rows weigh 1 on average
    assert (found[~there] == 0).all()


@pytest.mark.parametrize(
    "given", [{"a": 1j}, {"a": [1.0]}, {"a": "1"}, {"a": -1.0}, {"a": np.nan}, {"b": np.inf}]
)
def test_what_is_no_weight_is_refused(given):
    with pytest.raises(InvalidParameterError, match="finite weights of at least 0"):
        ByLabel(given).check_params()


@pytest.mark.parametrize(
    ("given", "which"),
    [
        ({"a": 0, "b": 0, "c": 0}, "every class 0"),
        ({"a": 0, "b": 0}, "every class but one 0"),
        ({"a": 0, "b": 2.0, "c": 0}, "every class but one 0"),
    ],
)
def test_weights_that_leave_nothing_to_tell_apart_are_refused(given, which):
    ByLabel(given).check_params()
    with pytest.raises(ValueError, match=which):
        ByLabel(given).weights(None, CLASSES)


def test_given_weights_are_by_label_and_one_where_none_is_given():
    found = ByLabel({"c": 5.0, "a": 0}).weights(None, CLASSES)
    np.testing.assert_array_equal(found, [0.0, 1.0, 5.0])


def test_labels_that_do_not_occur_are_refused_unless_all_that_occur_are_given():
    with pytest.raises(ValueError, match=r"labels \['d'\] that are not among"):
        ByLabel({"a": 1.0, "d": 2.0}).weights(None, CLASSES)
    every = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    np.testing.assert_array_equal(ByLabel(every).weights(None, CLASSES), [1.0, 2.0, 3.0])


@pytest.mark.parametrize(("first", "last"), [(True, False), (False, True), (True, True)])
def test_estimated_frequencies_need_the_bias_of_the_last_layer_alone(first, last):
    X = np.random.default_rng(0).normal(size=(60, 4))
    y, clients = np.arange(60) % 3, np.arange(60) % 2
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 5, bias=first), torch.nn.Tanh(), torch.nn.Linear(5, 3, bias=last)
    )
    clf = FedFocalClassifier(module=module, class_weight="estimated", n_rounds=1)
    if not last:
        with pytest.raises(ValueError, match=r"must end in nn\.Linear with a bias"):
            clf.fit(X, y, clients=clients)
        return
    prior = clf.fit(X, y, clients=clients).class_prior_
    np.testing.assert_allclose(prior, np.full(3, 1 / 3), atol=0.05)
