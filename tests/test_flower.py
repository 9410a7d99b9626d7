"""Over sites as in one process: the same numbers, and every fault ends as it should."""

import json
import logging
import pickle
import signal
import subprocess
import sys
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

pytest.importorskip("flwr")

from flwr.app import ConfigRecord

from skfedfocal import FederatedClassifier, FederatedTrainingError, FedFocalClassifier
from skfedfocal._component import Component
from skfedfocal._local import LocalPlan
from skfedfocal._plain import from_plain, known_parts, to_plain
from skfedfocal.aggregation import AGGREGATORS
from skfedfocal.flower import SimulatedSites, SiteError, federate, make_client_app
from skfedfocal.flower._messages import TRAIN, read_facts, write_facts
from skfedfocal.losses import LOSSES
from skfedfocal.preprocessing import FederatedStandardScaler
from skfedfocal.selection import SELECTIONS
from skfedfocal.strategies import STRATEGIES

SITES = ("north", "south", "west")


def double_mlp(n_features, n_classes):
    return torch.nn.Sequential(
        torch.nn.Linear(n_features, 5), torch.nn.Tanh(), torch.nn.Linear(5, n_classes)
    ).double()


@pytest.fixture(scope="module")
def table():
    """Rows, labels and site of each; the sites in the order of their names."""
    X, y = load_breast_cancer(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(y))[:160]
    X, y = X[rows, :6], y[rows]
    return X, y, np.repeat(SITES, [30, 50, 80])


@pytest.fixture(scope="module")
def scaled(table):
    X, y, site = table
    return (X - X.mean(0)) / X.std(0), y, site


def by_site(X, y, site):
    return {name: (X[site == name], y[site == name]) for name in np.unique(site)}


def classifier(**params):
    params = {"n_rounds": 3, "learning_rate": 0.05, "random_state": 7, "engine": "loop"} | params
    return FedFocalClassifier(**({"module": double_mlp} | params))


def assert_same_fit(ours, theirs, **tolerance):
    """Everything that the fits learned; to the bit unless a tolerance is given."""
    same = assert_allclose if tolerance else assert_array_equal
    same(ours.theta_, theirs.theta_, **tolerance)
    assert ours.history_.keys() == theirs.history_.keys()
    for name in ours.history_:
        if name != "seconds":
            same(ours.history_[name], theirs.history_[name], **tolerance)
    for name in ("classes_", "clients_", "client_sizes_", "seed_", "row_shape_", "n_iter_"):
        assert_array_equal(getattr(ours, name), getattr(theirs, name))
    mine, other = (fit.training_state_["optimizer"] for fit in (ours, theirs))
    for part in mine:
        same(mine[part], other[part], **tolerance)


def both(table, estimator, **options):
    X, y, site = table
    module = estimator.module
    over_sites = federate(SimulatedSites(by_site(X, y, site), module=module), clone(estimator))
    return over_sites, clone(estimator).fit(X, y, clients=site)


# -- the same numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_strategy_gives_the_bits_of_the_in_process_fit(scaled, strategy):
    assert_same_fit(*both(scaled, classifier(strategy=strategy)))


@pytest.mark.parametrize("selection", sorted(SELECTIONS))
def test_every_selection_gives_the_bits_of_the_in_process_fit(scaled, selection):
    assert_same_fit(*both(scaled, classifier(selection=selection, clients_per_round=2)))


@pytest.mark.parametrize("aggregation", sorted(AGGREGATORS))
def test_every_aggregator_gives_the_bits_of_the_in_process_fit(scaled, aggregation):
    part = AGGREGATORS[aggregation]()
    client_gamma = 1.0 if part.focus else 0
    assert_same_fit(*both(scaled, classifier(aggregation=part, client_gamma=client_gamma)))


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_gives_the_bits_of_the_in_process_fit(scaled, loss):
    estimator = FederatedClassifier(
        module=double_mlp, loss=loss, n_rounds=2, random_state=7, engine="loop", learning_rate=0.05
    )
    assert_same_fit(*both(scaled, estimator))


