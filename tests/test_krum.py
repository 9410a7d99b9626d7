"""Krum by hand: sorted lists of distances, and as many neighbours as the paper counts."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from skfedfocal.aggregation import Krum


def krum_by_hand(updates, weights, n_bad, n_keep):
    """Blanchard et al.: with m updates, f of them bad, the m - f - 2 nearest others count."""
    m = len(updates)
    scores = []
    for i in range(m):
        apart = sorted(sum((a - b) ** 2 for a, b in zip(updates[i], updates[j], strict=True))
                       for j in range(m) if j != i)  # fmt: skip
        scores.append(sum(apart[: max(1, m - n_bad - 2)]))
    kept = sorted(range(m), key=lambda i: scores[i])[:n_keep]
    return np.average([updates[i] for i in kept], axis=0, weights=[weights[i] for i in kept])


@given(
    m=st.integers(2, 12),
    bad_share=st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.34, 0.49]),
    n_keep=st.sampled_from([None, 1, 2, 5, 99]),
    seed=st.integers(0, 9999),
)
def test_krum_is_its_formula(m, bad_share, n_keep, seed):
    rng = np.random.default_rng(seed)
    updates, weights = rng.normal(size=(m, 3)) ** 3, rng.uniform(1, 5, m)
    found = Krum(bad_share, n_keep)(torch.as_tensor(updates), torch.as_tensor(weights))
    # The share is rounded up, so that a tenth of nine is somebody, but less than half of them.
    n_bad = next((n for n in range(m) if n >= bad_share * m), m)
    n_bad = min(n_bad, (m - 1) // 2)
    kept = m - n_bad if n_keep is None else min(n_keep, m)
    wanted = krum_by_hand(updates.tolist(), weights.tolist(), n_bad, kept)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)
