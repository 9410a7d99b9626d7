"""Training by secure sums in one process: the numbers of the plain mean, and what is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from torch import nn

pytest.importorskip("cryptography")

from skfedfocal import (
    FederatedClassifier,
    FederatedTrainingError,
    FedFocalClassifier,
    FedFocalClassifierCV,
    load_model,
    save_model,
)
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.moments import column_moments
from skfedfocal._data.queries import LabelCounts, settle
from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal._module import flatten
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal.engines import Hits, Model, Task, Unanswered, VectorizedEngine
from skfedfocal.engines._secure import SecureEngine, n_words
from skfedfocal.losses import FocalLoss
from skfedfocal.privacy import SecureAggregation
from skfedfocal.privacy._secure import SessionClient, SessionServer
from skfedfocal.privacy._secure._shamir import SHARE_BYTES
from skfedfocal.selection import Selection

N_CLIENTS = 6


def make_federation(seed=0, n=90):
    rng = np.random.default_rng(seed)
    y = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    y[:3] = 0, 1, 2
    X = rng.normal(size=(n, 4)) + 1.5 * np.eye(3, 4)[y]
    clients = np.append(np.arange(N_CLIENTS), rng.integers(N_CLIENTS, size=n - N_CLIENTS))
    return X, y, clients


def small(cls=FedFocalClassifier, **params):
    return cls((5,), **{"n_rounds": 3, "random_state": 0, "batch_size": 8, **params})


def in_double_precision():
    """A network in which the ring's own error would show."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()


class WithDropped(FedFocalClassifier):
    """Whose clients vanish as `dropped` has it."""

    dropped: dict

    def _engine_for(self, module, rows, setup):
        engine = super()._engine_for(module, rows, setup)
        engine.dropped = self.dropped
        return engine


def training_with(dropped, **params):
    model = WithDropped((5,), random_state=0, n_rounds=3, secure_aggregation=True, **params)
    model.dropped = dropped
    return model


# -- the numbers -------------------------------------------------------------------------------