@pytest.mark.parametrize(
    "params",
    [
        {"class_weight": None},
        {"class_weight": "local"},
        {"class_weight": "effective"},
        {"class_weight": "estimated"},
        {"class_weight": {0: 3.0, 1: 0.5}},
        {"client_gamma": 1.0},
        {"gamma": [0.5, 3.0]},
        {"early_stopping": True, "n_rounds": 6, "n_iter_no_change": 2},
        {"average_rounds": 2},
        {"momentum": 0.5, "weight_decay": 0.01, "n_local_epochs": 2, "batch_size": 7},
        {"module": None, "hidden_layer_sizes": (4, 3)},
    ],
    ids=lambda params: next(iter(params)),
)
def test_every_parameter_gives_the_bits_of_the_in_process_fit(scaled, params):
    assert_same_fit(*both(scaled, classifier(**params)))


def test_the_vectorized_engine_agrees_up_to_the_order_of_its_sums(scaled):
    """In one process it multiplies the models of all clients at once, at a site that of one."""
    assert_same_fit(*both(scaled, classifier(engine="vectorized")), rtol=1e-9, atol=1e-12)


def test_text_labels_and_a_class_that_one_site_has(scaled):
    X, y, site = scaled
    words = np.array(["benign", "malignant"])[y]
    words[site == "west"] = np.where(X[site == "west", 0] > 1, "unclear", words[site == "west"])
    with pytest.warns(UserWarning, match=r"one site alone has: 'unclear' at 'west'"):
        ours, theirs = both((X, words, site), classifier())
    assert_same_fit(ours, theirs)
    assert "unclear" in ours.classes_
    assert_array_equal(ours.predict(X), theirs.predict(X))


def test_sample_weights_of_a_site(scaled):
    X, y, site = scaled
    weight = np.random.default_rng(1).integers(0, 4, len(y)).astype(float)
    data = {n: (X[site == n], y[site == n], weight[site == n]) for n in SITES}
    ours = federate(SimulatedSites(data, module=double_mlp), classifier())
    theirs = classifier().fit(X, y, sample_weight=weight, clients=site)
    assert_same_fit(ours, theirs)


@pytest.mark.parametrize("scaler", [FederatedStandardScaler(), StandardScaler()])
def test_a_pipeline_is_scaled_in_round_0(table, scaler):
    X, y, site = table
    ours = make_pipeline(clone(scaler), classifier())
    federate(SimulatedSites(by_site(X, y, site), module=double_mlp), ours)
    theirs = make_pipeline(FederatedStandardScaler(), classifier())
    theirs.fit(X, y, federatedstandardscaler__clients=site, fedfocalclassifier__clients=site)
    assert_array_equal(ours[0].mean_, theirs[0].mean_)
    assert_array_equal(ours[0].scale_, theirs[0].scale_)
    assert_same_fit(ours[-1], theirs[-1])
    assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


def test_names_of_columns_are_learned(scaled):
    pd = pytest.importorskip("pandas")
    X, y, site = scaled
    frame = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    model = federate(SimulatedSites(by_site(frame, y, site), module=double_mlp), classifier())
    assert model.feature_names_in_.tolist() == list(frame.columns)
    assert_array_equal(
        model.predict(frame), clone(model).fit(frame, y, clients=site).predict(frame)
    )


def test_the_order_of_sites_in_the_grid_does_not_matter(scaled):
    data = by_site(*scaled)
    turned = dict(reversed(data.items()))
    first = federate(SimulatedSites(data, module=double_mlp), classifier())
    second = federate(SimulatedSites(turned, module=double_mlp), classifier())
    assert_same_fit(first, second)


def test_warm_start_goes_on(scaled):
    grid = SimulatedSites(by_site(*scaled), module=double_mlp)
    twice = classifier(n_rounds=2, warm_start=True)
    federate(grid, federate(grid, twice))
    assert_same_fit(twice, federate(grid, classifier(n_rounds=4)))


# -- what crosses the wire -----------------------------------------------------------------------


class Eavesdropper(SimulatedSites):
    """Keeps everything that is sent, both ways."""

    def push_messages(self, messages):
        messages = list(messages)
        self.__dict__.setdefault("seen", []).extend(messages)
        return super().push_messages(messages)

    def _answer(self, message):
        reply = super()._answer(message)
        self.__dict__.setdefault("replies", []).append(reply)
        return reply


def test_label_counts_leave_a_site_only_where_something_needs_them(scaled):
    grid = Eavesdropper(by_site(*scaled), module=double_mlp)
    federate(grid, classifier(class_weight=None))
    assert asked(grid) == []
    federate(grid, classifier(class_weight="balanced"))
    assert asked(grid) == ["LabelCounts"] * len(SITES)


