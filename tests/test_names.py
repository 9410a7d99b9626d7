"""Things that bear the name of another: parts, client ids; and names that are listed by hand."""

import re
import subprocess
import sys

import numpy as np
import pytest
from oracles import federation

from skfedfocal import (
    FederatedClassifier,
    FedFocalClassifier,
    FedFocalClassifierCV,
    load_model,
    save_model,
)
from skfedfocal import aggregation as aggregation_module
from skfedfocal import losses as losses_module
from skfedfocal import selection as selection_module
from skfedfocal import strategies as strategies_module
from skfedfocal._class_weight import CLASS_WEIGHTS
from skfedfocal._data.clients import ClientLayout
from skfedfocal._plain import from_plain, to_plain
from skfedfocal.aggregation import AGGREGATORS
from skfedfocal.engines import ENGINES
from skfedfocal.losses import LOSSES
from skfedfocal.selection import SELECTIONS
from skfedfocal.strategies import STRATEGIES

X, y, CLIENTS = federation([9, 4, 14, 6, 8])
SETTINGS = {"hidden_layer_sizes": (3,), "n_rounds": 2, "random_state": 0}
ESTIMATORS = [FedFocalClassifier, FederatedClassifier, FedFocalClassifierCV]


# ── parts of one's own ───────────────────────────────────────────────────────────────


class Krum(aggregation_module.Aggregator):
    """Not the package's."""

    def __init__(self, bad_share=0.2, n_keep=None):
        self.bad_share = bad_share
        self.n_keep = n_keep

    def __call__(self, updates, weights):
        return updates.mean(0)


class FocalLoss(losses_module.FocalLoss):
    """Not the package's, though it derives from it."""


class Uniform(selection_module.Uniform):
    """Not the package's."""


class FedAvg(strategies_module.FedAvg):
    """Not the package's."""


@pytest.mark.parametrize(
    "params",
    [
        {"aggregation": Krum()},
        {"loss": FocalLoss()},
        {"selection": Uniform()},
        {"strategy": FedAvg()},
    ],
    ids=lambda params: next(iter(params)),
)
def test_a_part_of_ones_own_is_not_written_as_the_packages(params, tmp_path):
    clf = FederatedClassifier(**SETTINGS, **params).fit(X, y, clients=CLIENTS)
    with pytest.raises(TypeError, match="cannot be written as plain data"):
        save_model(clf, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_part_of_ones_own_is_not_read_for_the_packages(tmp_path):
    clf = FederatedClassifier(**SETTINGS, aggregation="krum", loss=losses_module.FocalLoss())
    clf.set_params(aggregation=aggregation_module.Krum(0.1))
    save_model(clf.fit(X, y, clients=CLIENTS), tmp_path / "model")
    found = load_model(tmp_path / "model")
    assert type(found.aggregation) is aggregation_module.Krum
    assert type(found.loss_) is losses_module.FocalLoss
    part = from_plain(to_plain(aggregation_module.Krum()))
    assert type(part) is aggregation_module.Krum


class FedFocalClassifierOfOnesOwn(FedFocalClassifier):
    pass


def test_an_estimator_of_ones_own_is_not_written_as_the_packages(tmp_path):
    FedFocalClassifierOfOnesOwn.__name__ = "FedFocalClassifier"
    clf = FedFocalClassifierOfOnesOwn(**SETTINGS).fit(X, y, clients=CLIENTS)
    with pytest.raises(TypeError, match="cannot be written"):
        save_model(clf, tmp_path / "model")


def test_a_search_is_read_in_a_process_that_has_not_imported_it(tmp_path):
    clf = FedFocalClassifierCV(**SETTINGS, gammas=(0.0, [0, 1, 2]), cv=2)
    clf.fit(X, y, clients=CLIENTS)
    save_model(clf, tmp_path / "model")
    np.save(tmp_path / "X.npy", X)
    program = (
        "import sys, numpy as np\n"
        "from skfedfocal import load_model\n"
        "model = load_model(sys.argv[1])\n"
        "np.save(sys.argv[3], model.predict_proba(np.load(sys.argv[2])))\n"
        "print(type(model).__name__, model.best_index_, model.cv_results_['rank_test_score'])\n"
    )
    names = [str(tmp_path / name) for name in ("model", "X.npy", "found.npy")]
    done = subprocess.run(
        [sys.executable, "-c", program, *names], capture_output=True, check=True, text=True
    )
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), clf.predict_proba(X))
    ranks = clf.cv_results_["rank_test_score"]
    assert done.stdout == f"FedFocalClassifierCV {clf.best_index_} {ranks}\n"


