"""What all tests share: one thread, reproducible examples, and a small imbalanced federation."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import settings
from sklearn.pipeline import Pipeline

from skfedfocal import ClientColumn

# Splitting the tiny products of these tests over threads would only slow them down.
torch.set_num_threads(1)

# The same examples in every run, and no deadline: a busy machine is not a defect.
settings.register_profile("skfedfocal", deadline=None, derandomize=True, database=None)
settings.load_profile("skfedfocal")


@pytest.fixture
def federation():
    """60 rows of 5 features, 3 classes (one rare) and 4 clients whose rows lie mixed."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [30, 22, 8])
    X = rng.normal(size=(60, 5)) + 1.5 * np.eye(3, 5)[y]
    order = rng.permutation(60)
    X, y = X[order], y[order]
    clients = np.array(["oslo", "bergen", "tromsø", "røst"])[rng.integers(0, 4, 60)]
    return SimpleNamespace(X=X, y=y, clients=clients)


@pytest.fixture
def unchanged():
    """Context in which a call must leave an estimator with the attributes that it had."""

    @contextmanager
    def check(estimator):
        before = {name: _frozen(value) for name, value in vars(estimator).items()}
        yield
        after = vars(estimator)
        assert sorted(after) == sorted(before)
        for name, value in before.items():
            np.testing.assert_equal(_frozen(after[name]), value, err_msg=name)

    return check


@pytest.fixture
def assert_trained_on():
    """Function that asserts which clients a `ClientColumn` was trained on, and with how many rows.

    It looks at the classifier inside: that is where a tool that loses ids would show.
    """

    def check(fitted, clients):
        assert isinstance(fitted, ClientColumn)
        inner = fitted.estimator_
        inner = inner[-1] if isinstance(inner, Pipeline) else inner
        ids, sizes = np.unique(np.asarray(clients), return_counts=True)
        found = dict(zip(inner.clients_.tolist(), inner.client_sizes_.tolist(), strict=True))
        assert found == dict(zip(ids.tolist(), sizes.tolist(), strict=True))
        assert len(found) > 1
        assert set(fitted.clients_) == set(found)
        assert inner.n_features_in_ == fitted.n_features_in_ - (fitted.column_ is not None)

    return check


def _frozen(value):
    """A copy to compare with later: of arrays and modules by value."""
    if isinstance(value, torch.nn.Module):
        return {name: part.double().numpy().copy() for name, part in value.state_dict().items()}
    if isinstance(value, dict):
        return {name: _frozen(part) for name, part in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else value