def asked(grid):
    """The questions that were put to sites."""
    tasks = [read_facts(message.content["task"]) for message in grid.seen]
    return [type(task["query"]).__name__ for task in tasks if "query" in task]


@pytest.mark.parametrize(("class_weight", "n_before"), [(None, 1), ("balanced", 2)])
def test_one_message_per_site_and_round_and_few_before(scaled, class_weight, n_before):
    grid = Eavesdropper(by_site(*scaled), module=double_mlp)
    federate(grid, classifier(n_rounds=4, client_gamma=1.0, class_weight=class_weight))
    assert len(grid.seen) == len(SITES) * (n_before + 4)


def test_only_the_type_of_an_exception_crosses_the_wire(scaled, caplog):
    data = by_site(*scaled)

    def load(config):
        if config["site"] == "south":
            raise LookupError("row 17: Jane Doe, 1980")
        return data[config["site"]]

    app = make_client_app(load, module=double_mlp)
    grid = Eavesdropper({name: {} for name in SITES}, app=app)
    with caplog.at_level(logging.ERROR), pytest.raises(SiteError, match=r"'south' .LookupError"):
        federate(grid, classifier())
    sent = " ".join(str(reply.content) for reply in grid.replies)
    assert "Jane" not in sent
    assert "LookupError" in sent
    assert "Jane" in caplog.text


def test_plain_data_knows_the_parts_of_this_package_only():
    plan = LocalPlan(LOSSES["focal"]([1.0, 2.0]), np.ones(2), None, 1, 8, 0.1, 0.0, 0.0, 0.0, 3)
    wire = json.dumps(to_plain({"plan": vars(plan), "theta": torch.arange(3.0)}))
    back = from_plain(json.loads(wire))
    assert back["plan"]["loss"].get_params() == plan.loss.get_params()
    assert torch.equal(back["theta"], torch.arange(3.0))

    class Foreign(Component):
        pass

    assert "Foreign" not in known_parts()
    with pytest.raises(TypeError, match="plain data"):
        to_plain(Foreign())
    with pytest.raises(TypeError, match="plain data"):
        to_plain(print)
    with pytest.raises(ValueError, match="not a part"):
        from_plain({"part": "Popen", "params": {}})


# -- faults --------------------------------------------------------------------------------------


def left_out(model):
    return [(f["round"], f["client"]) for f in model.failures_]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("gone", "not connected"),
        ("slow", "no longer available"),
        ("crash", "stopped responding"),
        ("nan", "not finite"),
        ("shape", "has shape"),
    ],
)
def test_a_round_goes_on_without_a_site_that_fails_and_with_it_when_it_is_back(scaled, kind, words):
    grid = SimulatedSites(by_site(*scaled), module=double_mlp, faults={("south", 2): kind})
    with pytest.warns(RuntimeWarning, match=rf"Round 2 goes on without 'south' .*{words}"):
        model = federate(grid, classifier(n_rounds=4))
    assert left_out(model) == [(2, "south")]
    assert words in model.failures_[0]["reason"]
    assert_array_equal(model.history_["n_failed"], [0, 1, 0, 0])
    assert np.isfinite(model.theta_).all()


def test_a_round_without_a_site_is_that_of_the_others(scaled):
    """What is missing is missing and nothing else: the mean is that of those that replied."""
    X, y, site = scaled
    faults = {("west", r): "crash" for r in (1, 2, 3)}
    with pytest.warns(RuntimeWarning):
        model = federate(
            SimulatedSites(by_site(X, y, site), module=double_mlp, faults=faults),
            classifier(class_weight=None),
        )
    there = site != "west"
    fewer = classifier(class_weight=None).fit(X[there], y[there], clients=site[there])
    assert_array_equal(model.theta_, fewer.theta_)


class Silent(SimulatedSites):
    """A site whose messages are never answered."""

    def pull_messages(self, message_ids):
        replies = super().pull_messages(message_ids)
        return [r for r in replies if not (r.metadata.message_type == TRAIN and self.dumb(r))]

    def dumb(self, reply):
        return self.names[reply.metadata.src_node_id] == "west"


