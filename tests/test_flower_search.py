"""Searches, which are not trained over sites, say so where one asks for them."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

pytest.importorskip("flwr")

from skfedfocal import FedFocalClassifierCV
from skfedfocal.flower import SimulatedSites, export_app, federate


@pytest.mark.parametrize("piped", [False, True])
def test_a_search_is_refused_by_name(tmp_path, piped):
    rng = np.random.default_rng(0)
    sites = {name: (rng.normal(size=(30, 3)), rng.integers(0, 2, 30)) for name in "ab"}
    search = FedFocalClassifierCV(n_rounds=2)
    estimator = make_pipeline(StandardScaler(), search) if piped else search
    for ask in (
        lambda: federate(SimulatedSites(sites), estimator),
        lambda: export_app(estimator, tmp_path / "app", save_to="model.skf"),
    ):
        with pytest.raises(TypeError, match=r"FedFocalClassifierCV .*FedFocalClassifier"):
            ask()
    assert not (tmp_path / "app").exists()
    assert not hasattr(search, "theta_")
