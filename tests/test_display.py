"""Pictures: what is drawn is what was given, at any number of clients."""

import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from sklearn.calibration import CalibrationDisplay
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, recall_score

from skfedfocal import FedFocalClassifier
from skfedfocal.datasets import make_federation
from skfedfocal.describe import describe_clients
from skfedfocal.display import (
    ClientClassesDisplay,
    ClientScoresDisplay,
    TrainingDisplay,
    estimator_html,
    federation_html,
)
from skfedfocal.display._style import VERMILION

matplotlib.use("Agg")


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def fitted():
    X, y, clients = make_federation(300, 4, 6, imbalance=20, label_skew=1.0, random_state=0)
    model = FedFocalClassifier(n_rounds=8, early_stopping=True, random_state=0)
    return SimpleNamespace(model=model.fit(X, y, clients=clients), X=X, y=y, clients=clients)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def drawn(display):
    """Laying out and rendering it raises nothing."""
    display.figure_.savefig("/dev/null", format="png")
    return display


# -- training ------------------------------------------------------------------------------------


def test_curves_are_the_history(fitted, ax):
    display = drawn(TrainingDisplay.from_estimator(fitted.model, ax=ax))
    history = fitted.model.history_
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    np.testing.assert_array_equal(display.line_.get_xdata(), history["round"])
    np.testing.assert_array_equal(display.line_.get_ydata(), history["loss"])
    np.testing.assert_array_equal(display.validation_line_.get_ydata(), history["validation_loss"])
    assert display.failures_ is None


def test_kept_round_is_the_last_that_improved_by_more_than_tol(ax):
    history = {"round": [1, 2, 3, 4], "loss": [4, 3, 2, 1], "validation_loss": [3, 2, 1.9, 2.5]}
    assert "kept: round 3" in texts(TrainingDisplay(history).plot(ax=ax).ax_)
    estimator = FedFocalClassifier(early_stopping=True, tol=0.5)
    estimator.history_ = history
    display = TrainingDisplay.from_estimator(estimator, ax=Figure().subplots())
    assert "kept: round 2" in texts(display.ax_)
    assert "kept: round 1" in texts(
        TrainingDisplay(history, kept_round=1).plot(ax=Figure().subplots()).ax_
    )


def test_without_validation_the_last_models_are_kept(fitted, ax):
    history = {"round": np.arange(1, 21), "loss": np.linspace(2, 1, 20)}
    assert "kept: round 20" in texts(TrainingDisplay(history).plot(ax=ax).ax_)
    display = drawn(TrainingDisplay(history, n_averaged=5).plot(ax=Figure().subplots()))
    assert "kept: mean of rounds 16 to 20" in texts(display.ax_)


def test_failures_are_shares_of_the_clients_that_were_sent_the_model(ax):
    history = {
        **{"round": [1, 2, 3, 4], "loss": [1, np.nan, 1, 1]},
        **{"n_selected": [10, 10, 20, 4], "n_failed": [0, 5, 5, 4]},
    }
    display = drawn(TrainingDisplay(history).plot(ax=ax))
    bars = np.array([path.vertices for path in display.failures_.get_paths()])
    np.testing.assert_array_equal(bars[:, 0, 0], [2, 3, 4])
    heights = bars[:, 1, 1] - bars[:, 0, 1]
    np.testing.assert_allclose(heights / heights[-1], [0.5, 0.25, 1.0])
    assert "failed clients: 14 of 44" in texts(ax)
    assert (ax.get_yticks() >= 0.9).all()  # none below the curves, where the bars are


@pytest.mark.parametrize("n_rounds", [1, 2, 1000])
def test_trainings_of_any_length_are_drawn(n_rounds):
    history = {"round": np.arange(1, n_rounds + 1), "loss": np.ones(n_rounds)}
    drawn(TrainingDisplay(history | {"n_failed": np.ones(n_rounds)}).plot())


def test_an_unfitted_classifier_is_refused():
    with pytest.raises(NotFittedError):
        TrainingDisplay.from_estimator(FedFocalClassifier())


# -- classes by client -----------------------------------------------------------------------------


def test_bars_are_the_counts_and_lie_end_to_end(fitted, ax):
    display = drawn(ClientClassesDisplay.from_labels(fitted.y, fitted.clients, ax=ax))
    order = display.order_
    assert (np.diff(display.counts.sum(1)[order]) <= 0).all()
    for c, bars in enumerate(display.bars_):
        widths = [bar.get_width() for bar in bars]
        expected = [np.sum((fitted.clients == display.clients[k]) & (fitted.y == c)) for k in order]
        assert widths == expected
    ends = np.array([[(b.get_x(), b.get_width()) for b in bars] for bars in display.bars_])
    ends = ends[np.argsort(ends[..., 0].sum(1))]
    assert not ends[0, :, 0].any()  # the rarest class begins at zero
    np.testing.assert_array_equal(ends[:-1].sum(-1), ends[1:, :, 0])
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == [str(k) for k in display.clients[order]]