def test_a_site_that_says_nothing_is_waited_for_until_the_deadline(scaled):
    grid = Silent(by_site(*scaled), module=double_mlp)
    with pytest.warns(RuntimeWarning, match=r"'west' \(.*no reply within 0.01 s\)"):
        model = federate(grid, classifier(n_rounds=1), timeout=0.01)
    assert left_out(model) == [(1, "west")]


def test_too_few_replies_end_the_training_and_the_last_good_model_is_kept(scaled):
    faults = {(name, 3): "crash" for name in ("north", "west")}
    grid = SimulatedSites(by_site(*scaled), module=double_mlp, faults=faults)
    model = classifier(n_rounds=5)
    with pytest.raises(FederatedTrainingError, match=r"Round 3: 1 of 3 .*'north'.*'west'"):
        federate(grid, model)
    good = federate(SimulatedSites(by_site(*scaled), module=double_mlp), classifier(n_rounds=2))
    assert_same_fit(model, good)


def test_a_training_that_fails_at_once_leaves_the_estimator_as_it_was(scaled, table):
    X, y, site = scaled
    model = make_pipeline(StandardScaler(), classifier())
    federate(SimulatedSites(by_site(X, y, site), module=double_mlp), model)
    before = model.predict_proba(X)
    other = by_site(table[0][:, :4], y, site)
    faults = {(name, 1): "crash" for name in SITES}
    with pytest.raises(FederatedTrainingError, match="Round 1"):
        federate(SimulatedSites(other, module=double_mlp, faults=faults), model)
    assert_array_equal(model.predict_proba(X), before)


def test_divergence_says_so(scaled):
    with (
        np.errstate(all="ignore"),
        pytest.raises(FederatedTrainingError, match="learning_rate"),
    ):
        federate(
            SimulatedSites(by_site(*scaled), module=double_mlp),
            classifier(learning_rate=1e308, weight_decay=1e3),
        )


def test_random_faults_are_a_function_of_the_seed(scaled):
    def run(seed):
        grid = SimulatedSites(
            by_site(*scaled), module=double_mlp, fault_rate=0.2, random_state=seed
        )
        with pytest.warns(RuntimeWarning):
            return federate(grid, classifier(n_rounds=8), min_clients=1)

    first, second = run(2), run(2)
    assert left_out(first)
    assert left_out(first) == left_out(second)
    assert_same_fit(first, second)


class Renumbered(SimulatedSites):
    """A site that dies in the second round and comes back as another node."""

    def push_messages(self, messages):
        numbers = super().push_messages(messages)
        if self.round == 2 and 99 not in self.names:
            self.names[99] = self.names.pop(1)
        return numbers


def test_a_site_that_comes_back_as_another_node_is_recognised(scaled):
    data = by_site(*scaled)
    model = federate(Renumbered(data, module=double_mlp), classifier(n_rounds=5))
    assert left_out(model) == []
    assert_same_fit(
        model, federate(SimulatedSites(data, module=double_mlp), classifier(n_rounds=5))
    )


def test_two_sites_of_one_name(scaled):
    grid = SimulatedSites(by_site(*scaled), module=double_mlp)
    grid.names[4] = "south"
    with pytest.raises(SiteError, match=r"More than one site is called .'south'"):
        federate(grid, classifier())


def test_a_site_with_other_columns(scaled):
    data = by_site(*scaled)
    X, y = data["south"]
    with pytest.raises(SiteError, match="'south' has rows of shape"):
        federate(SimulatedSites(data | {"south": (X[:, 1:], y)}, module=double_mlp), classifier())


def test_a_site_with_other_classes(scaled):
    data = by_site(*scaled)
    X, y = data["south"]
    texts = data | {"south": (X, y.astype(str))}
    with pytest.raises(SiteError, match="'south' has labels"):
        federate(SimulatedSites(texts, module=double_mlp), classifier())
    more = data | {"south": (X, y + 1)}
    with pytest.raises(SiteError, match=r"'south' has classes \[2\] that are not among \[0, 1\]"):
        federate(SimulatedSites(more, module=double_mlp), classifier(), classes=[0, 1])


