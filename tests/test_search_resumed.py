"""A search that is killed goes on where it was, to the last bit, and trains nothing twice."""

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from oracles import federation
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, StratifiedKFold

from skfedfocal import FedFocalClassifierCV
from skfedfocal._estimators import classifier_cv
from skfedfocal._plain import read_plain
from skfedfocal.aggregation import AGGREGATORS
from skfedfocal.engines import LoopEngine, ManyFederations, VectorizedEngine
from skfedfocal.selection import SELECTIONS
from skfedfocal.strategies import STRATEGIES

X, y, CLIENTS = federation([9, 4, 14, 6, 8])


@st.composite
def searches(draw):
    aggregation = draw(st.sampled_from(["mean", *sorted(AGGREGATORS)]))
    return FedFocalClassifierCV(
        hidden_layer_sizes=(3,),
        gammas=draw(st.sampled_from([(1.0, 0.0), (0.0, 2.0, [0.0, 1.0, 5.0]), (1.0,)])),
        class_weights=draw(st.sampled_from([("balanced",), (None, {0: 2.0}), ("local",)])),
        cv=draw(st.sampled_from([2, 3, GroupKFold(3), StratifiedKFold(2)])),
        racing=draw(st.booleans()),
        strategy=draw(st.sampled_from(sorted(STRATEGIES))),
        selection=draw(st.sampled_from(sorted(SELECTIONS))),
        aggregation=aggregation,
        client_gamma=1.0 if aggregation == "mean" else 0.0,
        clients_per_round=draw(st.sampled_from([3, 1.0])),
        momentum=draw(st.sampled_from([0.0, 0.5])),
        average_rounds=draw(st.integers(1, 3)),
        learning_rate=0.05,
        batch_size=5,
        engine=draw(st.sampled_from(["loop", "vectorized"])),
        n_rounds=draw(st.integers(1, 5)),
        random_state=draw(st.integers(0, 99)),
    )


class Killed(BaseException):
    """As a KeyboardInterrupt: nothing catches it."""


@contextmanager
def counted(seen, death=None, how=Killed):
    """Write down rounds and judgements, and die in the one of this number.

    Rounds die after their first replies, those of the search and those of the final training.
    """

    def note(what):
        seen.append(what)
        return len(seen) == death

    def dying(train, what):
        def dies(engine, asked):
            die = note(what)
            for reply in train(engine, asked):
                yield reply
                if die:
                    break
            if die:
                raise how

        return dies

    def judging(run, *args):
        if note("judged"):
            raise how
        return judge(run, *args)

    judge = classifier_cv.balanced_accuracy
    # Side by side a round of the search is one call; else it would be seen again in its engines.
    with (
        patch.object(ManyFederations, "train", dying(ManyFederations._side_by_side, "search")),
        patch.object(LoopEngine, "train", dying(LoopEngine.train, "training")),
        patch.object(VectorizedEngine, "train", dying(VectorizedEngine.train, "training")),
        patch.object(classifier_cv, "balanced_accuracy", judging),
    ):
        yield


def assert_same(found, wanted):
    np.testing.assert_array_equal(found.theta_, wanted.theta_)
    np.testing.assert_equal(found.best_params_, wanted.best_params_)
    for name, values in wanted.cv_results_.items():  # a gamma may be one for each class
        for one, other in zip(found.cv_results_[name], values, strict=True):
            np.testing.assert_array_equal(one, other)
    assert found.best_score_ == wanted.best_score_
    histories = [{**fitted.history_, "seconds": None} for fitted in (found, wanted)]
    np.testing.assert_equal(*histories)


def lost(seen):
    """How many of the last events belong to the round in which it died, judgements and all."""
    n = 1
    while seen[-n] == "judged":
        n += 1
    return n


@settings(max_examples=10, phases=[Phase.generate])
@given(searches(), st.data())
def test_wherever_it_is_killed(search, data):
    with counted(events := []):
        straight = clone(search).fit(X, y, clients=CLIENTS)
    places = st.lists(st.integers(1, len(events)), min_size=1, max_size=3, unique=True)
    kept = []
    with TemporaryDirectory() as folder:
        path = Path(folder, "search")
        for death in sorted(data.draw(places)):
            with counted(seen := [], death - len(kept)), pytest.raises(Killed):
                clone(search).fit(X, y, clients=CLIENTS, checkpoint=path)
            kept += seen[: -lost(seen)]
        with counted(seen := []):
            resumed = clone(search).fit(X, y, clients=CLIENTS, checkpoint=path)
        assert kept + seen == events  # nothing was done again but the rounds that were under way
        with counted(nothing := []):
            again = clone(search).fit(X, y, clients=CLIENTS, checkpoint=path)
        assert not nothing
    for found in (resumed, again):
        assert_same(found, straight)


