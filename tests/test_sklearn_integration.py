"""Inside scikit-learn's own tools: what the user drops the classifier into.

Each tool with metadata routing off and on. Where scikit-learn passes metadata on without routing
the clients go along in both; where it does not (voting, bagging, threshold tuning), training
without them works in both, and passing them without routing is refused by scikit-learn.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, get_scorer_names, recall_score
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    LeaveOneGroupOut,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier

from skfedfocal import FederatedClassifier, FedFocalClassifier
from skfedfocal.losses import FocalLoss
from skfedfocal.strategies import FedProx

N_ROWS, N_CLIENTS = 120, 4
SIZE = N_ROWS // N_CLIENTS


@pytest.fixture(params=[False, True], ids=["routing off", "routing on"])
def routing(request):
    with config_context(enable_metadata_routing=request.param):
        yield request.param


@pytest.fixture
def routing_off():
    with config_context(enable_metadata_routing=False):
        yield


@pytest.fixture
def routing_on():
    with config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module")
def data():
    """Two classes, one rare; clients 10, 20, 30 and 40, whose rows lie mixed."""
    X, y = make_classification(
        N_ROWS, 6, n_informative=4, weights=[0.75], class_sep=1.5, random_state=0
    )
    return X, y, 10 * (1 + np.random.default_rng(0).permutation(N_ROWS) % N_CLIENTS)


@pytest.fixture
def model():
    return FedFocalClassifier((8,), n_rounds=4, learning_rate=0.1, random_state=0)


def assert_trained_on(fitted, clients):
    """The estimator was given exactly these rows' clients."""
    ids, sizes = np.unique(clients, return_counts=True)
    found = dict(zip(fitted.clients_.tolist(), fitted.client_sizes_.tolist(), strict=True))
    assert found == dict(zip(ids.tolist(), sizes.tolist(), strict=True))


# -- searches ----------------------------------------------------------------------------------


def test_grid_search_over_gamma(data, model, routing):
    X, y, clients = data
    search = GridSearchCV(model, {"gamma": [0.0, 1.0, 2.0]}, cv=3, error_score="raise")
    search.fit(X, y, clients=clients)
    assert_trained_on(search.best_estimator_, clients)
    assert search.best_params_["gamma"] == search.best_estimator_.gamma
    assert search.score(X, y) == search.best_estimator_.score(X, y)


def test_randomized_search(data, model, routing):
    X, y, clients = data
    space = {"gamma": [0.0, 1.0, 5.0], "learning_rate": [0.01, 0.1], "n_local_epochs": [1, 2]}
    search = RandomizedSearchCV(model, space, n_iter=4, cv=2, random_state=0, error_score="raise")
    search.fit(X, y, clients=clients)
    assert len(search.cv_results_["params"]) == 4
    assert_trained_on(search.best_estimator_, clients)


def test_halving_search_with_rounds_as_resource(data, model, routing):
    X, y, clients = data
    search = HalvingGridSearchCV(
        model,
        {"gamma": [0.0, 1.0, 2.0, 5.0]},
        resource="n_rounds",
        min_resources=1,
        max_resources=4,
        factor=2,
        cv=2,
        random_state=0,
        error_score="raise",
    )
    search.fit(X, y, clients=clients)
    assert search.n_resources_ == [1, 2, 4]
    assert search.best_estimator_.n_iter_ == 4
    assert_trained_on(search.best_estimator_, clients)