def test_one_class_overall(scaled):
    X, y, site = scaled
    with pytest.raises(SiteError, match="one class only"):
        federate(
            SimulatedSites(by_site(X, np.zeros_like(y), site), module=double_mlp), classifier()
        )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda X, y: (X * np.nan, y),
        lambda X, y: (X[:0], y[:0]),
        lambda X, y: (X, y[:-1]),
        lambda X, y: (X, y + 0.5),
        lambda X, y: [X, y],
    ],
    ids=["NaN", "no rows", "lengths", "continuous", "not a tuple"],
)
def test_unfit_rows_are_an_error_that_names_the_site(scaled, spoil):
    data = by_site(*scaled)
    data["south"] = spoil(*data["south"])
    with pytest.raises(SiteError, match=r"'south' \((Value|Type)Error"):
        federate(SimulatedSites(data, module=double_mlp), classifier())


def test_a_site_without_a_readable_file(tmp_path, scaled):
    X, y, site = scaled
    configs = {}
    for name, (rows, labels) in by_site(X, y, site).items():
        np.savez(tmp_path / f"{name}.npz", X=rows, y=labels)
        configs[name] = {"data-path": str(tmp_path / f"{name}.npz")}
    app = make_client_app(module=double_mlp)
    ours = federate(SimulatedSites(configs, app=app), classifier())
    assert_same_fit(ours, classifier().fit(X, y, clients=site))
    configs["west"] = {"data-path": str(tmp_path / "nowhere.npz")}
    with pytest.raises(SiteError, match=r"'west' \(FileNotFoundError"):
        federate(SimulatedSites(configs, app=app), classifier())


def test_sites_that_do_not_come(scaled):
    grid = SimulatedSites(by_site(*scaled), module=double_mlp)
    with patch("time.sleep", side_effect=AssertionError("waited for simulated sites")):
        with pytest.raises(SiteError, match=r"3 of the 4 sites needed came: these are all"):
            federate(grid, classifier(), sites=4)
        with pytest.raises(SiteError, match=r"0 of the 2 sites needed came: these are all"):
            federate(SimulatedSites({}), classifier())
    grid._nobody_else_comes = False  # as with a real server
    with pytest.raises(SiteError, match=r"3 of the 4 sites needed came within 0.01 s"):
        federate(grid, classifier(), sites=4, wait=0.01)
    with pytest.raises(SiteError, match="'east'"):
        federate(grid, classifier(), sites=["north", "south", "east"], wait=0.01)
    assert federate(grid, classifier(), sites=list(SITES)).n_iter_ == 3


def test_a_site_of_another_version(scaled, monkeypatch):
    from skfedfocal.flower import _client

    monkeypatch.setattr(_client, "__version__", "0.0.1")
    with pytest.raises(SiteError, match=r"has skfedfocal 0.0.1"):
        federate(SimulatedSites(by_site(*scaled), module=double_mlp), classifier())


def test_the_site_has_another_module(scaled):
    grid = SimulatedSites(by_site(*scaled), module=None)
    with pytest.raises(SiteError, match="ValueError"):
        federate(grid, classifier())


class Garbled(SimulatedSites):
    """Replies that are not what they should be, from one site, in the second round."""

    def _answer(self, message):
        reply = super()._answer(message)
        first = message.metadata.dst_node_id == 1
        if first and self.round == 2 and message.metadata.message_type == TRAIN:
            self.garble(reply.content)
        return reply


@pytest.mark.parametrize(
    "garble",
    [
        lambda content: content.pop("delta"),
        lambda content: content.update(report=ConfigRecord({"json": "{"})),
        lambda content: content.update(report=ConfigRecord({"json": '{"loss": 0.1}'})),
        lambda content: content.update(report=ConfigRecord({"json": '{"part": "Popen"}'})),
        lambda content: content["delta"].update(delta=_pickled()),
    ],
    ids=["no delta", "no JSON", "no dict", "foreign part", "pickle"],
)
def test_replies_that_cannot_be_read_are_left_out(scaled, garble):
    grid = Garbled(by_site(*scaled), module=double_mlp)
    grid.garble = garble
    with pytest.warns(RuntimeWarning, match="Round 2 goes on without 'north'"):
        model = federate(grid, classifier())
    assert left_out(model) == [(2, "north")]


