"""Losses: values, derivatives and posterior maps, against independent oracles.

What every loss promises is checked for all of `LOSSES`, so that a new one is covered as soon as it
has a name.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import finite_differences, focal_minimiser, mlp64
from sklearn.base import clone
from sklearn.utils._param_validation import InvalidParameterError
from torch import nn
from torch.nn.functional import cross_entropy

from skfedfocal import FederatedClassifier, FedFocalClassifier
from skfedfocal.losses import (
    LOSSES,
    CrossEntropyLoss,
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    Loss,
)
from skfedfocal.losses._focal import GammaAsConstant
from skfedfocal.losses._focal_posterior import least_slope

repeatable = settings(deadline=None, derandomize=True, max_examples=60, database=None)
gammas = st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0, 5.0]), st.floats(0, 8))
every = pytest.mark.parametrize("name", sorted(LOSSES))
both_types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)

COUNTS = torch.tensor([50.0, 3.0, 700.0, 12.0], dtype=torch.float64)


def rows_of(draw, reach, n_classes=None):
    """Logits within ±reach of a few rows, and a label for each."""
    n_classes = n_classes or draw(st.integers(2, 6), label="n_classes")
    n = draw(st.integers(1, 4), label="n")
    values = st.floats(-reach, reach)
    row = st.lists(values, min_size=n_classes, max_size=n_classes)
    logits = torch.tensor(draw(st.lists(row, min_size=n, max_size=n), label="logits"))
    labels = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    return logits.double(), torch.tensor(draw(labels, label="y"))


def extreme_rows(dtype, n_classes=4, reach=300.0):
    """All rows of logits in {-reach, 0, reach}, with each label in turn."""
    values = torch.tensor([-reach, 0.0, reach], dtype=dtype)
    logits = torch.cartesian_prod(*[values] * n_classes)
    y = torch.arange(n_classes).repeat_interleave(len(logits))
    return logits.repeat(n_classes, 1), y


def constants_of(loss, counts=COUNTS):
    return None if loss.counts is None else loss.constants(counts)


def gradient_by_autograd(loss, logits, y, constants=None):
    leaf = logits.clone().requires_grad_()
    rows = loss(leaf, y, constants)
    (gradient,) = torch.autograd.grad(rows.sum(), leaf)
    return rows.detach(), gradient


# ── what every loss promises ─────────────────────────────────────────────────────────


@every
@pytest.mark.parametrize("shape", [(7, 3), (2, 5, 3), (4, 1, 3)])
def test_a_loss_decides_row_by_row_for_its_largest_posterior(name, shape):
    loss = LOSSES[name]()
    logits = 3 * torch.randn(shape, dtype=torch.float64, generator=torch.manual_seed(0))
    constants = constants_of(loss, torch.tensor([50.0, 3.0, 700.0], dtype=torch.float64))
    rows = logits.reshape(-1, 3)
    alone = [loss.log_posterior(row[None], constants).argmax().item() for row in rows]
    assert loss.decide(logits, constants).reshape(-1).tolist() == alone
    assert loss.decide(logits, constants).shape == shape[:-1]


@every
def test_one_number_per_row_and_one_slope_per_logit(name):
    loss = LOSSES[name]()
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 3, 1])
    rows, gradient = loss.gradient(logits, y, constants_of(loss))
    assert loss(logits, y, constants_of(loss)).shape == rows.shape == (5,)
    assert gradient.shape == loss.log_posterior(logits, constants_of(loss)).shape == (5, 4)


@every
@repeatable
@given(data=st.data())
def test_gradient_is_that_of_the_value(name, data):
    loss = LOSSES[name]()
    logits, y = rows_of(data.draw, reach=50, n_classes=4)
    constants = constants_of(loss)
    rows, gradient = loss.gradient(logits, y, constants)
    rows_2, by_autograd = gradient_by_autograd(loss, logits, y, constants)
    torch.testing.assert_close(rows, rows_2, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, by_autograd, rtol=1e-9, atol=1e-12)


@every
def test_gradient_is_the_limit_of_differences(name):
    loss, rng = LOSSES[name](), torch.Generator().manual_seed(1)
    logits = 4 * torch.randn(60, 4, dtype=torch.float64, generator=rng)
    y = torch.randint(4, (60,), generator=rng)
    constants = constants_of(loss)
    _, gradient = loss.gradient(logits, y, constants)
    by_differences = finite_differences(lambda z: loss(z, y, constants).sum(), logits)
    torch.testing.assert_close(gradient, by_differences, rtol=1e-6, atol=1e-8)


@every
@both_types
def test_nothing_overflows(name, dtype):
    loss = LOSSES[name]()
    logits, y = extreme_rows(dtype)
    constants = constants_of(loss, COUNTS.to(dtype))
    for part in (
        *loss.gradient(logits, y, constants),
        *gradient_by_autograd(loss, logits, y, constants),
        loss.log_posterior(logits, constants),
    ):
        assert part.dtype == dtype
        assert torch.isfinite(part).all()
    assert (loss(logits, y, constants) >= 0).all()


@every
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize(
    ("dtype", "reach"),
    [
        (torch.float16, 1e4),
        (torch.float16, 65504.0),
        (torch.float32, 1e6),
        (torch.float32, 3e38),
        (torch.float64, 1e306),
    ],
    ids=str,
)
def test_log_posterior_is_finite_for_every_finite_logit(name, n_classes, dtype, reach):
    logits, _ = extreme_rows(dtype, n_classes, reach)
    losses = [LOSSES[name]()]
    if name == "focal":
        losses += [FocalLoss(5.0), FocalLoss([5.0] * n_classes), FocalLoss(5.0, 0.6)]
    if name == "ldam":
        losses += [LOSSES[name](max_margin=3.0, scale=30.0)]
    counts = COUNTS[:n_classes]
    for loss in losses:
        constants = constants_of(loss, counts)
        if isinstance(loss, FocalLoss):
            constants = loss.divide((1 / counts).numpy())[1]
        constants = None if constants is None else constants.to(dtype)
        found = loss.log_posterior(logits, constants)
        assert found.dtype == dtype
        assert torch.isfinite(found).all()
        torch.testing.assert_close(
            found.float().exp().sum(1), torch.ones(len(logits)), rtol=0, atol=1e-2
        )


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 2.0, [0.0, 0.5, 2.0, 5.0]], ids=str)
def test_gamma_may_be_a_constant(gamma, shifted):
    logits = torch.randn(3, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(15).view(3, 5) % 4
    shift = -torch.arange(4, dtype=torch.float64) if shifted else torch.zeros(4).double()
    wanted, found = FocalLoss(gamma, 0.5 if shifted else 0.0), GammaAsConstant()
    of_classes = torch.as_tensor(gamma, dtype=torch.float64).expand(4)
    constants = torch.cat([shift, of_classes]).expand(3, 1, 8)
    for method in ("__call__", "gradient"):
        torch.testing.assert_close(
            getattr(found, method)(logits, y, constants), getattr(wanted, method)(logits, y, shift)
        )
    torch.testing.assert_close(
        found.log_posterior(logits, constants), wanted.log_posterior(logits, shift)
    )
    assert torch.equal(found.decide(logits, constants), wanted.decide(logits, shift))


@every
@both_types
def test_absent_class_leaves_everything_finite(name, dtype):
    loss = LOSSES[name]()
    constants = constants_of(loss, torch.tensor([5.0, 0.0, 2.0, 0.0], dtype=dtype))
    logits, y = extreme_rows(dtype, reach=30.0)
    present = (y == 0) | (y == 2)
    logits, y = logits[present], y[present]
    for part in (
        *loss.gradient(logits, y, constants),
        *gradient_by_autograd(loss, logits, y, constants),
    ):
        assert torch.isfinite(part).all()
    assert not torch.isnan(loss.log_posterior(logits, constants)).any()


@every
@both_types
def test_posterior_sums_to_one(name, dtype):
    loss = LOSSES[name]()
    mild = 3 * torch.randn(50, 4, dtype=dtype, generator=torch.Generator().manual_seed(2))
    logits = torch.cat([mild, extreme_rows(dtype)[0]])
    total = loss.log_posterior(logits, constants_of(loss, COUNTS.to(dtype))).exp().sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-5)


@every
def test_logits_are_the_minimiser_of_their_posterior(name):
    # Whatever the loss: where the training rows have the posterior that the map gives, back in
    # their own class frequencies, the expected loss is stationary.
    loss = LOSSES[name]()
    rng = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(200, 4, dtype=torch.float64, generator=rng)
    prior = (COUNTS / COUNTS.sum()).numpy()
    to_training_rows = torch.as_tensor(prior / loss.decision_prior(prior))
    posterior = loss.log_posterior(logits, constants_of(loss)).exp() * to_training_rows
    posterior = posterior / posterior.sum(1, keepdim=True)
    slopes = [loss.gradient(logits, torch.full((200,), k), constants_of(loss))[1] for k in range(4)]
    expected = sum(posterior[:, [k]] * slope for k, slope in enumerate(slopes))
    torch.testing.assert_close(expected, torch.zeros_like(expected), rtol=0, atol=1e-12)
    assert max(slope.abs().max() for slope in slopes) > 0.1


@every
def test_posterior_ignores_a_shift_of_all_logits(name):
    loss = LOSSES[name]()
    logits = 3 * torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    constants = constants_of(loss)
    before = loss.log_posterior(logits, constants)
    for shift in (-1000.0, 0.1, 1000.0):
        after = loss.log_posterior(logits + shift, constants)
        torch.testing.assert_close(after, before, rtol=0, atol=1e-9)


@every
def test_clients_side_by_side_are_clients_one_by_one(name):
    # Engines stack clients in front: logits (k, n, C), constants (k, 1, C) or (C,).
    loss, rng = LOSSES[name](), torch.Generator().manual_seed(5)
    logits = 3 * torch.randn(3, 6, 4, dtype=torch.float64, generator=rng)
    y = torch.randint(4, (3, 6), generator=rng)
    counts = torch.randint(1, 40, (3, 4), generator=rng).double()
    for constants in (constants_of(loss), constants_of(loss, counts)):
        own = [None] * 3 if constants is None else constants.expand(3, 4)
        stacked = None if constants is None else own[:, None]
        if constants is not None and constants.ndim == 1:
            stacked = constants
        rows, gradient = loss.gradient(logits, y, stacked)
        torch.testing.assert_close(loss(logits, y, stacked), rows)
        for k in range(3):
            rows_k, gradient_k = loss.gradient(logits[k], y[k], own[k])
            torch.testing.assert_close(rows[k], rows_k)
            torch.testing.assert_close(gradient[k], gradient_k)


@every
def test_the_arguments_stay_as_they_are(name):
    loss = LOSSES[name]()
    logits, y = extreme_rows(torch.float64)
    constants = constants_of(loss)
    given_ = [logits.clone(), y.clone(), None if constants is None else constants.clone()]
    loss(logits, y, constants)
    loss.gradient(logits, y, constants)
    loss.log_posterior(logits, constants)
    assert torch.equal(logits, given_[0])
    assert torch.equal(y, given_[1])
    if constants is not None:
        assert torch.equal(constants, given_[2])


@every
def test_loss_is_a_component(name):
    loss = LOSSES[name]()
    twin = clone(loss)
    assert type(twin) is type(loss)
    assert twin.get_params() == loss.get_params()
    assert not hasattr(loss, "fit")
    loss.check_params()


@every
def test_name_and_object_are_the_same_to_a_classifier(name):
    rng = np.random.default_rng(0)
    X, y, clients = rng.normal(size=(60, 4)), rng.integers(3, size=60), np.repeat(range(5), 12)
    fits = [
        FederatedClassifier((6,), loss=loss, n_rounds=2, random_state=0).fit(X, y, clients=clients)
        for loss in (name, LOSSES[name]())
    ]
    np.testing.assert_array_equal(fits[0].theta_, fits[1].theta_)
    np.testing.assert_allclose(fits[0].predict_proba(X).sum(1), 1, rtol=1e-5)


# ── focal loss: value and slope ──────────────────────────────────────────────────────


@repeatable
@given(data=st.data(), gamma=gammas)
def test_focal_loss_is_its_formula(data, gamma):
    logits, y = rows_of(data.draw, reach=8)
    p = torch.softmax(logits, -1).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(
        FocalLoss(gamma)(logits, y), -((1 - p) ** gamma) * p.log(), rtol=1e-8, atol=1e-12
    )


@repeatable
@given(data=st.data())
def test_gamma_zero_is_cross_entropy(data):
    logits, y = rows_of(data.draw, reach=300)
    by_torch = cross_entropy(logits, y, reduction="none")
    for loss in (FocalLoss(0), FocalLoss(np.zeros(logits.shape[1])), CrossEntropyLoss()):
        rows, gradient = loss.gradient(logits, y)
        torch.testing.assert_close(loss(logits, y), by_torch, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(rows, by_torch, rtol=1e-12, atol=1e-13)
        leaf = logits.clone().requires_grad_()
        cross_entropy(leaf, y, reduction="sum").backward()
        torch.testing.assert_close(gradient, leaf.grad, rtol=1e-10, atol=1e-13)


@repeatable
@given(data=st.data(), gamma=gammas)
def test_focal_gradient_is_that_of_the_value(data, gamma):
    logits, y = rows_of(data.draw, reach=50)
    loss = FocalLoss(gamma)
    rows, gradient = loss.gradient(logits, y)
    rows_2, by_autograd = gradient_by_autograd(loss, logits, y)
    torch.testing.assert_close(rows, rows_2, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(gradient, by_autograd, rtol=1e-9, atol=1e-13)
    by_differences = finite_differences(lambda z: loss(z, y).sum(), logits)
    torch.testing.assert_close(gradient, by_differences, rtol=1e-5, atol=1e-7)


@both_types
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 1.7, 2.0, 5.0, [0.0, 0.5, 2.0, 5.0]], ids=str)
def test_focal_loss_never_overflows(gamma, dtype):
    loss = FocalLoss(gamma)
    logits, y = extreme_rows(dtype)
    for part in (*loss.gradient(logits, y), *gradient_by_autograd(loss, logits, y)):
        assert torch.isfinite(part).all()


def test_focal_gradient_pulls_up_the_label_and_pushes_down_the_rest():
    logits, y = extreme_rows(torch.float64, reach=2.0)
    _, gradient = FocalLoss(2.0).gradient(logits, y)
    own = torch.zeros_like(gradient, dtype=torch.bool).scatter(1, y[:, None], value=True)
    assert (gradient[own] < 0).all()
    assert (gradient[~own] > 0).all()
    torch.testing.assert_close(gradient.sum(1), torch.zeros(len(y), dtype=torch.float64))


def test_gamma_by_class_is_that_of_the_label():
    gamma = [0.0, 0.5, 3.0]
    logits = torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(30) % 3
    rows, gradient = FocalLoss(gamma).gradient(logits, y)
    for k, own in enumerate(gamma):
        rows_k, gradient_k = FocalLoss(own).gradient(logits[y == k], y[y == k])
        torch.testing.assert_close(rows[y == k], rows_k)
        torch.testing.assert_close(gradient[y == k], gradient_k)


# ── focal loss: the posterior map ────────────────────────────────────────────────────


def posteriors(n_classes, n=60):
    """Points of the simplex, from nearly certain to nearly uniform."""
    rng = np.random.default_rng(n_classes)
    drawn = [rng.dirichlet(np.full(n_classes, a), n // 3) for a in (0.3, 1.0, 10.0)]
    eta = np.concatenate(drawn) + 1e-5
    return eta / eta.sum(1, keepdims=True)


def test_the_minimiser_is_one():
    # Of the oracle itself: no small step along the simplex lowers the expected loss.
    eta, rng = posteriors(3), np.random.default_rng(0)
    for gamma in (0.0, 0.5, 2.0):
        q = focal_minimiser(eta, gamma)
        np.testing.assert_allclose(q.sum(1), 1, atol=1e-12)

        def expected(q, gamma=gamma):
            return -(eta * (1 - q) ** gamma * np.log(q)).sum(1)

        for _ in range(50):
            step = rng.normal(size=q.shape)
            step -= step.mean(1, keepdims=True)
            moved = q + 1e-3 * step * q.min(1, keepdims=True)
            assert (expected(moved) > expected(q)).all()


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 5])
@pytest.mark.parametrize("n_classes", range(2, 11))
def test_posterior_map_inverts_the_focal_minimiser(n_classes, gamma):
    eta = posteriors(n_classes)
    logits = torch.as_tensor(np.log(focal_minimiser(eta, gamma)))
    mapped = FocalLoss(gamma).log_posterior(logits).numpy()
    np.testing.assert_allclose(mapped, np.log(eta), rtol=0, atol=1e-6)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 5])
def test_with_class_weights_the_map_gives_the_weighted_posterior(gamma):
    # The minimiser of the class-weighted loss; divided by the weights, the posterior is back.
    eta, weight = posteriors(4), np.array([1.0, 30.0, 0.2, 5.0])
    logits = torch.as_tensor(np.log(focal_minimiser(weight * eta, gamma)))
    mapped = FocalLoss(gamma).log_posterior(logits).exp().numpy()
    weighted = weight * eta / (weight * eta).sum(1, keepdims=True)
    np.testing.assert_allclose(np.log(mapped), np.log(weighted), rtol=0, atol=1e-6)
    back = mapped / weight
    np.testing.assert_allclose(np.log(back / back.sum(1, keepdims=True)), np.log(eta), atol=1e-6)


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, [0.0, 0.5, 2.0, 5.0]], ids=str)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_any_division_of_class_weights_stands_for_the_same_population(n_classes, gamma, share):
    # Where rows weigh their share and logits are shifted by the rest, the expected loss over the
    # posterior eta is stationary at logits that the map turns into eta times all of the weights.
    gamma = gamma if np.ndim(gamma) == 0 else gamma[:n_classes]
    loss = FocalLoss(gamma, logit_adjustment=share)
    weights = np.array([0.2, 4.0, 30.0, 0.7])[:n_classes]
    of_rows, shift = loss.divide(weights)
    rng = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(200, n_classes, dtype=torch.float64, generator=rng)
    posterior = loss.log_posterior(logits, shift).exp() / torch.as_tensor(weights)
    expected, largest = torch.zeros_like(logits), 0.0
    for k in range(n_classes):
        slope = loss.gradient(logits, torch.full((200,), k), shift)[1]
        expected += posterior[:, [k]] * of_rows[k] * slope
        largest = max(largest, float(slope.abs().max()))
    expected /= posterior.sum(1, keepdim=True)
    torch.testing.assert_close(expected, torch.zeros_like(expected), rtol=0, atol=1e-11)
    assert largest > 0.1


def test_only_ratios_of_class_weights_are_divided():
    loss, weights = FocalLoss(logit_adjustment=0.5), np.array([1.0, 4.0, 0.0, 16.0])
    of_rows, shift = loss.divide(weights)
    np.testing.assert_allclose(of_rows, [1, 2, 0, 4])
    np.testing.assert_allclose(shift.exp(), [1, 0.5, 0.25, 0.25])  # no rows: as the rarest
    torch.testing.assert_close(loss.divide(9 * weights)[1], shift)
    assert FocalLoss().divide(weights) == (pytest.approx(weights), None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_two_classes_are_mapped_as_any_number(dtype):
    leads = torch.cat([torch.linspace(-800, 800, 4001), torch.linspace(-3, 3, 101)]).to(dtype)
    logits = torch.stack([0.5 * leads + 3, 3 - 0.5 * leads], 1)
    for gamma in (0.0, 0.5, 1.0, 2.0, 5.0):
        two = FocalLoss(gamma).log_posterior(logits)
        any_number = FocalLoss([gamma, gamma]).log_posterior(logits)
        tolerance = 1e-4 if dtype == torch.float32 else 1e-9
        near = leads.abs() < 700  # beyond, the general map loses digits
        torch.testing.assert_close(two[near], any_number[near], rtol=tolerance, atol=tolerance)
        assert torch.isfinite(two).all()


def test_posterior_map_with_a_gamma_for_each_class():
    eta, gamma = posteriors(4), np.array([0.0, 0.5, 2.0, 5.0])
    logits = torch.as_tensor(np.log(focal_minimiser(eta, gamma)))
    mapped = FocalLoss(gamma).log_posterior(logits).numpy()
    np.testing.assert_allclose(mapped, np.log(eta), rtol=0, atol=1e-6)


@repeatable
@given(data=st.data(), gamma=gammas)
def test_posterior_map_is_the_published_formula(data, gamma):
    # Charoenphakdee et al., Theorem 11, as it is printed: fine as long as no q is near 0 or 1.
    logits, _ = rows_of(data.draw, reach=5)
    v = torch.softmax(logits, -1)
    h = v / ((1 - v) ** gamma - gamma * (1 - v) ** (gamma - 1) * v * v.log())
    mapped = FocalLoss(gamma).log_posterior(logits).exp()
    torch.testing.assert_close(mapped, h / h.sum(1, keepdim=True), rtol=1e-8, atol=1e-12)


@repeatable
@given(data=st.data())
def test_posterior_of_gamma_zero_is_the_softmax(data):
    logits, _ = rows_of(data.draw, reach=300)
    mapped = FocalLoss(0).log_posterior(logits)
    torch.testing.assert_close(mapped, torch.log_softmax(logits, -1), rtol=1e-12, atol=1e-12)


@both_types
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0, [0.0, 0.5, 2.0, 5.0]], ids=str)
def test_posterior_map_never_overflows(gamma, dtype):
    logits, _ = extreme_rows(dtype)
    log_posterior = FocalLoss(gamma).log_posterior(logits)
    assert torch.isfinite(log_posterior).all()
    torch.testing.assert_close(
        log_posterior.exp().sum(1), torch.ones(len(logits), dtype=dtype), rtol=0, atol=1e-5
    )


@repeatable
@given(data=st.data(), gamma=gammas, reach=st.sampled_from([3.0, 50.0, 300.0]))
def test_posterior_map_is_finite_and_keeps_the_argmax(data, gamma, reach):
    logits, _ = rows_of(data.draw, reach)
    for z, slack in ((logits, 1e-9), (logits.float(), 1e-4)):
        log_posterior = FocalLoss(gamma).log_posterior(z)
        assert torch.isfinite(log_posterior).all()
        chosen = z.gather(1, log_posterior.argmax(1, keepdim=True))[:, 0]
        # A tie, up to rounding, may go either way.
        assert (chosen >= z.amax(1) - slack).all()


@repeatable
@given(data=st.data(), gamma=gammas)
def test_posterior_map_keeps_the_order_of_the_classes(data, gamma):
    logits, _ = rows_of(data.draw, reach=20)
    order = logits.argsort(1)
    sorted_posterior = FocalLoss(gamma).log_posterior(logits).gather(1, order)
    assert (sorted_posterior.diff(dim=1) >= -1e-9).all()


@repeatable
@given(data=st.data(), gamma=gammas, shift=st.floats(-1e3, 1e3))
def test_focal_posterior_ignores_a_shift_of_all_logits(data, gamma, shift):
    logits, _ = rows_of(data.draw, reach=20)
    before = FocalLoss(gamma).log_posterior(logits)
    torch.testing.assert_close(
        FocalLoss(gamma).log_posterior(logits + shift), before, rtol=0, atol=1e-9
    )


def test_a_classifier_learns_the_class_frequencies():
    # One indicator column per group: a linear model can give each group any probabilities, and
    # those that minimise the loss must come out as the frequencies of the classes.
    table = np.array([[60, 30, 10], [20, 20, 60], [5, 90, 5]])  # rows by group and class
    group, label = np.indices(table.shape).reshape(2, -1)
    group, y = np.repeat(group, table.ravel()), np.repeat(label, table.ravel())
    X, clients = np.eye(3)[group], np.arange(len(y)) % 4
    clf = FedFocalClassifier(
        module=mlp64(3, 3, hidden=()),
        gamma=2.0,
        class_weight=None,
        client_gamma=0,
        n_rounds=300,
        batch_size=len(y),
        learning_rate=2.0,
        random_state=0,
    ).fit(X, y, clients=clients)
    frequencies = table / table.sum(1, keepdims=True)
    np.testing.assert_allclose(clf.predict_proba(np.eye(3)), frequencies, rtol=0, atol=1e-6)
    plain_softmax = torch.softmax(clf.module_(torch.eye(3).double()), 1).detach().numpy()
    assert np.abs(plain_softmax - frequencies).max() > 0.05


# ── wrong parameters ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "gamma", [-1, np.nan, np.inf, "2", None, [], [1.0, -1.0], [[1.0, 2.0]], [1.0, np.nan]], ids=str
)
def test_wrong_gamma_is_refused(gamma):
    with pytest.raises(InvalidParameterError, match="gamma"):
        FocalLoss(gamma).check_params()


def test_gamma_for_other_classes_is_refused():
    with pytest.raises(ValueError, match="gamma has 2 entries but there are 3 classes"):
        FocalLoss([1.0, 2.0])(torch.zeros(1, 3), torch.tensor([0]))


def test_a_loss_of_ones_own_needs_no_gradient():
    class Brier(CrossEntropyLoss):
        def __call__(self, logits, y, constants=None):
            q = torch.softmax(logits, -1)
            return ((q - nn.functional.one_hot(y, logits.shape[-1])) ** 2).sum(-1)

        gradient = Loss.gradient  # by automatic differentiation

    logits, y = extreme_rows(torch.float64, reach=2.0)
    rows, gradient = Brier().gradient(logits, y)
    torch.testing.assert_close(rows, Brier()(logits, y))
    by_differences = finite_differences(lambda z: Brier()(z, y).sum(), logits, step=1e-5)
    torch.testing.assert_close(gradient, by_differences, rtol=1e-6, atol=1e-8)


# ── decisions ────────────────────────────────────────────────────────────────────────


@repeatable
@given(
    gamma=st.floats(0.01, 12),
    adjustment=st.floats(0.05, 1),
    spread=st.floats(0.1, 8),
    n_classes=st.integers(2, 7),
    by_row=st.booleans(),
    seed=st.integers(0, 999),
)
def test_focal_loss_decides_for_the_largest_posterior(
    gamma, adjustment, spread, n_classes, by_row, seed
):
    """Though most rows are decided without the map: with large shifts, and with hardly any."""
    rng = np.random.default_rng(seed)
    loss = FocalLoss(gamma, adjustment)
    weights = np.exp(rng.uniform(0, 5, (50, n_classes)) * rng.choice([0.01, 1]))
    shift = torch.stack([loss.divide(w)[1] for w in weights])
    logits = torch.from_numpy(rng.normal(0, spread, (50, n_classes)))
    shift = shift if by_row else shift[0]
    decided = loss.decide(logits, shift)
    posterior = loss.log_posterior(logits, shift)
    top = posterior.amax(-1)
    # Rounding may make equals of classes that differ by less.
    assert (posterior.gather(-1, decided[:, None])[:, 0] >= top - 1e-12 * top.abs()).all()
    blocks = shift.view(5, 10, -1) if by_row else shift
    together = loss.decide(logits.view(5, 10, n_classes), blocks)
    assert torch.equal(together.flatten(), decided)


@pytest.mark.parametrize("gamma", [1e-3, 0.1, 0.5, 1.0, 2.0, 7.5, 40.0, 1e3])
def test_the_focal_map_rises_at_least_at_its_least_slope(gamma):
    v = np.concatenate([np.logspace(-15, -2, 2000), np.linspace(0.011, 0.999, 4000)])
    # h by its formula, with the power of 1 - v taken out, which would be 0 near 1.
    log_h = np.log(v) - (gamma - 1) * np.log1p(-v) - np.log(1 - v - gamma * v * np.log(v))
    rises = np.diff(log_h) / np.diff(np.log(v))
    assert (rises >= least_slope(gamma) - 1e-7).all()


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_logit_adjustment_adds_the_logarithm_of_the_class_prior(tau):
    counts = torch.tensor([1.0, 3.0, 12.0], dtype=torch.float64)
    logits = torch.randn(4, 3, dtype=torch.float64, generator=torch.manual_seed(0))
    y = torch.tensor([0, 1, 2, 0])
    loss = LogitAdjustedLoss(tau)
    expected = cross_entropy(logits + tau * (counts / 16).log(), y, reduction="none")
    torch.testing.assert_close(loss(logits, y, loss.constants(counts)), expected)
    missing = torch.tensor([0.0, 3.5], dtype=torch.float64)  # as if it had half a row
    found = LogitAdjustedLoss().constants(missing).exp()
    torch.testing.assert_close(found, torch.tensor([0.125, 0.875], dtype=torch.float64))


@pytest.mark.parametrize(("max_margin", "scale"), [(0.5, 30.0), (1.0, 2.0)])
def test_ldam_takes_the_published_margins_off_the_label(max_margin, scale):
    """In proportion to ``n_c ** -0.25``, the largest for the rarest class."""
    counts = torch.tensor([1.0, 16.0, 81.0], dtype=torch.float64)
    margins = max_margin * torch.tensor([1.0, 1 / 2, 1 / 3], dtype=torch.float64)
    logits = torch.randn(6, 3, dtype=torch.float64, generator=torch.manual_seed(0))
    y = torch.tensor([0, 1, 2, 2, 1, 0])
    moved = logits.clone()
    moved[torch.arange(6), y] -= margins[y]
    loss = LDAMLoss(max_margin, scale)
    torch.testing.assert_close(
        loss(logits, y, loss.constants(counts)), cross_entropy(scale * moved, y, reduction="none")
    )
