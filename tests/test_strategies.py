"""Strategies: the server's step, its state, and strategies as parameters of a classifier."""

import inspect

import numpy as np
import pytest
import torch
from oracles import federation, mlp64
from sklearn.base import clone

import skfedfocal.strategies
from skfedfocal import FederatedClassifier, FedFocalClassifier
from skfedfocal._component import InvalidParameterError, resolve
from skfedfocal.aggregation import TrimmedMean, WeightedMean
from skfedfocal.losses import FocalLoss
from skfedfocal.selection import Uniform
from skfedfocal.strategies import (
    STRATEGIES,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedOpt,
    FedProx,
    FedYogi,
    Strategy,
)

every = pytest.mark.parametrize("name", sorted(STRATEGIES))


def aggregates(n_rounds=6, p=5, dtype=torch.float64):
    """A round's aggregate each; the last coordinate is never touched."""
    deltas = np.random.default_rng(0).normal(size=(n_rounds, p))
    deltas[:, -1] = 0
    return torch.as_tensor(deltas).to(dtype)


def steps(strategy, deltas):
    """The global model after each round."""
    theta = torch.linspace(-1, 1, deltas.shape[1], dtype=deltas.dtype)
    state, thetas = strategy.start(theta), []
    for delta in deltas:
        theta, state = strategy.step(theta, delta, state)
        thetas.append(theta)
    return torch.stack(thetas)


# ── what every strategy promises ─────────────────────────────────────────────────────


def test_every_strategy_has_a_name():
    public = {
        part
        for _, part in inspect.getmembers(skfedfocal.strategies, inspect.isclass)
        if issubclass(part, Strategy) and part not in (Strategy, FedOpt)
    }
    assert set(STRATEGIES.values()) == public


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_state_and_model_keep_shape_and_type(name, dtype):
    strategy = STRATEGIES[name]()
    theta = torch.zeros(5, dtype=dtype)
    state = strategy.start(theta)
    for delta in aggregates(dtype=dtype):
        theta, new = strategy.step(theta, delta, state)
        assert theta.shape == (5,)
        assert theta.dtype == dtype
        assert new.keys() == state.keys()
        for value in new.values():
            assert value.shape == (5,)
            assert value.dtype == dtype
            assert torch.isfinite(value).all()
        state = new


@every
def test_a_step_leaves_its_arguments(name):
    strategy = STRATEGIES[name]()
    theta, delta = torch.linspace(-1, 1, 5), aggregates(dtype=torch.float32)[0]
    _, state = strategy.step(theta, delta, strategy.start(theta))
    before = theta.clone(), delta.clone(), {k: v.clone() for k, v in state.items()}
    first, _ = strategy.step(theta, delta, state)
    assert torch.equal(theta, before[0])
    assert torch.equal(delta, before[1])
    for key, value in state.items():
        assert torch.equal(value, before[2][key])
    again, _ = strategy.step(theta, delta, state)  # and keeps nothing of them
    assert torch.equal(first, again)


@every
def test_without_updates_the_model_stays(name):
    thetas = steps(STRATEGIES[name](), torch.zeros(4, 5, dtype=torch.float64))
    torch.testing.assert_close(thetas, thetas[:1].expand(4, 5), rtol=0, atol=0)


@every
def test_each_coordinate_steps_by_itself(name):
    deltas = aggregates()
    thetas = steps(STRATEGIES[name](), deltas)
    assert (thetas[:, -1] == 1).all()  # never touched by any client
    order = [3, 0, 4, 1, 2]
    start = torch.linspace(-1, 1, 5, dtype=torch.float64)
    turned = steps(STRATEGIES[name](), deltas[:, order])
    torch.testing.assert_close(turned - start, thetas[:, order] - start[order])


@every
def test_the_first_step_goes_where_the_clients_went(name):
    deltas = aggregates()
    moved = steps(STRATEGIES[name](), deltas)[0] - torch.linspace(-1, 1, 5).double()
    assert torch.equal(moved.sign(), deltas[0].sign())


@every
@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_resumed_training_is_uninterrupted_training(name, engine):
    X, y, clients = federation([9, 4, 20, 1])
    options = {
        "module": mlp64(),
        "strategy": name,
        "learning_rate": 0.05,
        "engine": engine,
        "random_state": 0,
    }
    whole = FedFocalClassifier(n_rounds=5, **options).fit(X, y, clients=clients)
    parts = FedFocalClassifier(n_rounds=2, warm_start=True, **options).fit(X, y, clients=clients)
    parts.set_params(n_rounds=3).fit(X, y, clients=clients)
    np.testing.assert_array_equal(parts.theta_, whole.theta_)
    assert np.isfinite(whole.theta_).all()