def test_ctrl_c_in_a_search_keeps_the_leader_and_goes_on(tmp_path):
    """As without a checkpoint; and then it is no loss."""
    search = FedFocalClassifierCV((3,), gammas=(1.0, 0.0, 5.0), cv=2, n_rounds=12, random_state=0)
    with counted(events := []):
        straight = clone(search).fit(X, y, clients=CLIENTS)
    stopped, path = clone(search), tmp_path / "search"
    # In the second stage: all candidates have been judged once.
    death = events.index("search", events.index("judged")) + 1
    with counted([], death, KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        stopped.fit(X, y, clients=CLIENTS, checkpoint=path)
    assert stopped.predict(X).shape == y.shape
    assert np.isfinite(stopped.cv_results_["mean_test_score"]).all()
    assert_same(stopped.fit(X, y, clients=CLIENTS, checkpoint=path), straight)


def test_what_is_left_of_a_search_that_is_over_is_its_scores(tmp_path):
    search = FedFocalClassifierCV((3,), gammas=(1.0, 0.0), cv=2, n_rounds=8, random_state=0)
    with counted(events := []):
        clone(search).fit(X, y, clients=CLIENTS)
    sizes = []
    for death in (2, events.index("training") + 1):
        path = tmp_path / str(death)
        with counted([], death), pytest.raises(Killed):
            clone(search).fit(X, y, clients=CLIENTS, checkpoint=path)
        sizes.append(len(read_plain(path)["search"]["states"]))
    assert sizes == [4, 0]


SETTINGS = {"hidden_layer_sizes": (3,), "gammas": (1.0, 0.0), "n_rounds": 4, "random_state": 0}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"n_rounds": 8}, "was written with n_rounds 4, but now it is 8"),
        ({"gammas": (1.0, 0.5)}, "was written with gammas"),
        ({"class_weights": (None,)}, "was written with class_weights"),
        ({"racing": False}, "was written with racing True"),
        ({"cv": 3}, "was written with cv 2"),
        ({"cv": StratifiedKFold(2)}, "was written with cv 2, but now it is 'StratifiedKFold'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("death", [1, None])
def test_another_search_is_refused_by_name_before_it_begins(other, words, death, tmp_path):
    """Also one that is over: its choice is not that of other candidates."""
    search, path = FedFocalClassifierCV(**SETTINGS, cv=2), tmp_path / "search"
    if death is None:
        clone(search).fit(X, y, clients=CLIENTS, checkpoint=path)
    else:
        with counted([], death), pytest.raises(Killed):
            clone(search).fit(X, y, clients=CLIENTS, checkpoint=path)
    before = path.read_bytes()
    with counted(seen := []), pytest.raises(ValueError, match=words):
        clone(search).set_params(**other).fit(X, y, clients=CLIENTS, checkpoint=path)
    assert not seen
    assert path.read_bytes() == before


def test_other_splits_are_refused(tmp_path):
    """A splitter that shuffles anew each time would judge candidates on other rows."""
    path = tmp_path / "search"
    search = FedFocalClassifierCV(**SETTINGS, cv=StratifiedKFold(2, shuffle=True))
    clone(search).fit(X, y, clients=CLIENTS, checkpoint=path)
    with pytest.raises(ValueError, match="other splits of the rows; use the same cv, with a rand"):
        clone(search).fit(X, y, clients=CLIENTS, checkpoint=path)
    pairs = list(StratifiedKFold(2).split(X, y))
    search, path = FedFocalClassifierCV(**SETTINGS, cv=pairs), tmp_path / "pairs"
    clone(search).fit(X, y, clients=CLIENTS, checkpoint=path)
    with pytest.raises(ValueError, match="other splits of the rows"):
        clone(search).set_params(cv=pairs[:1]).fit(X, y, clients=CLIENTS, checkpoint=path)
    resumed = clone(search).fit(X, y, clients=CLIENTS, checkpoint=path)
    assert_same(resumed, clone(search).fit(X, y, clients=CLIENTS))


def test_a_search_without_splits_is_refused():
    with pytest.raises(ValueError, match="cv must be a number of folds"):
        FedFocalClassifierCV(**SETTINGS, cv=[]).fit(X, y, clients=CLIENTS)