@settings(max_examples=12)
@given(
    seed=st.integers(0, 1000),
    engine=st.sampled_from(["loop", "vectorized"]),
    class_weight=st.sampled_from(["balanced", "local", "effective", "estimated", None]),
    client_gamma=st.sampled_from([0.0, 1.0, 3.0]),
    clients_per_round=st.sampled_from([3, 0.8, 1.0]),
    early_stopping=st.booleans(),
    weighted=st.booleans(),
    part=st.one_of(
        st.builds(lambda gamma: ("gamma", gamma), st.sampled_from([0.0, 1.0, 2.5])),
        st.builds(
            lambda loss: ("loss", loss),
            st.sampled_from(["cross_entropy", "ldam", "logit_adjusted", "sample_dependent_focal"]),
        ),
    ),
)
def test_training_equals_that_by_the_plain_mean(
    seed, engine, class_weight, client_gamma, clients_per_round, early_stopping, weighted, part
):
    X, y, clients = make_federation(seed)
    weight = np.random.default_rng(seed).uniform(0.1, 5, len(y)) if weighted else None
    cls = FedFocalClassifier if part[0] == "gamma" else FederatedClassifier
    plain = small(
        cls,
        engine=engine,
        class_weight=class_weight,
        client_gamma=client_gamma,
        clients_per_round=clients_per_round,
        early_stopping=early_stopping,
        **dict([part]),
    )
    secure = clone(plain).set_params(secure_aggregation=True)
    for model in (plain, secure):
        model.fit(X, y, clients=clients, sample_weight=weight)
    np.testing.assert_allclose(secure.theta_, plain.theta_, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(secure.predict(X), plain.predict(X))
    for column in ("loss", "n_selected", "n_failed", *(["validation_loss"] * early_stopping)):
        np.testing.assert_allclose(secure.history_[column], plain.history_[column], rtol=1e-5)
    if class_weight in ("balanced", "effective"):
        exact = 1e-15 if weighted else 0.0  # of weights, the plain sum has rounded on the way
        np.testing.assert_allclose(secure.class_prior_, plain.class_prior_, rtol=exact, atol=exact)


def test_the_ring_takes_no_digits_that_training_has():
    X, y, clients = make_federation()
    plain = small(module=in_double_precision(), n_rounds=10)
    secure = clone(plain).set_params(secure_aggregation=True)
    thetas = [model.fit(X, y, clients=clients).theta_ for model in (plain, secure)]
    np.testing.assert_allclose(*thetas, rtol=0, atol=1e-11)


def test_training_in_stages_has_the_bits_of_one():
    X, y, clients = make_federation()
    whole = small(n_rounds=4, secure_aggregation=True).fit(X, y, clients=clients)
    parts = small(n_rounds=2, secure_aggregation=True, warm_start=True).fit(X, y, clients=clients)
    np.testing.assert_array_equal(parts.fit(X, y, clients=clients).theta_, whole.theta_)


def test_every_byte_is_counted():
    X, y, clients = make_federation()
    model = small(secure_aggregation=True, class_weight=None, numeric_encoding=None)
    model.fit(X, y, clients=clients)
    n, k, p = N_CLIENTS, N_CLIENTS - 1, len(model.theta_)
    sealed = 8 + 12 + 16 + SHARE_BYTES
    upload = 8 * (1 + n_words(p)) + k * sealed + 32  # with its count, shares and a commitment
    answer = (k + 1) * (8 + SHARE_BYTES)
    keys = 32
    expected = np.full(3, n * (upload + answer))
    expected[0] += n * keys
    np.testing.assert_array_equal(model.history_["bytes_up"], expected)
    told = 8 + 8 * n + k * sealed  # number, survivors, shares
    expected = np.full(3, n * (4 * p + told))
    expected[0] += n * (8 + 8 * n + 32 * n)  # number, cohort, its keys
    np.testing.assert_array_equal(model.history_["bytes_down"], expected)


# -- questions ---------------------------------------------------------------------------------


def plan():
    return LocalPlan(FocalLoss(), None, None, 1, 8, 0.1, 0.0, 0.0, 0.0, 0)


def engines(X, y, clients, weight=None, **terms):
    rows = FederatedRows(
        X, y, weight, ClientLayout.from_ids(clients, len(y)), 3, torch.float64, torch.device("cpu")
    )
    plain = VectorizedEngine(in_double_precision(), rows)
    return plain, SecureEngine(plain, SecureAggregation(**terms))


@given(seed=st.integers(0, 100), scale=st.sampled_from([1e-9, 1.0, 1e9]))
@settings(max_examples=12)
def test_sums_are_those_of_the_plain_engine(seed, scale):
    X, y, clients = make_federation(seed)
    plain, secure = engines(scale * X, y, clients)
    np.testing.assert_array_equal(secure.ask(LabelCounts(3)), plain.ask(LabelCounts(3)))
    some = np.array([0, 2, 5])
    np.testing.assert_array_equal(secure.ask(LabelCounts(3), some), plain.ask(LabelCounts(3), some))
    one, other = (settle(column_moments(), engine.ask) for engine in (secure, plain))
    np.testing.assert_array_equal(one.n, other.n)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-12, atol=scale * 1e-15)
    np.testing.assert_allclose(one.variance, other.variance, rtol=1e-12)


def test_hits_are_exact_and_come_in_their_shape():
    X, y, clients = make_federation()
    plain, secure = engines(X, y, clients)
    model = Model(flatten(plain.module), plan())
    found = secure.ask(Hits(), model=model)
    assert found.shape == (2, 3)
    np.testing.assert_array_equal(found, plain.ask(Hits(), model=model))


def test_nobody_is_asked_alone():
    _, secure = engines(*make_federation())
    with pytest.raises(InvalidParameterError, match="secure_aggregation"):
        secure.ask_each(LabelCounts(3))
    with pytest.raises(Unanswered, match="2 is below min_clients=3"):
        secure.ask(LabelCounts(3), np.array([0, 1]))


