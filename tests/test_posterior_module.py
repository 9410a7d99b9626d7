"""A classifier as one torch module: it says what the estimator says, and can be exported."""

import numpy as np
import pytest
import torch
from oracles import federation

from skfedfocal import FederatedClassifier, FedFocalClassifier

X, y, CLIENTS = federation([9, 4, 14, 6, 8])
ROWS = torch.as_tensor(X, dtype=torch.float32)


def fitted(**params):
    return FedFocalClassifier((6,), n_rounds=3, random_state=0, **params).fit(X, y, clients=CLIENTS)


@pytest.mark.parametrize("two_classes", [False, True])
@pytest.mark.parametrize(
    "params",
    [
        {},
        {"gamma": 0.0},
        {"gamma": 3.0, "logit_adjustment": 1.0},
        {"gamma": 2.0, "class_weight": None},
        {"class_weight": "local"},
    ],
    ids=str,
)
def test_gives_the_probabilities_of_predict_proba(params, two_classes):
    model = FedFocalClassifier((6,), n_rounds=3, random_state=0, **params)
    labels = np.minimum(y, 1) if two_classes else y
    model.fit(X, labels, clients=CLIENTS)
    found = model.posterior_module()(ROWS).detach().numpy()
    np.testing.assert_allclose(found, model.predict_proba(X), atol=1e-6)
    np.testing.assert_array_equal(model.classes_[found.argmax(1)], model.predict(X))


@pytest.mark.parametrize("loss", ["cross_entropy", "ldam", "logit_adjusted"])
@pytest.mark.parametrize("class_prior", ["population", "uniform", [0.7, 0.2, 0.1]])
def test_gives_the_posterior_of_a_population(loss, class_prior):
    model = FederatedClassifier((6,), loss=loss, class_weight="balanced", n_rounds=3)
    model.set_params(random_state=0).fit(X, y, clients=CLIENTS)
    found = model.posterior_module(class_prior)(ROWS).detach().numpy()
    np.testing.assert_allclose(found, model.predict_posterior(X, class_prior), atol=1e-6)


def test_is_a_copy_and_says_so_of_any_number_of_rows():
    model = fitted()
    before = model.predict_proba(X)
    module = model.posterior_module()
    assert module(ROWS[:0]).shape == (0, 3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(model.predict_proba(X), before)


@pytest.mark.parametrize("gamma", [0.0, 2.0, [0.0, 1.0, 2.0]])
def test_can_be_exported(gamma):
    model = fitted(gamma=gamma)
    module, wanted = model.posterior_module("uniform"), model.predict_posterior(X, "uniform")
    some = {"rows": {0: torch.export.Dim("n")}}
    exported = torch.export.export(module, (ROWS[:4],), dynamic_shapes=some)
    np.testing.assert_allclose(exported.module()(ROWS).detach().numpy(), wanted, atol=1e-6)


def test_a_prior_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="class_prior"):
        fitted().posterior_module([0.5, 0.5])
