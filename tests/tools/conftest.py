"""What the tools are given: a table with a column of ids, and a federated classifier around it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_classification
from sklearn.pipeline import make_pipeline

from skfedfocal import ClientColumn, FedFocalClassifier
from skfedfocal.preprocessing import FederatedStandardScaler


@pytest.fixture
def table():
    """120 rows of two classes, one rare, and of three hospitals; and their labels."""
    X, y = make_classification(
        120, 5, n_informative=4, n_redundant=0, weights=[0.75], class_sep=1.5, random_state=0
    )
    hospital = np.array(["oslo", "bergen", "tromsø"])[np.random.default_rng(0).integers(0, 3, 120)]
    return pd.DataFrame(X, columns=list("abcde")).assign(hospital=hospital), y


@pytest.fixture
def array(table):
    """The same as an array, with ids that are numbers, in the last column."""
    X, y = table
    return X.assign(hospital=X["hospital"].factorize()[0]).to_numpy(), y


@pytest.fixture
def classifier():
    return FedFocalClassifier((8,), n_rounds=2, random_state=0)


@pytest.fixture
def pipeline(classifier):
    return make_pipeline(FederatedStandardScaler(), classifier)


@pytest.fixture
def model(pipeline):
    return ClientColumn(pipeline, "hospital")


@pytest.fixture
def model_of_arrays(pipeline):
    return ClientColumn(pipeline, -1)