def test_an_answer_that_is_not_finite_makes_the_question_unanswered():
    X, y, clients = make_federation()
    X[0] = 1e200  # whose squares are not finite
    _, secure = engines(X, y, clients)
    with pytest.raises(Unanswered, match="1 of 6 clients gave no answer of use"):
        settle(column_moments(), secure.ask)


# -- what the server holds ---------------------------------------------------------------------


def test_the_server_never_holds_a_clients_vector(monkeypatch):
    plain, sent, totals = {}, {}, []
    encode, receive = SessionClient._encode, SessionServer.masked

    def encoding(client, values, weight):
        plain[client.client_id] = encode(client, values, weight)
        return plain[client.client_id].copy()

    def receiving(server, client, answer):
        sent[client] = np.frombuffer(answer["masked"], "<u8")
        receive(server, client, answer)
        arrays = [v for v in vars(server).values() if isinstance(v, np.ndarray)]
        assert len(arrays) == 1  # one total, whatever the number of clients
        totals.append((arrays[0].copy(), sum(plain[k] for k in sent)))

    X, y, clients = make_federation()
    inner, secure = engines(X, y, clients)
    task = Task(flatten(inner.module), plan(), np.arange(N_CLIENTS), 0)
    monkeypatch.setattr(SessionClient, "_encode", encoding)
    monkeypatch.setattr(SessionServer, "masked", receiving)
    (found,) = secure.train(task)
    assert plain.keys() == sent.keys() == set(range(N_CLIENTS))
    for client, vector in plain.items():
        assert len(vector) == 1 + n_words(len(task.theta))
        assert (sent[client] != vector).all()
        bits = np.unpackbits(sent[client].view(np.uint8))
        assert abs(bits.mean() - 0.5) < 6 * 0.5 / np.sqrt(len(bits))  # the monobit test
        of_plain = np.unpackbits(vector.view(np.uint8)).mean()
        assert abs(of_plain - 0.5) > 6 * 0.5 / np.sqrt(len(bits))  # which has something to find
    for masked, unmasked in totals:
        assert (masked != unmasked).all()
    assert found.deltas.shape == (1, len(task.theta))
    assert found.weights.shape == (1,)


# -- clients that vanish -----------------------------------------------------------------------


class Only(Selection):
    """Some clients, in every round."""

    def __init__(self, chosen=()):
        self.chosen = chosen

    def select(self, stats, n_selected, rng):
        return np.array(self.chosen)


def test_a_round_goes_on_with_the_survivors():
    X, y, clients = make_federation()
    dropped = {1: {"masked": [2], "unmask": []}}
    secure = training_with(dropped, class_weight=None).set_params(n_rounds=1)
    secure.fit(X, y, clients=clients)
    others = Only((0, 1, 3, 4, 5))
    plain = FedFocalClassifier((5,), class_weight=None, selection=others, n_rounds=1)
    plain.set_params(random_state=0).fit(X, y, clients=clients)
    np.testing.assert_allclose(secure.theta_, plain.theta_, rtol=0, atol=1e-6)
    assert secure.history_["n_failed"].tolist() == [1]
    np.testing.assert_allclose(secure.history_["loss"], plain.history_["loss"], rtol=1e-6)


def test_who_vanishes_after_the_upload_is_in_the_sum():
    X, y, clients = make_federation()
    secure = training_with({2: {"unmask": [1, 4]}}).fit(X, y, clients=clients)
    plain = FedFocalClassifier((5,), random_state=0, n_rounds=3).fit(X, y, clients=clients)
    np.testing.assert_allclose(secure.theta_, plain.theta_, rtol=0, atol=1e-6)
    assert secure.history_["n_failed"].tolist() == [0, 0, 0]


