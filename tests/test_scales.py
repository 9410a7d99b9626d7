"""Columns that are not scaled: no training ends at chance without a word."""

import re
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.preprocessing import StandardScaler

from skfedfocal import FedFocalClassifier, dirichlet_partition

SETS = {
    "cancer": load_breast_cancer,
    "wine": load_wine,
    "iris": load_iris,
    "digits": load_digits,
}
every = pytest.mark.parametrize("name", SETS)


def warned(X, y, **params):
    """The fitted model, and whether a warning spoke of scale."""
    clients = dirichlet_partition(y, 5, random_state=0)
    model = FedFocalClassifier(n_rounds=15, random_state=0, **params)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y, clients=clients)
    return model, [str(w.message) for w in caught if "too large a scale" in str(w.message)]


@every
@pytest.mark.parametrize("factor", [1.0, 1e3])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 5.0])
def test_a_model_that_decides_for_one_class_is_never_silent(name, factor, gamma):
    X, y = SETS[name](return_X_y=True)
    model, words = warned(X * factor, y, gamma=gamma)
    assert words or len(np.unique(model.predict(X * factor))) > 1


@every
@pytest.mark.parametrize("gamma", [0.0, 1.0, 5.0])
def test_scaled_columns_are_never_warned_of(name, gamma):
    X, y = SETS[name](return_X_y=True)
    _, words = warned(StandardScaler().fit_transform(X), y, gamma=gamma)
    assert not words


def test_the_columns_are_named():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    y = (X[:, 0] > 0).astype(int)
    X[:, 2] = 1e5 + 1e4 * X[:, 2]
    frame = pd.DataFrame(X, columns=["age", "sex", "income", "dose"])
    _, (words,) = warned(frame, y, numeric_encoding=None)
    assert "'income' (about 1." in words
    assert not re.search("age|sex|dose", words)
    _, (words,) = warned(X, y, numeric_encoding=None)
    assert "scale, 2 (about 1." in words