def test_grid_search_over_nested_components(data, routing):
    X, y, clients = data
    model = FederatedClassifier(
        (8,), loss=FocalLoss(), strategy=FedProx(), n_rounds=2, random_state=0
    )
    grid = {"loss__gamma": [0.0, 2.0], "strategy__mu": [0.0, 0.1]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(X, y, clients=clients)
    assert search.best_estimator_.loss.gamma == search.best_params_["loss__gamma"]
    assert search.best_estimator_.strategy.mu == search.best_params_["strategy__mu"]
    assert (model.loss.gamma, model.strategy.mu) == (2.0, 0.01)


# -- cross-validation --------------------------------------------------------------------------


def test_cross_validate_slices_clients(data, model, routing):
    X, y, clients = data
    result = cross_validate(
        model,
        X,
        y,
        cv=3,
        params={"clients": clients},
        return_estimator=True,
        return_indices=True,
        error_score="raise",
    )
    folds = zip(result["indices"]["train"], result["indices"]["test"], strict=True)
    for fitted, score, (train, test) in zip(
        result["estimator"], result["test_score"], folds, strict=True
    ):
        assert_trained_on(fitted, clients[train])
        by_hand = clone(model).fit(X[train], y[train], clients=clients[train])
        np.testing.assert_array_equal(fitted.theta_, by_hand.theta_)
        assert score == by_hand.score(X[test], y[test])


@pytest.mark.parametrize("splitter", [GroupKFold(N_CLIENTS), LeaveOneGroupOut()], ids=str)
def test_group_folds_by_client(data, model, routing, splitter):
    X, y, clients = data
    params, groups = {"clients": clients}, clients
    if routing:  # groups go the way of all metadata
        params, groups = params | {"groups": clients}, None
    result = cross_validate(
        model, X, y, groups=groups, cv=splitter, params=params, return_estimator=True
    )
    left_out = [set(np.unique(clients)) - set(e.clients_) for e in result["estimator"]]
    assert sorted(left_out, key=min) == [{10}, {20}, {30}, {40}]


def test_cross_val_score_and_predict(data, model, routing):
    X, y, clients = data
    scores = cross_val_score(model, X, y, cv=3, params={"clients": clients})
    assert ((scores > 0.5) & (scores <= 1)).all()
    for method, shape in (("predict_proba", (N_ROWS, 2)), ("decision_function", (N_ROWS,))):
        out = cross_val_predict(model, X, y, cv=3, method=method, params={"clients": clients})
        assert out.shape == shape
        assert np.isfinite(out).all()


def test_nested_cross_validation(data, model, routing):
    X, y, clients = data
    inner = GridSearchCV(model, {"gamma": [0.0, 2.0]}, cv=2, error_score="raise")
    outer = cross_validate(
        inner,
        X,
        y,
        cv=3,
        params={"clients": clients},
        return_estimator=True,
        return_indices=True,
        error_score="raise",
    )
    for search, train in zip(outer["estimator"], outer["indices"]["train"], strict=True):
        assert_trained_on(search.best_estimator_, clients[train])


def test_learning_and_validation_curves(data, model, routing):
    X, y, clients = data
    given = {"cv": 2, "params": {"clients": clients}, "error_score": "raise"}
    sizes, _, scores = learning_curve(model, X, y, train_sizes=[0.5, 1.0], **given)
    assert sizes.tolist() == [30, 60]
    assert scores.shape == (2, 2)
    _, scores = validation_curve(model, X, y, param_name="gamma", param_range=[0.0, 2.0], **given)
    assert scores.shape == (2, 2)


# -- pipelines ---------------------------------------------------------------------------------


def test_pipeline(data, model, routing):
    X, y, clients = data
    pipeline = Pipeline([("scale", StandardScaler()), ("clf", model)])
    pipeline.fit(X, y, **{"clients" if routing else "clf__clients": clients})
    assert_trained_on(pipeline["clf"], clients)
    alone = clone(model).fit(StandardScaler().fit_transform(X), y, clients=clients)
    np.testing.assert_array_equal(pipeline["clf"].theta_, alone.theta_)
    assert pipeline.score(X, y) == pipeline["clf"].score(pipeline["scale"].transform(X), y)


def test_column_transformer_in_a_pipeline(data, model, routing):
    X, y, clients = data
    table = pd.DataFrame(X, columns=list("abcdef")).assign(site=np.array(["s", "t"])[y])
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), list("abc")), ("words", OneHotEncoder(), ["site"])]
    )
    pipeline = Pipeline([("columns", columns), ("clf", model)])
    pipeline.fit(table, y, **{"clients" if routing else "clf__clients": clients})
    assert_trained_on(pipeline["clf"], clients)
    assert pipeline["clf"].n_features_in_ == 5
    assert pipeline.predict(table).shape == (N_ROWS,)


def test_pandas_output_gives_feature_names(data, model, routing):
    X, y, clients = data
    pipeline = make_pipeline(StandardScaler(), model).set_output(transform="pandas")
    name = "clients" if routing else "fedfocalclassifier__clients"
    pipeline.fit(pd.DataFrame(X, columns=list("abcdef")), y, **{name: clients})
    assert pipeline[-1].feature_names_in_.tolist() == list("abcdef")


def test_grid_search_over_a_pipeline(data, model, routing):
    X, y, clients = data
    pipeline = Pipeline([("scale", StandardScaler()), ("clf", model)])
    search = GridSearchCV(pipeline, {"clf__gamma": [0.0, 2.0]}, cv=2, error_score="raise")
    search.fit(X, y, **{"clients" if routing else "clf__clients": clients})
    assert_trained_on(search.best_estimator_["clf"], clients)


def test_sample_weight_beside_clients(data, model, routing):
    X, y, clients = data
    weight = np.where(y == 1, 3.0, 1.0)
    if routing:
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    search = GridSearchCV(model, {"gamma": [0.0, 2.0]}, cv=2, error_score="raise")
    search.fit(X, y, sample_weight=weight, clients=clients)
    assert search.best_estimator_.client_sizes_.sum() == pytest.approx(weight.sum())


