"""Selections: valid cohorts, drawn with the odds that they promise."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import federation, mlp64
from scipy import stats as scipy_stats
from sklearn.base import clone

import skfedfocal.selection
from skfedfocal import FederatedClassifier
from skfedfocal._component import InvalidParameterError
from skfedfocal._data.clients import ClientStats
from skfedfocal._focus import Focus
from skfedfocal.selection import (
    SELECTIONS,
    CategoryCoverage,
    FocalSelection,
    Selection,
    Uniform,
)

repeatable = settings(deadline=None, derandomize=True, max_examples=60, database=None)
every = pytest.mark.parametrize("name", sorted(SELECTIONS))


def known_clients(n_clients, seed=0, n_reported=None):
    """What a server may know of clients, of which some have reported before."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, (n_clients, 4)).astype(float)
    counts[np.arange(n_clients), rng.integers(4, size=n_clients)] += 1  # nobody has no rows
    stats = ClientStats(counts.sum(1), counts)
    reported = np.arange(n_clients) < (n_clients if n_reported is None else n_reported)
    stats.recall[reported] = rng.uniform(0, 1, reported.sum())
    return stats


def times_drawn(selection, stats, n_selected, n_rounds):
    """How often each client is drawn over many rounds."""
    drawn = [
        selection.select(stats, n_selected, np.random.default_rng(round_))
        for round_ in range(n_rounds)
    ]
    return np.bincount(np.concatenate(drawn), minlength=stats.n_clients)


# ── what every selection promises ────────────────────────────────────────────────────


def test_every_selection_has_a_name():
    public = {
        part
        for _, part in inspect.getmembers(skfedfocal.selection, inspect.isclass)
        if issubclass(part, Selection) and part is not Selection
    }
    assert set(SELECTIONS.values()) == public


