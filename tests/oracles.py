"""Independent oracles: federated averaging and local SGD written out by hand, and toy federations.

Nothing here imports the package except `shuffled_places`, whose stream of shuffles is documented
and has tests of its own. Local steps are torch.optim.SGD on the printed formula of the loss, one
client after the other; the server's mean is a plain sum.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import sklearn
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from skfedfocal._random import shuffled_places

SKLEARN = tuple(map(int, sklearn.__version__.split(".")[:2]))

# -- modules in double precision ---------------------------------------------------------------


def mlp64(
    n_features: int = 5,
    n_classes: int = 3,
    hidden: Sequence[int] = (6, 4),
    activation: Callable[[], nn.Module] = nn.ReLU,
    *,
    bias: bool = True,
    seed: int = 0,
) -> nn.Sequential:
    """Multilayer perceptron in double precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise([n_features, *hidden]):
            layers += [nn.Linear(n_in, n_out, bias=bias), activation()]
        last = nn.Linear([n_features, *hidden][-1], n_classes, bias=bias)
        return nn.Sequential(*layers, last).double()


def cnn64(n_classes: int = 3, *, seed: int = 0) -> nn.Sequential:
    """Convolutional network in double precision for rows of shape (2, 6, 6)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 4, 2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(16, n_classes),
        ).double()


# -- federations -------------------------------------------------------------------------------


def federation(
    sizes: Sequence[int], row_shape: Sequence[int] = (5,), n_classes: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows X, labels y and clients ``0..m-1`` of the given sizes, whose rows lie mixed.

    The first row of each client comes in the order of the clients, so that the package numbers
    them as they are numbered here. Every class has rows.
    """
    rng = np.random.default_rng(seed)
    first = np.arange(len(sizes))
    rest = rng.permutation(np.repeat(first, np.asarray(sizes) - 1))
    clients = np.concatenate([first, rest])
    n = len(clients)
    y = rng.integers(n_classes, size=n)
    y[rng.permutation(n)[:n_classes]] = np.arange(n_classes)
    centres = rng.normal(size=(n_classes, *row_shape))
    X = centres[y] + rng.normal(size=(n, *row_shape))
    return X, y, clients


# -- training by hand --------------------------------------------------------------------------


def vector(module: nn.Module) -> np.ndarray:
    """All parameters of a module, one after the other."""
    return np.concatenate([p.detach().numpy().ravel() for p in module.parameters()])


def local_sgd(
    module: nn.Module,
    X: np.ndarray,
    y: np.ndarray,
    *,
    seed: int,
    round_: int,
    client: int,
    n_epochs: int = 1,
    batch_size: int = 32,
    learning_rate: float = 0.1,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    mu: float = 0.0,
    gamma: float = 0.0,
    class_weight: Sequence[float] | None = None,
    shift: Sequence[float] | None = None,
) -> float:
    """Train a module in place on one client's rows; returns the mean of its batch losses.

    The loss of a row is ``-alpha_y (1 - p_y)^gamma log p_y``, alpha being the class weights, scaled
    so that the client's rows weigh 1 on average; p is the softmax of logits plus shift. With
    mu, the objective of each batch has FedProx's term ``mu/2 ||w - theta||^2``, theta being the
    parameters that the module came with.
    """
    alpha = torch.ones(int(y.max()) + 1) if class_weight is None else torch.tensor(class_weight)
    theta = [p.detach().clone() for p in module.parameters()]
    optimizer = torch.optim.SGD(
        module.parameters(), lr=learning_rate, momentum=momentum, weight_decay=weight_decay
    )
    alpha = alpha / alpha[y].mean()
    adjustment = 0.0 if shift is None else torch.tensor(shift)
    X, y = torch.as_tensor(X), torch.as_tensor(y)
    losses = []
    for epoch in range(n_epochs):
        order = shuffled_places(seed, round_, epoch, np.array([client]), np.array([len(y)]))
        for batch in np.array_split(order, range(batch_size, len(y), batch_size)):
            logits = module(X[batch]) + adjustment
            log_p = -cross_entropy(logits, y[batch], reduction="none")
            loss = (-alpha[y[batch]] * (1 - log_p.exp()) ** gamma * log_p).mean()
            losses.append(loss.item())
            if mu:
                loss = loss + mu / 2 * squared_distance(module, theta)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return float(np.mean(losses))


def squared_distance(module: nn.Module, theta: Sequence[Tensor]) -> Tensor:
    """||w - theta||^2 over all parameters."""
    return sum(((w - t) ** 2).sum() for w, t in zip(module.parameters(), theta, strict=True))


