"""Clients that fail: rounds go on without them, name them, and end where too few are left."""

import re
import warnings

import numpy as np
import pytest
import torch
from oracles import federation, mlp64
from torch import nn

from skfedfocal import (
    FederatedClassifier,
    FederatedTrainingError,
    FedFocalClassifier,
    FedFocalClassifierCV,
    load_model,
    save_model,
)
from skfedfocal._training.failures import check_enough, in_words
from skfedfocal.engines import Failure

# Rows that are too large on purpose also tell of their scale.
pytestmark = pytest.mark.filterwarnings("ignore:The first round's loss:UserWarning")

SIZES = [30, 12, 7, 25, 18, 9]
IDS = np.array(["oslo", "bergen", "voss", "røst", "moss", "bodø"])
every_engine = pytest.mark.parametrize("engine", ["loop", "vectorized"])


class Picky(nn.Module):
    """Raises on a row whose first value is beyond a limit; the rest is a network that is given."""

    def __init__(self, inside=None, error=LookupError):
        super().__init__()
        self.inside = mlp64() if inside is None else inside
        self.error = error

    def forward(self, x):
        if self.inside[0].weight.ndim == 2 and bool((x[..., 0] > 50).any()):
            raise self.error("a row\nbeyond 50")
        return self.inside(x)


def table(bad=(3,)):
    """Six clients, the bad ones of which have a row that the module does not take."""
    X, y, clients = federation(SIZES)
    for k in bad:
        X[np.flatnonzero(clients == k)[-1], 0] = 99.0
    return X, y, IDS[clients]


def model(**params):
    options = {"module": Picky(), "n_rounds": 3, "batch_size": 5, "random_state": 0}
    return FederatedClassifier(**(options | params))


def failed(fitted):
    return [(f["round"], f["client"]) for f in fitted.failures_]


@every_engine
@pytest.mark.parametrize("client_gamma", [0.0, 1.0])
def test_a_round_goes_on_without_a_client_on_whose_rows_the_module_raises(engine, client_gamma):
    X, y, clients = table()
    clf = model(engine=engine, client_gamma=client_gamma)
    said = r"^Round 1 goes on without 'røst' \(number 3 of clients_: LookupError: a row beyond 50\)"
    with pytest.warns(RuntimeWarning, match=said) as caught:
        clf.fit(X, y, clients=clients)
    assert len(caught) == 1
    assert failed(clf) == [(1, "røst"), (2, "røst"), (3, "røst")]
    assert {f["reason"] for f in clf.failures_} == {"LookupError: a row beyond 50"}
    np.testing.assert_array_equal(clf.history_["n_failed"], [1, 1, 1])
    np.testing.assert_array_equal(clf.history_["n_selected"], [6, 6, 6])
    np.testing.assert_array_equal(clf.clients_, IDS)


@every_engine
def test_the_model_is_that_of_the_others(engine):
    """The last client fails, so that the others keep their numbers and with them their shuffles."""
    X, y, clients = table(bad=[5])
    with pytest.warns(RuntimeWarning, match="'bodø'"):
        clf = model(engine=engine).fit(X, y, clients=clients)
    others = clients != "bodø"
    fewer = model(engine=engine).fit(X[others], y[others], clients=clients[others])
    np.testing.assert_allclose(clf.theta_, fewer.theta_, rtol=0, atol=1e-12)
    np.testing.assert_allclose(clf.history_["loss"], fewer.history_["loss"], atol=1e-12)


def test_engines_leave_out_the_same_clients_and_agree():
    X, y, clients = table(bad=[1, 4])
    fits = []
    for engine in ("loop", "vectorized"):
        with pytest.warns(RuntimeWarning, match=r"'bergen' .*; 'moss' "):
            fits.append(model(engine=engine).fit(X, y, clients=clients))
    assert failed(fits[0]) == failed(fits[1])
    np.testing.assert_allclose(fits[0].theta_, fits[1].theta_, rtol=0, atol=1e-12)


@every_engine
def test_what_raises_on_all_clients_is_raised_as_it_is(engine, unchanged):
    X, y, clients = table(bad=range(6))
    clf = model(engine=engine)
    with unchanged(clf), pytest.raises(LookupError, match="beyond 50") as raised:
        clf.fit(X, y, clients=clients)
    assert raised.value.__notes__ == ["Raised in round 1 by all of the 6 client(s) asked."]


