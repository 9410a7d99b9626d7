"""scikit-learn's callbacks: what they see, when they are called, and how they end a training."""

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfedfocal import (
    ClientColumn,
    FederatedTrainingError,
    FedFocalClassifier,
    FedFocalClassifierCV,
)
from skfedfocal.privacy import ExampleLevelDP

callback = pytest.importorskip("sklearn.callback")  # from scikit-learn 1.9 on

X, y = make_classification(240, weights=[0.8], random_state=0)
SITE = np.arange(240) % 4
SMALL = {"hidden_layer_sizes": (8,), "n_rounds": 4, "random_state": 0}


class Recorder:
    """Writes down each call; ends the training after some rounds."""

    def __init__(self, ends_after=None):
        self.ends_after = ends_after
        self.calls, self.models = [], []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.calls.append(f"begin {context.task_name} {context.task_id}")
        self.seen = X, y

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.calls.append(f"end {context.task_name} {context.task_id}")
        if context.task_name == "round":
            self.models.append(fitted_estimator)
            return len(self.models) == self.ends_after
        return False


def same(a, b):
    assert a.theta_.tobytes() == b.theta_.tobytes()
    assert a.n_iter_ == b.n_iter_
    np.testing.assert_array_equal(a.history_["loss"], b.history_["loss"])


def test_a_fit_is_a_task_and_each_round_one_inside_it():
    seen = Recorder()
    plain = FedFocalClassifier(**SMALL).fit(X, y, clients=SITE)
    model = FedFocalClassifier(**SMALL).set_callbacks(seen).fit(X, y, clients=SITE)
    same(model, plain)  # looking on changes nothing
    rounds = [f"{when} round {i}" for i in range(4) for when in ("begin", "end")]
    assert seen.calls == ["setup", "begin fit 0", *rounds, "end fit 0", "teardown"]
    np.testing.assert_array_equal(seen.seen[0], X)
    np.testing.assert_array_equal(seen.seen[1], y)


@pytest.mark.parametrize("more", [{}, {"average_rounds": 2}, {"strategy": "fedadam"}])
def test_the_fitted_estimator_is_that_of_a_training_that_ended_there(more):
    seen = Recorder()
    FedFocalClassifier(**SMALL, **more).set_callbacks(seen).fit(X, y, clients=SITE)
    for n_rounds, model in enumerate(seen.models, 1):
        shorter = FedFocalClassifier(**{**SMALL, **more, "n_rounds": n_rounds})
        shorter.fit(X, y, clients=SITE)
        same(model, shorter)
        np.testing.assert_array_equal(model.predict_proba(X), shorter.predict_proba(X))


@pytest.mark.parametrize("n_rounds", [1, 3])
def test_a_callback_ends_the_training(n_rounds):
    stop = Recorder(ends_after=n_rounds)
    model = FedFocalClassifier(**SMALL).set_callbacks(stop).fit(X, y, clients=SITE)
    same(model, FedFocalClassifier(**{**SMALL, "n_rounds": n_rounds}).fit(X, y, clients=SITE))
    assert stop.calls[-2:] == ["end fit 0", "teardown"]


def test_early_stopping_begins_no_task_that_does_not_run():
    seen = Recorder()
    model = FedFocalClassifier(
        (8,), n_rounds=100, early_stopping=True, n_iter_no_change=2, tol=0.1, random_state=0
    )
    model.set_callbacks(seen).fit(X, y, clients=SITE)
    assert model.n_iter_ < 100
    n_rounds = sum(call.startswith("begin round") for call in seen.calls)
    assert n_rounds == model.n_iter_ == len(seen.models)


def test_a_training_that_breaks_off_tears_down_and_leaves_nothing_behind():
    seen = Recorder()
    model = FedFocalClassifier(**SMALL, learning_rate=1e30, numeric_encoding=None)
    before = set(vars(model))
    with pytest.raises(FederatedTrainingError):
        model.set_callbacks(seen).fit(X * 1e3, y, clients=SITE)
    assert seen.calls[-1] == "teardown"
    left = {name for name in set(vars(model)) - before if not name.endswith("_")}
    assert left <= {"_skl_callbacks", "_module", "_made_from"}


def test_beside_privacy_callbacks_see_the_model_but_no_rows():
    pytest.importorskip("dp_accounting")
    seen = Recorder()
    privacy = ExampleLevelDP(noise_multiplier=1.0, trust="server")
    model = FedFocalClassifier(**SMALL, privacy=privacy).set_callbacks(seen)
    model.fit(X, y, clients=SITE)
    assert seen.seen == (None, None)
    assert len(seen.models) == 4
    spent = [m.epsilon_ for m in seen.models]
    assert spent == sorted(spent)
    assert spent[-1] == model.epsilon_