@pytest.mark.parametrize("of_rows", [True, False])
def test_a_site_cannot_make_itself_heavier_than_its_rows(scaled, of_rows):
    """Its rows weigh between the class weights, and it counts no more than they do."""
    data = by_site(*scaled)
    grid, fair = Garbled(data, module=double_mlp), float(len(data["north"][1]))
    for claimed in (1e6, -1.0, float("nan")):
        weight, row_weight = (fair / 2, claimed) if of_rows else (claimed, fair)
        grid.garble = lambda content, w=weight, r=row_weight: content.update(
            report=write_facts({"weight": w, "objective": [0.1, r], "recall": 0.5})
        )
        with pytest.warns(RuntimeWarning, match="Round 2 .*weigh"):
            model = federate(grid, classifier(class_weight="balanced"))
        assert left_out(model) == [(2, "north")]


def _pickled():
    from flwr.app import Array

    size = double_mlp(6, 2)
    shape = (sum(p.numel() for p in size.parameters()),)
    return Array(dtype="float64", shape=shape, stype="numpy.ndarray", data=pickle.dumps(print))


def test_a_message_for_another_site_is_not_trained_on(scaled):
    class Mixed(SimulatedSites):
        def _context(self, node):
            context = super()._context(node)
            if self.round == 2:
                context.node_config["site"] = "somebody"
            return context

    model = classifier()
    with pytest.raises(FederatedTrainingError, match=r"Round 2: 0 of 3 .*ValueError"):
        federate(Mixed(by_site(*scaled), module=double_mlp), model)
    assert model.n_iter_ == 1


# -- parameters ----------------------------------------------------------------------------------


def test_estimators_that_cannot_be_federated(scaled):
    grid = SimulatedSites(by_site(*scaled), module=double_mlp)
    for wrong in (
        make_pipeline(MinMaxScaler(), classifier()),
        make_pipeline(StandardScaler(), PCA(), classifier()),
        make_pipeline(make_column_transformer((PCA(), [0])), classifier()),
        StandardScaler(),
    ):
        with pytest.raises(TypeError, match="must be a classifier of skfedfocal"):
            federate(grid, wrong)
    with pytest.raises(TypeError, match="use FederatedMinMaxScaler"):
        federate(grid, make_pipeline(MinMaxScaler(), classifier()))


@pytest.mark.parametrize(
    ("params", "options"),
    [({"learning_rate": -1.0}, {}), ({}, {"min_clients": 0}), ({}, {"timeout": 0.0})],
)
def test_wrong_parameters_are_found_before_a_message_is_sent(scaled, params, options):
    grid = Eavesdropper(by_site(*scaled), module=double_mlp)
    with pytest.raises(ValueError, match=r"learning_rate|min_clients"):
        federate(grid, classifier(**params), **options)
    assert not hasattr(grid, "seen")


def test_wrong_faults():
    with pytest.raises(ValueError, match="fault_rate"):
        SimulatedSites({}, faults={("a", 1): "tired"})


# -- checkpoints ---------------------------------------------------------------------------------


class Killed(SimulatedSites):
    """The server dies in the middle of a round."""

    at = 3

    def push_messages(self, messages):
        numbers = super().push_messages(messages)
        if self.round == self.at:
            raise KeyboardInterrupt
        return numbers


@pytest.mark.parametrize(
    "params",
    [
        {"strategy": "fedadam" if "fedadam" in STRATEGIES else "fedavg"},
        {"early_stopping": True, "n_iter_no_change": 2},
        {"average_rounds": 3},
        {"client_gamma": 1.0, "clients_per_round": 2},
        {"random_state": None},
    ],
    ids=lambda params: next(iter(params)),
)
def test_a_server_that_was_killed_resumes_to_the_same_bits(scaled, tmp_path, params):
    path = tmp_path / "checkpoint"
    data = by_site(*scaled)
    estimator = classifier(n_rounds=6, **params)
    with pytest.raises(KeyboardInterrupt):
        federate(Killed(data, module=double_mlp), clone(estimator), checkpoint=path)
    resumed = federate(SimulatedSites(data, module=double_mlp), clone(estimator), checkpoint=path)
    seed = resumed.seed_ if params.get("random_state", 0) is None else None
    if seed is not None:  # the seed was drawn by the process that died
        fresh = clone(estimator)
        assert federate(SimulatedSites(data, module=double_mlp), fresh).seed_ != seed
        return
    straight = federate(SimulatedSites(data, module=double_mlp), clone(estimator))
    assert_same_fit(resumed, straight)