@every_engine
def test_an_interrupt_is_not_a_failure(engine):
    X, y, clients = table()
    clf = model(engine=engine, module=Picky(error=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y, clients=clients)


@every_engine
def test_fewer_good_replies_than_needed_end_the_training_and_say_why(engine, unchanged):
    X, y, clients = table(bad=[1, 4])
    clf = model(engine=engine, min_clients=5)
    with unchanged(clf), pytest.raises(FederatedTrainingError) as raised:
        clf.fit(X, y, clients=clients)
    words = (
        r"Round 1: 4 of 6 clients replied well, but 5 are needed; not 'bergen' \(number 1 of "
        r"clients_: LookupError: a row beyond 50\); 'moss' \(number 4 .*\)\.$"
    )
    assert re.match(words, str(raised.value))
    assert isinstance(raised.value.__cause__, LookupError)
    with pytest.warns(RuntimeWarning, match="'bergen'"):
        model(engine=engine, min_clients=4).fit(X, y, clients=clients)


def test_the_last_good_model_is_kept_where_too_few_are_left():
    """Some rounds have a cohort without the client that fails."""
    X, y, clients = table(bad=[1])
    options = {"clients_per_round": 2, "n_rounds": 30}
    clf = model(min_clients=2, **options)
    with pytest.raises(
        FederatedTrainingError, match=r"1 of 2 clients .* 2 are .*'bergen'"
    ) as error:
        clf.fit(X, y, clients=clients)
    number = int(re.match(r"Round (\d+):", str(error.value))[1])
    assert clf.n_iter_ == len(clf.history_["loss"]) == number - 1 > 0
    assert failed(clf) == [(number, "bergen")]
    good = model(**options | {"n_rounds": number - 1}).fit(X, y, clients=clients)
    np.testing.assert_array_equal(clf.theta_, good.theta_)
    assert good.failures_ == []


def test_a_cohort_smaller_than_what_is_needed_needs_all_of_its_clients():
    X, y, clients = table(bad=[])
    clf = model(min_clients=100, clients_per_round=2).fit(X, y, clients=clients)
    assert clf.failures_ == []


def test_each_client_is_warned_of_once_in_a_training_however_it_goes_on():
    X, y, clients = table(bad=[1, 4])
    whole = model(n_rounds=8, clients_per_round=3)
    with pytest.warns(RuntimeWarning) as caught:
        whole.fit(X, y, clients=clients)
    text = " ".join(str(w.message) for w in caught)
    assert text.count("'bergen'") == text.count("'moss'") == 1
    stages = model(n_rounds=4, clients_per_round=3, warm_start=True)
    with pytest.warns(RuntimeWarning) as caught:
        stages.fit(X, y, clients=clients).fit(X, y, clients=clients)
    assert len(caught) <= 2
    assert stages.failures_ == whole.failures_
    np.testing.assert_array_equal(stages.theta_, whole.theta_)


def test_a_message_names_five_of_many():
    X, y, clients = federation([6] * 12)
    X[clients < 8, 0] = np.where(np.arange(np.sum(clients < 8)) % 2, 99.0, X[clients < 8, 0])
    keep = [np.flatnonzero(clients == 11)[:2], np.flatnonzero(clients != 11)]
    order = np.concatenate([keep[0], np.flatnonzero(clients == 11)[2:], keep[1]])
    X, y, clients = X[order], y[order], clients[order]
    with pytest.warns(RuntimeWarning, match=r"'?0'? \(number .*; 3 more\. Later"):
        clf = model(n_rounds=1).fit(X, y, clients=clients)
    assert len(clf.failures_) == 8


@pytest.mark.parametrize("n", [1, 4, 5, 6, 9])
def test_a_message_counts_those_that_it_does_not_name(n):
    text = in_words([Failure(k, "away") for k in range(n)], np.arange(n))
    assert text.count("away") == min(n, 5)
    assert ("more" in text) == (n > 5)
    if n > 5:
        assert text.endswith(f"; {n - 5} more")


def test_an_error_of_the_users_own_is_raised_only_where_all_clients_have_one():
    raised, away = Failure(0, "raised", LookupError("a row")), Failure(1, "away")
    ids = np.array(["oslo", "bergen"])
    with pytest.raises(LookupError, match="a row"):
        check_enough([raised], 0, 1, 1, 1, ids)
    with pytest.raises(FederatedTrainingError, match="0 of 2 clients replied well"):
        check_enough([raised, away], 0, 2, 1, 1, ids)
    with pytest.raises(FederatedTrainingError, match="1 of 2 clients replied well, but 2 are"):
        check_enough([raised], 1, 2, 2, 1, ids)
    check_enough([raised], 1, 2, 1, 1, ids)


def test_early_stopping_leaves_out_the_rows_that_the_module_does_not_take():
    X, y, clients = table(bad=[3])
    X[clients == "røst", 0] = 99.0  # held out or not
    clf = model(early_stopping=True, n_rounds=4, validation_fraction=0.3, engine="loop")
    with pytest.warns(RuntimeWarning) as caught:
        clf.fit(X, y, clients=clients)
    assert np.isfinite(clf.history_["validation_loss"]).all()
    said = [str(w.message) for w in caught]
    assert sum("judged on the rows of client number 3" in text for text in said) == 1
    assert len(said) == 2


def test_estimated_class_weights_need_every_client():
    X, y, clients = table()
    with pytest.raises(FederatedTrainingError, match=r"1 gave none, first number 3 .*LookupError"):
        model(class_weight="estimated").fit(X, y, clients=clients)


def test_a_search_goes_on_without_a_client_too():
    X, y, clients = table()
    X[clients == "røst", 0] = 99.0
    search = FedFocalClassifierCV(
        module=Picky(), gammas=(0.0, 1.0), n_rounds=4, min_clients=5, random_state=0, cv=2
    )
    with pytest.warns(RuntimeWarning, match="goes on without 'røst'"):
        search.fit(X, y, clients=clients)
    np.testing.assert_array_equal(search.history_["n_failed"], 1)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    "ids",
    [
        IDS,
        np.arange(6) * 7,
        [("a", k) for k in range(6)],
        np.datetime64("2026-01-01") + np.arange(6),
    ],
    ids=["text", "numbers", "tuples", "dates"],
)
def test_failures_are_written_and_read_with_the_model(ids, tmp_path):
    X, y, clients = table()
    numbers = np.array([list(IDS).index(c) for c in clients])
    named = [ids[k] for k in numbers]
    with warnings.catch_warnings(action="ignore"):
        clf = FedFocalClassifier(
            module=Picky(nn.Sequential(nn.Linear(5, 3))), n_rounds=2, random_state=0
        ).fit(X, y, clients=named)
    save_model(clf, tmp_path / "model")
    again = load_model(tmp_path / "model", module=Picky(nn.Sequential(nn.Linear(5, 3))))
    assert again.failures_ == clf.failures_
    assert [f["client"] for f in again.failures_] == [ids[3], ids[3]]