# ── client ids that are equal to Python ──────────────────────────────────────────────


def object_array(ids):
    array = np.empty(len(ids), object)
    array[:] = ids
    return array


TRUTHS = [True, np.True_]
ONES = [1, 1.0, np.int64(1), np.float32(1)]


@pytest.mark.parametrize("form", [list, tuple, object_array])
@pytest.mark.parametrize("truth", TRUTHS, ids=repr)
@pytest.mark.parametrize("one", ONES, ids=repr)
@pytest.mark.parametrize("between", [[], ["a"]], ids=["adjacent", "apart"])
def test_one_and_true_are_two_clients(form, truth, one, between):
    ids = [one, *between, truth, *between, one, one, truth]
    layout = ClientLayout.from_ids(form(ids), len(ids))
    assert layout.n_clients == 2 + len(between)
    by_type = [isinstance(i, bool | np.bool_) for i in ids]
    codes = layout.codes()
    for i, j in np.ndindex(len(ids), len(ids)):
        alike = by_type[i] == by_type[j] and (ids[i] == "a") == (ids[j] == "a")
        assert (codes[i] == codes[j]) == alike
    assert isinstance(layout.ids[codes[by_type.index(True)]], bool | np.bool_)


@pytest.mark.parametrize("form", [list, object_array])
def test_equal_numbers_are_one_client_whatever_their_type(form):
    layout = ClientLayout.from_ids(form(ONES * 2), 8)
    assert layout.n_clients == 1
    assert ClientLayout.from_ids(form([*TRUTHS, True]), 3).n_clients == 1


# ── names that are listed by hand ────────────────────────────────────────────────────

LISTED = {
    "loss": LOSSES,
    "strategy": STRATEGIES,
    "aggregation": AGGREGATORS,
    "selection": SELECTIONS,
    "class_weight": CLASS_WEIGHTS,
    "engine": ENGINES,
}


def described(kind, param):
    """What the docstring says of a parameter: its type, and its description."""
    entry = re.search(
        rf"^    {param} : (.*?)(?=^    \w+ : |^    \w+\n    -)", kind.__doc__, re.M | re.S
    )
    return entry[1]


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("param", LISTED)
def test_docstrings_list_the_names_there_are(kind, param):
    params = kind().get_params(deep=False)
    if param not in params:
        assert (kind, param) in {
            (FedFocalClassifier, "loss"),
            (FedFocalClassifierCV, "loss"),
            (FedFocalClassifierCV, "class_weight"),
        }
        return
    text = described(kind, param)
    assert set(re.findall(r'"(\w+)"', text)) == set(LISTED[param])


def test_the_searchs_docstring_lists_the_names_there_are():
    named = set(re.findall(r'"(\w+)"', described(FedFocalClassifierCV, "class_weights")))
    assert named <= set(CLASS_WEIGHTS)


def test_docstrings_of_shared_parameters_agree():
    pytest.importorskip("numpydoc")  # what reads them
    from sklearn.utils._testing import assert_docstring_consistency

    shared = set.intersection(*(set(kind().get_params(deep=False)) for kind in ESTIMATORS))
    assert len(shared) > 15
    # Client focusing has another default in the general form; a search, which is never private,
    # has numbers where the others have "auto".
    other = {"client_gamma", "learning_rate"}
    assert_docstring_consistency(ESTIMATORS, include_params=sorted(shared - other))
    assert_docstring_consistency(
        [FedFocalClassifier, FederatedClassifier], include_params=["learning_rate", "privacy"]
    )