# -- meta-estimators that pass metadata on with and without routing ----------------------------


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration(data, model, routing, ensemble, method):
    X, y, clients = data
    calibrated = CalibratedClassifierCV(model, method=method, ensemble=ensemble, cv=3)
    calibrated.fit(X, y, clients=clients)
    bases = [c.estimator for c in calibrated.calibrated_classifiers_]
    assert len(bases) == (3 if ensemble else 1)
    for base in bases:
        assert set(base.clients_) == {10, 20, 30, 40}
        assert base.client_sizes_.sum() == (80 if ensemble else N_ROWS)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(1), 1)


# -- meta-estimators that pass metadata on with routing only -----------------------------------

WITH_ROUTING_ONLY = {
    "TunedThresholdClassifierCV": lambda m: TunedThresholdClassifierCV(m, cv=3, thresholds=10),
    "FixedThresholdClassifier": lambda m: FixedThresholdClassifier(m, threshold=0.4),
    "VotingClassifier": lambda m: VotingClassifier([("a", m), ("b", m)], voting="soft"),
    "BaggingClassifier": lambda m: BaggingClassifier(m, n_estimators=3, random_state=0),
    "OneVsRestClassifier": lambda m: OneVsRestClassifier(m),
    "StackingClassifier": lambda m: StackingClassifier([("a", m)], final_estimator=m, cv=2),
    "SelfTrainingClassifier": lambda m: SelfTrainingClassifier(m),
}
with_routing_only = pytest.mark.parametrize(
    "build", WITH_ROUTING_ONLY.values(), ids=list(WITH_ROUTING_ONLY)
)


@with_routing_only
@pytest.mark.filterwarnings("ignore:y contains no unlabeled samples")  # SelfTrainingClassifier
def test_without_clients(data, model, routing, build):
    X, y, _ = data
    fitted = build(model).fit(X, y)
    assert recall_score(y, fitted.predict(X), average="macro") > 0.6


@with_routing_only
def test_scikit_learn_refuses_clients_without_routing(data, model, routing_off, build):
    X, y, clients = data
    with pytest.raises(ValueError, match="only supported if enable_metadata_routing=True"):
        build(model).fit(X, y, clients=clients)


def test_tuned_threshold(data, model, routing_on):
    X, y, clients = data
    tuned = WITH_ROUTING_ONLY["TunedThresholdClassifierCV"](model).fit(X, y, clients=clients)
    assert_trained_on(tuned.estimator_, clients)
    assert 0 <= tuned.best_threshold_ <= 1


def test_fixed_threshold(data, model, routing_on):
    X, y, clients = data
    fixed = WITH_ROUTING_ONLY["FixedThresholdClassifier"](model).fit(X, y, clients=clients)
    assert_trained_on(fixed.estimator_, clients)
    probability = fixed.estimator_.predict_proba(X)[:, 1]
    np.testing.assert_array_equal(fixed.predict(X), probability >= 0.4)


def test_voting(data, model, routing_on):
    X, y, clients = data
    voting = WITH_ROUTING_ONLY["VotingClassifier"](model).fit(X, y, clients=clients)
    for member in voting.estimators_:
        assert_trained_on(member, clients)


@pytest.mark.parametrize("options", [{}, {"bootstrap": False, "max_features": 0.5}], ids=str)
def test_bagging(data, model, routing_on, options):
    X, y, clients = data
    bagging = BaggingClassifier(model, 3, max_samples=0.5, random_state=0, **options)
    bagging.fit(X, y, clients=clients)
    for member, rows in zip(bagging.estimators_, bagging.estimators_samples_, strict=True):
        assert_trained_on(member, clients[rows])
    assert bagging.predict(X).shape == (N_ROWS,)


def test_one_vs_rest(data, model, routing_on):
    X, _, clients = data
    y = np.arange(N_ROWS) % 3
    for member in OneVsRestClassifier(model).fit(X, y, clients=clients).estimators_:
        assert_trained_on(member, clients)


# -- scikit-learn's own bugs -------------------------------------------------------------------


@pytest.mark.xfail(
    raises=TypeError,
    strict=True,
    reason=(
        "scikit-learn: StackingClassifier.fit routes metadata to its estimators, but then passes "
        "all of it, unrouted, to final_estimator_.fit, which did not ask for it"
    ),
)
def test_stacking(data, model, routing_on):
    X, y, clients = data
    StackingClassifier([("a", model)], LogisticRegression(), cv=2).fit(X, y, clients=clients)


