"""The benchmark of robust aggregation measures what it says; its page is that of its summary."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("benchmarks.aggregators", reason="not part of the source distribution")

import pandas as pd
import torch

from benchmarks.aggregators import (
    AGGREGATORS,
    ATTACKS,
    HONEST,
    PAGE,
    SUMMARY,
    AttackedEngine,
    Case,
    alie,
    cases,
    gaussian,
    page,
    recalls,
    unchanged,
)
from skfedfocal.engines import Engine, Updates


def test_the_page_is_that_of_the_summary():
    assert page(pd.read_csv(SUMMARY)) == PAGE.read_text()


def test_the_summary_has_every_case():
    summary = pd.read_csv(SUMMARY)
    found = set(zip(summary["aggregation"], summary["attack"], summary["share"], strict=True))
    assert found == {(case.aggregation, case.attack, case.share) for case in cases(1)}
    assert summary[["overall", "rare"]].to_numpy().min() >= 0
    assert summary[["overall", "rare"]].to_numpy().max() <= 1


def test_under_every_attack_of_a_fifth_one_robust_aggregation_keeps_the_rare_classes():
    """Within five points of the mean of the honest alone: what the page claims."""
    summary = pd.read_csv(SUMMARY).set_index(["aggregation", "attack", "share"])["rare"]
    honest = summary[HONEST, "none", 0.2]
    for attack in set(ATTACKS) - {"label flip"}:  # which is one on the class counts, see the page
        best = max(summary[name, attack, 0.2] for name in AGGREGATORS if name != "mean")
        assert best >= honest - 0.05, attack


def test_one_clients_update_is_less_than_the_mean_of_all():
    mean, krum = (recalls(Case(name, "none", 0.0, 0)) for name in ("mean", "Krum"))
    assert mean[0] > krum[0]
    assert mean == recalls(Case("mean", "none", 0.0, 0))


def test_attackers_ruin_the_mean_and_not_a_robust_rule():
    mean, krum = (recalls(Case(name, "sign flip ×10", 0.2, 1)) for name in ("mean", "multi-Krum"))
    assert mean[0] < 0.3 < krum[0]


class Fixed(Engine):
    """Clients with updates of ones, in two replies."""

    sizes = n_rows = np.ones(6)

    def train(self, task):
        for some in (np.array([4, 0, 2]), np.array([1, 5, 3])):
            yield Updates(some, np.ones(3), np.ones((3, 2)), torch.ones(3, 4))

    def _answers(self, query, clients, model):
        raise AssertionError


class Round:
    round = 0


@pytest.mark.parametrize("name", ATTACKS)
def test_only_attackers_send_something_else(name):
    (reply,) = AttackedEngine(Fixed(), np.array([2, 3]), ATTACKS[name], 0).train(Round())
    changed = (reply.deltas != 1).any(1).numpy()
    harmless = (
        name.startswith("label flip") or name == "ALIE"
    )  # of equal updates, what is within their spread
    assert set(reply.clients[changed]) == (set() if harmless else {2, 3})


def test_attacks_by_hand():
    honest = torch.tensor([[0.0, 2.0], [2.0, 2.0], [4.0, 2.0]])
    own = torch.ones(2, 2)
    # Of five, three make a majority: one honest client beyond the edge, two within it.
    z = float(torch.distributions.Normal(0, 1).icdf(torch.tensor(2 / 3)))
    wanted = torch.tensor([[2.0 - 2 * z, 2.0]] * 2)
    torch.testing.assert_close(alie(own, honest, np.random.default_rng(0)), wanted)
    noise = gaussian(own, honest, np.random.default_rng(0))
    length = 10 * honest.norm(dim=1).mean()
    torch.testing.assert_close(noise.norm(dim=1), length.expand(2))
    assert unchanged(own, honest, np.random.default_rng(0)) is own