def test_a_finished_checkpoint_gives_the_model_again_or_goes_on(scaled, tmp_path):
    grid = SimulatedSites(by_site(*scaled), module=double_mlp)
    path = tmp_path / "checkpoint"
    first = federate(grid, classifier(), checkpoint=path)
    again = federate(grid, classifier(), checkpoint=path)
    assert_same_fit(first, again)
    longer = federate(grid, classifier(n_rounds=5), checkpoint=path)
    assert_same_fit(longer, federate(grid, classifier(n_rounds=5)))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"learning_rate": 0.01}, "learning_rate"),
        ({"strategy": "fedprox"}, "strategy"),
        ({"random_state": 8}, "random_state"),
        ({"gamma": 2.0}, "gamma"),
    ],
)
def test_a_checkpoint_of_other_parameters_is_refused(scaled, tmp_path, change, name):
    grid = SimulatedSites(by_site(*scaled), module=double_mlp)
    path = tmp_path / "checkpoint"
    federate(grid, classifier(), checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"was written with {name}"):
        federate(grid, classifier(**change), checkpoint=path)
    assert path.read_bytes() == before


def test_a_checkpoint_of_other_sites_or_rows_is_refused(scaled, tmp_path):
    data = by_site(*scaled)
    path = tmp_path / "checkpoint"
    federate(SimulatedSites(data, module=double_mlp), classifier(), checkpoint=path)
    fewer = {name: data[name] for name in ("north", "south")}
    with pytest.raises(ValueError, match="was written with clients"):
        federate(SimulatedSites(fewer, module=double_mlp), classifier(), checkpoint=path)
    X, y = data["west"]
    other = data | {"west": (X[:-5], y[:-5])}
    with pytest.raises(ValueError, match="rows of the sites"):
        federate(SimulatedSites(other, module=double_mlp), classifier(), checkpoint=path)
    before, same_sizes = path.read_bytes(), data | {"west": (X + 1, y)}
    with pytest.raises(ValueError, match="a hash of them"):
        federate(SimulatedSites(same_sizes, module=double_mlp), classifier(), checkpoint=path)
    assert path.read_bytes() == before


def test_a_damaged_checkpoint_is_refused_and_not_overwritten(scaled, tmp_path):
    grid = SimulatedSites(by_site(*scaled), module=double_mlp)
    path = tmp_path / "checkpoint"
    federate(grid, classifier(), checkpoint=path)
    half = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(half)
    with pytest.raises(ValueError, match="truncated or has been changed"):
        federate(grid, classifier(), checkpoint=path)
    assert path.read_bytes() == half


def test_two_servers_on_one_checkpoint(scaled, tmp_path):
    pytest.importorskip("fcntl")
    data = by_site(*scaled)
    path = tmp_path / "checkpoint"

    class Nested(SimulatedSites):
        def push_messages(self, messages):
            if not hasattr(self, "second") and self.round == 1:
                self.second = "running"
                with pytest.raises(RuntimeError, match="Another process is using"):
                    federate(SimulatedSites(data, module=double_mlp), classifier(), checkpoint=path)
                self.second = "refused"
            return super().push_messages(messages)

    grid = Nested(data, module=double_mlp)
    federate(grid, classifier(), checkpoint=path)
    assert grid.second == "refused"


_DIES = """
import os, pickle, signal, sys
from skfedfocal.flower import SimulatedSites, federate

with open(sys.argv[1], "rb") as file:
    data, estimator = pickle.load(file)


class Killed(SimulatedSites):
    def push_messages(self, messages):
        numbers = super().push_messages(messages)
        if self.round == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return numbers


federate(Killed(data), estimator, checkpoint=sys.argv[2])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system")
def test_a_killed_process_leaves_a_checkpoint_to_resume_from(scaled, tmp_path):
    data, path = by_site(*scaled), tmp_path / "checkpoint"
    estimator = classifier(module=None, hidden_layer_sizes=(4,), n_rounds=5)
    (tmp_path / "job").write_bytes(pickle.dumps((data, estimator)))
    done = subprocess.run(
        [sys.executable, "-c", _DIES, tmp_path / "job", path], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    resumed = federate(SimulatedSites(data), clone(estimator), checkpoint=path)
    assert_same_fit(resumed, federate(SimulatedSites(data), clone(estimator)))
