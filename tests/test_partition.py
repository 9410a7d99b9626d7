"""Partitions of rows over clients: laws, exact oracles, bounds and errors.

Statistical tests run over fixed seeds, so they pass or fail for good. Their bounds are
in standard errors or p-values, wide enough for any right sampler, and they check every
class and every client: an error on the last of either would not show in a mean over all.
"""

import time
from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.utils._param_validation import InvalidParameterError

from skfedfocal.partition import (
    dirichlet_partition,
    iid_partition,
    quantity_skew_partition,
    shard_partition,
)

EVERY = [iid_partition, dirichlet_partition, shard_partition, quantity_skew_partition]
LABELLED = [dirichlet_partition, shard_partition]
DRAWN = [dirichlet_partition, quantity_skew_partition]

every = pytest.mark.parametrize("partition", EVERY)
labelled = pytest.mark.parametrize("partition", LABELLED)
drawn = pytest.mark.parametrize("partition", DRAWN)

P_MIN = 1e-4  # some thirty p-values are looked at, so chance alone stays out

repeatable = settings(deadline=None, derandomize=True, max_examples=20, database=None)
seeds = st.integers(0, 2**32 - 1)
alphas = st.floats(0, np.finfo(float).max, exclude_min=True, allow_subnormal=True)
labels = st.one_of(
    st.lists(st.integers(-2, 3), min_size=1, max_size=80),
    st.lists(st.sampled_from(["common", "rare", "", "é"]), min_size=1, max_size=80),
    st.lists(st.booleans(), min_size=1, max_size=80),
    st.lists(st.sampled_from([0.0, 1.0, -7.0]), min_size=1, max_size=80),
)


def class_table(y, clients, n_clients):
    """Rows of each class (sorted) at each client: shape (n_classes, n_clients)."""
    classes, codes = np.unique(np.asarray(y), return_inverse=True)
    cells = np.bincount(codes * n_clients + clients, minlength=len(classes) * n_clients)
    return cells.reshape(len(classes), n_clients)


def sizes_of(clients, n_clients):
    return np.bincount(clients, minlength=n_clients)


def assert_is_partition(clients, n_samples, n_clients, min_rows):
    assert isinstance(clients, np.ndarray)
    assert clients.dtype == np.int64
    assert clients.shape == (n_samples,)  # one id per row: each row once, none dropped
    assert clients.min() >= 0
    assert clients.max() < n_clients
    assert sizes_of(clients, n_clients).min() >= min_rows


# ── what all four promise ────────────────────────────────────────────────────────────


