"""What privacy costs: ``python -m benchmarks.privacy cost`` and ``... heart [--data DIR]``.

``cost`` prints CPU milliseconds of a round of 20 clients with 1000 rows each (64 features, 10
classes, 128 hidden units, one thread), private and not, at the same number of steps and the same
mean batch size. ``heart`` prints balanced accuracy on held-out rows of the four hospitals, without
privacy and at three epsilons, with the mechanism's defaults and one hidden layer of 16; at epsilon
1 also ("short") with 50 rounds and learning rate 0.3, as `ExampleLevelDP` advises.
The scaler is fitted on the training rows and is not accounted for; nothing is tuned.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skfedfocal import FedFocalClassifier
from skfedfocal._training import training
from skfedfocal.privacy import ExampleLevelDP

N_ROWS, N_CLIENTS = 1000, 20
EPSILONS = (1.0, 3.0, 8.0)


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


def heart(data: Path, n_seeds: int) -> None:
    """Print balanced accuracy by epsilon and by who adds the noise."""
    file = np.load(data / "heart_disease.npz")
    X, y, clients = file["X"], file["y"], file["client"]
    cases: dict[str, dict[str, Any]] = {"without privacy": {}}
    for trust in ("server", "local"):
        for epsilon in EPSILONS:
            privacy = ExampleLevelDP(target_epsilon=epsilon, trust=trust)
            cases[f"epsilon {epsilon:g}, {trust}"] = {"privacy": privacy}
            if epsilon == 1:  # which the mechanism's notes advise there
                few = {"privacy": privacy, "n_rounds": 50, "learning_rate": 0.3}
                cases[f"epsilon {epsilon:g}, {trust}, short"] = few
    for name, params in cases.items():
        scores = []
        for seed in range(n_seeds):
            train, test = train_test_split(
                np.arange(len(y)), test_size=0.25, random_state=seed, stratify=clients
            )
            scaler = StandardScaler().fit(X[train])
            model = FedFocalClassifier((16,), random_state=seed, **params)
            model.fit(scaler.transform(X[train]), y[train], clients=clients[train])
            predicted = model.predict(scaler.transform(X[test]))
            scores.append(balanced_accuracy_score(y[test], predicted))
        print(
            f"{name:26} {np.mean(scores):.3f} (standard error "
            f"{np.std(scores, ddof=1) / n_seeds**0.5:.3f}, {n_seeds} seeds)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("cost", "heart"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.what == "cost":
        cost(options.rounds)
    else:
        heart(options.data, options.seeds)


if __name__ == "__main__":
    main()
