"""Noise that clients share, under secure sums: the numbers, the noise, drop-outs and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from sklearn.base import clone
from test_engines import plan_of
from test_private_beside import Brittle, interrupt, marked, steps
from test_private_steps import Replies, repeatable, step_of
from test_private_training import ROWS, classifier, data

from skfedfocal import FedFocalClassifier
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal._training.failures import FederatedTrainingError
from skfedfocal.engines import Task, Updates
from skfedfocal.engines._noisy_sum import MaskedSumEngine
from skfedfocal.engines._secure import SecureEngine
from skfedfocal.privacy import ClientLevelDP, ExampleLevelDP, SecureAggregation

N = 10
by_rows = ExampleLevelDP(2.0, trust="distributed", n_honest=4, **ROWS)
by_clients = ClientLevelDP(0.3, trust="distributed", n_honest=4, **ROWS)
adaptive = ClientLevelDP(0.3, clip_norm="adaptive", trust="distributed", n_honest=4, **ROWS)
each_unit = pytest.mark.parametrize(
    "privacy", [by_rows, by_clients, adaptive], ids=["rows", "clients", "adaptive"]
)


class Rehearsed(FedFocalClassifier):
    """Of whose clients some vanish, by the attribute `gone`."""

    gone = {}

    def _engine_for(self, *args):
        engine = super()._engine_for(*args)
        engine.dropped = self.gone
        self.last_engine = engine
        return engine


def fit(privacy, gone=None, n_clients=N, **params):
    X, y, clients = data(n_clients)
    options = {"n_rounds": 4, "random_state": 0, "secure_aggregation": True, **params}
    model = Rehearsed((8,), privacy=privacy, **options)
    model.gone = gone or {}
    return model.fit(X, y, clients=clients)


def many_rows(privacy):
    """Without noise, or with what single clients draw by themselves, both sums are the same."""
    if privacy.unit == "example":
        return privacy
    return clone(privacy).set_params(noise_multiplier=0.0, counts_noise=1e-9)


# ── the same numbers ─────────────────────────────────────────────────────────────────


@each_unit
def test_masked_sums_are_those_in_the_clear(privacy):
    privacy = many_rows(privacy)
    masked, clear = fit(privacy), fit(privacy, secure_aggregation=False)
    np.testing.assert_allclose(masked.theta_, clear.theta_, rtol=0, atol=1e-5)
    assert masked.privacy_ == clear.privacy_
    np.testing.assert_allclose(masked.class_prior_, clear.class_prior_, rtol=0, atol=1e-6)
    assert np.isnan(masked.history_["loss"]).all()


@each_unit
def test_weights_do_not_tell_numbers_of_rows(privacy):
    model = fit(privacy, n_rounds=1)
    assert model.last_engine.step is not None
    X, y, clients = data(N)
    uneven = np.where(np.arange(len(y)) % 3, 0, clients)  # most rows are the first client's
    other = Rehearsed((8,), n_rounds=1, random_state=0, privacy=privacy, secure_aggregation=True)
    other.fit(X, y, clients=uneven)
    for name in ("bytes_up", "bytes_down"):
        np.testing.assert_array_equal(model.history_[name], other.history_[name])
    assert np.isnan(other.client_sizes_).all()


@each_unit
def test_a_training_goes_on_to_the_same_bits(privacy, tmp_path, monkeypatch):
    whole = fit(privacy)

    def kill():
        raise KeyboardInterrupt

    X, y, clients = data(N)
    path = tmp_path / "checkpoint"
    with monkeypatch.context() as context:
        interrupt(context, 2, kill)
        with pytest.raises(KeyboardInterrupt):
            clone(whole).fit(X, y, clients=clients, checkpoint=path)
    resumed = clone(whole).fit(X, y, clients=clients, checkpoint=path)
    np.testing.assert_array_equal(resumed.theta_, whole.theta_)
    assert steps(resumed) == 5


def test_a_default_classifier_learns():
    X, y, clients = data(N)
    privacy = ExampleLevelDP(target_epsilon=5.0, trust="distributed")
    model = FedFocalClassifier(privacy=privacy, secure_aggregation=True, random_state=0)
    model.fit(X, y, clients=clients)
    assert model.score(X, y) > 0.6
    assert 0.99 * 5 < model.epsilon_ <= 5


# ── the noise ────────────────────────────────────────────────────────────────────────


def released(p, n, step, needed=1, deltas=None):
    """What comes out of a round of zeros, or of these updates."""
    zeros = torch.zeros(n, p, dtype=torch.float64) if deltas is None else deltas
    inner = Replies(Updates(np.arange(n), np.ones(n), np.ones((n, 2)), zeros))
    secure = SecureEngine(inner, SecureAggregation())
    secure.share_noise(step, seed=1)
    task = Task(torch.zeros(p, dtype=torch.float64), plan_of(), np.arange(n), 0)
    (reply,) = MaskedSumEngine(secure, step, needed).train(task)
    return reply.deltas[0].double().numpy()


@pytest.mark.parametrize("n", [3, 8])
def test_shares_add_up_to_the_noise_of_all_who_are_in_the_sum(n):
    step = step_of(noise=0.3, clip_norm=1.0, unit="client")
    found = released(20_000, n, step) * step.denominator
    square = (found**2).sum() / (0.3**2 * n)
    assert chi2.ppf(1e-6, 20_000) < square < chi2.ppf(1 - 1e-6, 20_000)


@repeatable
@given(
    n=st.integers(3, 8),
    scale=st.sampled_from([1e-3, 1.0, 1e3, np.nan, np.inf]),
    seed=st.integers(0, 2**16),
)
def test_one_client_changes_a_masked_sum_by_its_clip_norm_at_most(n, scale, seed):
    rng = np.random.default_rng(seed)
    step = step_of(noise=0.0, clip_norm=0.5, unit="client")
    deltas = torch.as_tensor(rng.normal(size=(n, 7)))
    deltas[0] *= scale
    without = deltas.clone()
    without[0] = 0
    one, other = (released(7, n, step, deltas=d) * step.denominator for d in (deltas, without))
    assert np.linalg.norm(one - other) <= 0.5 * (1 + 1e-6)


@repeatable
@given(n=st.integers(3, 400), colluders=st.sampled_from([0.0, 0.1, 0.2, 0.3]))
def test_noise_is_made_for_the_fewest_who_may_be_left(n, colluders):
    secure = SecureAggregation(colluders=colluders)
    survivors = secure.terms(n).least_survivors(n)
    assert secure.least_honest(n) == survivors - max(1, int(colluders * n)) >= 1
    privacy = ExampleLevelDP(2.0, trust="distributed", n_honest=secure.least_honest(n))
    share = privacy.plan(1, n_clients=n, n_rows=1000).step.total.client_noise
    honest = survivors - secure.n_colluders(n)
    assert share * honest**0.5 == pytest.approx(2.0)


# ── who vanishes ─────────────────────────────────────────────────────────────────────


@each_unit
@pytest.mark.parametrize("exchange", ["masked", "unmask"])
def test_a_round_goes_on_without_who_vanishes_at_the_same_cost(privacy, exchange):
    whole = fit(privacy)
    model = fit(privacy, {2: {exchange: [3]}})
    assert model.n_iter_ == 4
    assert model.privacy_ == whole.privacy_
    assert not np.array_equal(model.theta_, whole.theta_) or exchange == "unmask"


@each_unit
def test_a_sum_with_too_little_noise_is_told_to_nobody(privacy):
    """Of ten, two may collude: noise made for eight honest ones needs all ten."""
    privacy = clone(privacy).set_params(n_honest=8)
    assert fit(privacy).n_iter_ == 4
    X, y, clients = data(N)
    model = Rehearsed((8,), n_rounds=4, random_state=0, privacy=privacy, secure_aggregation=True)
    model.gone = {3: {"masked": [3]}}
    with pytest.raises(FederatedTrainingError, match="of 10 it must be"):
        model.fit(X, y, clients=clients)
    assert model.n_iter_ == 2
    assert steps(model) == 3  # what was masked was sent
    np.testing.assert_array_equal(model.theta_, fit(privacy, n_rounds=2).theta_)


@pytest.mark.parametrize("armed", [False, True])
def test_a_protected_client_that_fails_sends_noise_alone(armed):
    X, y, clients = data(N)
    Brittle.armed = armed
    model = FedFocalClassifier(
        module=Brittle, n_rounds=2, random_state=0, privacy=by_clients, secure_aggregation=True
    )
    try:
        if armed:
            with pytest.warns(RuntimeWarning, match="some clients failed") as told:
                model.fit(marked(X, clients, 3), y, clients=clients)
            assert (
                len(told) == 1
            )  # and nothing of zeros, of which the server would count the senders
        else:
            model.fit(marked(X, clients, 3), y, clients=clients)
    finally:
        Brittle.armed = True
    assert model.failures_ == []
    assert steps(model) == 2


# ── refusals ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("privacy", "remedy"),
    [
        (ExampleLevelDP(2.0, trust="local"), "trust='distributed'"),
        (ExampleLevelDP(2.0, trust="server"), "trust='distributed'"),
        (ClientLevelDP(2.0), "trust='distributed'"),
        (
            ClientLevelDP(2.0, trust="distributed", sampling_rate=0.5, n_honest=9),
            "sampling_rate=0.5",
        ),
    ],
    ids=lambda value: getattr(value, "trust", None),
)
@pytest.mark.parametrize("secure", [True, SecureAggregation(5)])
def test_noise_of_others_than_clients_is_refused_by_both_names(privacy, remedy, secure):
    model = classifier(privacy, secure_aggregation=secure)
    with pytest.raises(InvalidParameterError) as refused:
        model.fit(None, None)
    for text in (
        f"privacy={type(privacy).__name__}(...)",
        f"secure_aggregation={secure!r}",
        remedy,
    ):
        assert text in str(refused.value)
