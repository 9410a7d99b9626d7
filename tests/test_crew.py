"""Threads change nothing but the time: replies, their order and the process stay as they were."""

import threading

import numpy as np
import pytest
import torch
from test_engines import every_module, plan_of, rows_for

from skfedfocal import FedFocalClassifier
from skfedfocal._module import flatten
from skfedfocal.engines import Task, VectorizedEngine
from skfedfocal.engines._crew import Crew


class Always(Crew):
    """Uses all its threads in every round."""

    def choose(self):
        return self.n_threads


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("n_pieces", [0, 1, 2, 3, 40])
def test_replies_come_in_order(n_threads, n_pieces):
    crew = Always(n_threads)
    for _ in range(3):
        assert list(crew.run(iter(range(n_pieces)), lambda i: i * i)) == [
            i * i for i in range(n_pieces)
        ]


def test_pieces_are_done_at_the_same_time():
    meeting = threading.Barrier(3, timeout=60)  # passed only if three threads are there at once
    assert len(list(Always(3).run(iter(range(9)), lambda i: meeting.wait()))) == 9


def test_few_replies_are_kept_waiting():
    begun = []
    replies = Always(2).run(iter(range(100)), lambda i: begun.append(i) or i)
    assert next(replies) == 0
    assert len(begun) <= 4
    replies.close()
    assert len(begun) <= 5


def test_an_error_ends_the_round():
    def work(i):
        if i == 3:
            raise RuntimeError("out of order")
        return i

    for n_threads in (1, 3):
        replies = Always(n_threads).run(iter(range(50)), work)
        assert [next(replies) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(RuntimeError, match="out of order"):
            next(replies)


def test_the_faster_way_is_taken_and_the_other_tried_again():
    crew = Crew(4)
    tried = []
    for round_ in range(100):
        tried.append(crew.choose())
        busy = round_ >= 50  # other processes came
        crew._n_rounds += 1
        crew._seconds[tried[-1]] = {1: 1.0, 4: 3.0 if busy else 0.3}[tried[-1]]
    assert tried[:3] == [1, 1, 4]
    assert tried[3:32] == [4] * 29
    assert tried[32] == 1
    assert tried[33:51] == [4] * 18
    assert set(tried[52:64]) == {1}
    assert tried[64] == tried[96] == 4
    assert {Crew(1).choose() for _ in range(5)} == {1}


@every_module
def test_threads_change_no_number(name):
    rows, make = rows_for(name)
    module, wanted = make(), {}
    for n_threads in (1, 3):
        engine = VectorizedEngine(module, rows)
        if not engine.kernel.threads_well:
            pytest.skip("draws from the one generator of the process")
        engine.crew = Always(n_threads)
        engine.kernel.block_size = 1
        for round_ in range(2):
            for reply in engine.train(
                Task(flatten(module), plan_of(), np.arange(6), round_, wants_recall=True)
            ):
                found = (reply.deltas.numpy(), reply.objective, reply.recalls, reply.weights)
                key = (round_, *reply.clients)
                for one, other in zip(found, wanted.setdefault(key, found), strict=True):
                    np.testing.assert_array_equal(one, other)


def test_the_process_keeps_its_threads(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        rng = np.random.default_rng(0)
        X, y, clients = rng.normal(size=(400, 5)), rng.integers(2, size=400), np.arange(400) % 40
        fits = []
        for crew in (Crew, Always):
            monkeypatch.setattr("skfedfocal.engines._vectorized.Crew", crew)
            monkeypatch.setattr("skfedfocal.engines._kernels.mlp.MLPKernel.block_bytes", 1 << 12)
            fits.append(
                FedFocalClassifier(hidden_layer_sizes=(8,), n_rounds=5, random_state=0).fit(
                    X, y, clients=clients
                )
            )
            assert torch.get_num_threads() == 3
        np.testing.assert_array_equal(fits[0].theta_, fits[1].theta_)
    finally:
        torch.set_num_threads(before)
