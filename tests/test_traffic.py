"""Bytes in the history: parameters, scalars and answers, counted by hand."""

import numpy as np
import pytest
from oracles import federation, mlp64

from skfedfocal import FederatedClassifier

SIZES = [9, 4, 14, 6, 8]
X, y, CLIENTS = federation(SIZES)
REAL = 8  # bytes of a scalar
THETA = 30 * REAL  # of mlp64(hidden=(3,))


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
@pytest.mark.parametrize(
    ("params", "first_up", "first_down", "more_up"),
    [
        ({}, 0, 0, 0),
        ({"client_gamma": 1.0}, 0, 0, 0),  # in the weight, which is sent anyway
        ({"selection": "focal"}, 0, 0, REAL),
        # Rows by class and their number, of every client, once.
        ({"class_weight": "balanced"}, 5 * 4 * REAL, 0, 0),
        ({"class_weight": "local"}, 0, 0, 0),
        ({"loss": "ldam"}, 5 * 4 * REAL, 0, 0),
        ({"selection": "category_coverage", "class_weight": "balanced"}, 5 * 4 * REAL, 0, 0),
        # An update more of every client, with its scalars.
        ({"class_weight": "estimated"}, 5 * (THETA + 3 * REAL), 5 * THETA, 0),
        ({"aggregation": "median"}, 0, 0, 0),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bytes_by_hand(engine, params, first_up, first_down, more_up):
    clf = FederatedClassifier(
        module=mlp64(hidden=(3,)),
        clients_per_round=3,
        n_rounds=3,
        random_state=0,
        engine=engine,
        **params,
    ).fit(X, y, clients=CLIENTS)
    # An update, its weight, and the loss with the weight of the rows that it is the mean over.
    up = np.full(3, 3 * (THETA + 3 * REAL + more_up))
    down = np.full(3, 3 * THETA)
    up[0] += first_up
    down[0] += first_down
    np.testing.assert_array_equal(clf.history_["bytes_up"], up)
    np.testing.assert_array_equal(clf.history_["bytes_down"], down)
    assert clf.history_["n_selected"].tolist() == [3, 3, 3]
