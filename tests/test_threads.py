"""Fits on several threads, and after a fork: numbers as of one alone, the process as it was."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from oracles import federation
from torch import nn

from skfedfocal import FedFocalClassifier
from skfedfocal._random import borrowed_generator
from skfedfocal._threads import allowed_threads, one_thread

X, Y, CLIENTS = federation([12, 5, 20])


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def dropout(n_features, n_classes):
    return nn.Sequential(nn.Linear(n_features, 8), nn.Dropout(0.3), nn.Linear(8, n_classes))


def fitted(module, seed):
    clf = FedFocalClassifier((7,), module=module, n_rounds=3, batch_size=4, random_state=seed)
    return clf.fit(X, Y, clients=CLIENTS).predict_proba(X)


@pytest.mark.parametrize("module", [None, dropout], ids=["default", "dropout"])
def test_fits_on_several_threads_are_those_of_one(module, two_threads):
    seeds = [seed % 20 for seed in range(60)]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    wanted = [fitted(module, seed) for seed in range(20)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda seed: fitted(module, seed), seeds))
        assert set(pool.map(lambda _: torch.get_num_threads(), range(30))) == {2}
    for seed, probabilities in zip(seeds, found, strict=True):
        np.testing.assert_array_equal(probabilities, wanted[seed])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2


def test_the_setting_is_restored_whoever_leaves_first(two_threads):
    inside, leave = threading.Event(), threading.Event()
    seen = []

    def other():
        with one_thread():
            seen.append(torch.get_num_threads())
            inside.set()
            assert leave.wait(60)
            seen.append(torch.get_num_threads())
        seen.append(torch.get_num_threads())

    thread = threading.Thread(target=other)
    try:
        with one_thread(), one_thread():
            assert torch.get_num_threads() == 1
            thread.start()
            assert inside.wait(60)
            assert allowed_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        leave.set()
    thread.join()
    assert seen == [1, 1, 2]
    with one_thread():
        assert allowed_threads() == 2
    assert torch.get_num_threads() == allowed_threads() == 2


def test_the_generator_is_borrowed_by_one_at_a_time():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    began = threading.Barrier(4, timeout=60)

    def draws(seed):
        began.wait()
        with borrowed_generator(seed), borrowed_generator():
            return [torch.rand(()).item() for _ in range(200)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(draws, range(4)))
    assert torch.equal(torch.get_rng_state(), state)
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        assert found[seed] == [torch.rand((), generator=generator).item() for _ in range(200)]


def _train_in_a_process_that_was_forked(queue):
    X, y, clients = large()
    clf = FedFocalClassifier((200,), n_rounds=1, batch_size=500, random_state=0)
    queue.put(clf.fit(X, y, clients=clients).predict_proba(X[:5]))


def large():
    """Rows whose products torch would split over threads."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(3000, 200)), rng.integers(100, size=3000), np.arange(3000) % 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_has_trained_can_be_forked(two_threads):
    # While others train as well: the child must not wait for their locks.
    context = multiprocessing.get_context("fork")
    wanted_by = FedFocalClassifier((200,), n_rounds=1, batch_size=500, random_state=0)
    X, y, clients = large()
    wanted = wanted_by.fit(X, y, clients=clients).predict_proba(X[:5])
    wanted_by.predict(X)
    held, done = threading.Event(), threading.Event()

    def holds_the_locks():
        with borrowed_generator(0), one_thread():
            held.set()
            done.wait(120)

    thread = threading.Thread(target=holds_the_locks)
    thread.start()
    try:
        assert held.wait(60)
        queue = context.SimpleQueue()
        child = context.Process(target=_train_in_a_process_that_was_forked, args=(queue,))
        child.start()
        child.join(90)
        hangs = child.is_alive()
        if hangs:
            child.kill()
        assert not hangs
        np.testing.assert_array_equal(queue.get(), wanted)
    finally:
        done.set()
        thread.join()
