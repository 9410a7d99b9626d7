"""What a private round releases has the noise that the ledger says, and draws nobody foretells."""

import numpy as np
import pytest

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")

from sklearn.datasets import make_classification

from skfedfocal import FedFocalClassifier
from skfedfocal._training.private import PoissonSelection
from skfedfocal.privacy import ClientLevelDP, ExampleLevelDP

N_CLIENTS, N_ROWS = 50, 600
X, y = make_classification(N_ROWS, 40, n_informative=8, n_classes=3, random_state=0)
CLIENTS = np.arange(N_ROWS) % N_CLIENTS


def released(privacy, **params):
    """What one round added to the model."""
    model = FedFocalClassifier(
        (30,), n_rounds=1, random_state=0, class_weight=None, privacy=privacy, **params
    )
    after = model.fit(X, y, clients=CLIENTS).theta_
    model.set_params(learning_rate=1e-12, privacy=None, client_gamma=0)
    before = model.fit(X, y, clients=CLIENTS).theta_  # as the training began
    return after.astype(float) - before, model


@pytest.mark.parametrize("clip_norm", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("trust", ["server", "distributed"])
def test_a_round_over_clients_has_the_noise_of_its_ledger(trust, clip_norm):
    """Noise 40 times what one client can add: the rest of the round is lost in it."""
    privacy = ClientLevelDP(40.0, clip_norm=clip_norm, trust=trust, sampling_rate=1.0)
    if trust == "distributed":
        privacy.set_params(n_honest=N_CLIENTS)
    moved, _ = released(privacy, numeric_encoding=None)
    expected = 40.0 * clip_norm / N_CLIENTS
    assert moved.std() == pytest.approx(expected, rel=0.1)  # over 1,323 parameters: 2 % to expect


@pytest.mark.parametrize("clip_norm", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("trust", ["server", "distributed"])
def test_a_round_over_rows_has_the_noise_of_its_ledger(trust, clip_norm):
    """Noise 400 times what one row can add, of 600."""
    privacy = ExampleLevelDP(
        400.0, clip_norm=clip_norm, trust=trust, sampling_rate=1.0, expected_batch=N_ROWS
    )
    moved, model = released(privacy, learning_rate=0.5, numeric_encoding=None)
    n_steps = model.n_local_epochs  # each takes all rows, of all clients, by the same chance
    expected = 0.5 * 400.0 * clip_norm * np.sqrt(n_steps) / N_ROWS
    assert moved.std() == pytest.approx(expected, rel=0.1)


def drawn(privacy, seed):
    step = privacy.plan(1, n_clients=N_CLIENTS, label_counts=False).step
    selection = PoissonSelection(step)
    stats = type("Stats", (), {"n_clients": N_CLIENTS})()
    return selection.select(stats, 1, np.random.default_rng(seed)).tolist()


def test_a_cohort_is_drawn_from_keys_that_nobody_knows_unless_a_seed_is_asked_for():
    privacy = ClientLevelDP(1.0, sampling_rate=0.5)
    assert len({tuple(drawn(privacy, 0)) for _ in range(5)}) == 5
    seeded = ClientLevelDP(1.0, sampling_rate=0.5, noise="seeded")
    assert drawn(seeded, 0) == drawn(seeded, 0) != drawn(seeded, 1)