def test_a_summary_is_drawn_as_far_as_it_shows(fitted):
    whole = describe_clients(fitted.X, fitted.y, fitted.clients, min_rows=1)
    display = drawn(ClientClassesDisplay.from_summary(whole))
    direct = ClientClassesDisplay.from_labels(fitted.y, fitted.clients)
    order = [list(display.clients).index(str(client)) for client in direct.clients]
    np.testing.assert_array_equal(display.counts[order], direct.counts)
    y, clients = ["ill"] * 3 + ["well"] * 40, ["a"] * 23 + ["b"] * 20
    shy = describe_clients(np.zeros((43, 1)), y, clients)
    display = drawn(ClientClassesDisplay.from_summary(shy))
    assert display.clients.tolist() == ["a*", "b"]
    assert display.counts.tolist() == [[0, 0], [0, 20]]
    with pytest.raises(ValueError, match="no classes"):
        ClientClassesDisplay.from_summary(describe_clients(np.zeros((43, 1)), None, clients))


def test_a_single_rare_row_has_an_edge_and_an_absent_class_none(ax):
    y = np.repeat(["common", "rare", "common"], [5000, 1, 5000])
    clients = np.repeat(["a", "b"], [5001, 5000])
    display = drawn(ClientClassesDisplay.from_labels(y, clients, ax=ax))
    common, rare = display.bars_
    assert rare[0].get_linewidth() > 1
    assert rare[1].get_linewidth() == 0
    assert rare[0].get_zorder() > common[0].get_zorder()
    assert same_color(rare[0].get_edgecolor(), rare[0].get_facecolor())


@pytest.mark.parametrize(("n_clients", "n_classes"), [(1, 9), (31, 2), (1000, 10), (5, 62)])
def test_map_is_the_counts_in_order(n_clients, n_classes):
    _, y, clients = make_federation(
        5000, 1, n_clients, n_classes, imbalance=50, label_skew=2.0, random_state=0
    )
    display = drawn(ClientClassesDisplay.from_labels(y, clients))
    cells = display.image_.get_array()
    totals = display.counts.sum(0)
    expected = display.counts[display.order_][:, np.argsort(totals, kind="stable")].T
    np.testing.assert_array_equal(cells.filled(0), expected)
    assert sorted(display.order_) == list(range(n_clients))
    assert (np.diff(display.counts.argmax(1)[display.order_]) >= 0).all()
    marks = {
        int(line.get_ydata()[0]): line.get_xdata().tolist()
        for line in display.ax_.lines
        if len(line.get_ydata())
    }
    if n_clients > 200:  # every client that has a rare class is marked
        n_rare = int((totals < totals.max() / 10).sum())
        assert n_rare > 0
        assert marks == {i: np.flatnonzero(expected[i]).tolist() for i in range(n_rare)}
    else:
        assert not marks


def test_kinds_that_do_not_fit_are_refused():
    y, clients = np.arange(9), np.zeros(9)
    with pytest.raises(ValueError, match="9 classes, and colours for 8; take kind='map'"):
        ClientClassesDisplay.from_labels(y, clients, kind="bars")
    with pytest.raises(ValueError, match="kind must be 'auto', 'bars' or 'map'; got 'pie'"):
        ClientClassesDisplay.from_labels(y, clients, kind="pie")


# -- scores by client ------------------------------------------------------------------------------


def offsets(display):
    return np.asarray(display.points_.get_offsets())


@pytest.mark.parametrize("n_clients", [1, 40, 41, 1000])
def test_points_are_the_scores(n_clients):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 4000)
    predicted = np.where(rng.random(4000) < 0.2, (y + 1) % 3, y)
    clients = rng.permutation(np.arange(4000) % n_clients)
    display = drawn(ClientScoresDisplay.from_predictions(y, predicted, clients))
    expected = []
    for k in display.clients:
        own = clients == k
        classes = np.unique(y[own])
        recalls = recall_score(y[own], predicted[own], labels=classes, average=None)
        expected.append(recalls.mean())
    np.testing.assert_allclose(display.scores, expected)
    np.testing.assert_array_equal(display.sizes, [np.sum(clients == k) for k in display.clients])
    by_score = np.argsort(-np.array(expected), kind="stable")
    points = offsets(display)
    if n_clients <= 40:
        np.testing.assert_allclose(points[:, 0], np.array(expected)[by_score])
        np.testing.assert_array_equal(points[:, 1], np.arange(n_clients))
    else:
        np.testing.assert_allclose(points[:, 1], np.array(expected)[by_score])
        np.testing.assert_array_equal(points[:, 0], np.array(display.sizes)[by_score])
    recalls = recall_score(y, predicted, average=None)
    assert display.overall == pytest.approx(recalls.mean())


