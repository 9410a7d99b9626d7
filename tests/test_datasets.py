"""Federations drawn at random: each parameter does what it says, and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import norm
from sklearn.utils._param_validation import InvalidParameterError

from skfedfocal.datasets import make_federation

repeatable = settings(deadline=None, derandomize=True, max_examples=60, database=None)


def table(y, clients, n_clients, n_classes):
    """Rows by client and class."""
    counts = np.zeros((n_clients, n_classes), int)
    np.add.at(counts, (clients, y), 1)
    return counts


@repeatable
@given(st.data())
def test_every_row_has_a_class_and_a_client_and_each_of_them_a_row(data):
    n_clients = data.draw(st.integers(1, 30))
    n_classes = data.draw(st.integers(2, 12))
    n_samples = data.draw(st.integers(max(n_clients, n_classes), 400))
    arguments = {
        "n_features": data.draw(st.integers(1, 5)),
        "n_clients": n_clients,
        "n_classes": n_classes,
        "imbalance": data.draw(st.floats(1, 1e4)),
        "label_skew": data.draw(st.sampled_from([0.0, 0.1, 2.0, 1e6])),
        "size_skew": data.draw(st.sampled_from([0.0, 0.1, 2.0, 1e6])),
        "translation": data.draw(st.sampled_from([0.0, 1.0])),
        "scaling": data.draw(st.sampled_from([0.0, 0.2])),
        "rotation": data.draw(st.sampled_from([0.0, 1.0])),
        "random_state": data.draw(st.integers(0, 10)),
    }
    X, y, clients = make_federation(n_samples, **arguments)
    assert X.shape == (n_samples, arguments["n_features"])
    assert np.isfinite(X).all()
    counts = table(y, clients, n_clients, n_classes)
    assert counts.sum() == n_samples
    assert (counts.sum(0) > 0).all()
    assert (counts.sum(1) > 0).all()
    again = make_federation(n_samples, **arguments)
    for one, two in zip((X, y, clients), again, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("imbalance", [1.0, 7.0, 100.0, [0.05, 0.9, 0.05, 0.0 + 1e-9]])
def test_classes_have_the_shares_asked_for(imbalance):
    if isinstance(imbalance, list):
        imbalance = np.array(imbalance) / sum(imbalance)
        shares = imbalance
    else:
        shares = imbalance ** -(np.arange(4) / 3)
        shares /= shares.sum()
    for n_samples in (400, 4001, 40_000):
        _, y, _ = make_federation(n_samples, n_classes=4, imbalance=imbalance, random_state=0)
        counts = np.bincount(y, minlength=4)
        # Rounding by less than a row, and a row for a class that would have none.
        assert np.abs(counts - n_samples * shares).max() <= 1 + (shares < 1e-6).any()


def skew_of(y, clients, n_clients):
    """Mean squared deviation of the clients' class shares from those of all."""
    counts = table(y, clients, n_clients, y.max() + 1)
    shares = counts / counts.sum(1, keepdims=True)
    return np.average((shares - np.bincount(y) / len(y)) ** 2, weights=counts.sum(1), axis=0).sum()


def test_label_skew_grows_with_its_parameter():
    means = []
    for label_skew in (0.0, 0.1, 0.5, 2.0, 10.0, 1000.0):
        drawn = [
            make_federation(3000, 2, 10, 5, label_skew=label_skew, imbalance=4, random_state=s)
            for s in range(10)
        ]
        means.append(np.mean([skew_of(y, clients, 10) for _, y, clients in drawn]))
    assert means == sorted(means)
    assert means[0] < 0.01  # chance alone
    shares = 4 ** -(np.arange(5) / 4)
    most = 1 - np.sum((shares / shares.sum()) ** 2)  # where every client has one class alone
    assert most / 2 < means[-1] < most


@pytest.mark.parametrize("label_skew", [0.2, 1.0])
@pytest.mark.parametrize("size_skew", [0.0, 1.0])
def test_shares_of_a_class_have_the_moments_of_the_dirichlet_law(label_skew, size_skew):
    """Given the sizes, the law has mean w and variance w (1 - w) / (K / label_skew + 1)."""
    n_clients, n_samples = 6, 6000
    z = []
    for seed in range(200):
        common = {"n_features": 1, "n_clients": n_clients, "n_classes": 2, "random_state": seed}
        _, _, even = make_federation(n_samples, size_skew=size_skew, **common)
        _, y, clients = make_federation(
            n_samples, size_skew=size_skew, label_skew=label_skew, **common
        )
        w = np.bincount(even, minlength=n_clients) / n_samples
        shares = table(y, clients, n_clients, 2) / np.bincount(y)
        variance = w * (1 - w) / (n_clients / label_skew + 1)
        z.append((shares - w[:, None]) / np.sqrt(variance)[:, None])
    z = np.array(z)[..., np.newaxis]
    assert np.abs(z.mean(0)).max() < 4.5 / np.sqrt(200)
    assert np.mean(z**2) == pytest.approx(1, abs=0.15)


