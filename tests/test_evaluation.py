"""Figures from sums: those that come of all rows, however these are divided among clients."""

import json
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    classification_report,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

from skfedfocal import ClientColumn, FedFocalClassifier, PersonalizedClassifier
from skfedfocal._data.queries import PlainRows
from skfedfocal.metrics import Evaluation, client_scores, evaluate, threshold_for_recall
from skfedfocal.metrics._sums import PredictionSums, thresholds


class Says:
    """A classifier whose probabilities are the columns of X."""

    def __init__(self, classes):
        self.classes_ = np.array(classes)

    def predict_proba(self, X):
        return np.asarray(X)

    def predict(self, X):
        return self.classes_[np.asarray(X).argmax(1)]


@st.composite
def predictions(draw, weighted=(False, True)):
    """Probabilities with ties, in bins and across their ends, labels, clients and weights."""
    n_classes, n = draw(st.integers(2, 4)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = draw(st.sampled_from([0.5, 3.0, 12.0, 60.0])) * rng.normal(size=(n, n_classes))
    if draw(st.booleans()):
        logits = logits.round(draw(st.integers(0, 1)))
    P = np.exp(logits - logits.max(1, keepdims=True))
    P /= P.sum(1, keepdims=True)
    y = rng.integers(0, draw(st.integers(1, n_classes)), n)
    clients = rng.integers(0, draw(st.integers(1, 6)), n)
    weight = rng.choice([0.25, 1.0, 3.0], n) if draw(st.sampled_from(weighted)) else None
    return P, y, clients, weight


@settings(max_examples=60)
@given(predictions(), st.integers(2, 60))
def test_figures_are_those_of_all_rows_however_they_are_divided(made, n_bins):
    P, y, clients, weight = made
    n = P.shape[1]
    model = Says(np.arange(n))
    found = evaluate(model, P, y, clients, sample_weight=weight, n_bins=n_bins)
    decided, labels = P.argmax(1), np.arange(n)
    cells = confusion_matrix(y, decided, labels=labels, sample_weight=weight)
    assert_allclose(found.confusion_matrix, cells, atol=1e-9)
    assert found.n_rows.tolist() == np.bincount(y, minlength=n).tolist()
    wanted = log_loss(y, P, labels=labels, sample_weight=weight)
    assert found.log_loss == pytest.approx(wanted, abs=1e-9)
    wanted = accuracy_score(y, decided, sample_weight=weight)
    assert found.accuracy == pytest.approx(wanted, abs=1e-9)
    there = np.unique(y)
    recalls = [
        np.average(decided[y == c] == c, weights=None if weight is None else weight[y == c])
        for c in there
    ]
    assert found.balanced_accuracy == pytest.approx(np.mean(recalls), abs=1e-9)
    scores = precision_recall_fscore_support(
        y, decided, labels=labels, sample_weight=weight, zero_division=np.nan
    )
    assert_allclose(found.precision, scores[0], atol=1e-9)
    assert_allclose(found.recall, scores[1], atol=1e-9)
    once = evaluate(model, P, y, sample_weight=weight, n_bins=n_bins)
    assert_allclose(once.sums, found.sums, atol=1e-9)


@settings(max_examples=80)
@given(predictions(), st.integers(2, 60))
def test_bounds_contain_the_areas(made, n_bins):
    P, y, clients, weight = made
    found = evaluate(
        Says(np.arange(P.shape[1])), P, y, clients, sample_weight=weight, n_bins=n_bins
    )
    for k in range(P.shape[1]):
        auc, average = found.roc_auc(k), found.average_precision(k)
        if not (y == k).any():
            assert np.isnan([*auc, *average]).all()
            continue
        wanted = average_precision_score(y == k, P[:, k], sample_weight=weight)
        assert average.lower <= min(wanted, 1.0) <= average.upper
        if (y == k).all():
            assert np.isnan(auc).all()
            continue
        wanted = roc_auc_score(y == k, P[:, k], sample_weight=weight)
        assert auc.lower <= wanted <= auc.upper
        assert auc.lower <= auc.middle <= auc.upper


@settings(max_examples=60)
@given(predictions())
def test_finer_bins_bring_the_bounds_closer(made):
    P, y, clients, weight = made
    model, k = Says(np.arange(P.shape[1])), y[0]
    before = None
    for n_bins in (3, 4, 6, 10, 18, 34, 66):  # ends of fewer bins are among those of more
        found = evaluate(model, P, y, clients, sample_weight=weight, n_bins=n_bins)
        bounds = np.array([found.roc_auc(k), found.average_precision(k)])
        if before is not None:
            assert not (bounds[:, 0] < before[:, 0] - 1e-9).any()
            assert not (bounds[:, 1] > before[:, 1] + 1e-9).any()
        before = bounds


def test_scores_that_share_no_bin_leave_no_error():
    ends = thresholds(40)
    scores = np.append(ends[1:], 1.0)[::2]  # each alone in its bin
    y = np.arange(len(scores)) % 3 == 0
    found = evaluate(Says([0, 1]), np.column_stack([1 - scores, scores]), y.astype(int), n_bins=40)
    assert found.roc_auc() == pytest.approx([roc_auc_score(y, scores)] * 2, abs=1e-9)
    wanted = average_precision_score(y, scores)
    assert found.average_precision() == pytest.approx([wanted] * 2, abs=1e-9)


@settings(max_examples=50)
@given(predictions(), st.floats(0.01, 1.0), st.sampled_from([np.float32, np.float64]))
def test_a_threshold_has_the_recall_and_no_higher_end_of_a_bin_has(made, recall, dtype):
    P, y, _, weight = made
    P = P.astype(dtype)
    found = evaluate(Says(np.arange(P.shape[1])), P, y, sample_weight=weight, n_bins=50)
    w = np.ones(len(y)) if weight is None else weight

    def recall_of(t, k):
        return w[(y == k) & (P[:, k] >= t)].sum() / w[y == k].sum()

    for k in np.unique(y):
        chosen = found.threshold(recall, k)
        assert chosen.recall == pytest.approx(recall_of(chosen.threshold, k))
        assert chosen.recall >= recall * (1 - 1e-9)
        taken = P[:, k] >= chosen.threshold
        assert chosen.flagged == pytest.approx(w[taken].sum() / w.sum())
        assert chosen.precision == pytest.approx(w[taken & (y == k)].sum() / w[taken].sum())
        higher = thresholds(50)[thresholds(50) > chosen.threshold]
        assert all(recall_of(t, k) < recall for t in higher)


@settings(max_examples=100)
@given(predictions(), st.floats(0.01, 1.0))
def test_a_threshold_of_scores_is_the_highest_with_the_recall(made, recall):
    P, y, _, weight = made
    w = np.ones(len(y)) if weight is None else weight
    for k in np.unique(y):
        score = P[:, k]
        chosen = threshold_for_recall(y, score, recall, pos_label=k, sample_weight=weight)
        taken, higher = score >= chosen.threshold, score > chosen.threshold
        assert chosen.recall == pytest.approx(w[taken & (y == k)].sum() / w[y == k].sum())
        assert chosen.precision == pytest.approx(w[taken & (y == k)].sum() / w[taken].sum())
        assert chosen.flagged == pytest.approx(w[taken].sum() / w.sum())
        assert chosen.recall >= recall * (1 - 1e-9)
        assert w[higher & (y == k)].sum() < recall * w[y == k].sum()
        assert chosen.threshold in score
        by_bins = evaluate(Says(np.arange(P.shape[1])), P, y, sample_weight=weight).threshold(
            recall, k
        )
        assert by_bins.threshold <= chosen.threshold


@settings(max_examples=60)
@given(predictions(weighted=(False,)))
def test_the_report_is_that_of_scikit_learn(made):
    P, y, _, _ = made
    labels = np.arange(P.shape[1])
    assume(np.isin(P.argmax(1), y).any())  # else precisions of weight 0 are averaged
    found = evaluate(Says(labels), P, y)
    options = {"labels": labels, "zero_division": np.nan}
    wanted = classification_report(y, P.argmax(1), output_dict=True, **options)
    ours = found.classification_report(output_dict=True)
    assert ours.keys() == wanted.keys()
    for name, line in wanted.items():
        assert ours[name] == pytest.approx(line, nan_ok=True)
    text = classification_report(y, P.argmax(1), digits=3, **options)
    text = re.sub(r"(\d)\.0$", r"\1", text, flags=re.M)  # of counts, in versions of scikit-learn
    assert found.classification_report(digits=3) == text


@settings(max_examples=60)
@given(predictions(), st.integers(1, 12))
def test_classes_of_few_rows_are_withheld_and_what_takes_them(made, min_rows):
    P, y, clients, weight = made
    n = P.shape[1]
    model = Says(np.arange(n))
    options = {"sample_weight": weight, "n_bins": 9}
    whole = evaluate(model, P, y, clients, by_client=True, **options)
    found = evaluate(model, P, y, clients, by_client=True, min_rows=min_rows, **options)
    for own, full in [
        (found, whole),
        *((found.clients[c], whole.clients[c]) for c in whole.clients),
    ]:
        few = (full.n_rows > 0) & (full.n_rows < min_rows)
        assert np.isnan(own.n_rows).tolist() == few.tolist()
        assert (own.sums[few, 1:] == 0).all()  # nothing of them is in it
        assert_allclose(own.recall[~few], full.recall[~few])
        if few.any():
            assert np.isnan([own.log_loss, own.accuracy, own.balanced_accuracy]).all()
            assert np.isnan([*own.roc_auc(0), *own.average_precision(0)]).all()
            with pytest.raises(ValueError, match="withheld"):
                own.threshold(0.5, 0)
        else:
            assert own.log_loss == full.log_loss


def test_clients_have_the_scores_of_client_scores():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = np.where(X[:, 0] + rng.normal(size=300) > 1, "sick", "well")
    clients = rng.choice(["oslo", "bergen", "voss"], 300)
    model = LogisticRegression().fit(X, y)
    found = evaluate(model, X, y, clients, by_client=True)
    scores = client_scores(model, X, y, clients, scoring="balanced_accuracy")
    assert list(found.clients) == scores.clients.tolist()
    ours = [one.balanced_accuracy for one in found.clients.values()]
    assert_allclose(ours, scores.score)
    frame = found.to_frame()
    assert frame.index.tolist() == [*found.clients, "all"]
    assert frame.loc["all", "balanced accuracy"] == pytest.approx(
        balanced_accuracy_score(y, model.predict(X))
    )
    assert np.diff(found.roc_auc()) < 0.01


def test_an_evaluation_survives_a_file():
    rng = np.random.default_rng(1)
    P, y = rng.dirichlet([1, 1, 1], 80), rng.integers(0, 3, 80)
    clients = rng.integers(0, 9, 80)
    found = evaluate(
        Says(["a", "b", "c"]), P, np.array(["a", "b", "c"])[y], clients, by_client=True, min_rows=3
    )
    text = json.dumps(found.as_dict(), allow_nan=False)
    again = Evaluation.from_dict(json.loads(text))
    assert repr(again) == repr(found)
    assert again.as_dict() == found.as_dict()
    assert again.threshold(0.9, "b") == found.threshold(0.9, "b")


def test_models_of_clients_and_ids_in_a_column():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    clients = rng.integers(0, 2, 200)
    y = ((X[:, 0] > 0) ^ (clients == 1)).astype(int)
    model = PersonalizedClassifier(FedFocalClassifier(n_rounds=5, random_state=0))
    model.fit(X, y, clients=clients)
    found = evaluate(model, X, y, clients, by_client=True)
    own = model.predict(X, clients=clients)
    assert found.accuracy == pytest.approx(accuracy_score(y, own))
    column = ClientColumn(FedFocalClassifier(n_rounds=2, random_state=0), column=0)
    table = np.column_stack([clients, X])
    found = evaluate(column.fit(table, y), table, y, by_client=True)
    assert sorted(found.clients) == [0, 1]
    assert found.accuracy == pytest.approx(accuracy_score(y, column.predict(table)))


def test_what_is_refused():
    P, y = np.array([[0.2, 0.8], [0.9, 0.1]]), np.array([0, 1])
    model = Says([0, 1])
    with pytest.raises(ValueError, match=r"labels \[7\] that are none"):
        evaluate(model, P, [0, 7])
    with pytest.raises(ValueError, match="n_bins"):
        evaluate(model, P, y, n_bins=1)
    with pytest.raises(ValueError, match="min_rows"):
        evaluate(model, P, y, min_rows=0)
    with pytest.raises(ValueError, match="clients is missing"):
        evaluate(model, P, y, by_client=True)
    with pytest.raises(ValueError, match="probability of each class"):
        evaluate(model, P * np.nan, y)
    found = evaluate(model, P, y)
    for recall in (0, 1.1, np.nan):
        with pytest.raises(ValueError, match="recall must be"):
            found.threshold(recall)
    with pytest.raises(ValueError, match="none of the classes"):
        found.threshold(0.5, 3)
    with pytest.raises(ValueError, match="label is missing"):
        evaluate(Says([0, 1, 2]), np.full((2, 3), 1 / 3), y).threshold(0.5)


def test_many_clients_are_predicted_of_together_to_the_same_figures():
    rng, asked = np.random.default_rng(0), []

    class Counts(Says):
        def predict(self, X):
            asked.append(len(X))
            return super().predict(X)

    P = rng.dirichlet([1, 1], 303)
    y, clients = rng.integers(0, 2, 303), np.arange(303) % 101
    few, many = (evaluate(Counts([0, 1]), P, y, ids) for ids in (clients % 100, clients))
    assert len(asked) == 100 + 1
    assert_allclose(few.sums, many.sums)


def test_thresholds_that_there_are_not():
    score = [0.1, 0.9, 0.5]
    assert threshold_for_recall(["b", "c", "b"], score, 1.0) == (0.9, 1.0, 1.0, 1 / 3)
    for labels, wrong, words in [
        ([0, 1, 1], {"recall": 0}, "recall must be"),
        ([0, 1, 2], {}, "pass pos_label"),
        ([1, 1, 1], {}, "pass pos_label"),
        ([0, 1, 1], {"pos_label": 7}, "no rows"),
        ([0, 1], {}, "inconsistent numbers"),
        ([0, 1, 1], {"y_score": [0.1, np.nan, 0.5]}, "NaN"),
        ([0, 1, 1], {"sample_weight": [1, 0, 0]}, "no rows"),
        ([0, 1, 1], {"sample_weight": [1, -1, 1]}, "[Nn]egative"),
    ]:
        with pytest.raises(ValueError, match=words):
            threshold_for_recall(labels, **{"y_score": score, "recall": 0.9} | wrong)


def test_the_question_is_not_answered_from_rows_as_they_are():
    """By which a server would get histograms of columns."""
    query = PredictionSums(2, 9)
    with pytest.raises(TypeError, match="what a model says"):
        query.answer(np.zeros((3, 3)), np.zeros(3, int), None)
    from skfedfocal._data.clients import ClientLayout

    rows = PlainRows(np.zeros((3, 3)), np.zeros(3, int), None, ClientLayout.from_ids([0, 0, 0], 3))
    with pytest.raises(TypeError, match="what a model says"):
        query.answers(rows, np.array([0]))
