"""Losses of one's own: refused before training where they cannot train, else as good as any."""

import numpy as np
import pytest
import torch
from oracles import federation, mlp64
from test_engines import assert_engines_agree, one_per_kernel, plan_of
from torch.nn.functional import cross_entropy, one_hot

from skfedfocal import FederatedClassifier
from skfedfocal.losses import LOSSES, CrossEntropyLoss, FocalLoss, Loss, check_loss

ALL_TYPES = [torch.float16, torch.float32, torch.float64]


class Torchs(Loss):
    """Torch's own, which takes one table of logits."""

    def __init__(self, reduction="none"):
        self.reduction = reduction

    def __call__(self, logits, y, constants=None):
        return cross_entropy(logits, y, reduction=self.reduction)

    def log_posterior(self, logits, constants=None):
        return torch.log_softmax(logits, 1)


class Branches(Torchs):
    """Looks at values, which torch.func cannot batch; and at its clients' own label counts."""

    counts = "local"

    def constants(self, counts):
        return torch.log(counts + 1)

    def __call__(self, logits, y, constants=None):
        shifted = logits + 0.1 * constants
        if shifted.max().item() > 1e6:
            return 0 * logits.sum(1)
        return cross_entropy(shifted, y, reduction="none")

    def log_posterior(self, logits, constants=None):
        return torch.log_softmax(logits + 0.2 * constants, 1)


class OfTheFirstClient(CrossEntropyLoss):
    """Right for one client's rows, and for several clients that have the same ones."""

    def gradient(self, logits, y, constants=None):
        rows, found = super().gradient(logits, y, constants)
        return rows, found[:1].expand_as(found) if found.ndim > 2 else found


class NoPosterior(Loss):
    def __call__(self, logits, y, constants=None):
        return cross_entropy(logits, y, reduction="none")


class NoValue(Loss):
    def log_posterior(self, logits, constants=None):
        return torch.log_softmax(logits, 1)


class Transposed(Torchs):
    def __call__(self, logits, y, constants=None):
        return logits.logsumexp(0)


class Detour(Torchs):
    def __call__(self, logits, y, constants=None):
        return torch.as_tensor(super().__call__(logits, y).detach().numpy())


class Infinite(Torchs):
    def __call__(self, logits, y, constants=None):
        return super().__call__(logits, y) / (y - y)


class Python(Torchs):
    def __call__(self, logits, y, constants=None):
        return super().__call__(logits, y).tolist()


class Raises(Torchs):
    def log_posterior(self, logits, constants=None):
        raise RuntimeError("out of order")


class Unnormalised(Torchs):
    def log_posterior(self, logits, constants=None):
        return logits


class OfAnother(CrossEntropyLoss):
    """Changes the formula and keeps the derivative."""

    def __call__(self, logits, y, constants=None):
        q = torch.softmax(logits, -1)
        return (q - one_hot(y, logits.shape[-1])).square().sum(-1)


REFUSED = {
    "mean": (Torchs("mean"), "loss Torchs gives one number for all rows.*reduction='none'"),
    "no posterior": (NoPosterior(), "loss NoPosterior lacks log_posterior"),
    "no value": (NoValue(), "loss NoValue lacks __call__"),
    "by class": (Transposed(), r"shape \(4,\).*found \(3,\)"),
    "no gradient": (Detour(), "loss Detour is not differentiable"),
    "not finite": (Infinite(), "loss Infinite is not finite"),
    "a list": (Python(), "loss Python: __call__ must give a tensor"),
    "raises": (Raises(), "Raises: log_posterior raised RuntimeError: out of order"),
    "no probabilities": (Unnormalised(), "log_posterior gives no log-probabilities"),
    "derivative of another": (OfAnother(), "gradient is not the derivative"),
    "derivative of one client's": (OfTheFirstClient(), "gradient is not the derivative"),
    "gamma of other classes": (FocalLoss([1.0, 2.0]), "gamma has 2 entries but there are 3"),
}


@pytest.mark.parametrize(("loss", "message"), REFUSED.values(), ids=REFUSED)
def test_fit_refuses_an_unfit_loss_before_it_trains(loss, message):
    X, y, clients = federation([10, 10])
    clf = FederatedClassifier(module=mlp64(), loss=loss, n_rounds=1)
    with pytest.raises(ValueError, match=message):
        clf.fit(X, y, clients=clients)
    assert not hasattr(clf, "theta_")


@pytest.mark.parametrize("dtype", ALL_TYPES, ids=str)
@pytest.mark.parametrize("n_classes", [2, 3, 11])
def test_fit_losses_pass(n_classes, dtype):
    by_class = FocalLoss(np.linspace(0, 3, n_classes), logit_adjustment=0.5)
    own = type("Own", (OfAnother,), {"gradient": Loss.gradient})()
    for loss in [*(kind() for kind in LOSSES.values()), by_class, Torchs(), Branches(), own]:
        before = torch.get_rng_state()
        check_loss(loss, n_classes, dtype)
        assert torch.equal(torch.get_rng_state(), before)


@one_per_kernel
@pytest.mark.parametrize("loss", [Torchs(), Branches()], ids=["table", "branches"])
def test_engines_agree_on_a_loss_of_ones_own(name, loss):
    assert_engines_agree(name, plan_of(loss=loss))


def test_a_loss_of_ones_own_trains_as_the_packages_own():
    X, y, clients = federation([10, 10, 30])
    fits = [
        FederatedClassifier(module=mlp64(), loss=loss, n_rounds=5, random_state=0).fit(
            X, y, clients=clients
        )
        for loss in (Torchs(), "cross_entropy")
    ]
    np.testing.assert_allclose(fits[0].theta_, fits[1].theta_, rtol=0, atol=1e-10)
    np.testing.assert_allclose(fits[0].predict_proba(X), fits[1].predict_proba(X), atol=1e-10)