def test_who_missed_the_keys_is_let_in_later():
    X, y, clients = make_federation()
    secure = training_with({1: {"keys": [4]}}, class_weight=None).fit(X, y, clients=clients)
    assert secure.history_["n_failed"].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "vanishing",
    [
        {"masked": [0, 1, 2]},  # no majority has sent
        {"unmask": [0, 1, 2]},  # none can be unmasked
        {"masked": [1], "unmask": [2]},  # their mask is gone with both
    ],
)
def test_a_lost_round_ends_the_training_with_the_model_before(vanishing):
    X, y, clients = make_federation()
    secure = training_with({3: vanishing})
    with pytest.raises(FederatedTrainingError, match="Round 3: there is no secure sum"):
        secure.fit(X, y, clients=clients)
    assert secure.n_iter_ == 2
    before = training_with({}).set_params(n_rounds=2).fit(X, y, clients=clients)
    np.testing.assert_array_equal(secure.theta_, before.theta_)


def test_questions_need_an_answer_of_all():
    X, y, clients = make_federation()
    with pytest.raises(Unanswered, match="1 of 6 clients"):
        training_with({0: {"masked": [3]}}).fit(X, y, clients=clients)
    stopping = training_with({0: {"masked": [3]}}, class_weight=None, early_stopping=True)
    with pytest.warns(RuntimeWarning, match="no validation loss, for 1 of 6 clients"):
        stopping.fit(X, y, clients=clients)


# -- clients without a usable update -----------------------------------------------------------


@pytest.mark.filterwarnings("ignore:X has the value:UserWarning")
@pytest.mark.filterwarnings("ignore:The first round's loss:UserWarning")
def test_a_client_that_is_not_finite_sends_zeros():
    X, y, clients = make_federation()
    X[clients == 2] *= 1e30
    plain = small(numeric_encoding=None)
    secure = clone(plain).set_params(secure_aggregation=True)
    with pytest.warns(RuntimeWarning, match="goes on without"):
        plain.fit(X, y, clients=clients)
    with pytest.warns(RuntimeWarning, match=r"1 client\(s\) sent zeros"):
        secure.fit(X, y, clients=clients)
    np.testing.assert_allclose(secure.theta_, plain.theta_, rtol=0, atol=1e-6)
    assert secure.history_["n_failed"].tolist() == [0, 0, 0]
    assert np.isfinite(secure.history_["loss"]).all()


def test_the_bound_is_kept_and_training_without_any_update_fails():
    X, y, clients = make_federation()
    model = small(secure_aggregation=SecureAggregation(bound=1e-9))
    with (
        pytest.warns(RuntimeWarning, match="beyond bound=1e-09"),
        pytest.raises(FederatedTrainingError, match="0 of 6 clients replied well"),
    ):
        model.fit(X, y, clients=clients)
    assert not hasattr(model, "theta_")


def test_clients_without_weight_change_nothing():
    X, y, clients = make_federation()
    weight = np.where(clients == 3, 0.0, 1.0)
    plain = small(class_weight=None, client_gamma=0)
    secure = clone(plain).set_params(secure_aggregation=True)
    thetas = [m.fit(X, y, clients=clients, sample_weight=weight).theta_ for m in (plain, secure)]
    np.testing.assert_allclose(*thetas, rtol=0, atol=1e-6)


# -- refusals ----------------------------------------------------------------------------------


class Unasked(FedFocalClassifier):
    """Fails where its clients are asked for anything."""

    def _open_engine(self, module, rows, setup):
        engine = super()._open_engine(module, rows, setup)
        engine.train = engine._answers = None
        return engine


@pytest.mark.parametrize(
    ("params", "other"),
    [
        *(
            ({"aggregation": name, "client_gamma": 0}, f"aggregation='{name}'")
            for name in ("median", "krum", "trimmed_mean", "geometric_median", "clipped_mean")
        ),
        ({"selection": "focal"}, "selection='focal'.*recall of each client"),
        ({"selection": "category_coverage"}, "selection='category_coverage'.*label counts of each"),
        ({"clients_per_round": 2}, "clients_per_round=2.*min_clients=3"),
        ({"clients_per_round": 0.1}, "clients_per_round=0.1.*min_clients=3"),
    ],
)
def test_parts_that_cannot_go_together_are_named_before_anyone_is_asked(params, other):
    X, y, clients = make_federation()
    model = Unasked(secure_aggregation=True, n_rounds=1, **params)
    with pytest.raises(InvalidParameterError, match=f"secure_aggregation cannot go with {other}"):
        model.fit(X, y, clients=clients)


