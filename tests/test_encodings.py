"""Encodings: cuts and columns as of pooled rows, the same everywhere that a model is used."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfedfocal import (
    FederatedClassifier,
    FedFocalClassifier,
    FedFocalClassifierCV,
    PersonalizedClassifier,
    dirichlet_partition,
    iid_partition,
    load_model,
    save_model,
)
from skfedfocal._data.quantiles import CountsBelow, column_cuts
from skfedfocal._data.queries import settle
from skfedfocal._sklearn import InvalidParameterError
from skfedfocal.encodings import PiecewiseLinearEncoding, StandardEncoding
from skfedfocal.encodings._encoder import EncodedModule, RowEncoder
from skfedfocal.preprocessing._ask import settle_here

tables = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 30), st.just(3)),
    elements=st.one_of(st.sampled_from([0.0, -0.0, 1.0, 5e-324, -1e-310]), st.floats(-1e30, 1e30)),
)
encodings = st.one_of(
    st.builds(StandardEncoding, bound=st.sampled_from([None, 0.5, 3.0])),
    st.builds(
        PiecewiseLinearEncoding,
        n_bins=st.integers(1, 40),
        height=st.sampled_from([0.5, 1.0]),
        bound=st.sampled_from([None, 3.0]),
    ),
)
ENCODED = ["auto", "standard", StandardEncoding(3.0), "piecewise_linear"]
SMALL = {"hidden_layer_sizes": (8,), "n_rounds": 3, "random_state": 0}


def raw_columns(seed=0, n=120):
    """Rows of columns of very different scales, one of them constant and one with two values."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    X = rng.normal(size=(n, 6)) + np.eye(3, 6)[y]
    X = X * [1, 1e3, 1e-3, 1e6, 1, 1] + [0, 50, 0, 1e7, 3, 0]
    X[:, 4], X[:, 5] = 3, X[:, 5] > 0
    return X, y, rng.integers(0, 4, n)


# -- what is found from sums ---------------------------------------------------------------------


@given(tables, st.integers(1, 40), st.integers(0, 99))
def test_cuts_are_values_of_pooled_rows(X, n_bins, seed):
    clients = np.random.default_rng(seed).integers(0, 5, len(X))
    found = settle_here(column_cuts(n_bins), X, clients)
    places = [t * (len(X) - 1) // n_bins for t in range(n_bins + 1)]
    assert_array_equal(found, np.sort(X, axis=0)[places])


def test_cuts_of_many_ranks_are_asked_for_in_answers_of_bounded_size():
    X, sizes = np.random.default_rng(0).normal(size=(20, 100)), []

    def ask(query):
        assert type(query) is CountsBelow
        answer = query.answer(X, None, None)
        sizes.append(answer.size)
        return answer

    found = settle(column_cuts(32), ask)
    assert max(sizes) <= 1 << 17
    assert_array_equal(found, np.quantile(X, np.arange(33) / 32, axis=0, method="lower"))


def by_hand(encoding, X, rows):
    """Rows as an encoding fitted on X has them: number by number, as its docstring says."""
    out = []
    for row in rows:
        first, last = [], []
        for column, x in zip(X.T, row, strict=True):
            spread = StandardScaler().fit(column[:, None]).scale_[0]
            z = (x - np.mean(column)) / spread
            first.append(
                z if encoding.bound is None else z / np.sqrt(1 + (z / encoding.bound) ** 2)
            )
            for t in range(getattr(encoding, "n_bins", 0)):
                n_bins, ordered = encoding.n_bins, np.sort(column)
                places = [s * (len(X) - 1) // n_bins for s in (t, t + 1)]
                low, high = ordered[places]
                if high > low:
                    last.append(encoding.height * min(1, max(0, (x - low) / (high - low))))
        out.append(first + last)
    return np.array(out)


@settings(max_examples=60)
@given(encodings, st.integers(1, 40), st.integers(0, 999))
def test_rows_are_encoded_as_the_formula_says(encoding, n, seed):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.normal(1e4, 1, n), rng.integers(0, 3, n), np.full(n, 7.0)])
    rows = np.concatenate([X, X + rng.normal(size=X.shape), [[1e8, -9.0, 7.0]]])
    clients = rng.integers(0, 3, n)
    encoder = settle_here(encoding.questions(3), X, clients)
    found = encoder.encode(torch.as_tensor(rows)).numpy()
    assert found.shape == (len(rows), encoder.n_outputs)
    assert_allclose(found, by_hand(encoding, X, rows), rtol=1e-6, atol=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 99), st.sampled_from(ENCODED[1:]))
