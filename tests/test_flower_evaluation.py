"""Evaluation over sites: the figures of one process, and no more than a site allows."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

pytest.importorskip("flwr")

from flwr.app import Context, RecordDict

from skfedfocal import (
    FederatedClassifier,
    FedFocalClassifier,
    FedFocalClassifierCV,
    load_model,
)
from skfedfocal.flower import (
    SimulatedSites,
    SiteError,
    evaluate,
    export_app,
    federate,
    leave_one_site_out,
    make_client_app,
    make_server_app,
    read_export,
)
from skfedfocal.flower._messages import ASK, read_facts, write_facts
from skfedfocal.metrics import Evaluation
from skfedfocal.metrics import evaluate as evaluate_here
from skfedfocal.metrics._sums import PredictionSums
from skfedfocal.preprocessing import (
    FederatedOneHotEncoder,
    FederatedOrdinalEncoder,
    FederatedSimpleImputer,
    FederatedStandardScaler,
)
from skfedfocal.preprocessing._preparation import Behind

SITES = ("north", "south", "west")


def classifier(**params):
    return FedFocalClassifier(**{"n_rounds": 3, "random_state": 0, "engine": "loop"} | params)


@pytest.fixture(scope="module")
def hospitals():
    """A mixed table with gaps, labels and the site of each row, in the order of sites' names."""
    rng, n = np.random.default_rng(0), 160
    frame = pd.DataFrame(
        {
            "age": rng.normal(0, 1, n),
            "beats": rng.integers(0, 4, n),
            "pain": pd.Series(rng.choice(["none", "mild", "severe"], n), dtype=object),
        }
    )
    for name in ("age", "pain"):
        frame.loc[rng.random(n) < 0.2, name] = np.nan
    y = np.where(frame.age.fillna(0) + rng.normal(0, 0.5, n) > 0.5, "sick", "well")
    return frame, y, np.repeat(SITES, [40, 50, 70])


@pytest.fixture(scope="module")
def numbers(hospitals):
    frame, y, site = hospitals
    return frame[["age", "beats"]].fillna(0.0), y, site


def by_site(X, y, site, names=None):
    return {name: (X[site == name], y[site == name]) for name in names or np.unique(site)}


def grid_of(X, y, site, evaluation="sums", min_rows=1):
    parts = by_site(X, y, site)
    app = make_client_app(
        lambda config: parts[config["site"]], evaluation=evaluation, min_rows=min_rows
    )
    return SimulatedSites({name: {} for name in parts}, app=app)


def each_alone(model, X, site):
    """What the model says of each site's rows by themselves: sums of products as at the site."""
    return np.concatenate([model.predict_proba(X[site == name]) for name in np.unique(site)])


def assert_same_figures(found, model, X, y, site):
    """Those of one process, bit for bit: there, too, of each client's rows by themselves."""
    wanted = evaluate_here(model, X, y, site, by_client=True)
    assert_array_equal(found.sums, wanted.sums)
    for name, own in found.clients.items():
        assert_array_equal(own.sums, wanted.clients[name].sums)


# -- the same figures ----------------------------------------------------------------------------


def pipelines():
    numbers = make_pipeline(FederatedSimpleImputer(strategy="median"), FederatedStandardScaler())
    words = make_pipeline(
        FederatedSimpleImputer(strategy="most_frequent"), FederatedOneHotEncoder()
    )
    return {
        "named columns": make_column_transformer((numbers, ["age"]), (words, ["pain"])),
        "sparse": make_column_transformer((words, ["pain"]), (numbers, [0])),
        "passthrough": make_column_transformer((words, ["pain"]), ("passthrough", ["beats"])),
        "remainder": make_column_transformer(
            (FederatedOrdinalEncoder(encoded_missing_value=-1), ["pain"]), remainder=numbers
        ),
    }


