"""Accounting: accountants against each other, closed forms and direct computation; the ledger."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from skfedfocal.privacy import Ledger, advantage, attack_success, calibrate
from skfedfocal.privacy._accounting import (
    Event,
    check_delta,
    epsilon_of,
    gaussian_epsilon,
    gaussian_mu,
    privacy_loss,
)

pytest.importorskip("dp_accounting")

STEP = Event(4.3, 0.3, 100)
COUNTS = Event(30.0, of="label_counts")
SAMPLED = [
    ([Event(2.0, 0.3)], 1e-5),
    ([Event(0.44, 0.3)], 1e-5),
    ([Event(11.4, 0.3, 100), COUNTS], 1e-5),
    ([Event(1.7, 0.3, 100), COUNTS], 1e-5),
    ([Event(36.0, 0.3, 100), COUNTS], 1e-5),
    ([Event(1.27, 0.1, 60)], 1e-4),
    ([Event(1.3, 256 / 60000, 3515)], 1e-5),
]
FULL = [
    ([Event(12.1), COUNTS], 1e-5),
    ([Event(3.8)], 1e-5),
    ([Event(18.8, steps=100)], 1e-2),
    ([Event(3.5, steps=100)], 1e-2),
    ([Event(8.3, steps=100), Event(5.0, of="moments")], 1e-3),
]


def loss_by_hand(events, grid=5e-5, n=1 << 20):
    """The loss of removing a unit and of adding one, by rounding and Fourier transforms."""
    losses = grid * (np.arange(n) - n // 2)
    both = []
    for sign in (1, -1):
        spectrum = 1.0
        for event in events:
            z, q = event.noise_multiplier, event.sampling_rate
            x = np.linspace(-12 * z, 12 * z + 1, 400_001)
            without, log_ratio = norm.pdf(x, 0, z), (2 * x - 1) / (2 * z * z)
            ratio = 1 - q + q * np.exp(log_ratio)
            mass = without * (ratio if sign > 0 else 1) * (x[1] - x[0])
            place = np.rint(sign * np.log(ratio) / grid).astype(int) + n // 2
            one = np.bincount(np.clip(place, 0, n - 1), mass, n)
            spectrum = spectrum * np.fft.rfft(np.fft.ifftshift(one)) ** event.steps
        both.append((losses, np.fft.fftshift(np.fft.irfft(spectrum, n))))
    return both


def epsilon_by_hand(events, delta):
    """The least epsilon whose excess mass is at most delta, on the grid of losses."""
    found = []
    for losses, mass in loss_by_hand(events):
        tail, weighted = (
            np.cumsum(mass[::-1])[::-1],
            np.cumsum((mass * np.exp(-losses))[::-1])[::-1],
        )
        excess = tail - np.exp(losses) * weighted
        found.append(losses[np.flatnonzero(excess > delta)[-1]])
    return max(found)


@pytest.mark.parametrize(("events", "delta"), SAMPLED)
def test_sampled_releases_agree_with_a_convolution_by_hand(events, delta):
    assert epsilon_of(events, delta) == pytest.approx(epsilon_by_hand(events, delta), rel=2e-3)


@pytest.mark.parametrize(("events", "delta"), FULL)
def test_the_closed_form_agrees_with_privacy_loss_distributions(events, delta):
    by_distribution = privacy_loss(events).get_epsilon_for_delta(delta)
    assert epsilon_of(events, delta) == pytest.approx(by_distribution, rel=2e-3)


@pytest.mark.filterwarnings("ignore:Optimal order:UserWarning")  # opacus's bounds for its grid
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")  # its log(1 - q) at q = 1
@pytest.mark.parametrize(("events", "delta"), SAMPLED[:-1] + FULL)
def test_agrees_with_the_accountant_of_opacus(events, delta):
    accountants = pytest.importorskip("opacus.accountants")
    prv = accountants.PRVAccountant()
    prv.history = [(e.noise_multiplier, e.sampling_rate, e.steps) for e in events]
    distribution = prv._get_dprv(eps_error=1e-3, delta_error=delta / 1000)
    _, estimate, _ = distribution.compute_epsilon(delta, delta / 1000, 1e-3)
    assert epsilon_of(events, delta) == pytest.approx(estimate, rel=2e-3)


@pytest.mark.parametrize(("events", "delta"), SAMPLED)
def test_the_grid_of_losses_keeps_four_digits(events, delta):
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    fine = PLDAccountant(value_discretization_interval=5e-5)
    for e in events:
        fine.compose(
            PoissonSampledDpEvent(e.sampling_rate, GaussianDpEvent(e.noise_multiplier)), e.steps
        )
    assert epsilon_of(events, delta) == pytest.approx(fine.get_epsilon(delta), rel=2e-4)


@pytest.mark.parametrize(("events", "delta"), SAMPLED)
def test_renyi_divergences_bound_from_above(events, delta):
    tight, bound = epsilon_of(events, delta), epsilon_of(events, delta, "rdp")
    assert tight < bound < 3 * tight


@settings(max_examples=4)
@given(st.floats(0.5, 20), st.floats(0.01, 1), st.integers(1, 200), st.floats(1e-7, 1e-2))
def test_more_noise_fewer_steps_and_rarer_sampling_never_cost_more(z, q, steps, delta):
    epsilon = epsilon_of([Event(z, q, steps)], delta)
    slack = 1 + 2e-4
    assert epsilon_of([Event(1.1 * z, q, steps)], delta) <= epsilon * slack + 1e-6
    assert epsilon <= epsilon_of([Event(z, q, steps + 1)], delta) * slack + 1e-6
    assert epsilon_of([Event(z, 0.9 * q, steps)], delta) <= epsilon * slack + 1e-6
    assert epsilon_of([Event(z, q, steps)], 2 * delta) <= epsilon + 1e-6


def test_the_method_is_the_closed_form_distributions_or_for_long_runs_divergences():
    for steps, q, method in ((100, 1.0, "gaussian"), (10**6, 0.01, "pld"), (10**7, 0.01, "rdp")):
        ledger = Ledger("example", [Event(3.0, steps=7), Event(50.0, q, steps)])
        assert ledger.to_plain()["method"] == method
    assert ledger.epsilon(1e-6) == Ledger("example", ledger.events, "rdp").epsilon(1e-6)


def test_no_release_costs_nothing_and_no_noise_everything():
    assert Ledger("client").epsilon(1e-5) == 0
    ledger = Ledger("client")
    ledger.add(0.0)
    assert ledger.epsilon(1e-5) == math.inf


def test_delta_must_promise_something():
    for delta in (0, 1, -1e-5, math.nan):
        with pytest.raises(ValueError, match="delta must be in"):
            check_delta(delta)
    check_delta(1e-3, 999)
    with pytest.raises(ValueError, match="below 1 / 1000"):
        check_delta(1e-3, 1000)


# ── the ledger ───────────────────────────────────────────────────────────────────────


def test_a_ledger_survives_json():
    ledger = Ledger("example", accountant="rdp")
    ledger.add(30.0, of="label_counts")
    ledger.add(4.3, sampling_rate=0.3, steps=100)
    plain = json.loads(json.dumps(ledger.to_plain()))
    assert Ledger.from_plain(plain) == ledger
    assert plain["relation"] == "add_or_remove_one"
    assert [event["sampler"] for event in plain["events"]] == ["all", "poisson"]
    assert "dp-accounting" in plain["versions"]


@pytest.mark.parametrize(
    ("key", "value"), [("relation", "replace_one"), ("unit", "row"), ("format", 9)]
)
def test_a_ledger_of_another_kind_is_refused(key, value):
    plain = Ledger("example").to_plain() | {key: value}
    with pytest.raises(ValueError, match=str(value)):
        Ledger.from_plain(plain)


@pytest.mark.parametrize("change", [{"mechanism": "laplace"}, {"sampler": "shuffle"}])
def test_an_event_that_cannot_be_accounted_for_is_refused(change):
    ledger = Ledger("example")
    ledger.add(1.0, sampling_rate=0.5)
    plain = ledger.to_plain()
    plain["events"][0] |= change
    with pytest.raises(ValueError, match=next(iter(change.values()))):
        Ledger.from_plain(plain)


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.nan},
        {"noise_multiplier": 1.0, "sampling_rate": 0.0},
        {"noise_multiplier": 1.0, "sampling_rate": 1.1},
        {"noise_multiplier": 1.0, "steps": 0},
    ],
)
def test_impossible_events_are_refused(wrong):
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        Event(**wrong)


def test_a_training_in_stages_spends_what_one_in_one_piece_does():
    whole, first, second = Ledger("client"), Ledger("client"), Ledger("client")
    whole.add(1.3, sampling_rate=0.1, steps=60)
    first.add(1.3, sampling_rate=0.1, steps=25)
    second.add(1.3, sampling_rate=0.1, steps=35)
    merged = first.merged(second)
    assert merged.events == whole.events
    assert [e.steps for e in first.events] == [25]  # merging changes neither


def test_budgets_of_rows_and_of_clients_do_not_merge():
    with pytest.raises(ValueError, match="'client' cannot go on with unit 'example'"):
        Ledger("client").merged(Ledger("example"))


# ── calibration ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("target", [0.3, 1.0, 3.0, 10.0])
@pytest.mark.parametrize(
    ("rate", "steps", "delta", "counts"),
    [
        (0.3, 100, 1e-5, 30.0),
        (0.3, 1, 1e-5, None),
        (1.0, 100, 1e-2, None),
        (1.0, 1, 1e-5, 30.0),
        (0.1, 60, 1e-4, 100.0),
    ],
)
def test_calibration_meets_its_target_in_few_calls(target, rate, steps, delta, counts, monkeypatch):
    spent = Ledger("example")
    if counts:
        spent.add(counts, of="label_counts")
    calls = []

    def counted(*args):
        calls.append(args)
        return epsilon_of(*args)

    monkeypatch.setattr("skfedfocal.privacy._ledger.epsilon_of", counted)
    noise = calibrate(target, delta, steps=steps, sampling_rate=rate, spent=spent)
    assert len(calls) <= 15
    spent.add(noise, sampling_rate=rate, steps=steps)
    assert 0.997 * target <= spent.epsilon(delta) <= target


@settings(max_examples=6)
@given(
    st.floats(0.1, 20), st.floats(1e-3, 1), st.integers(1, 10_000), st.sampled_from([1e-2, 1e-6])
)
def test_calibration_never_exceeds_its_target(target, rate, steps, delta):
    ledger = Ledger("example", accountant="rdp")  # which takes a hundredth of a second
    noise = calibrate(target, delta, steps=steps, sampling_rate=rate, spent=ledger)
    ledger.add(noise, sampling_rate=rate, steps=steps)
    assert ledger.epsilon(delta) <= target


@pytest.mark.parametrize("noise", [2.0, 0.01, 1e-6])
def test_an_unreachable_target_names_the_least_epsilon(noise):
    spent = Ledger("example")
    spent.add(noise, of="label_counts")
    least = spent.epsilon(1e-5)
    with pytest.raises(ValueError, match=f"alone spend {least:.4g}".replace("+", r"\+")):
        calibrate(1.0, 1e-5, steps=100, sampling_rate=0.3, spent=spent)


def test_a_target_just_above_the_least_is_met_or_refused():
    spent = Ledger("example")
    spent.add(30.0, of="label_counts")
    least = spent.epsilon(1e-5)
    for factor in (1.0, 1 + 1e-9, 1 + 1e-6, 1.0001, 1.01):
        try:
            noise = calibrate(least * factor, 1e-5, steps=100, sampling_rate=0.3, spent=spent)
        except ValueError:
            assert factor < 1.01
            continue
        after = spent.merged(Ledger("example", [Event(noise, 0.3, 100)]))
        assert after.epsilon(1e-5) <= least * factor


# ── what it means for an attack ──────────────────────────────────────────────────────


def test_the_advantage_is_delta_at_epsilon_0():
    ledger = Ledger("client", [Event(8.0, steps=50)])
    at_zero = 2 * norm.cdf(gaussian_mu(ledger.events) / 2) - 1
    assert advantage(ledger) == pytest.approx(at_zero)
    assert privacy_loss(ledger.events).get_delta_for_epsilon(0) == pytest.approx(at_zero, rel=1e-3)
    assert gaussian_epsilon(gaussian_mu(ledger.events), at_zero * 1.0001) == 0


@pytest.mark.parametrize("q", [0.1, 0.6])
def test_no_threshold_on_one_sampled_release_beats_the_curve_and_the_best_reaches_it(q):
    ledger = Ledger("example", [Event(1.2, q)])
    x = np.linspace(-8, 8, 2001)
    alarm = norm.sf(x, 0, 1.2)  # for those who were not there
    hit = (1 - q) * alarm + q * norm.sf(x, 1, 1.2)
    curve = attack_success(ledger, alarm)
    assert (curve >= hit - 1e-9).all()
    # Adding and removing differ, and the bound is of the worse: only near its foot is it reached.
    assert advantage(ledger) == pytest.approx((hit - alarm).max(), rel=1e-3)
    assert (curve - alarm).max() == pytest.approx(advantage(ledger), rel=1e-3)


def test_the_curve_of_sampled_releases_with_rate_near_1_is_that_of_all():
    alpha = np.array([0, 1e-4, 0.01, 0.3, 1.0])
    sampled = Ledger("client", [Event(3.0, 1 - 1e-9, 4)])
    full = Ledger("client", [Event(3.0, 1.0, 4)])
    np.testing.assert_allclose(
        attack_success(sampled, alpha), attack_success(full, alpha), rtol=1e-3, atol=1e-6
    )


def test_nothing_released_is_a_coin_and_no_noise_is_certainty():
    assert advantage(Ledger("client")) == 0
    assert attack_success(Ledger("client"), 0.2) == 0.2
    bare = Ledger("client", [Event(0.0)])
    assert advantage(bare) == 1
    assert attack_success(bare, 0.2) == 1


@pytest.mark.parametrize("events", [[STEP], [STEP, COUNTS], [Event(1.3, 0.1, 60)]])
def test_attacks_agree_with_riskcal(events):
    analysis = pytest.importorskip("riskcal.analysis")
    ledger, loss = Ledger("example", events), privacy_loss(events)
    assert advantage(ledger) == pytest.approx(analysis.get_advantage_from_pld(loss))
    alpha = np.array([0.001, 0.01, 0.1, 0.5, 0.9])
    missed = analysis.get_beta_from_pld(loss, alpha)
    np.testing.assert_allclose(attack_success(ledger, alpha), 1 - missed, rtol=2e-3)