def test_scoring_monitor_scores_each_round():
    monitor = callback.ScoringMonitor(scoring="balanced_accuracy")
    model = FedFocalClassifier(**SMALL).set_callbacks(monitor).fit(X, y, clients=SITE)
    scores = monitor.get_logs().data_as_pandas.query("task_name == 'round'")
    assert len(scores) == 4
    last = balanced_accuracy_score(y, model.predict(X))
    assert scores["balanced_accuracy"].iloc[-1] == last


def test_weights_of_rows_go_to_the_scorer():
    monitor = callback.ScoringMonitor(scoring="accuracy")
    weight = np.where(y == 1, 5.0, 1.0)
    model = FedFocalClassifier(**SMALL).set_callbacks(monitor)
    model.fit(X, y, sample_weight=weight, clients=SITE)
    scores = monitor.get_logs().data_as_pandas
    expected = accuracy_score(y, model.predict(X), sample_weight=weight)
    assert scores["accuracy"].iloc[-1] == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:The estimator .* does not support callbacks")
def test_inside_a_pipeline_and_a_search_rounds_are_below_their_steps():
    pytest.importorskip("rich")
    with config_context(enable_metadata_routing=True):
        inner = FedFocalClassifier(**SMALL).set_fit_request(clients=True)
        pipeline = make_pipeline(StandardScaler(), inner)
        search = GridSearchCV(pipeline, {"fedfocalclassifier__gamma": [0.0, 1.0]}, cv=2)
        search.set_callbacks(callback.ProgressBar(max_propagation_depth=None))
        search.fit(X, y, clients=SITE)
    plain = clone(search.best_estimator_[-1]).set_callbacks()
    scaled = StandardScaler().fit_transform(X)
    same(search.best_estimator_[-1], plain.fit(scaled, y, clients=SITE))


class Depths(Recorder):
    """Writes down, for each round, the estimators whose tasks it is below, and its own."""

    max_propagation_depth = None

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "round":
            names = []
            while context is not None:
                names.append(context.estimator_name)
                context = context.parent
            self.names.append(names[::-1])


def test_inside_a_client_column_rounds_are_below_the_tasks_around_it(recwarn):
    seen = Depths()
    seen.names = []
    rows = np.column_stack([SITE, X])
    model = ClientColumn(make_pipeline("passthrough", FedFocalClassifier(**SMALL)), 0)
    search = GridSearchCV(model, {"estimator__fedfocalclassifier__gamma": [0.0, 1.0]}, cv=2)
    search.set_callbacks(seen).fit(rows, y)
    inside = ["ClientColumn", "Pipeline", "FedFocalClassifier", "FedFocalClassifier"]
    assert all(names[0] == "GridSearchCV" and names[-4:] == inside for names in seen.names)
    assert len(seen.names) == (2 * 2 + 1) * SMALL["n_rounds"]
    assert not [w for w in recwarn if "does not support callbacks" in str(w.message)]
    plain = clone(search.best_estimator_).set_callbacks().fit(rows, y)
    same(search.best_estimator_.estimator_[-1], plain.estimator_[-1])


def test_the_search_shows_the_rounds_of_its_choice():
    seen = Recorder()
    model = FedFocalClassifierCV((8,), gammas=(0.0, 1.0), n_rounds=3, cv=2, random_state=0)
    model.set_callbacks(seen).fit(X, y, clients=SITE)
    assert len(seen.models) == 3
    same(seen.models[-1], model)


def test_over_sites_callbacks_see_the_same_models_and_no_rows():
    pytest.importorskip("flwr")
    from skfedfocal.flower import SimulatedSites, federate

    here, there = Recorder(ends_after=3), Recorder(ends_after=3)
    settings = {**SMALL, "engine": "loop"}
    plain = FedFocalClassifier(**settings).set_callbacks(here).fit(X, y, clients=SITE)
    rows = {f"site{k}": slice(k, None, 4) for k in range(4)}
    sites = SimulatedSites({name: (X[of], y[of]) for name, of in rows.items()})
    model = federate(sites, FedFocalClassifier(**settings).set_callbacks(there))
    assert there.seen == (None, None)
    assert there.calls == here.calls
    for ours, theirs in zip(there.models, here.models, strict=True):
        same(ours, theirs)
    same(model, plain)


def test_a_callback_that_is_none_is_refused():
    with pytest.raises(TypeError, match="FitCallback"):
        FedFocalClassifier().set_callbacks(Recorder)