@every
def test_strategy_is_a_component(name):
    strategy = STRATEGIES[name]()
    twin = clone(strategy)
    assert type(twin) is type(strategy)
    assert twin.get_params() == strategy.get_params()
    strategy.check_params()


# ── each for itself ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "strategy",
    [FedAvg(), FedProx(), FedProx(mu=3.0), FedAvgM(server_learning_rate=1.0, beta=0.0)],
    ids=repr,
)
def test_plain_strategies_add_the_aggregate(strategy):
    deltas = aggregates()
    start = torch.linspace(-1, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(steps(strategy, deltas), start + deltas.cumsum(0))


def test_proximal_term_is_fedproxs_alone():
    assert FedProx(mu=0.3).proximal == 0.3
    assert all(STRATEGIES[name]().proximal == 0 for name in STRATEGIES if name != "fedprox")


@pytest.mark.parametrize(("rate", "beta"), [(1.0, 0.9), (0.3, 0.5)])
def test_momentum_of_the_server_is_torchs(rate, beta):
    # SGD on the pseudo-gradient, minus the aggregate.
    deltas = aggregates()
    theta = torch.linspace(-1, 1, 5, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.SGD([theta], lr=rate, momentum=beta)
    wanted = []
    for delta in deltas:
        theta.grad = -delta.clone()
        optimizer.step()
        wanted.append(theta.detach().clone())
    found = steps(FedAvgM(server_learning_rate=rate, beta=beta), deltas)
    torch.testing.assert_close(found, torch.stack(wanted))


def reddi(deltas, second_moment, rate, beta_1, tau):
    """Algorithm 2 of "Adaptive federated optimization", coordinate by coordinate."""
    thetas = []
    for j, coordinate in enumerate(deltas.T.tolist()):
        theta, m, v, path = -1 + 2 * j / (deltas.shape[1] - 1), 0.0, tau**2, []
        for delta in coordinate:
            m = beta_1 * m + (1 - beta_1) * delta
            v = second_moment(v, delta)
            theta = theta + rate * m / (v**0.5 + tau)
            path.append(theta)
        thetas.append(path)
    return torch.tensor(thetas, dtype=torch.float64).T


@pytest.mark.parametrize(
    ("strategy", "second_moment"),
    [
        (FedAdagrad(0.2, beta_1=0.3, tau=0.1), lambda v, d: v + d * d),
        (FedAdam(0.2, beta_1=0.3, beta_2=0.7, tau=0.1), lambda v, d: 0.7 * v + 0.3 * d * d),
        (
            FedYogi(0.2, beta_1=0.3, beta_2=0.7, tau=0.1),
            lambda v, d: v - 0.3 * d * d * np.sign(v - d * d),
        ),
    ],
    ids=["adagrad", "adam", "yogi"],
)
def test_adaptive_strategies_are_the_papers(strategy, second_moment):
    deltas = aggregates()
    wanted = reddi(deltas, second_moment, rate=0.2, beta_1=0.3, tau=0.1)
    torch.testing.assert_close(steps(strategy, deltas), wanted)


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedyogi"])
def test_adaptive_steps_hardly_depend_on_the_scale_of_updates(name):
    strategy = STRATEGIES[name](tau=1e-9)
    start = torch.linspace(-1, 1, 5, dtype=torch.float64)
    small, large = (steps(strategy, scale * aggregates()) - start for scale in (1.0, 1e3))
    torch.testing.assert_close(small, large, rtol=1e-4, atol=1e-6)


# ── as a parameter of a classifier ───────────────────────────────────────────────────


def test_nested_parameters_are_read_and_set():
    clf = FedFocalClassifier(strategy=FedProx(mu=0.1), aggregation=WeightedMean(floor=0.5))
    params = clf.get_params()
    assert params["strategy__mu"] == 0.1
    assert params["aggregation__floor"] == 0.5
    clf.set_params(strategy__mu=2.0, aggregation__floor=0.3)
    assert clf.strategy.proximal == 2.0
    assert clf.aggregation.focus.floor == 0.3
    with pytest.raises(ValueError, match="Invalid parameter 'nu'"):
        clf.set_params(strategy__nu=1.0)


def test_a_clone_has_parts_of_its_own():
    clf = FederatedClassifier(
        loss=FocalLoss(3.0), strategy=FedProx(mu=0.1), aggregation=TrimmedMean(0.2)
    )
    twin = clone(clf)
    twin.set_params(loss__gamma=1.0, strategy__mu=9.0, aggregation__trim=0.4)
    assert clf.loss.gamma == 3.0
    assert clf.strategy.mu == 0.1
    assert clf.aggregation.trim == 0.2


def test_fit_writes_nothing_back_to_parameters():
    X, y, clients = federation([9, 4, 20, 1])
    strategy, selection = FedProx(mu=0.1), Uniform()
    clf = FedFocalClassifier(
        module=mlp64(), strategy=strategy, selection=selection, n_rounds=2, random_state=0
    )
    before = clf.get_params()
    clf.fit(X, y, clients=clients)
    after = clf.get_params()
    assert clf.strategy is strategy
    assert clf.selection is selection
    assert all(after[key] is before[key] for key in before)
    names = FedFocalClassifier(module=mlp64(), n_rounds=1).fit(X, y, clients=clients)
    assert (names.strategy, names.selection) == ("fedavg", "uniform")


def test_nested_parameters_reach_the_training():
    X, y, clients = federation([9, 4, 20, 1])
    clf = FedFocalClassifier(
        module=mlp64(), strategy=FedProx(mu=0.0), n_rounds=2, n_local_epochs=3, random_state=0
    )
    free = clf.fit(X, y, clients=clients).theta_
    held = clf.set_params(strategy__mu=5.0).fit(X, y, clients=clients).theta_
    assert np.abs(free - held).max() > 1e-3


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"strategy": "fedsgd"}, "strategy"),
        ({"strategy": FedProx}, "strategy"),
        ({"strategy": Uniform()}, "strategy"),
        ({"strategy": FedProx(mu=-1)}, "'mu' parameter of FedProx"),
        ({"strategy": FedProx(mu="1")}, "'mu' parameter of FedProx"),
        ({"aggregation": "meen"}, "'aggregation' parameter of FederatedClassifier"),
        ({"aggregation": WeightedMean}, "'aggregation' parameter of FederatedClassifier"),
        ({"aggregation": WeightedMean(floor=-2)}, "'floor' parameter of WeightedMean"),
        ({"aggregation": TrimmedMean(0.5)}, "'trim' parameter of TrimmedMean"),
        ({"strategy": FedAvgM(beta=1)}, "'beta' parameter of FedAvgM"),
        ({"strategy": FedAdam(tau=0)}, "'tau' parameter of FedAdam"),
        ({"strategy": FedYogi(server_learning_rate=0)}, "'server_learning_rate' parameter"),
        ({"selection": "uniformly"}, "selection"),
        ({"selection": FedAvg()}, "selection"),
        ({"loss": "focus"}, "loss"),
        ({"loss": FocalLoss(-1)}, "gamma"),
        ({"client_gamma": -1}, "client_gamma"),
    ],
    ids=str,
)
def test_wrong_nested_parameters_are_refused_by_fit(params, message):
    X, y, clients = federation([9, 4, 20, 1])
    clf = FederatedClassifier(n_rounds=1, **params)  # the constructor checks nothing
    with pytest.raises(InvalidParameterError, match=message):
        clf.fit(X, y, clients=clients)
    assert not hasattr(clf, "theta_")


