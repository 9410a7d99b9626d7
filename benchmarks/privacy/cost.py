"""CPU time of a private round beside that of a plain one.

A round of 20 clients with 1000 rows each (64 features, 10 classes, 128 hidden units, one thread),
private and not, at the same number of steps and the same mean batch size.
"""

from __future__ import annotations

import time
from typing import Any
from unittest import mock

import numpy as np
import torch

from skfedfocal import FedFocalClassifier
from skfedfocal._training import training
from skfedfocal.privacy import ExampleLevelDP

N_ROWS, N_CLIENTS = 1000, 20


def round_ms(n_rounds: int, **params: Any) -> float:
    """Median CPU milliseconds of a round."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_CLIENTS * N_ROWS, 64)).astype(np.float32)
    y, clients = rng.integers(10, size=len(X)), np.arange(len(X)) % N_CLIENTS
    seconds, run_round = [], training.run_round

    def timed(*args: Any) -> Any:
        began = time.process_time()
        found = run_round(*args)
        seconds.append(time.process_time() - began)
        return found

    model = FedFocalClassifier(
        (128,), n_rounds=n_rounds, client_gamma=0, learning_rate=0.1, random_state=0, **params
    )
    with mock.patch.object(training, "run_round", timed):
        model.fit(X, y, clients=clients)
    return 1e3 * float(np.median(seconds))


def cost(n_rounds: int) -> None:
    """Print milliseconds a round, and how many times those of a plain one they are."""
    torch.set_num_threads(1)
    for batch in (32, 128):
        plain = round_ms(n_rounds, batch_size=batch)
        print(f"batch {batch}: without privacy {plain:.1f} ms")
        for name, privacy in (
            ("clipped, no noise", ExampleLevelDP(0.0, sampling_rate=batch / N_ROWS)),
            ("secure noise", ExampleLevelDP(1.0, sampling_rate=batch / N_ROWS)),
            ("seeded noise", ExampleLevelDP(1.0, sampling_rate=batch / N_ROWS, noise="seeded")),
        ):
            n_steps = -(-N_ROWS // batch)
            found = round_ms(n_rounds, privacy=privacy, n_local_epochs=n_steps)
            print(f"  {name:18} {found:6.1f} ms, {found / plain:.2f} times")
