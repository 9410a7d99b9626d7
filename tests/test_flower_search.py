"""What is not trained over sites says so where one asks for it, and what to do."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("flwr")

from skfedfocal import ClientColumn, FedFocalClassifier, FedFocalClassifierCV
from skfedfocal.flower import SimulatedSites, evaluate, export_app, federate, leave_one_site_out

SEARCH = FedFocalClassifierCV(n_rounds=2)
SMALL = FedFocalClassifier(n_rounds=2)


@pytest.mark.parametrize(
    ("estimator", "words"),
    [
        (SEARCH, r"FedFocalClassifierCV .*use FedFocalClassifier.*leave_one_site_out"),
        (
            make_pipeline(StandardScaler(), SEARCH),
            r"FedFocalClassifierCV .*use FedFocalClassifier.*leave_one_site_out",
        ),
        (GridSearchCV(SMALL, {"gamma": [0, 1]}), "GridSearchCV is none"),
        (ClientColumn(SMALL), "ClientColumn is none; .* pass its estimator"),
    ],
)
def test_what_cannot_be_trained_over_sites_is_refused_by_name(tmp_path, estimator, words):
    rng = np.random.default_rng(0)
    sites = {name: (rng.normal(size=(30, 3)), rng.integers(0, 2, 30)) for name in "abc"}
    for ask in (
        lambda: federate(SimulatedSites(sites), estimator),
        lambda: leave_one_site_out(SimulatedSites(sites), estimator),
        lambda: export_app(estimator, tmp_path / "app", save_to="model.skf"),
    ):
        with pytest.raises(TypeError, match=words):
            ask()
    assert not (tmp_path / "app").exists()
    assert not hasattr(SEARCH, "theta_")


def test_what_is_around_a_fitted_classifier_is_refused_by_name():
    X, y = np.arange(20.0)[:, None], np.arange(20) % 2
    model = ClientColumn(SMALL, None).fit(X, y)
    grid = SimulatedSites({"a": (X[:10], y[:10]), "b": (X[10:], y[10:])})
    with pytest.raises(TypeError, match="got ClientColumn; pass its estimator_"):
        evaluate(grid, model)
    assert evaluate(grid, model.estimator_).n_rows.sum() == 20