def test_two_clients_are_refused_and_so_is_one():
    X, y, clients = make_federation()
    for few in (clients % 2, None):
        n = 1 if few is None else 2
        with pytest.raises(InvalidParameterError, match=rf"cannot go with {n} client\(s\)"):
            Unasked(secure_aggregation=True).fit(X, y, clients=few)
    larger = SecureAggregation(min_clients=7)
    with pytest.raises(InvalidParameterError, match=r"6 client\(s\).*min_clients=7"):
        Unasked(secure_aggregation=larger).fit(X, y, clients=clients)


@pytest.mark.parametrize("bound", [1e12, 1e30])
def test_more_than_the_ring_allows_is_refused(bound):
    X, y, clients = make_federation()
    model = Unasked(secure_aggregation=SecureAggregation(bound=bound))
    with pytest.raises(InvalidParameterError, match="secure_aggregation with bound="):
        model.fit(X, y, clients=clients)


def test_class_weights_that_the_ring_does_not_allow_are_refused():
    X, y, clients = make_federation()
    model = small(secure_aggregation=True, class_weight={0: 1.0, 1: 1e12, 2: 1.0})
    model.set_params(logit_adjustment=0)  # all of it weighs rows
    with pytest.raises(InvalidParameterError, match="secure_aggregation with bound="):
        model.fit(X, y, clients=clients)
    heavy = small(secure_aggregation=True, class_weight={0: 1e12, 1: 1e12, 2: 1e12})
    light = small(secure_aggregation=True, class_weight=None, client_gamma=0)
    heavy.set_params(client_gamma=0, logit_adjustment=0)
    thetas = [m.fit(X, y, clients=clients).theta_ for m in (heavy, light)]
    np.testing.assert_allclose(*thetas, rtol=0, atol=1e-6)


def test_the_search_has_no_secure_sums():
    with pytest.raises(TypeError, match="secure_aggregation"):
        FedFocalClassifierCV(secure_aggregation=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_clients": 2},
        {"threshold": 0.5},
        {"threshold": 1.0},
        {"bound": 0.0},
        {"colluders": 0.5},
        {"dropouts": -0.1},
    ],
)
def test_wrong_terms_are_refused(wrong):
    with pytest.raises(InvalidParameterError, match=next(iter(wrong))):
        FedFocalClassifier(secure_aggregation=SecureAggregation(**wrong)).check()


def test_without_the_package_that_encrypts_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ImportError, match=r"skfedfocal\[privacy\]"):
        FedFocalClassifier(secure_aggregation=True).check()


# -- a part like others ------------------------------------------------------------------------


def test_secure_sums_disclose_nothing_of_a_single_client():
    from skfedfocal._disclosure import LABEL_TOTALS, SINGLE, VALIDATION_LOSS
    from skfedfocal._training.parts import resolve_parts

    model = FedFocalClassifier(early_stopping=True)
    found = []
    for model.secure_aggregation in (False, True):
        parts = resolve_parts(model, model._resolve_loss(), model.class_weight)
        found.append(frozenset().union(*parts.discloses.values()))
    assert found[0] & SINGLE
    assert not found[1] & SINGLE
    assert found[1] == found[0] - SINGLE
    assert {LABEL_TOTALS, VALIDATION_LOSS} <= found[1]


def test_it_is_a_parameter_like_others(tmp_path):
    X, y, clients = make_federation()
    model = small(secure_aggregation=SecureAggregation(threshold=0.7))
    model.set_params(secure_aggregation__min_clients=4).fit(X, y, clients=clients)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.secure_aggregation.get_params() == model.secure_aggregation.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize(("share", "n", "t"), [(0.51, 10, 6), (0.7, 10, 8), (0.99, 50, 50)])
def test_the_threshold_is_a_share_of_the_cohort(share, n, t):
    assert SecureAggregation(threshold=share).terms(n).neighbors_and_threshold(n) == (n - 1, t)