def test_units_of_columns_change_nothing(seed, numeric_encoding):
    X, y, clients = raw_columns(seed)
    rng = np.random.default_rng(seed)
    factor, offset = 10.0 ** rng.uniform(-4, 4, X.shape[1]), rng.normal(0, 10, X.shape[1])
    other = X * factor + offset * factor * X.std(0).clip(1e-3)
    model = FedFocalClassifier(numeric_encoding=numeric_encoding, **SMALL)
    one = clone(model).fit(X, y, clients=clients)
    two = clone(model).fit(other, y, clients=clients)
    assert_allclose(two.predict_proba(other), one.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_raw_columns_give_the_model_of_scaled_ones(load):
    X, y = load(return_X_y=True)
    clients = dirichlet_partition(y, 5, random_state=0)
    raw = FedFocalClassifier(n_rounds=10, random_state=0).fit(X, y, clients=clients)
    scaled = make_pipeline(StandardScaler(), clone(raw))
    scaled.fit(X, y, fedfocalclassifier__clients=clients)
    assert raw.encoder_ is not None
    assert scaled[-1].encoder_ is None
    assert_allclose(raw.theta_, scaled[-1].theta_, atol=1e-6)
    assert_allclose(raw.predict_proba(X), scaled.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("load", [load_breast_cancer, load_wine])
def test_raw_columns_train_as_well_as_with_scikit_learns_network(load):
    X, y = load(return_X_y=True)
    ours, theirs = [], []
    for seed in range(3):
        A, B, a, b = train_test_split(X, y, stratify=y, random_state=seed)
        clients = iid_partition(a, 5, random_state=seed)
        model = FedFocalClassifier(random_state=seed).fit(A, a, clients=clients)
        ours.append(model.score(B, b))
        with warnings.catch_warnings(action="ignore"):  # it does not converge
            network = MLPClassifier(random_state=seed).fit(A, a)
        theirs.append(np.mean([(network.predict(B[b == c]) == c).mean() for c in np.unique(b)]))
    assert np.mean(ours) >= np.mean(theirs)


def test_bins_learn_what_is_not_monotone_in_columns():
    X = np.random.default_rng(0).uniform(-2, 2, size=(1200, 3))
    y = np.floor(2 * X[:, 0]) % 2
    clients = iid_partition(y, 4, random_state=0)
    params = {"n_rounds": 40, "batch_size": 10, "learning_rate": 0.3, "random_state": 0}
    plain, bins = (
        FedFocalClassifier(numeric_encoding=name, **params)
        .fit(X[:800], y[:800], clients=clients[:800])
        .score(X[800:], y[800:])
        for name in ("standard", "piecewise_linear")
    )
    assert bins > plain + 0.1


# -- when ----------------------------------------------------------------------------------------


def test_a_model_with_bins_begins_as_one_without():
    """So columns are learned as well as without bins, and bins where they say more."""
    X, y, _ = raw_columns()
    settings_ = {**SMALL, "n_rounds": 1, "learning_rate": 1e-9}
    without = FedFocalClassifier(numeric_encoding="standard", **settings_).fit(X, y)
    bins = PiecewiseLinearEncoding(bound=None)
    with_bins = FedFocalClassifier(numeric_encoding=bins, **settings_).fit(X, y)
    assert len(with_bins.theta_) > len(without.theta_)
    assert_allclose(with_bins.predict_proba(X), without.predict_proba(X), atol=1e-6)
    trained = with_bins.set_params(learning_rate=0.1).fit(X, y)
    first = next(trained.module_.module.parameters())
    assert (first[:, X.shape[1] :] != 0).any(0).all()  # and every bin is trained


@pytest.mark.parametrize("change", [lambda X: X, lambda X: 2 + X, lambda X: 1 / (1 + np.exp(-X))])
def test_columns_of_order_one_stay_as_they_are_to_the_bit(federation, change):
    X, y = change(federation.X), federation.y
    auto, none = (
        FedFocalClassifier(numeric_encoding=name, **SMALL).fit(X, y, clients=federation.clients)
        for name in ("auto", None)
    )
    assert auto.encoder_ is None
    assert_array_equal(auto.theta_, none.theta_)


@pytest.mark.parametrize("change", [lambda X: 1e3 * X, lambda X: X + 10, lambda X: 1e-3 * X])
def test_columns_of_another_order_are_standardised(federation, change):
    X, y = change(federation.X), federation.y
    model = FedFocalClassifier(**SMALL).fit(X, y, clients=federation.clients)
    assert_allclose(model.encoder_.mean, X.mean(0), rtol=1e-9, atol=1e-9)
    assert_allclose(model.encoder_.scale, X.std(0), rtol=1e-9)


def module_for(n_in):
    return lambda n_features, n_classes: torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(n_in, n_classes)
    )


CASES = {
    "sparse": (lambda X: sparse.csr_matrix(X), None),
    "images": (lambda X: X.reshape(-1, 2, 3), module_for(6)),
    "module": (lambda X: X, module_for(6)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_has_no_columns_of_numbers_is_left_alone_and_refused_by_name(case):
    X, y, clients = raw_columns()
    change, module = CASES[case]
    X = change(np.asarray(X.mean(0) < X, float))
    model = FedFocalClassifier(module=module, **SMALL)
    assert model.fit(X, y, clients=clients).encoder_ is None
    for name in ("standard", "piecewise_linear", StandardEncoding(3.0)):
        with pytest.raises(ValueError, match=r"numeric_encoding=.*cannot be"):
            clone(model).set_params(numeric_encoding=name).fit(X, y, clients=clients)


def test_wide_rows_are_not_asked_about():
    rng = np.random.default_rng(0)
    X, y = 100 * rng.normal(size=(30, 300)), np.arange(30) % 2
    with warnings.catch_warnings(action="ignore"):
        assert FedFocalClassifier(**SMALL).fit(X, y).encoder_ is None
    model = FedFocalClassifier(numeric_encoding="standard", **SMALL).fit(X, y)
    assert len(model.encoder_.mean) == 300


@pytest.mark.parametrize(
    "wrong", ["robust", 3, PiecewiseLinearEncoding(0), StandardEncoding(0.0), StandardEncoding]
)
def test_unknown_encodings_are_refused(wrong):
    X, y, clients = raw_columns()
    with pytest.raises(InvalidParameterError):
        FedFocalClassifier(numeric_encoding=wrong, **SMALL).fit(X, y, clients=clients)


# -- the same everywhere -------------------------------------------------------------------------


@pytest.mark.parametrize("numeric_encoding", ENCODED, ids=str)
@pytest.mark.parametrize("n_clients", [1, 4, 40])
def test_engines_agree(numeric_encoding, n_clients):
    X, y, _ = raw_columns()
    clients = np.arange(len(X)) % n_clients
    one, two = (
        FedFocalClassifier(numeric_encoding=numeric_encoding, engine=engine, **SMALL).fit(
            X, y, clients=clients
        )
        for engine in ("loop", "vectorized")
    )
    assert_allclose(one.theta_, two.theta_, atol=2e-5)
    assert_allclose(one.history_["loss"], two.history_["loss"], rtol=1e-5)


@pytest.mark.parametrize("numeric_encoding", ENCODED, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_types_of_rows(numeric_encoding, dtype):
    X, y, clients = raw_columns()
    X = np.round(X * [100, 1, 1e5, 1e-4, 1, 1]).astype(dtype)
    model = FedFocalClassifier(numeric_encoding=numeric_encoding, **SMALL)
    one = clone(model).fit(X, y, clients=clients)
    two = clone(model).fit(X.astype(np.float64), y, clients=clients)
    assert_array_equal(one.theta_, two.theta_)
    assert_array_equal(one.predict_proba(X), two.predict_proba(X.astype(np.float64)))


@pytest.mark.parametrize("numeric_encoding", ENCODED, ids=str)
def test_files_pickles_and_the_module_say_the_same(numeric_encoding, tmp_path):
    X, y, clients = raw_columns()
    model = FedFocalClassifier(numeric_encoding=numeric_encoding, **SMALL)
    model.fit(X, y, clients=clients)
    save_model(model, tmp_path / "model")
    wanted = model.predict_proba(X)
    for other in (load_model(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        assert_array_equal(other.predict_proba(X), wanted)
        assert isinstance(other.encoder_, RowEncoder)
    module = model.module_
    assert isinstance(module, EncodedModule)
    with torch.no_grad():
        logits = module(torch.as_tensor(X))
        exported = torch.export.export(module, (torch.as_tensor(X),)).module()
        assert_array_equal(exported(torch.as_tensor(X)).numpy(), logits.numpy())
    proba = model.loss_.log_posterior(logits, torch.as_tensor(model.loss_constants_)).exp()
    assert_allclose(proba.numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("numeric_encoding", ENCODED, ids=str)
def test_stages_and_interruptions_have_the_bits_of_one_training(numeric_encoding, tmp_path):
    X, y, clients = raw_columns()
    whole = FedFocalClassifier(numeric_encoding=numeric_encoding, **{**SMALL, "n_rounds": 4})
    wanted = clone(whole).fit(X, y, clients=clients).theta_

    staged = clone(whole).set_params(n_rounds=2, warm_start=True)
    assert_array_equal(staged.fit(X, y, clients=clients).fit(X, y, clients=clients).theta_, wanted)

    stepped = clone(whole)
    for _ in range(4):
        stepped.partial_fit(X, y, clients=clients)
    assert_array_equal(stepped.theta_, wanted)

    begun = clone(whole).set_params(n_rounds=2)
    begun.fit(X, y, clients=clients, checkpoint=tmp_path / "training")
    gone_on = clone(whole).fit(X, y, clients=clients, checkpoint=tmp_path / "training")
    assert_array_equal(gone_on.theta_, wanted)
    with pytest.raises(ValueError, match="numeric_encoding"):
        clone(whole).set_params(numeric_encoding=PiecewiseLinearEncoding(3)).fit(
            X, y, clients=clients, checkpoint=tmp_path / "training"
        )


def test_the_first_call_says_how_columns_are_encoded():
    X, y, clients = raw_columns()
    model = FedFocalClassifier(**SMALL).partial_fit(X, y, clients=clients)
    before = model.encoder_
    model.partial_fit(X / 1e6, y, clients=clients)
    assert model.encoder_ is before
    with pytest.raises(ValueError, match="numeric_encoding came to"):
        model.set_params(numeric_encoding="piecewise_linear").partial_fit(X, y, clients=clients)


@pytest.mark.parametrize("numeric_encoding", ENCODED, ids=str)
def test_rows_of_weight_zero_are_as_if_not_there(numeric_encoding):
    X, y, clients = raw_columns()
    kept = np.arange(len(X)) % 3 > 0
    model = FedFocalClassifier(numeric_encoding=numeric_encoding, **SMALL)
    wild = np.where(kept[:, None], X, 1e9)
    one = clone(model).fit(wild, y, clients=clients, sample_weight=kept.astype(float))
    two = clone(model).fit(X[kept], y[kept], clients=clients[kept])
    assert_array_equal(one.encoder_.mean, two.encoder_.mean)
    assert_array_equal(one.encoder_.low, two.encoder_.low)


def test_all_classifiers_encode():
    X, y, clients = raw_columns()
    settings = {**SMALL, "numeric_encoding": "piecewise_linear"}
    for model in (FederatedClassifier(**settings), FedFocalClassifierCV(cv=2, **settings)):
        model.fit(X, y, clients=clients)
        assert len(model.encoder_.column)
        assert model.module_.module[0].in_features == model.encoder_.n_outputs


def test_under_secure_sums_the_encoder_is_that_of_sums():
    pytest.importorskip("cryptography")
    X, y, clients = raw_columns()
    model = FedFocalClassifier(numeric_encoding="piecewise_linear", **SMALL)
    plain = clone(model).fit(X, y, clients=clients)
    secure = clone(model).set_params(secure_aggregation=True).fit(X, y, clients=clients)
    for name in ("column", "low", "width"):  # of counts, which are whole
        assert_array_equal(getattr(secure.encoder_, name), getattr(plain.encoder_, name))
    assert_allclose(secure.encoder_.mean, plain.encoder_.mean, rtol=1e-9)
    assert_allclose(secure.encoder_.scale, plain.encoder_.scale, rtol=1e-9)
    with pytest.raises(InvalidParameterError, match="secure_aggregation"):
        secure.fit(X, y, clients=clients % 2)


@pytest.mark.parametrize("numeric_encoding", ENCODED, ids=str)
def test_own_models_of_clients_see_encoded_rows(numeric_encoding):
    X, y, clients = raw_columns()
    model = FedFocalClassifier(numeric_encoding=numeric_encoding, **SMALL)
    own = PersonalizedClassifier(model, random_state=0).fit(X, y, clients=clients)
    encoder = own.estimator_.encoder_
    rows = encoder.encode(torch.as_tensor(X)).float().numpy()  # as if that were a step before
    behind = PersonalizedClassifier(model.set_params(numeric_encoding=None), random_state=0)
    behind.fit(rows, y, clients=clients)
    np.testing.assert_array_equal(own.shares_, behind.shares_)
    np.testing.assert_allclose(own.validation_losses_, behind.validation_losses_, rtol=1e-3)
    np.testing.assert_allclose(own.thetas_, behind.thetas_, rtol=1e-3, atol=1e-4)
    found = own.predict_proba(X, clients=clients)
    np.testing.assert_allclose(found, behind.predict_proba(rows, clients=clients), atol=1e-3)


def test_private_training_asks_for_no_sums_of_columns():
    pytest.importorskip("dp_accounting")
    from skfedfocal.privacy import ExampleLevelDP

    X, y, clients = raw_columns()
    model = FedFocalClassifier(privacy=ExampleLevelDP(target_epsilon=8.0), **SMALL)
    with warnings.catch_warnings(action="ignore"):
        assert model.fit(X, y, clients=clients).encoder_ is None
    for name in ("standard", "piecewise_linear"):
        with pytest.raises(InvalidParameterError, match="numeric_encoding"):
            clone(model).set_params(numeric_encoding=name).fit(X, y, clients=clients)


# -- what is said --------------------------------------------------------------------------------


def test_a_client_with_another_unit_is_not_silent():
    X, y, clients = raw_columns()
    X = X / X.std(0).clip(1e-9)
    X[clients == 1, 0] *= 1e4
    with pytest.warns(UserWarning, match=r"X has the value .* in column 0: so far from the rest"):
        FedFocalClassifier(**SMALL).fit(X, y, clients=clients)
    with warnings.catch_warnings(action="error"):
        FedFocalClassifier(numeric_encoding="piecewise_linear", **SMALL).fit(X, y, clients=clients)
