"""What clients are asked is what the parts say that they disclose, and what the page says."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import federation

from skfedfocal import FederatedClassifier
from skfedfocal._class_weight import CLASS_WEIGHTS
from skfedfocal._data.queries import ColumnDeviations, ColumnSums, LabelCounts, Query, Sizes
from skfedfocal._disclosure import (
    COLUMN_SUMS,
    COUNTS_BELOW,
    FACTS,
    HITS,
    LABEL_COUNTS,
    LABEL_TOTALS,
    RECALLS,
    SINGLE,
    SINGLE_UPDATES,
    VALIDATION_LOSS,
    WEIGHTS,
    disclosed,
)
from skfedfocal._training.parts import disclosure_table, resolve_parts
from skfedfocal.aggregation import AGGREGATORS, WeightedMean
from skfedfocal.encodings import ENCODINGS
from skfedfocal.engines import Engine, Hits, LoopEngine, ValidationLoss, VectorizedEngine
from skfedfocal.losses import LOSSES, LDAMLoss, LogitAdjustedLoss
from skfedfocal.selection import SELECTIONS

X, y, CLIENTS = federation([9, 4, 14, 6, 8])
REGISTRIES = {
    "numeric_encoding": ENCODINGS,
    "loss": LOSSES,
    "class_weight": CLASS_WEIGHTS,
    "selection": SELECTIONS,
    "aggregation": AGGREGATORS,
}


def test_every_part_says_what_it_discloses_in_one_vocabulary():
    for known in REGISTRIES.values():
        for part in known.values():
            assert part().discloses <= FACTS
    assert disclosed(LOSSES[name]() for name in LOSSES) == {LABEL_TOTALS}
    assert disclosed(CLASS_WEIGHTS[name]() for name in CLASS_WEIGHTS) == {LABEL_TOTALS}
    assert disclosed(SELECTIONS[name]() for name in SELECTIONS) == {LABEL_COUNTS, RECALLS}
    assert disclosed(AGGREGATORS[name]() for name in AGGREGATORS) == {LABEL_COUNTS, SINGLE_UPDATES}
    assert disclosed(ENCODINGS[name]() for name in ENCODINGS) == {COLUMN_SUMS, COUNTS_BELOW}
    assert SINGLE < FACTS


@pytest.mark.parametrize(("client_gamma", "focuses"), [(0, False), (0.5, True), (2, True)])
def test_clients_focus_only_where_that_is_asked_for(client_gamma, focuses):
    clf = FederatedClassifier(client_gamma=client_gamma)
    focus = resolve_parts(clf, LOSSES["focal"](), "balanced").focus
    assert (focus is not None) == focuses
    if focus is not None:
        assert focus.client_gamma == client_gamma


def test_every_question_says_what_it_discloses_in_one_vocabulary():
    def kinds(kind):
        return {kind}.union(*(kinds(k) for k in kind.__subclasses__()))

    ours = {kind for kind in kinds(Query) if kind.__module__.startswith("skfedfocal.")}
    assert ours >= {LabelCounts, Sizes, ColumnSums, ColumnDeviations, Hits, ValidationLoss}
    for kind in ours:
        assert kind.discloses <= FACTS - SINGLE  # of one client's answer nobody learns but as a sum
    assert Hits.discloses == {HITS}


class Recorder:
    """Writes down what a training asks of clients, as facts."""

    def __init__(self):
        self.facts = set()

    def asking(self, ask):
        def asks(engine, query, *args, **kwargs):
            self.facts |= query.discloses
            return ask(engine, query, *args, **kwargs)

        return asks

    def asking_each(self, ask_each):
        def asks(engine, query):
            assert isinstance(query, LabelCounts)
            self.facts.add(LABEL_COUNTS)
            return ask_each(engine, query)

        return asks

    def training(self, train):
        def trains(engine, task):
            whole = task.plan.batch_size > len(y)  # a step from which class frequencies are read
            self.facts |= {LABEL_TOTALS} if whole else {WEIGHTS}
            self.facts |= {RECALLS} if task.wants_recall or task.plan.focus else set()
            for reply in train(engine, task):
                assert (reply.recalls is not None) == task.wants_recall
                yield reply

        return trains

    def fit(self, classifier):
        single = []

        def called(aggregator, updates, weights):
            single.append(True)
            raise AssertionError("a linear aggregator needs no single updates")

        with (
            patch.object(Engine, "ask", self.asking(Engine.ask)),
            patch.object(Engine, "ask_each", self.asking_each(Engine.ask_each)),
            patch.object(LoopEngine, "train", self.training(LoopEngine.train)),
            patch.object(VectorizedEngine, "train", self.training(VectorizedEngine.train)),
            patch.object(WeightedMean, "__call__", called),
        ):
            return classifier.fit(X, y, clients=CLIENTS)


def closed(facts):
    """With what follows: from the counts of each, their sum."""
    return set(facts) | ({LABEL_TOTALS} if LABEL_COUNTS in facts else set())


@settings(max_examples=40)
@given(st.data())
def test_what_is_asked_is_what_the_parts_disclose(data):
    aggregation = data.draw(st.sampled_from(["mean", "mean", "median"]))
    losses = [*sorted(LOSSES), LDAMLoss(counts="local"), LogitAdjustedLoss(counts="local")]
    clf = FederatedClassifier(
        (3,),
        loss=data.draw(st.sampled_from(losses)),
        class_weight=data.draw(st.sampled_from([*sorted(CLASS_WEIGHTS), {0: 2.0}, None])),
        selection=data.draw(st.sampled_from(sorted(SELECTIONS))),
        aggregation=aggregation,
        client_gamma=data.draw(st.sampled_from([0.0, 1.0])) if aggregation == "mean" else 0.0,
        early_stopping=data.draw(st.booleans()),
        numeric_encoding=data.draw(st.sampled_from([*sorted(ENCODINGS), None])),
        engine=data.draw(st.sampled_from(["loop", "vectorized"])),
        n_rounds=2,
        random_state=0,
    )
    recorder = Recorder()
    fitted = recorder.fit(clf)
    said = resolve_parts(clf, clf._resolve_loss(), clf.class_weight).discloses
    facts = frozenset().union(*said.values())
    assert (SINGLE_UPDATES in facts) == (aggregation != "mean")
    assert closed(recorder.facts) == closed(facts - {SINGLE_UPDATES})
    assert (VALIDATION_LOSS in facts) == clf.early_stopping
    # What nobody was asked for, nobody knows.
    assert (fitted.class_prior_ is None) == (LABEL_TOTALS not in _about_labels(said))
    told = ~np.isnan(fitted.training_state_["recall"])
    assert told.all() == (clf.selection == "focal") == told.any()


def _about_labels(said):
    """What loss and class weights disclose: a selection's counts are for its own use."""
    return said["loss"] | said["class_weight"]


@pytest.mark.parametrize("param", REGISTRIES)
def test_the_table_has_every_option(param):
    table = disclosure_table()
    for name, part in REGISTRIES[param].items():
        facts = "; ".join(sorted(part().discloses)) or "nothing"
        assert f'| `{param}="{name}"` | {facts} |' in table


def test_the_page_has_the_table():
    page = Path(__file__).parents[1] / "docs" / "design.md"
    if not page.exists():
        pytest.skip("the documentation is not in this archive")
    text = page.read_text(encoding="utf-8")
    between = text.split("<!-- disclosure -->")[1].split("<!-- /disclosure -->")[0]
    assert between.strip() == disclosure_table().strip()