def fedavg(
    module: nn.Module,
    X: np.ndarray,
    y: np.ndarray,
    clients: np.ndarray,
    cohorts: Sequence[Sequence[int]],
    seed: int,
    **local: Any,
) -> tuple[np.ndarray, list[float]]:
    """McMahan et al., Algorithm 1; returns the final parameters and each round's mean loss.

    Clients are the numbers ``0..m-1``; `cohorts` has those that take part in each round; `local`
    goes to `local_sgd`. A client weighs as much as its rows together.
    """
    alpha = np.asarray(local.get("class_weight", np.ones(int(y.max()) + 1)))
    server = copy.deepcopy(module)
    losses = []
    for round_, cohort in enumerate(cohorts):
        sizes = [float(alpha[y[clients == k]].sum()) for k in cohort]
        mean = [torch.zeros_like(p) for p in server.parameters()]
        loss = 0.0
        for k, n_k in zip(cohort, sizes, strict=True):
            model, rows = copy.deepcopy(server), clients == k
            loss_k = local_sgd(model, X[rows], y[rows], seed=seed, round_=round_, client=k, **local)
            loss += n_k / sum(sizes) * loss_k
            for total, w in zip(mean, model.parameters(), strict=True):
                total += n_k / sum(sizes) * w.detach()
        losses.append(loss)
        with torch.no_grad():
            for w, new in zip(server.parameters(), mean, strict=True):
                w.copy_(new)
    return vector(server), losses


def gradient_descent(
    module: nn.Module, X: np.ndarray, y: np.ndarray, n_steps: int, learning_rate: float
) -> np.ndarray:
    """Centralised gradient descent on the mean cross-entropy of all rows."""
    module = copy.deepcopy(module)
    X, y = torch.as_tensor(X), torch.as_tensor(y)
    for _ in range(n_steps):
        gradients = torch.autograd.grad(cross_entropy(module(X), y), list(module.parameters()))
        with torch.no_grad():
            for w, g in zip(module.parameters(), gradients, strict=True):
                w -= learning_rate * g
    return vector(module)


# -- calculus ----------------------------------------------------------------------------------


def finite_differences(f: Callable[[Tensor], Tensor], x: Tensor, step: float = 1e-5) -> Tensor:
    """Derivative of a scalar function of a tensor by central differences."""
    x = x.detach().double()
    gradient = torch.empty_like(x)
    for i in range(x.numel()):
        shift = torch.zeros_like(x).view(-1)
        shift[i] = step
        shift = shift.view_as(x)
        gradient.view(-1)[i] = (f(x + shift) - f(x - shift)) / (2 * step)
    return gradient


def focal_minimiser(eta: np.ndarray, gamma: float | np.ndarray) -> np.ndarray:
    """The point q of the simplex that minimises ``sum_k eta_k * -(1 - q_k)^gamma log q_k``.

    At the minimum, ``-eta_k phi'(q_k)`` is one number for all k (the Lagrange multiplier), phi
    being the focal loss as a function of q. Both that number and the q_k that go with it are found
    by bisection; phi' comes from the plain formula of phi by a complex step, so that no derivative
    is written down here.

    Parameters
    ----------
    eta : ndarray of shape (n, n_classes)
        Weights of the classes, one problem a row; positive, any sum.
    gamma : float or ndarray of shape (n_classes,)

    Returns
    -------
    q : ndarray of shape (n, n_classes)
    """

    def minus_slope(q: np.ndarray) -> np.ndarray:
        z = q + 1e-200j
        return ((1 - z) ** gamma * np.log(z)).imag / 1e-200

    def q_at(log_multiplier: np.ndarray) -> np.ndarray:
        low, high = np.full(eta.shape, -35.0), np.full(eta.shape, 35.0)  # logits of q
        for _ in range(52):
            middle = (low + high) / 2
            steep = np.log(eta * minus_slope(1 / (1 + np.exp(-middle)))) > log_multiplier
            low, high = np.where(steep, middle, low), np.where(steep, high, middle)
        return 1 / (1 + np.exp(-low))

    low, high = np.full((len(eta), 1), -80.0), np.full((len(eta), 1), 40.0)
    for _ in range(52):
        middle = (low + high) / 2
        too_much = q_at(middle).sum(1, keepdims=True) > 1
        low, high = np.where(too_much, middle, low), np.where(too_much, high, middle)
    return q_at(low)