@every
@repeatable
@given(y=labels, seed=seeds, data=st.data())
def test_each_row_has_one_client_and_each_client_a_row(partition, y, seed, data):
    per_client = data.draw(st.integers(1, min(5, len(y))), label="per_client")
    n_clients = data.draw(st.integers(1, len(y) // per_client), label="n_clients")
    params = {}
    if partition is shard_partition:
        params = {"shards_per_client": per_client}
    elif partition in DRAWN:
        params = {"min_rows": per_client, "alpha": data.draw(alphas, label="alpha")}
    min_rows = len(y) // n_clients if partition is iid_partition else per_client
    clients = partition(y, n_clients, **params, random_state=seed)
    assert_is_partition(clients, len(y), n_clients, min_rows)


@drawn
@repeatable
@given(y=labels, n_clients=st.integers(1, 200), alpha=alphas, seed=seeds)
def test_without_minimum_clients_may_outnumber_rows(partition, y, n_clients, alpha, seed):
    clients = partition(y, n_clients, alpha=alpha, min_rows=0, random_state=seed)
    assert_is_partition(clients, len(y), n_clients, 0)


@every
@pytest.mark.parametrize("make", [int, np.random.RandomState, np.random.default_rng])
def test_same_random_state_same_partition(partition, make):
    y = np.repeat([0, 1, 2], [100, 60, 40])
    first = partition(y, 7, random_state=make(3))
    np.testing.assert_array_equal(first, partition(y, 7, random_state=make(3)))
    assert not np.array_equal(first, partition(y, 7, random_state=make(4)))


@every
def test_int_seed_is_randomstate_seed(partition):
    y = np.repeat([0, 1, 2], [100, 60, 40])
    by_int = partition(y, 7, random_state=3)
    by_state = partition(y, 7, random_state=np.random.RandomState(3))
    np.testing.assert_array_equal(by_int, by_state)


@every
@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_a_generator_advances(partition, make):
    y, rng = np.repeat([0, 1, 2], [100, 60, 40]), make(3)
    first = partition(y, 7, random_state=rng)
    assert not np.array_equal(first, partition(y, 7, random_state=rng))


@every
def test_no_random_state_is_fresh_randomness(partition):
    y = np.repeat([0, 1, 2], [100, 60, 40])
    assert not np.array_equal(partition(y, 7), partition(y, 7))


@every
def test_container_and_order_preserving_relabelling_change_nothing(partition):
    codes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [50, 30, 20]))
    before = codes.copy()
    expected = partition(codes, 5, random_state=0)
    np.testing.assert_array_equal(codes, before)
    names = np.array(["ant", "bee", "cow"])[codes]
    shuffled_index = np.random.default_rng(1).permutation(100)
    same = [
        codes.tolist(),
        codes.astype(float),
        codes.astype(np.uint8) * 100,
        names,
        names.astype(object),
        pd.Series(names, index=shuffled_index),
        pd.Series(names, dtype="category"),
        pd.Series(codes, dtype="Int64"),
        codes[:, np.newaxis],
    ]
    for y in same:
        np.testing.assert_array_equal(partition(y, 5, random_state=0), expected)