def test_resolve_knows_names_and_clones_objects():
    assert type(resolve("fedprox", STRATEGIES, Strategy, "strategy")) is FedProx
    mine = FedProx(mu=0.7)
    part = resolve(mine, STRATEGIES, Strategy, "strategy")
    assert part is not mine
    assert part.mu == 0.7
    with pytest.raises(InvalidParameterError, match=r"strategy='x' is not known; use one of \["):
        resolve("x", STRATEGIES, Strategy, "strategy")
    with pytest.raises(InvalidParameterError, match="or a Strategy object; got None"):
        resolve(None, STRATEGIES, Strategy, "strategy")


def test_a_strategy_of_ones_own():
    class HalfStep(FedAvg):
        def step(self, theta, delta, state):
            return theta + delta / 2, state

    X, y, clients = federation([9, 4, 20, 1])
    options = {"module": mlp64(), "n_rounds": 1, "random_state": 0}
    start = np.concatenate([p.detach().numpy().ravel() for p in mlp64().parameters()])
    whole = FederatedClassifier(**options).fit(X, y, clients=clients).theta_ - start
    half = FederatedClassifier(strategy=HalfStep(), **options).fit(X, y, clients=clients)
    np.testing.assert_allclose(half.theta_ - start, whole / 2, rtol=0, atol=1e-14)
