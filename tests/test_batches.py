"""Shuffles drawn by counter, and the layout of batches of many clients at once."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skfedfocal._data.blocks import poisson_schedule, schedule
from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.memory import Memory
from skfedfocal._data.rows import FederatedRows
from skfedfocal._random import shuffled_places
from skfedfocal.engines._batches import BlockRows

repeatable = settings(deadline=None, derandomize=True, max_examples=80, database=None)
seeds = st.integers(0, 2**31 - 2)
rounds = st.integers(0, 5000)
epochs = st.integers(0, 200)
sizes_of_clients = st.lists(st.integers(1, 40), min_size=1, max_size=12)


def drawn_by_client(seed, round_, epoch, clients, sizes):
    places = shuffled_places(seed, round_, epoch, np.asarray(clients), np.asarray(sizes))
    assert len(places) == np.sum(sizes)
    return np.split(places, np.cumsum(sizes)[:-1])


# ── shuffles ─────────────────────────────────────────────────────────────────────────


@repeatable
@given(seed=seeds, round_=rounds, epoch=epochs, sizes=sizes_of_clients)
def test_each_client_gets_a_permutation(seed, round_, epoch, sizes):
    for order, size in zip(
        drawn_by_client(seed, round_, epoch, np.arange(len(sizes)), sizes), sizes, strict=True
    ):
        np.testing.assert_array_equal(np.sort(order), np.arange(size))


@repeatable
@given(seed=seeds, round_=rounds, epoch=epochs, sizes=sizes_of_clients, data=st.data())
def test_a_shuffle_is_the_clients_own(seed, round_, epoch, sizes, data):
    number = st.integers(0, 2**40)
    clients = data.draw(
        st.lists(number, min_size=len(sizes), max_size=len(sizes), unique=True), label="clients"
    )
    together = drawn_by_client(seed, round_, epoch, clients, sizes)
    order = data.draw(st.permutations(range(len(sizes))), label="order")
    turned = drawn_by_client(
        seed, round_, epoch, [clients[i] for i in order], [sizes[i] for i in order]
    )
    for i, found in zip(order, turned, strict=True):
        np.testing.assert_array_equal(found, together[i])
    for client, size, found in zip(clients, sizes, together, strict=True):
        (alone,) = drawn_by_client(seed, round_, epoch, [client], [size])
        np.testing.assert_array_equal(alone, found)


def test_seed_round_epoch_and_client_each_change_the_shuffle():
    coordinates = list(itertools.product(range(3), repeat=4))
    drawn = {
        tuple(drawn_by_client(seed, round_, epoch, [client], [30])[0].tolist())
        for seed, round_, epoch, client in coordinates
    }
    assert len(drawn) == len(coordinates)


def permutation_numbers(orders):
    """Number of each permutation, one a row, among all of that many things."""
    known = {p: i for i, p in enumerate(itertools.permutations(range(orders.shape[1])))}
    return np.array([known[tuple(order)] for order in orders.tolist()])


def orders_by(coordinate, size, n):
    """Permutations of n clients, n epochs, n rounds or n seeds, one a row."""
    if coordinate == "client":
        return np.stack(drawn_by_client(7, 3, 1, np.arange(n), np.full(n, size)))
    where = {"seed": 7, "round_": 3, "epoch": 1}
    return np.stack(
        [
            drawn_by_client(**{**where, coordinate: i}, clients=[5], sizes=[size])[0]
            for i in range(n)
        ]
    )


@pytest.mark.parametrize("coordinate", ["client", "epoch", "round_", "seed"])
@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_permutations_are_equally_frequent(coordinate, size):
    n = 24_000 if coordinate == "client" else 3_000
    numbers = permutation_numbers(orders_by(coordinate, size, n))
    n_permutations = len(list(itertools.permutations(range(size))))
    assert stats.chisquare(np.bincount(numbers, minlength=n_permutations)).pvalue > 1e-3


@pytest.mark.parametrize("coordinate", ["client", "epoch", "round_", "seed"])
def test_neighbouring_shuffles_are_independent(coordinate):
    n = 24_000 if coordinate == "client" else 4_000
    numbers = permutation_numbers(orders_by(coordinate, 3, n))
    pairs = np.bincount(numbers[:-1] * 6 + numbers[1:], minlength=36)
    assert stats.chisquare(pairs).pvalue > 1e-3


def test_every_place_is_first_equally_often_in_a_large_client():
    first = np.array([drawn_by_client(seed, 0, 0, [0], [200])[0][0] for seed in range(4000)])
    assert stats.chisquare(np.bincount(first, minlength=200)).pvalue > 1e-3


# ── the layout of batches ────────────────────────────────────────────────────────────


def layout_of(sizes):
    return np.concatenate([[0], np.cumsum(sizes)])


def blocks_of(cohort, sizes, **options):
    wanted = {"seed": 3, "round_": 2, "n_epochs": 2, "batch_size": 7, "block_size": 4, **options}
    return list(schedule(np.asarray(cohort), layout_of(sizes), **wanted))


def batches_by_client(blocks):
    """The batches of each client as lists of places, padding left out."""
    batches = {}
    for block in blocks:
        owner = block.owners()
        for step in range(block.n_steps):
            here = slice(block.start[step], block.start[step + 1])
            for i in range(block.alive[step]):
                rows = (owner[here] == i) & (block.share[here] > 0)
                batch = block.places[here][rows].tolist()
                batches.setdefault(int(block.members[i]), []).append(batch)
    return batches


def batches_by_hand(cohort, sizes, seed=3, round_=2, n_epochs=2, batch_size=7):
    """What each client would do by itself."""
    offsets, batches = layout_of(sizes), {}
    for client in cohort:
        batches[client] = []
        for epoch in range(n_epochs):
            (order,) = drawn_by_client(seed, round_, epoch, [client], [sizes[client]])
            for lo in range(0, len(order), batch_size):
                batches[client].append((offsets[client] + order[lo : lo + batch_size]).tolist())
    return batches


cases = given(
    sizes=sizes_of_clients,
    batch_size=st.integers(1, 45),
    block_size=st.integers(1, 14),
    n_epochs=st.integers(1, 3),
    data=st.data(),
)


def cohort_from(data, sizes):
    numbers = st.integers(0, len(sizes) - 1)
    return data.draw(
        st.lists(numbers, min_size=1, max_size=len(sizes), unique=True), label="cohort"
    )


@repeatable
@cases
def test_clients_take_the_batches_that_they_would_take_alone(
    sizes, batch_size, block_size, n_epochs, data
):
    cohort = cohort_from(data, sizes)
    options = {"batch_size": batch_size, "n_epochs": n_epochs}
    blocks = blocks_of(cohort, sizes, block_size=block_size, **options)
    assert batches_by_client(blocks) == batches_by_hand(cohort, sizes, **options)


@repeatable
@cases
def test_a_block_is_well_formed(sizes, batch_size, block_size, n_epochs, data):
    cohort = cohort_from(data, sizes)
    offsets = layout_of(sizes)
    blocks = blocks_of(
        cohort, sizes, batch_size=batch_size, block_size=block_size, n_epochs=n_epochs
    )
    members = np.concatenate([block.members for block in blocks])
    np.testing.assert_array_equal(np.sort(members), np.sort(cohort))
    for block in blocks:
        assert 1 <= len(block.members) <= block_size
        assert block.alive[0] == len(block.members)
        assert (block.alive > 0).all()
        assert (np.diff(block.alive) <= 0).all()
        assert (block.width >= 1).all()
        assert (block.width <= batch_size).all()
        np.testing.assert_array_equal(np.diff(block.start), block.alive * block.width)
        assert block.start[0] == 0
        assert len(block.places) == len(block.share) == len(block.owners()) == block.start[-1]
        # Padding too lies with its owner: nobody's model meets another's rows.
        owner = block.members[block.owners()]
        assert (offsets[owner] <= block.places).all()
        assert (block.places < offsets[owner + 1]).all()


@repeatable
@cases
def test_shares_make_the_mean_over_each_batch(sizes, batch_size, block_size, n_epochs, data):
    cohort = cohort_from(data, sizes)
    blocks = blocks_of(
        cohort, sizes, batch_size=batch_size, block_size=block_size, n_epochs=n_epochs
    )
    for block in blocks:
        assert (block.share >= 0).all()
        owner = block.owners()
        for step in range(block.n_steps):
            here = slice(block.start[step], block.start[step + 1])
            for i in range(block.alive[step]):
                share = block.share[here][owner[here] == i]
                real = share[share > 0]
                np.testing.assert_allclose(share.sum(), 1)
                np.testing.assert_array_equal(real, np.full(len(real), 1 / len(real)))
    # Each row of each client once an epoch.
    real = np.concatenate([block.places[block.share > 0] for block in blocks])
    counts = np.bincount(real, minlength=sum(sizes))
    takes_part = np.repeat(np.isin(np.arange(len(sizes)), cohort), sizes)
    np.testing.assert_array_equal(counts, n_epochs * takes_part)


def test_a_cohort_laid_out_in_several_pieces_is_the_same():
    # More rows than one piece may hold, so that the layout is made piece by piece.
    sizes = np.full(700, 1000)
    sizes[::7] = 13
    blocks = blocks_of(np.arange(700), sizes, n_epochs=1, batch_size=100, block_size=128)
    assert len(blocks) == 6
    assert sum(len(block.places) for block in blocks) >= sizes.sum() > 1 << 19
    assert batches_by_client(blocks) == batches_by_hand(
        range(700), sizes.tolist(), n_epochs=1, batch_size=100
    )


def padding_share(sizes, batch_size, block_size=64):
    sizes = np.asarray(sizes)
    blocks = blocks_of(
        np.arange(len(sizes)), sizes, batch_size=batch_size, block_size=block_size, n_epochs=1
    )
    laid_out = sum(len(block.places) for block in blocks)
    return 1 - sizes.sum() / laid_out


def test_little_is_padded():
    rng = np.random.default_rng(0)
    assert padding_share(np.full(500, 50), 20) == 0
    power_law = (10 * (1 + rng.pareto(1.5, 1000))).astype(int)
    assert padding_share(power_law, 20) < 0.10
    assert padding_share(rng.integers(20, 81, 1000), 20) < 0.05
    # Batches that hold whole clients are no wider than the largest of the block.
    assert padding_share(rng.integers(20, 81, 1000), 1000) < 0.10


@repeatable
@given(
    sizes=sizes_of_clients,
    n_steps=st.integers(1, 4),
    block_size=st.integers(1, 6),
    seed=seeds,
)
def test_steps_that_take_rows_by_chance_take_those_that_were_drawn(
    sizes, n_steps, block_size, seed
):
    offsets, drawn = layout_of(sizes), {}

    def sampler(members):
        rng = np.random.default_rng([seed, *members])

        def draw(sizes_here):
            taken = rng.random(sizes_here.sum()) < 0.3
            for k, own in zip(members, np.split(taken, np.cumsum(sizes_here)[:-1]), strict=True):
                drawn.setdefault(int(k), []).append((offsets[k] + np.flatnonzero(own)).tolist())
            return taken

        return draw

    blocks = list(
        poisson_schedule(
            np.arange(len(sizes)), offsets, n_steps=n_steps, block_size=block_size, sampler=sampler
        )
    )
    found = {}
    for block in blocks:
        m = len(block.members)
        assert 1 <= m <= block_size
        np.testing.assert_array_equal(block.alive, np.full(n_steps, m))
        assert block.start[0] == 0
        np.testing.assert_array_equal(np.diff(block.start), m * block.width)
        assert len(block.places) == len(block.share) == block.start[-1]
        assert set(block.share) <= {0.0, 1.0}
        for step in range(n_steps):
            here = slice(block.start[step], block.start[step + 1])
            places = block.places[here].reshape(m, -1)
            real = block.share[here].reshape(m, -1) > 0
            for i, k in enumerate(block.members):
                assert (offsets[k] <= places[i]).all()
                assert (places[i] < offsets[k + 1]).all()
                found.setdefault(int(k), []).append(sorted(places[i][real[i]].tolist()))
    assert sorted(found) == list(range(len(sizes)))
    assert found == drawn


@pytest.mark.parametrize("n_values", [1, 40, 1 << 17])
def test_features_fetched_for_several_steps_are_those_of_each(monkeypatch, n_values):
    monkeypatch.setattr("skfedfocal.engines._batches._SEGMENT_VALUES", n_values)
    sizes = [9, 4, 14, 6]
    X = np.arange(99.0, dtype=np.float32).reshape(33, 3)
    layout = ClientLayout(np.arange(4), layout_of(sizes), np.arange(33))
    rows = FederatedRows(X, np.arange(33) % 2, None, layout, 2, torch.float32, torch.device("cpu"))
    for block in blocks_of(range(4), sizes, batch_size=5, block_size=3):
        of_block = BlockRows(block, rows, None, None, torch.zeros(1))
        n_seen = 0
        for step, batch in enumerate(of_block.batches(Memory())):  # whose memory is used again
            places = block.places[block.start[step] : block.start[step + 1]]
            np.testing.assert_array_equal(batch.x.reshape(-1, 3), X[places])
            n_seen += 1
        assert n_seen == block.n_steps