@every
@repeatable
@given(y=labels, seed=seeds, data=st.data())
def test_client_sizes_do_not_depend_on_the_order_of_rows(partition, y, seed, data):
    n_clients = data.draw(st.integers(1, max(1, len(y) // 2)), label="n_clients")
    permuted = data.draw(st.permutations(y), label="permuted")
    params = {"shards_per_client": 1} if partition is shard_partition else {}
    sizes = [
        sizes_of(partition(rows, n_clients, **params, random_state=seed), n_clients)
        for rows in (y, permuted)
    ]
    np.testing.assert_array_equal(*sizes)


@labelled
@repeatable
@given(y=labels, seed=seeds, data=st.data())
def test_class_table_does_not_depend_on_the_order_of_rows(partition, y, seed, data):
    n_clients = data.draw(st.integers(1, len(y)), label="n_clients")
    permuted = data.draw(st.permutations(y), label="permuted")
    params = {"shards_per_client": 1} if partition is shard_partition else {"min_rows": 0}
    tables = [
        class_table(rows, partition(rows, n_clients, **params, random_state=seed), n_clients)
        for rows in (y, permuted)
    ]
    np.testing.assert_array_equal(*tables)


@every
def test_neighbouring_rows_of_a_class_are_not_kept_together(partition):
    # Files are often sorted by more than the label; contiguous blocks would leak that.
    clients = partition(np.zeros(20_000, dtype=int), 5, random_state=0)
    n, sizes = clients.shape[0], sizes_of(clients, 5)
    expected = (sizes * (sizes - 1)).sum() / (n * (n - 1))
    together = np.mean(clients[1:] == clients[:-1])
    assert expected < 0.9
    assert abs(together - expected) < 5 * 0.5 / np.sqrt(n)


@every
def test_result_serves_as_scikit_learn_groups(partition):
    y = np.repeat([0, 1], 20)
    clients = partition(y, 4, random_state=0)
    assert LeaveOneGroupOut().get_n_splits(groups=clients) == 4


@every
def test_narrow_integer_counts_do_not_overflow(partition):
    # 200 * 2 is 144 in uint8: the count of needed rows and the ids must not be kept there.
    y = np.zeros(900, dtype=int)
    clients = partition(y, np.uint8(200), random_state=0)
    assert_is_partition(clients, 900, 200, 1)
    if partition is not iid_partition:
        name = "shards_per_client" if partition is shard_partition else "min_rows"
        with pytest.raises(ValueError, match="400 rows but y has 300"):
            partition(y[:300], np.uint8(200), **{name: np.uint8(2)})


@every
def test_many_clients_take_no_quadratic_time(partition):
    y = np.random.default_rng(0).integers(0, 10, 200_000)
    start = time.process_time()  # not the wall clock: other processes may be busy
    clients = partition(y, 20_000, random_state=0)
    assert time.process_time() - start < 2.0
    assert_is_partition(clients, 200_000, 20_000, 1)


# ── iid ──────────────────────────────────────────────────────────────────────────────


@repeatable
@given(n_samples=st.integers(1, 300), seed=seeds, data=st.data())
def test_iid_sizes_differ_by_at_most_one(n_samples, seed, data):
    n_clients = data.draw(st.integers(1, n_samples), label="n_clients")
    sizes = sizes_of(iid_partition(np.zeros(n_samples), n_clients, random_state=seed), n_clients)
    expected = [len(part) for part in np.array_split(np.arange(n_samples), n_clients)]
    np.testing.assert_array_equal(sizes, expected)


def test_iid_class_counts_are_hypergeometric():
    y = np.repeat([0, 1, 2], [60, 30, 10])
    tables = np.array(
        [class_table(y, iid_partition(y, 4, random_state=seed), 4) for seed in range(500)]
    )
    for label, n_class in enumerate([60, 30, 10]):
        law = stats.hypergeom(100, n_class, 25)
        for client in range(4):
            counts = tables[:, label, client]
            assert abs(counts.mean() - law.mean()) < 4 * law.std() / np.sqrt(500)
            assert counts.var() == pytest.approx(law.var(), rel=0.3)


@pytest.mark.parametrize("partition", [iid_partition, quantity_skew_partition])
def test_partitions_by_number_of_rows_take_any_target(partition):
    by_zeros = partition(np.zeros(50), 4, random_state=0)
    by_reals = partition(np.linspace(0, 1, 50), 4, random_state=0)
    np.testing.assert_array_equal(by_zeros, by_reals)


# ── dirichlet ────────────────────────────────────────────────────────────────────────

CLASS_SIZES = np.array([1000, 700, 200, 400])  # the last class neither rarest nor commonest


def assert_dirichlet_moments(shares, alpha):
    """Mean and variance of shares (n_draws, n_clients), of each client and of all."""
    n_draws, n_clients = shares.shape
    mean = 1 / n_clients
    variance = mean * (1 - mean) / (n_clients * alpha + 1)
    squares = (shares - mean) ** 2
    z_means = (shares.mean(axis=0) - mean) / np.sqrt(variance / n_draws)
    assert np.abs(z_means).max() < 4.5
    for sample in (*squares.T, squares.mean(axis=1)):
        assert abs(sample.mean() - variance) < 4.5 * sample.std() / np.sqrt(n_draws)


@cache
def dirichlet_shares(n_clients, alpha, n_seeds):
    """Shares of every class at every client: shape (n_seeds, n_classes, n_clients)."""
    y = np.repeat(np.arange(CLASS_SIZES.shape[0]), CLASS_SIZES)
    tables = [
        class_table(
            y, dirichlet_partition(y, n_clients, alpha=alpha, min_rows=0, random_state=s), n_clients
        )
        for s in range(n_seeds)
    ]
    return np.array(tables) / CLASS_SIZES[:, np.newaxis]


@pytest.mark.parametrize(("n_clients", "alpha"), [(5, 0.5), (4, 2.0)])
def test_dirichlet_mean_and_variance_of_every_class_at_every_client(n_clients, alpha):
    shares = dirichlet_shares(n_clients, alpha, 300)
    assert shares.shape == (300, 4, n_clients)
    for label in range(4):
        assert_dirichlet_moments(shares[:, label], alpha)


@pytest.mark.parametrize(("n_clients", "alpha"), [(8, 0.1), (5, 0.5), (4, 2.0), (3, 10.0)])
def test_dirichlet_mean_and_variance_over_many_classes(n_clients, alpha):
    # Classes are independent draws: enough of them to see an error of a few percent.
    y = np.repeat(np.arange(3000), 100)
    clients = dirichlet_partition(y, n_clients, alpha=alpha, min_rows=0, random_state=0)
    assert_dirichlet_moments(class_table(y, clients, n_clients) / 100, alpha)


def test_dirichlet_share_has_its_beta_law():
    # One share of a symmetric Dirichlet is Beta(alpha, (n_clients - 1) * alpha).
    shares = dirichlet_shares(4, 2.0, 300)
    for label in range(4):
        for client in (0, 3):
            p_value = stats.kstest(shares[:, label, client], stats.beta(2.0, 6.0).cdf)[1]
            assert p_value > P_MIN, (label, client)


def test_dirichlet_classes_are_drawn_independently():
    # One draw for all classes would be quantity skew, not label skew.
    shares = dirichlet_shares(5, 0.5, 300)
    correlations = np.corrcoef(shares[:, :, 2].T)
    off_diagonal = correlations[~np.eye(4, dtype=bool)]
    assert np.abs(off_diagonal).max() < 4 / np.sqrt(300)


def test_dirichlet_single_row_of_a_class_goes_anywhere_alike():
    # The rounding is unbiased: no client is the one that takes the odd row.
    y = np.array([0, 1, 1, 2])
    clients = [dirichlet_partition(y, 6, min_rows=0, random_state=s) for s in range(250)]
    for row in range(4):
        counts = sizes_of(np.array(clients)[:, row], 6)
        assert stats.chisquare(counts)[1] > P_MIN, row


@pytest.mark.parametrize("alpha", [1e12, np.finfo(float).max])
@pytest.mark.parametrize("seed", range(5))
def test_dirichlet_large_alpha_gives_equal_shares(alpha, seed):
    y = np.repeat([0, 1, 2], [70, 41, 5])
    table = class_table(y, dirichlet_partition(y, 7, alpha=alpha, random_state=seed), 7)
    assert np.abs(table - table.sum(axis=1, keepdims=True) / 7).max() < 1
    # The odd rows do not all go to the same client.
    assert table[0].tolist() == [10] * 7


@pytest.mark.parametrize("alpha", [1e-5, 1e-310, 5e-324])
def test_dirichlet_tiny_alpha_puts_each_class_on_one_client(alpha):
    y = np.repeat([0, 1, 2], [70, 41, 9])
    homes = []
    for seed in range(100):
        table = class_table(
            y, dirichlet_partition(y, 7, alpha=alpha, min_rows=0, random_state=seed), 7
        )
        assert ((table > 0).sum(axis=1) == 1).all()
        homes.append(table.argmax(axis=1))
    for label in range(3):
        assert stats.chisquare(sizes_of(np.array(homes)[:, label], 7))[1] > P_MIN


def test_dirichlet_rounding_is_unbiased_given_the_share():
    # Two rows on two clients: shares (p, 1 - p) split them with probability 1 - |2p - 1|.
    # Rounding to the nearest would split them whenever p is in the middle half.
    y = np.zeros(2, dtype=int)
    clients = [dirichlet_partition(y, 2, alpha=4, min_rows=0, random_state=s) for s in range(250)]
    split = sum(first != second for first, second in clients)
    expected = stats.beta(4, 4).expect(lambda p: 1 - abs(2 * p - 1))
    assert stats.binomtest(split, 250, expected).pvalue > P_MIN


def test_dirichlet_odd_rows_meet_at_random():
    # Three rows on six clients are any three clients, not every second one.
    y = np.zeros(3, dtype=int)
    held = [dirichlet_partition(y, 6, alpha=1e12, min_rows=0, random_state=s) for s in range(250)]
    assert all(len(set(clients)) == 3 for clients in held)
    meetings = sum({0, 1} <= set(clients) for clients in held)
    assert stats.binomtest(meetings, 250, 1 / 5).pvalue > P_MIN


def test_dirichlet_skew_falls_with_alpha():
    spread = [dirichlet_shares(6, alpha, 40).std() for alpha in (0.03, 0.3, 3, 30)]
    assert all(more > 1.15 * less for more, less in pairwise(spread))


# ── the minimum of rows ──────────────────────────────────────────────────────────────


def raise_one_by_one(sizes, min_rows):
    """The repair as one would do it by hand: the poorest takes a row from the richest."""
    sizes = sizes.copy()
    while sizes.min() < min_rows:
        sizes[sizes.argmin()] += 1
        sizes[sizes.argmax()] -= 1
    return sizes


@drawn
@repeatable
@given(
    n_samples=st.integers(4, 120),
    alpha=st.floats(1e-3, 2.0),
    seed=seeds,
    data=st.data(),
)
def test_minimum_moves_only_missing_rows_from_the_largest(partition, n_samples, alpha, seed, data):
    n_clients = data.draw(st.integers(2, n_samples // 2), label="n_clients")
    min_rows = data.draw(st.integers(1, n_samples // n_clients), label="min_rows")
    y = np.arange(n_samples) % 3
    # The repair draws last, so without it the same seed shows the state before it.
    before = partition(y, n_clients, alpha=alpha, min_rows=0, random_state=seed)
    after = partition(y, n_clients, alpha=alpha, min_rows=min_rows, random_state=seed)
    sizes, repaired = sizes_of(before, n_clients), sizes_of(after, n_clients)
    poor = sizes < min_rows
    assert (repaired[poor] == min_rows).all()
    assert (after != before).sum() == (min_rows - sizes)[poor].sum()
    assert poor[after[after != before]].all()
    assert sorted(repaired) == sorted(raise_one_by_one(sizes, min_rows))


@drawn
def test_minimum_is_reached_where_rejection_would_never_end(partition):
    # With this alpha a draw gives all rows of a class to one client, whatever the seed.
    y = np.repeat([0, 1], [600, 400])
    for min_rows in (1, 9, 10):
        clients = partition(y, 100, alpha=1e-6, min_rows=min_rows, random_state=0)
        assert_is_partition(clients, 1000, 100, min_rows)
    assert (sizes_of(clients, 100) == 10).all()


@drawn
def test_minimum_favours_no_client(partition):
    # 13 rows for 4 clients of 3 at least: one keeps the odd row, each as often.
    y = np.zeros(13, dtype=int)
    clients = [partition(y, 4, min_rows=3, random_state=s) for s in range(250)]
    winners = [sizes_of(c, 4).argmax() for c in clients]
    assert stats.chisquare(sizes_of(winners, 4))[1] > P_MIN


def test_minimum_keeps_the_skew_of_the_givers():
    # Two single-class clients give to all others: at most one of those is mixed.
    y = np.tile([0, 1], 500)
    two_givers = 0
    for seed in range(10):
        drawn, raised = (
            class_table(
                y, dirichlet_partition(y, 50, alpha=1e-6, min_rows=m, random_state=seed), 50
            )
            for m in (0, 5)
        )
        if (drawn > 0).sum(axis=0).max() == 1:
            two_givers += 1
            assert (raised > 0).all(axis=0).sum() <= 1
    assert two_givers >= 5


# ── shards ───────────────────────────────────────────────────────────────────────────


def shard_tables(y, n_shards):
    """Class counts of each shard, cut in plain Python: shape (n_classes, n_shards)."""
    order = np.argsort(y, kind="stable")
    shards = np.empty(len(y), dtype=int)
    shards[order] = [position * n_shards // len(y) for position in range(len(y))]
    return class_table(y, shards, n_shards)


@repeatable
@given(y=labels, seed=seeds, data=st.data())
def test_one_shard_each_is_the_shards_themselves(y, seed, data):
    n_clients = data.draw(st.integers(1, len(y)), label="n_clients")
    clients = shard_partition(y, n_clients, shards_per_client=1, random_state=seed)
    dealt = Counter(map(tuple, class_table(y, clients, n_clients).T.tolist()))
    assert dealt == Counter(map(tuple, shard_tables(y, n_clients).T.tolist()))


@repeatable
@given(y=labels, seed=seeds, data=st.data())
def test_shard_sizes_and_class_bounds(y, seed, data):
    shards_per_client = data.draw(st.integers(1, min(5, len(y))), label="shards_per_client")
    n_clients = data.draw(st.integers(1, len(y) // shards_per_client), label="n_clients")
    clients = shard_partition(y, n_clients, shards_per_client=shards_per_client, random_state=seed)
    n_shards = n_clients * shards_per_client
    table = class_table(y, clients, n_clients)
    smallest, largest = len(y) // n_shards, -(-len(y) // n_shards)
    assert table.sum(axis=0).min() >= shards_per_client * smallest
    assert table.sum(axis=0).max() <= shards_per_client * largest
    n_held = (table > 0).sum(axis=0)
    assert n_held.sum() <= n_shards + table.shape[0] - 1


@pytest.mark.parametrize("shards_per_client", [1, 2, 3])
def test_whole_shards_give_each_client_exactly_so_many(shards_per_client):
    # 10 rows a shard, classes of whole shards: every count is a multiple of 10.
    n_clients = 12 // shards_per_client
    y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [10, 20, 40, 50]))
    for seed in range(20):
        clients = shard_partition(
            y, n_clients, shards_per_client=shards_per_client, random_state=seed
        )
        table = class_table(y, clients, n_clients)
        assert (table % 10 == 0).all()
        assert (table.sum(axis=0) == 10 * shards_per_client).all()
        assert (table > 0).sum(axis=0).max() <= shards_per_client


def test_shards_across_borders_at_most_double_the_classes():
    # Shards of 9 or 10 rows, classes of 13: a shard holds one class or two.
    y = np.repeat(np.arange(7), 13)
    tables = [class_table(y, shard_partition(y, 5, random_state=s), 5) for s in range(20)]
    assert max((table > 0).sum(axis=0).max() for table in tables) == 4


def test_mcmahan_mnist_shape():
    # 100 clients, 200 shards of 300, ten classes: nobody sees more than two digits.
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 6000))
    table = class_table(y, shard_partition(y, 100, random_state=0), 100)
    assert (table.sum(axis=0) == 600).all()
    assert set((table > 0).sum(axis=0)) == {1, 2}


def test_shards_are_dealt_at_random():
    # Every client holds the one row of each class as often as any other.
    y = np.arange(6)
    clients = np.array([shard_partition(y, 3, random_state=s) for s in range(250)])
    for row in range(6):
        assert stats.chisquare(sizes_of(clients[:, row], 3))[1] > P_MIN, row
    # Two given shards meet at one client with probability 1/5, as in a shuffled deck.
    meetings = (clients[:, 0] == clients[:, 5]).sum()
    assert stats.binomtest(int(meetings), 250, 1 / 5).pvalue > P_MIN


# ── quantity skew ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("n_clients", "alpha"), [(5, 0.5), (4, 3.0)])
def test_quantity_skew_sizes_have_dirichlet_mean_and_variance(n_clients, alpha):
    n_seeds, n_samples = 300, 1000
    sizes = np.array(
        [
            sizes_of(
                quantity_skew_partition(
                    np.zeros(n_samples), n_clients, alpha=alpha, min_rows=0, random_state=s
                ),
                n_clients,
            )
            for s in range(n_seeds)
        ]
    )
    assert sizes.shape == (n_seeds, n_clients)
    assert_dirichlet_moments(sizes / n_samples, alpha)


def test_quantity_skew_leaves_the_class_mix_to_chance():
    y = np.repeat([0, 1], [1500, 500])
    z_scores = []
    for seed in range(200):
        clients = quantity_skew_partition(y, 5, alpha=1.0, min_rows=20, random_state=seed)
        sizes, rare = class_table(y, clients, 5).sum(axis=0), class_table(y, clients, 5)[1]
        law = stats.hypergeom(2000, 500, sizes)
        z_scores.append((rare - law.mean()) / law.std())
    z_scores = np.array(z_scores)
    assert abs(z_scores.mean(axis=0)).max() < 4 / np.sqrt(200)
    assert z_scores.var() == pytest.approx(1, rel=0.2)


def test_quantity_skew_ranges_from_one_large_client_to_equal_sizes():
    y = np.zeros(1000, dtype=int)
    sizes = [
        np.sort(sizes_of(quantity_skew_partition(y, 10, alpha=alpha, random_state=0), 10))
        for alpha in (1e-6, 0.5, 1e12)
    ]
    assert sizes[0].tolist() == [1] * 9 + [991]
    assert 10 < sizes[1].std() < 290
    assert sizes[2].min() >= 99
    assert sizes[2].max() <= 101


# ── errors ───────────────────────────────────────────────────────────────────────────


@every
@pytest.mark.parametrize(
    "wrong",
    [
        {"y": 150},
        {"y": "labels"},
        {"y": None},
        {"n_clients": 0},
        {"n_clients": -1},
        {"n_clients": 2.0},
        {"n_clients": "2"},
        {"random_state": "seed"},
        {"random_state": -1},
    ],
)
def test_wrong_common_parameters_are_named(partition, wrong):
    (name,) = wrong
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of {partition.__name__}"):
        partition(**({"y": [0, 1, 0, 1], "n_clients": 2} | wrong))


@pytest.mark.parametrize(
    ("partition", "wrong"),
    [
        (partition, wrong)
        for partition in DRAWN
        for wrong in (
            {"alpha": 0},
            {"alpha": -0.5},
            {"alpha": np.nan},
            {"alpha": np.inf},
            {"alpha": "0.5"},
            {"alpha": [0.5, 0.5]},
            {"min_rows": -1},
            {"min_rows": 1.5},
        )
    ]
    + [
        (shard_partition, {"shards_per_client": 0}),
        (shard_partition, {"shards_per_client": 1.0}),
    ],
)
def test_wrong_own_parameters_are_named(partition, wrong):
    (name,) = wrong
    with pytest.raises(InvalidParameterError, match=f"'{name}' parameter of {partition.__name__}"):
        partition([0, 1, 0, 1], 2, **wrong)


@every
def test_options_are_keyword_only(partition):
    with pytest.raises(TypeError, match="positional"):
        partition([0, 1, 0, 1], 2, 1)


@every
def test_empty_y_raises(partition):
    with pytest.raises(ValueError, match="y has 0 rows"):
        partition([], 1)


@every
def test_two_dimensional_y_raises(partition):
    with pytest.raises(ValueError, match="1d array"):
        partition([[0, 1], [1, 0]], 1)


@pytest.mark.parametrize(
    ("partition", "params", "message"),
    [
        (iid_partition, {}, "n_clients=5 needs at least 5 rows but y has 4; pass fewer clients"),
        (dirichlet_partition, {}, "n_clients=5 with min_rows=1 needs at least 5 rows"),
        (quantity_skew_partition, {}, "n_clients=5 with min_rows=1 needs at least 5 rows"),
        (shard_partition, {}, "n_clients=5 with shards_per_client=2 needs at least 10 rows"),
        (dirichlet_partition, {"n_clients": 2, "min_rows": 3}, "or a smaller min_rows"),
        (quantity_skew_partition, {"n_clients": 2, "min_rows": 3}, "or a smaller min_rows"),
        (shard_partition, {"n_clients": 2, "shards_per_client": 3}, "fewer shards per client"),
    ],
)
def test_too_few_rows_raise_with_the_remedy(partition, params, message):
    with pytest.raises(ValueError, match=message):
        partition([0, 1, 0, 1], **({"n_clients": 5} | params))


@labelled
@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0.5, 1.0, 2.0], "continuous or infinite values such as 0.5.*np.digitize"),
        ([0.0, 1.0, np.inf], "continuous or infinite values such as inf"),
        ([0.0, 1.0, np.nan], "missing labels"),
        (["a", "b", None], "missing labels"),
        (pd.Series(["a", None, "b"]), "missing labels"),
        (np.array(["a", 1, 2.5], dtype=object), "labels of one type"),
    ],
)
def test_labels_that_are_no_classes_raise(partition, y, message):
    with pytest.raises(ValueError, match=message):
        partition(y, 1)