def test_sizes_grow_apart_with_size_skew_alone():
    spread = []
    for size_skew in (0.0, 0.1, 1.0, 10.0):
        sizes = [
            np.bincount(make_federation(2000, 1, 20, size_skew=size_skew, random_state=s)[2])
            for s in range(10)
        ]
        spread.append(np.mean([s.std() / s.mean() for s in sizes]))
    assert spread[0] == 0
    assert spread == sorted(spread)
    _, y, clients = make_federation(20_000, 1, 5, size_skew=1.0, random_state=0)
    assert skew_of(y, clients, 5) < 0.01


@pytest.mark.parametrize(("n_classes", "n_features"), [(2, 1), (3, 2), (5, 4), (5, 30)])
def test_centers_lie_class_sep_apart(n_classes, n_features):
    drawn = make_federation(
        50, n_features, 3, n_classes, class_sep=2.5, return_X_y=False, random_state=0
    )
    np.testing.assert_allclose(pdist(drawn.centers), 2.5)


def test_centers_without_room_lie_on_a_sphere():
    drawn = make_federation(50, 2, 3, 7, class_sep=2.0, return_X_y=False, random_state=0)
    np.testing.assert_allclose(np.linalg.norm(drawn.centers, axis=1), np.sqrt(2))
    assert pdist(drawn.centers).min() > 0


def test_two_even_classes_are_told_apart_as_well_as_the_theory_says():
    n = 40_000
    drawn = make_federation(n, 6, 3, 2, class_sep=2.0, return_X_y=False, random_state=1)
    distances = ((drawn.data[:, None] - drawn.centers) ** 2).sum(-1)
    error = np.mean(distances.argmin(1) != drawn.target)
    expected = norm.cdf(-1.0)
    assert abs(error - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


def test_shift_is_the_formula_on_the_same_rows():
    common = {"n_samples": 300, "n_features": 5, "n_clients": 4, "random_state": 3}
    X, y, clients = make_federation(**common)
    drawn = make_federation(**common, translation=2.0, scaling=0.3, rotation=1.0, return_X_y=False)
    np.testing.assert_array_equal(drawn.target, y)
    np.testing.assert_array_equal(drawn.clients, clients)
    for k in range(4):
        turn = np.eye(5)
        c, s = np.cos(drawn.angles[k]), np.sin(drawn.angles[k])
        for j in (0, 2):
            turn[j : j + 2, j : j + 2] = [[c, -s], [s, c]]
        expected = X[clients == k] * drawn.scales[k] @ turn.T + drawn.translations[k]
        np.testing.assert_allclose(drawn.data[clients == k], expected)
    assert (np.abs(drawn.angles) <= 1).all()


def test_shift_grows_with_its_parameters():
    common = {"n_features": 4, "n_clients": 500, "n_samples": 500, "random_state": 0}
    for tau in (0.5, 2.0):
        drawn = make_federation(**common, translation=tau, return_X_y=False)
        assert drawn.translations.std() == pytest.approx(tau, rel=0.1)
        drawn = make_federation(**common, scaling=tau, return_X_y=False)
        assert np.log(drawn.scales).std() == pytest.approx(tau, rel=0.1)
        drawn = make_federation(**common, rotation=tau, return_X_y=False)
        assert drawn.angles.std() == pytest.approx(tau / np.sqrt(3), rel=0.1)
    drawn = make_federation(**common, return_X_y=False)
    assert not drawn.translations.any()
    assert (drawn.scales == 1).all()
    assert not drawn.angles.any()


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"translation": 1.0}, {"target", "clients", "centers"}),
        ({"label_skew": 1.0}, {"target", "centers", "data"}),
        ({"size_skew": 1.0}, {"target", "centers", "data"}),
        ({"class_sep": 9.0}, {"target", "clients"}),
        ({"n_clients": 3}, {"target", "centers", "data"}),
        ({"imbalance": 5.0}, {"centers", "clients"}),
    ],
)
def test_a_parameter_changes_nothing_else(changed, kept):
    before = make_federation(200, random_state=0, return_X_y=False)
    after = make_federation(200, random_state=0, return_X_y=False, **changed)
    same = {
        name
        for name in ("data", "target", "clients", "centers")
        if np.array_equal(before[name], after[name])
    }
    assert same == kept


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"imbalance": 0.5}, InvalidParameterError, "'imbalance'"),
        ({"imbalance": np.inf}, InvalidParameterError, "'imbalance'"),
        ({"label_skew": -1}, InvalidParameterError, "'label_skew'"),
        ({"rotation": 4.0}, InvalidParameterError, "'rotation'"),
        ({"n_classes": 1}, InvalidParameterError, "'n_classes'"),
        ({"imbalance": [0.5, 0.5]}, ValueError, "3 positive shares.*add up to 1"),
        ({"imbalance": [0.5, 0.6, -0.1]}, ValueError, "3 positive shares"),
        ({"imbalance": [0.5, 0.4, 0.2]}, ValueError, "add up to 1"),
        ({"n_samples": 5}, ValueError, "n_clients=10 needs as many rows but n_samples=5"),
        ({"n_samples": 20, "n_classes": 30}, ValueError, "n_classes=30 needs as many rows"),
    ],
)
def test_wrong_parameters_are_named(wrong, error, message):
    with pytest.raises(error, match=message):
        make_federation(**wrong)