def test_failures_outlive_a_checkpoint(tmp_path):
    X, y, clients = table()
    whole, stages = model(), model(n_rounds=2)
    with pytest.warns(RuntimeWarning):
        whole.fit(X, y, clients=clients)
    with pytest.warns(RuntimeWarning):
        stages.fit(X, y, clients=clients, checkpoint=tmp_path / "c")
    stages.set_params(n_rounds=3, min_clients=2).fit(
        X, y, clients=clients, checkpoint=tmp_path / "c"
    )
    assert stages.failures_ == whole.failures_
    np.testing.assert_array_equal(stages.theta_, whole.theta_)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "all"])
def test_min_clients_is_a_number_of_clients(wrong):
    X, y, clients = table(bad=[])
    with pytest.raises(ValueError, match="min_clients"):
        model(min_clients=wrong).fit(X, y, clients=clients)


def test_a_block_of_stacked_layers_finds_out_who_fails(monkeypatch):
    """The kernel that trains many clients at once raises; one by one only one does."""
    from skfedfocal.engines._kernels.mlp import MLPKernel

    X, y, clients = table()
    step = MLPKernel.step

    def picky(self, params, batch, *args):
        if bool((batch.x > 50).any()):
            raise MemoryError("too much")
        return step(self, params, batch, *args)

    monkeypatch.setattr(MLPKernel, "step", picky)
    X[clients == "røst", 0] = 99.0
    clf = FederatedClassifier((8,), n_rounds=2, momentum=0.5, numeric_encoding=None, random_state=0)
    with pytest.warns(RuntimeWarning, match=r"'røst' \(number 3 .*MemoryError: too much"):
        clf.fit(X, y, clients=clients)
    assert failed(clf) == [(1, "røst"), (2, "røst")]
    assert torch.isfinite(torch.from_numpy(clf.theta_)).all()