@every
@repeatable
@given(
    n_clients=st.integers(1, 30),
    share_reported=st.floats(0, 1),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_a_cohort_is_distinct_clients_in_order(name, n_clients, share_reported, seed, data):
    n_selected = data.draw(st.integers(1, n_clients), label="n_selected")
    stats = known_clients(n_clients, seed, int(share_reported * n_clients))
    before = {key: None if v is None else v.copy() for key, v in vars(stats).items()}
    cohort = SELECTIONS[name]().select(stats, n_selected, np.random.default_rng(seed))
    assert cohort.dtype == np.int64
    assert (np.diff(cohort) > 0).all()
    assert len(cohort) == n_selected
    assert cohort[0] >= 0
    assert cohort[-1] < n_clients
    for key, value in vars(stats).items():
        np.testing.assert_array_equal(value, before[key])


@every
def test_a_cohort_is_drawn_from_its_generator_alone(name):
    stats = known_clients(40)
    cohorts = [
        SELECTIONS[name]().select(stats, 6, np.random.default_rng(seed)) for seed in (1, 2, 1)
    ]
    np.testing.assert_array_equal(cohorts[0], cohorts[2])
    assert not np.array_equal(cohorts[0], cohorts[1])


@every
def test_selection_is_a_component(name):
    selection = SELECTIONS[name]()
    twin = clone(selection)
    assert type(twin) is type(selection)
    assert twin.get_params() == selection.get_params()
    selection.check_params()


@every
@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_a_classifier_selects_with_it(name, engine):
    X, y, clients = federation([12] * 8)
    fits = [
        FederatedClassifier(
            module=mlp64(),
            selection=selection,
            clients_per_round=3,
            n_rounds=4,
            engine=engine,
            random_state=0,
        ).fit(X, y, clients=clients)
        for selection in (name, SELECTIONS[name]())
    ]
    np.testing.assert_array_equal(fits[0].theta_, fits[1].theta_)
    np.testing.assert_array_equal(fits[0].history_["n_selected"], [3, 3, 3, 3])


@every
def test_with_all_clients_selection_makes_no_difference(name):
    X, y, clients = federation([12] * 5)
    options = {"module": mlp64(), "n_rounds": 3, "random_state": 0}
    plain = FederatedClassifier(**options).fit(X, y, clients=clients)
    other = FederatedClassifier(selection=name, **options).fit(X, y, clients=clients)
    np.testing.assert_array_equal(other.theta_, plain.theta_)


@pytest.mark.parametrize(
    ("wanted", "n_selected"), [(0.01, 1), (0.25, 2), (0.5, 4), (1.0, 8), (1, 1), (8, 8)]
)
def test_clients_per_round_is_a_share_or_a_number(wanted, n_selected):
    X, y, clients = federation([4] * 8)
    clf = FederatedClassifier(module=mlp64(), clients_per_round=wanted, n_rounds=1)
    clf.fit(X, y, clients=clients)
    np.testing.assert_array_equal(clf.history_["n_selected"], [n_selected])


# ── uniform ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("n_clients", "n_selected"), [(10, 1), (10, 3), (50, 20), (3, 2)])
def test_uniform_draws_each_client_equally_often(n_clients, n_selected):
    drawn = times_drawn(Uniform(), known_clients(n_clients), n_selected, 3000)
    # Draws without replacement vary less than independent ones, so the test errs on the safe side.
    assert scipy_stats.chisquare(drawn).pvalue > 1e-3


def test_uniform_draws_each_pair_equally_often():
    stats, table = known_clients(6), np.zeros((6, 6))
    for round_ in range(3000):
        table[tuple(Uniform().select(stats, 2, np.random.default_rng(round_)))] += 1
    assert scipy_stats.chisquare(table[np.triu_indices(6, 1)]).pvalue > 1e-3


# ── client focusing ──────────────────────────────────────────────────────────────────


def test_focal_selection_draws_by_its_odds():
    stats = known_clients(8)
    selection = FocalSelection(client_gamma=1.5)
    odds = Focus(1.5)(stats.recall, stats.n_rows)
    drawn = times_drawn(selection, stats, 1, 6000)
    assert scipy_stats.chisquare(drawn, 6000 * odds / odds.sum()).pvalue > 1e-3
    assert scipy_stats.chisquare(drawn).pvalue < 1e-6  # which are not even


def test_focal_selection_draws_more_often_where_recall_is_worse():
    stats = ClientStats(np.full(6, 1000.0))
    stats.recall[:] = [0.9, 0.1, 0.5, 0.3, 0.7, 0.0]
    drawn = times_drawn(FocalSelection(), stats, 2, 3000)
    assert (np.diff(drawn[np.argsort(stats.recall)]) < 0).all()


@pytest.mark.parametrize("case", ["gamma 0", "alike", "nobody reported"])
def test_focal_selection_without_differences_is_even(case):
    stats = known_clients(10)
    if case == "alike":
        stats.recall[:], stats.n_rows[:] = 0.4, 30
    if case == "nobody reported":
        stats.recall[:] = np.nan
    selection = FocalSelection(client_gamma=0.0 if case == "gamma 0" else 2.0)
    assert scipy_stats.chisquare(times_drawn(selection, stats, 3, 3000)).pvalue > 1e-3


def test_focal_selection_counts_a_new_client_as_the_mean_of_the_others():
    stats = ClientStats(np.full(4, 1e9))  # so many rows that nothing is smoothed
    stats.recall[:] = [0.8, 0.4, 0.0, np.nan]
    odds = np.array([0.2, 0.6, 1.0, 0.6])
    drawn = times_drawn(FocalSelection(), stats, 1, 6000)
    assert scipy_stats.chisquare(drawn, 6000 * odds / odds.sum()).pvalue > 1e-3


# ── category coverage ────────────────────────────────────────────────────────────────


def with_counts(counts):
    counts = np.asarray(counts, dtype=float)
    return ClientStats(counts.sum(1), counts)


@repeatable
@given(seed=st.integers(0, 10_000), n_clients=st.integers(4, 20))
def test_cover_covers_all_categories_there_are(seed, n_clients):
    stats = known_clients(n_clients, seed)
    # Each greedy choice covers one more at least, so four clients suffice for four categories.
    cohort = CategoryCoverage("cover").select(stats, 4, np.random.default_rng(seed))
    there = stats.label_counts.any(0)
    np.testing.assert_array_equal(stats.label_counts[cohort].any(0), there)


def test_cover_prefers_clients_all_of_whose_categories_are_missing():
    stats = with_counts([[9, 9, 0, 0], [0, 9, 9, 0], [0, 0, 9, 9], [9, 0, 0, 9]])
    for seed in range(30):
        rng = np.random.default_rng(seed)
        cohort = CategoryCoverage("cover").select(stats, 2, rng)
        # Whoever is first, only the one across the ring has nothing that is there already.
        assert cohort.tolist() in ([0, 2], [1, 3])


def test_cover_gives_every_client_its_turn():
    counts = np.ones((10, 4))  # two clients have all categories, the others two each
    counts[2:] = np.eye(4)[np.arange(8) % 4] + np.eye(4)[(np.arange(8) + 1) % 4]
    turns = np.zeros(10)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        turns[CategoryCoverage("cover").select(with_counts(counts), 3, rng)] += 1
    assert turns.min() > 0.3 * turns.mean()


def test_cover_starts_over_once_all_is_covered():
    one_category_each = with_counts(np.eye(3)[[0, 1, 2, 0, 1, 2]])
    for seed in range(30):
        rng = np.random.default_rng(seed)
        cohort = CategoryCoverage("cover").select(one_category_each, 5, rng)
        counts = one_category_each.label_counts[cohort].sum(0)
        assert sorted(counts) == [1, 2, 2]


def test_balance_chooses_one_client_of_each_category():
    one_category_each = with_counts(10 * np.eye(4)[[0, 0, 0, 0, 0, 1, 1, 2, 3]])
    for seed in range(30):
        rng = np.random.default_rng(seed)
        cohort = CategoryCoverage("balance").select(one_category_each, 4, rng)
        np.testing.assert_array_equal(one_category_each.label_counts[cohort].sum(0), [10] * 4)


def test_balance_is_more_even_than_chance():
    def unevenness(selection, seed):
        stats = known_clients(30, seed)
        cohort = selection.select(stats, 6, np.random.default_rng(seed))
        union = stats.label_counts[cohort].sum(0)
        return ((union / union.sum()) ** 2).sum()

    seeds = range(40)
    balanced = [unevenness(CategoryCoverage("balance"), seed) for seed in seeds]
    by_chance = [unevenness(Uniform(), seed) for seed in seeds]
    assert np.mean(balanced) < np.mean(by_chance)
    assert np.mean(np.array(balanced) <= np.array(by_chance)) > 0.9


@pytest.mark.parametrize("variant", ["cover", "balance"])
def test_ties_fall_at_random(variant):
    alike = with_counts(np.ones((6, 3)))
    drawn = times_drawn(CategoryCoverage(variant), alike, 2, 3000)
    assert scipy_stats.chisquare(drawn).pvalue > 1e-3


@pytest.mark.parametrize(
    "wrong",
    [
        FocalSelection(-1),
        FocalSelection(floor=0),
        FocalSelection(smoothing=-1),
        CategoryCoverage("covered"),
    ],
    ids=repr,
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(InvalidParameterError, match=type(wrong).__name__):
        wrong.check_params()
    X, y, clients = federation([4] * 8)
    with pytest.raises(InvalidParameterError, match=type(wrong).__name__):
        FederatedClassifier(selection=wrong, n_rounds=1).fit(X, y, clients=clients)