def test_stacking_under_a_final_estimator_that_takes_clients(data, model, routing_on):
    X, y, clients = data
    stack = WITH_ROUTING_ONLY["StackingClassifier"](model).fit(X, y, clients=clients)
    assert_trained_on(stack.estimators_[0], clients)
    assert_trained_on(stack.final_estimator_, clients)


@pytest.mark.xfail(
    raises=ValueError,
    strict=True,
    reason=(
        "scikit-learn: SelfTrainingClassifier.fit trains on the labelled rows of X and y, but "
        "passes on metadata of all rows"
    ),
)
def test_self_training(data, model, routing_on):
    X, y, clients = data
    y = np.where(np.arange(N_ROWS) % 3 == 0, -1, y)
    SelfTrainingClassifier(model).fit(X, y, clients=clients)


# -- scores ------------------------------------------------------------------------------------

# Scorers of regression ask for numbers to be near, and those of clusterings for no labels at all;
# the _samples averages are for multilabel targets.
NOT_CLASSIFICATION = {
    "d2_absolute_error_score",
    "explained_variance",
    "neg_max_error",
    "neg_mean_absolute_error",
    "neg_mean_absolute_percentage_error",
    "neg_mean_gamma_deviance",
    "neg_mean_poisson_deviance",
    "neg_mean_squared_error",
    "neg_mean_squared_log_error",
    "neg_median_absolute_error",
    "neg_root_mean_squared_error",
    "neg_root_mean_squared_log_error",
    "r2",
    "adjusted_mutual_info_score",
    "adjusted_rand_score",
    "completeness_score",
    "fowlkes_mallows_score",
    "homogeneity_score",
    "mutual_info_score",
    "normalized_mutual_info_score",
    "rand_score",
    "v_measure_score",
    "f1_samples",
    "jaccard_samples",
    "precision_samples",
    "recall_samples",
}
ONLY_BINARY = {
    "average_precision",
    "f1",
    "jaccard",
    "neg_brier_score",
    "neg_negative_likelihood_ratio",
    "positive_likelihood_ratio",
    "precision",
    "recall",
    "roc_auc",
}
ONLY_MULTICLASS = {"top_k_accuracy"}
SCORERS = sorted(set(get_scorer_names()) - NOT_CLASSIFICATION)


@pytest.fixture(scope="module")
def fitted_binary(data):
    X, y, clients = data
    return X, y, FedFocalClassifier((8,), n_rounds=4, random_state=0).fit(X, y, clients=clients)


@pytest.fixture(scope="module")
def fitted_multiclass():
    X, y = make_classification(
        N_ROWS, 6, n_informative=4, n_classes=3, weights=[0.6, 0.3], random_state=0
    )
    model = FedFocalClassifier((8,), n_rounds=4, random_state=0)
    return X, y, model.fit(X, y, clients=np.arange(N_ROWS) % N_CLIENTS)


@pytest.mark.parametrize("name", sorted(set(SCORERS) - ONLY_MULTICLASS))
def test_scorers_on_two_classes(fitted_binary, name):
    X, y, fitted = fitted_binary
    assert np.isfinite(get_scorer(name)(fitted, X, y))


@pytest.mark.parametrize("name", sorted(set(SCORERS) - ONLY_BINARY))
def test_scorers_on_three_classes(fitted_multiclass, name):
    X, y, fitted = fitted_multiclass
    assert np.isfinite(get_scorer(name)(fitted, X, y))


def test_score_is_balanced_accuracy(fitted_multiclass):
    X, y, fitted = fitted_multiclass
    assert fitted.score(X, y) == get_scorer("balanced_accuracy")(fitted, X, y)
    weight = np.random.default_rng(0).uniform(0.1, 2, len(y))
    weighted = get_scorer("balanced_accuracy")(fitted, X, y, sample_weight=weight)
    assert fitted.score(X, y, sample_weight=weight) == pytest.approx(weighted, abs=1e-12)


# -- inspection --------------------------------------------------------------------------------


def test_permutation_importance(fitted_binary):
    X, y, fitted = fitted_binary
    result = permutation_importance(fitted, X, y, n_repeats=2, random_state=0)
    assert result.importances.shape == (6, 2)
    assert result.importances_mean.max() > 0


def test_partial_dependence(fitted_binary):
    X, _, fitted = fitted_binary
    result = partial_dependence(fitted, X, [0], grid_resolution=5)
    assert result["average"].shape == (1, 5)
    assert np.ptp(result["average"]) > 0


def test_html_repr():
    html = FedFocalClassifier(strategy=FedProx(mu=0.5), gamma=3.0)._repr_html_()
    assert "FedFocalClassifier" in html
    assert "FedProx" in html