def test_estimator_and_metric_give_what_they_give_by_hand(fitted, ax):
    display = ClientScoresDisplay.from_estimator(
        fitted.model, fitted.X, fitted.y, fitted.clients, metric=accuracy_score, ax=ax
    )
    assert display.ax_ is ax
    predicted = fitted.model.predict(fitted.X)
    for k, score in zip(display.clients, display.scores, strict=True):
        own = fitted.clients == k
        assert score == accuracy_score(fitted.y[own], predicted[own])
    assert display.overall == accuracy_score(fitted.y, predicted)
    assert "accuracy score" in ax.get_title(loc="left").lower()
    assert np.asarray(display.overall_line_.get_xdata()).tolist() == [display.overall] * 2


@pytest.mark.parametrize("n_clients", [20, 200])
def test_the_worst_of_clients_with_enough_rows_is_marked(n_clients, ax):
    scores = np.linspace(0.9, 0.5, n_clients)
    sizes = np.full(n_clients, 50)
    sizes[-1] = 3  # the very worst, on three rows
    names = np.array([f"c{k}" for k in range(n_clients)])
    display = drawn(ClientScoresDisplay(scores, sizes, names).plot(ax=ax, n_worst=2))
    marked = [same_color(c, VERMILION) for c in display.points_.get_facecolors()[:, :3]]
    assert np.flatnonzero(marked).tolist() == [n_clients - 3, n_clients - 2]
    display = ClientScoresDisplay(scores, sizes, names).plot(ax=Figure().subplots(), min_rows=1)
    marked = [same_color(c, VERMILION) for c in display.points_.get_facecolors()[:, :3]]
    assert np.flatnonzero(marked).tolist() == [n_clients - 1]
    assert any("0.5" in text for text in texts(display.ax_))


def test_clients_without_a_score_are_counted_not_drawn(ax):
    display = ClientScoresDisplay([0.5, np.nan, 1.0], [9, 9, 9], ["a", "b", "c"]).plot(ax=ax)
    np.testing.assert_array_equal(offsets(display), [[1.0, 0], [0.5, 1]])
    assert "1 without a score" in ax.get_title(loc="left")


# -- beside scikit-learn ---------------------------------------------------------------------------


def test_calibration_display_of_scikit_learn_serves(ax):
    """Why there is no reliability diagram here."""
    X, y, clients = make_federation(400, 4, 5, 3, random_state=0)
    model = FedFocalClassifier(n_rounds=5, random_state=0).fit(X, y, clients=clients)
    for c in range(3):
        posterior = model.predict_posterior(X)[:, c]
        display = CalibrationDisplay.from_predictions(y == c, posterior, ax=ax)
        assert len(display.prob_true) > 1


def test_html_has_the_facts_and_no_client(fitted):
    html = federation_html(fitted.model)
    assert f">{fitted.model.client_sizes_.sum():.0f}<" in html
    assert "6, of " in html
    assert ">3: 0, 1, 2<" in html
    assert federation_html(FedFocalClassifier()) == ""
    whole = estimator_html(fitted.model)
    assert whole.endswith(html)
    assert "FedFocalClassifier" in whole


def test_html_escapes_what_it_is_given():
    X, y, _ = make_federation(60, 2, 1, 2, random_state=0)
    labels = np.array(["<b>sick</b>", "well"])[y]
    model = FedFocalClassifier(n_rounds=1, random_state=0)
    model.fit(X, labels, clients=np.where(y, "<i>a</i>", "b"))
    html = federation_html(model)
    assert "&lt;b&gt;sick&lt;/b&gt;, well" in html
    assert "<i>" not in html


def test_without_matplotlib_the_message_has_the_pip_line(fitted, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for display in (
        TrainingDisplay(fitted.model.history_),
        ClientClassesDisplay([[1]], ["a"], ["x"]),
        ClientScoresDisplay([1.0], [1], ["a"]),
    ):
        with pytest.raises(ImportError, match=r"plot needs matplotlib: pip install 'skfedfocal\["):
            display.plot()
    assert federation_html(fitted.model)