@pytest.mark.parametrize("name", pipelines())
def test_a_preparation_goes_along(hospitals, name):
    X, y, site = hospitals
    grid = grid_of(X, y, site, "own")
    pipeline = federate(grid, make_pipeline(pipelines()[name], classifier()))
    found = evaluate(grid, pipeline, by_site=True, min_rows=1)
    assert_same_figures(found, pipeline, X, y, site)


@pytest.mark.parametrize(
    "steps",
    [
        [],
        ["passthrough"],
        [StandardScaler()],
        [FederatedStandardScaler().set_output(transform="pandas")],
        [FederatedStandardScaler(), make_pipeline(FederatedSimpleImputer())],
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["over sites", "in one process"])
def test_steps_and_fits_of_either_kind(numbers, steps, where):
    X, y, site = numbers
    estimator = make_pipeline(*steps, classifier(numeric_encoding="piecewise_linear"))
    grid = grid_of(X, y, site, "own")
    if where == "over sites":
        federate(grid, estimator)
    else:
        if steps and isinstance(steps[-1], type(make_pipeline())):
            pytest.skip("an inner pipeline takes no clients")
        routed = [n for n, s in estimator.steps if s != "passthrough" and "Standard" not in str(s)]
        estimator.fit(X, y, **{f"{name}__clients": site for name in routed})
    found = evaluate(grid, estimator, by_site=True, min_rows=1)
    assert_same_figures(found, estimator, X, y, site)


@settings(max_examples=25)
@given(st.data())
def test_any_division_has_the_figures_of_all_rows(data):
    """In double precision, where the shape of a batch does not change the digits compared."""
    n, n_sites = data.draw(st.integers(4, 60)), data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n_classes = data.draw(st.integers(2, 4))
    X, site = rng.normal(size=(n, 3)), np.sort(rng.integers(0, n_sites, n).astype(str))
    y = np.append(np.arange(n_classes), rng.integers(0, n_classes, n - n_classes))
    loss = data.draw(st.sampled_from(["cross_entropy", "focal", "logit_adjusted"]))
    model = FederatedClassifier(
        module=double_linear, loss=loss, n_rounds=2, random_state=0, numeric_encoding=None
    ).fit(X, y, clients=site)
    n_bins = data.draw(st.integers(2, 200))
    grid = SimulatedSites(by_site(X, y, site), module=double_linear)
    found = evaluate(grid, model, min_rows=1, n_bins=n_bins)
    P, labels = model.predict_proba(X), np.arange(n_classes)
    cells = np.zeros((n_classes, n_classes))
    np.add.at(cells, (y, model.predict(X)), 1)
    assert_array_equal(found.confusion_matrix, cells)
    assert found.log_loss == pytest.approx(log_loss(y, P, labels=labels), abs=1e-9)
    for k in labels:
        auc, average = found.roc_auc(k), found.average_precision(k)
        assert auc.lower <= roc_auc_score(y == k, P[:, k]) <= auc.upper
        assert average.lower <= average_precision_score(y == k, P[:, k]) <= average.upper


def double_linear(n_features, n_classes):
    torch.manual_seed(0)
    return torch.nn.Linear(n_features, n_classes).double()


def test_weights_of_rows_count(numbers):
    X, y, site = numbers
    weight = np.random.default_rng(0).choice([0.0, 0.5, 2.0], len(y))
    parts = {n: (X[site == n], y[site == n], weight[site == n]) for n in SITES}
    model = classifier().fit(X, y, clients=site)
    found = evaluate(SimulatedSites(parts), model, min_rows=1)
    wanted = evaluate_here(model, X, y, site, sample_weight=weight)
    assert_allclose(found.confusion_matrix, wanted.confusion_matrix)
    assert found.n_rows.sum() == (weight > 0).sum()  # a row without weight is none, as in training


def test_columns_in_another_order(numbers):
    X, y, site = numbers
    model = classifier().fit(X, y, clients=site)
    found = evaluate(grid_of(X[X.columns[::-1]], y, site), model, min_rows=1)
    assert_allclose(found.sums, evaluate(grid_of(X, y, site), model, min_rows=1).sums)


def test_rows_that_were_held_out(numbers):
    X, y, site = numbers
    grid = grid_of(X, y, site, "own")
    model = federate(grid, classifier(early_stopping=True, validation_fraction=0.3))
    held_out = evaluate(grid, model, rows="held_out", by_site=True, min_rows=1)
    sizes = {name: (site == name).sum() for name in SITES}
    trained_on = dict(zip(SITES, model.client_sizes_, strict=True))
    for name in SITES:
        assert held_out.clients[name].n_rows.sum() == sizes[name] - trained_on[name]
    whole = evaluate(grid, model, min_rows=1)
    assert (held_out.sums <= whole.sums + 1e-9).all()
    with pytest.raises(ValueError, match="early_stopping"):
        evaluate(grid, classifier().fit(X, y, clients=site), rows="held_out")
    two = grid_of(X[site != "west"], y[site != "west"], site[site != "west"])
    with pytest.raises(SiteError, match="held out"):
        evaluate(two, model, rows="held_out")
    with pytest.raises(ValueError, match="rows must be"):
        evaluate(grid, model, rows="validation")


def test_another_table_of_the_sites(numbers, tmp_path):
    X, y, site = numbers
    configs, tests = {}, {}
    for name in SITES:
        own = X[site == name].assign(target=y[site == name])
        own.iloc[:25].to_csv(tmp_path / f"{name}.csv", index=False)
        own.iloc[25:].to_csv(tmp_path / f"{name}-test.csv", index=False)
        configs[name] = {
            "data-path": str(tmp_path / f"{name}.csv"),
            "test-data-path": str(tmp_path / f"{name}-test.csv"),
        }
        tests[name] = own.iloc[25:][["age", "beats"]], own.iloc[25:]["target"].to_numpy()
    app = make_client_app(evaluation="sums")
    grid = SimulatedSites(configs, app=app)
    model = federate(grid, classifier())
    found = evaluate(grid, model, table="test", min_rows=1)
    assert_allclose(found.sums, evaluate(SimulatedSites(tests), model, min_rows=1).sums)
    assert found.n_rows.sum() == sum(len(part) for _, part in tests.values())
    for table in ("validation", "", "dat"):
        with pytest.raises(SiteError, match="Round 0 failed at site 'north'"):
            evaluate(grid, model, table=table)


# -- what a site allows --------------------------------------------------------------------------


def test_a_site_answers_nothing_unless_its_app_says_so(numbers):
    X, y, site = numbers
    model = classifier().fit(X, y, clients=site)
    parts = by_site(X, y, site)
    silent = SimulatedSites(
        {name: {} for name in SITES}, app=make_client_app(lambda config: parts[config["site"]])
    )
    with pytest.raises(SiteError, match=r"\['north', 'south', 'west'\] answer no evaluation"):
        evaluate(silent, model)
    with pytest.raises(SiteError, match=r"do not tell their own figures"):
        evaluate(grid_of(X, y, site), model, by_site=["south"])
    with pytest.raises(SiteError, match=r"by_site names \['east'\]"):
        evaluate(grid_of(X, y, site, "own"), model, by_site=["east"])
    with pytest.raises(ValueError, match="evaluation must be"):
        make_client_app(evaluation="all")
    with pytest.raises(ValueError, match="min_rows"):
        make_client_app(evaluation="own", min_rows=0)


class Lying(SimulatedSites):
    """A server that changes what it asks after sites said what they allow."""

    def __init__(self, data, change, **options):
        super().__init__(data, **options)
        self.change = change
        self.errors = []

    def push_messages(self, messages):
        messages = list(messages)
        for message in messages:
            if message.metadata.message_type == ASK:
                task = read_facts(message.content["task"])
                message.content["task"] = write_facts(self.change(task))
        sent = super().push_messages(messages)
        self.errors += [
            str(reply.content["error"]["type"])
            for reply in self._replies.values()
            if "error" in reply.content
        ]
        return sent


@pytest.mark.parametrize(
    ("change", "evaluation", "error"),
    [
        (lambda task: task, None, "PermissionError"),
        (lambda task: task | {"query": PredictionSums(2, 9, 1)}, "sums", "PermissionError"),
        (lambda task: {k: v for k, v in task.items() if k != "predictor"}, "own", "TypeError"),
        (
            lambda task: (
                {k: v for k, v in task.items() if k != "predictor"}
                | {"query": Behind(task["query"], [], None)}
            ),
            "own",
            "TypeError",
        ),
        (lambda task: task | {"query": Behind(task["query"], [], None)}, "own", "TypeError"),
        (lambda task: task | {"site": "elsewhere"}, "own", "ValueError"),
    ],
)
def test_a_site_holds_to_it_whatever_the_server_says(
    numbers, change, evaluation, error, monkeypatch
):
    X, y, site = numbers
    model = classifier().fit(X, y, clients=site)
    grid = Lying(by_site(X, y, site), change, evaluation=evaluation)
    monkeypatch.setattr("skfedfocal.flower._figures.check_allowed", lambda *args: None)
    with pytest.raises(SiteError, match=error):
        evaluate(grid, model)
    assert grid.errors == [error] * 3


def test_a_site_withholds_classes_of_few_rows_by_its_own_rule(numbers):
    X, y, site = numbers
    keep = (site != "north") | (y == "well") | (np.arange(len(y)) < 12)
    X, y, site = X[keep], y[keep], site[keep]
    few = (y[site == "north"] == "sick").sum()
    assert 0 < few < 10
    model = classifier().fit(X, y, clients=site)
    found = evaluate(grid_of(X, y, site, "own", 10), model, by_site=True, min_rows=1)
    sick, well = 0, 1
    assert np.isnan(found.clients["north"].recall[sick])
    assert np.isnan(found.clients["north"].balanced_accuracy)
    assert found.clients["north"].recall[well] >= 0
    # The sum less the others would be north's; so the smallest of them is withheld as well.
    others = {name: (y[site == name] == "sick").sum() for name in ("south", "west")}
    least = min(others, key=others.get)
    assert np.isnan(found.clients[least].recall[sick])
    assert found.recall[sick] >= 0


@settings(max_examples=40)
@given(st.data())
def test_what_is_withheld_of_a_class_is_never_that_of_one_site(data):
    n_sites = data.draw(st.integers(2, 5))
    names = [f"site{k}" for k in range(n_sites)]
    counts = data.draw(
        st.lists(st.tuples(*[st.integers(0, 14)] * 2), min_size=n_sites, max_size=n_sites)
    )
    counts = [c if sum(c) else (1, 0) for c in counts]
    y = np.concatenate([np.repeat([0, 1], c) for c in counts])
    site = np.repeat(names, [sum(c) for c in counts])
    X = np.random.default_rng(0).normal(size=(len(y), 2))
    model = (
        classifier(n_rounds=1).fit(X, np.arange(len(y)) % 2, clients=site) if len(y) > 1 else None
    )
    if model is None:
        return
    asked = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    found = evaluate(grid_of(X, y, site, "own", 10), model, by_site=asked, min_rows=1)
    assert set(found.clients) == set(asked)
    for c in (0, 1):
        unknown = [
            name
            for name in names
            if (y[site == name] == c).any()
            and (name not in asked or np.isnan(found.clients[name].n_rows[c]))
        ]
        whole = found.n_rows[c]
        if len(unknown) == 1 and not np.isnan(whole):
            # Nobody else has the class: the sum is of one site, as with any question.
            assert whole == (y[site == unknown[0]] == c).sum()
            assert unknown[0] not in asked


# -- as an app -----------------------------------------------------------------------------------


def test_an_exported_app_evaluates_what_it_has_trained(numbers, tmp_path):
    X, y, site = numbers
    saved, figures = tmp_path / "model.skf", tmp_path / "evaluation.json"
    options = {"evaluate_to": figures, "evaluation": {"min_rows": 1}, "sites": list(SITES)}
    folder = export_app(
        classifier(), tmp_path / "app", save_to=saved, evaluated="sums", min_rows=5, **options
    )
    client = (folder / "federation" / "client.py").read_text()
    assert "make_client_app(evaluation='sums', min_rows=5)" in client
    estimator, told = read_export(folder / "federation" / "server.py")
    make_server_app(estimator, **told)(grid_of(X, y, site), Context(1, 0, {}, RecordDict(), {}))
    found = Evaluation.from_dict(json.loads(figures.read_text()))
    model = load_model(saved)
    assert_array_equal(found.sums, evaluate(grid_of(X, y, site), model, min_rows=1).sums)
    threshold = found.threshold(0.8, "sick")
    rows = each_alone(model, X, site)[y == "sick", 0]
    assert (rows >= threshold.threshold).mean() == pytest.approx(threshold.recall)


def test_a_model_is_kept_whose_evaluation_no_site_allows(numbers, tmp_path):
    X, y, site = numbers
    app = make_server_app(
        classifier(), save_to=tmp_path / "model.skf", evaluate_to=tmp_path / "evaluation.json"
    )
    with pytest.raises(SiteError, match="answer no evaluation"):
        app(grid_of(X, y, site, None), Context(1, 0, {}, RecordDict(), {}))
    assert load_model(tmp_path / "model.skf").n_iter_ == 3
    assert not (tmp_path / "evaluation.json").exists()
    with pytest.raises(ValueError, match="evaluated="):
        export_app(classifier(), tmp_path / "a", save_to="m", evaluate_to="e")
    with pytest.raises(ValueError, match="evaluation must be"):
        export_app(classifier(), tmp_path / "a", save_to="m", evaluated="all")


# -- under secure sums -----------------------------------------------------------------------------


def test_secure_sums_have_the_same_figures_and_no_single_one(numbers):
    pytest.importorskip("cryptography")
    X, y, site = numbers
    grid = grid_of(X, y, site, "own")
    model = federate(grid, classifier(secure_aggregation=True))
    found = evaluate(grid, model, min_rows=1, n_bins=50)
    assert_same_figures_of_bins(found, model, X, y, site, 50)
    with pytest.raises(SiteError, match="Under secure_aggregation"):
        evaluate(grid, model, by_site=True)
    sums = leave_one_site_out(
        grid_of(X, y, np.repeat([*SITES, "zoo"], 40)),
        classifier(secure_aggregation=True),
        min_rows=1,
        n_bins=20,
    )
    assert sums.n_rows.sum() == len(y)


def assert_same_figures_of_bins(found, model, X, y, site, n_bins):
    wanted = evaluate_here(model, X, y, site, n_bins=n_bins)
    assert_allclose(found.confusion_matrix, wanted.confusion_matrix)
    assert found.log_loss == pytest.approx(wanted.log_loss, abs=1e-5)


# -- leave one site out ----------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [[], [FederatedStandardScaler()]], ids=str)
def test_leave_one_site_out_is_that_of_scikit_learn(numbers, steps):
    X, y, site = numbers
    estimator = make_pipeline(*steps, classifier())
    grid = grid_of(X, y, site, "own")
    found = leave_one_site_out(grid, estimator, by_site=True, min_rows=1)
    assert not hasattr(estimator[-1], "theta_")
    total = 0
    for train, test in LeaveOneGroupOut().split(X, y, site):
        ids = {f"{name}__clients": site[train] for name, _ in estimator.steps}
        model = clone(estimator).fit(X.iloc[train], y[train], **ids)
        own = evaluate_here(model, X.iloc[test], y[test])
        assert_array_equal(found.clients[site[test][0]].sums, own.sums)
        total = total + own.sums
    assert_allclose(found.sums, total, atol=1e-9)


def test_leave_one_site_out_of_tables_in_other_orders(numbers):
    """Each model has its columns in the order of the first site among those that it is of."""
    X, y, site = numbers
    parts = by_site(X, y, site)
    turned = {
        name: (X[X.columns[:: (-1) ** k]], y) for k, (name, (X, y)) in enumerate(parts.items())
    }
    for estimator in (classifier(), make_pipeline(FederatedStandardScaler(), classifier())):
        found = leave_one_site_out(SimulatedSites(turned), estimator, min_rows=1)
        total = 0
        for left_out, (rows, labels) in turned.items():
            others = {name: part for name, part in turned.items() if name != left_out}
            model = federate(SimulatedSites(others), clone(estimator))
            in_order = rows[list(next(iter(others.values()))[0])]
            total = total + evaluate_here(model, in_order, labels).sums
        assert_array_equal(found.sums, total)


def test_leaving_out_the_only_site_of_a_label(numbers):
    X, y, site = numbers
    y = np.where((site == "west") & (np.arange(len(y)) % 9 == 0), "unsure", y)
    with (
        pytest.raises(SiteError, match="'unsure' at 'west'"),
        pytest.warns(UserWarning, match="alone has"),
    ):
        leave_one_site_out(grid_of(X, y, site), classifier())
    found = leave_one_site_out(
        grid_of(X, y, site), classifier(), classes=["sick", "unsure", "well"], min_rows=1
    )
    assert found.recall[1] == 0  # nobody has told the model of it
    with pytest.raises(SiteError, match="sites needed came"):
        leave_one_site_out(grid_of(X, y, site), classifier(), min_clients=3, wait=0)


# -- what does not go together ---------------------------------------------------------------------


def test_sites_that_do_not_go_with_the_model(numbers):
    X, y, site = numbers
    model = classifier().fit(X, y, clients=site)
    with pytest.raises(SiteError, match=r"lack the columns \['beats'\].*\['pulse'\] besides"):
        evaluate(grid_of(X.rename(columns={"beats": "pulse"}), y, site), model)
    with pytest.raises(SiteError, match="no names"):
        evaluate(grid_of(X.to_numpy(), y, site), model)
    other = np.where(y == "sick", "ill", y)
    with pytest.raises(SiteError, match=r"classes \['ill'\]"):
        evaluate(grid_of(X, other, site), model)
    nameless = classifier().fit(X.to_numpy(), y, clients=site)
    with pytest.raises(SiteError, match="2 columns"):
        evaluate(grid_of(np.ones((len(y), 3)), y, site), nameless)
    with pytest.warns(UserWarning, match="have names and the model's have none"):
        evaluate(grid_of(X, y, site), nameless)


def test_estimators_that_cannot_be_evaluated(numbers):
    X, y, site = numbers
    grid = grid_of(X, y, site)
    with pytest.raises(TypeError, match="GaussianNB"):
        evaluate(grid, GaussianNB().fit(X, y))
    pipeline = make_pipeline(OneHotEncoder(), classifier())
    pipeline.fit(X, y, fedfocalclassifier__clients=site)
    with pytest.raises(TypeError, match="OneHotEncoder"):
        evaluate(grid, pipeline)
    with pytest.raises(NotFittedError):
        evaluate(grid, classifier())


def test_a_search_is_evaluated(numbers):
    X, y, site = numbers
    model = FedFocalClassifierCV(gammas=[0, 2], n_rounds=2, cv=2, random_state=0)
    model.fit(X, y, clients=site)
    found = evaluate(grid_of(X, y, site, "own"), model, by_site=True, min_rows=1)
    assert_same_figures(found, model, X, y, site)


def test_sites_are_told_the_model_and_nothing_of_the_training(numbers):
    X, y, site = numbers
    tasks = []

    def look(task):
        tasks.append(task)
        return task

    model = classifier().fit(X, y, clients=site)
    evaluate(Lying(by_site(X, y, site), look), model)
    for task in tasks:
        told = set(task["predictor"])
        assert not told & {"clients_", "client_sizes_", "class_prior_", "history_", "failures_"}
        others = set(SITES) - {task["site"]}
        assert not any(repr(name) in repr(task) for name in others)
