"""The demo, run as a command on small data: what it prints is true, and what it does is said."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from sklearn.datasets import make_classification
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfedfocal import FedFocalClassifier


def load_demo():
    path = Path(__file__).parents[1] / "examples" / "demo.py"
    spec = importlib.util.spec_from_file_location("demo", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module  # where dataclasses look their annotations up
    spec.loader.exec_module(module)
    return module


demo = load_demo()
N_CLIENTS = 5


@pytest.fixture(scope="module")
def rows():
    """Six features, three classes of equal size, five clients of unequal size."""
    X, y = make_classification(
        420, 6, n_informative=4, n_classes=3, class_sep=2.0, flip_y=0, random_state=0
    )
    clients = np.sqrt(np.random.default_rng(0).uniform(0, N_CLIENTS**2, len(y))).astype(int)
    return X.round(6), y, clients


@pytest.fixture
def npz(rows, tmp_path):
    X, y, clients = rows
    names = np.array(["red", "green", "blue"])
    np.savez(tmp_path / "three.npz", X=X, y=y, client=clients, class_names=names)
    return tmp_path / "three.npz"


def frame(rows):
    X, y, clients = rows
    table = pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])])
    return table.assign(label=y, hospital=[f"h{c}" for c in clients])


@pytest.fixture
def csv(rows, tmp_path):
    frame(rows).to_csv(tmp_path / "three.csv", index=False)
    return tmp_path / "three.csv"


def run(capsys, *arguments):
    demo.main([str(argument) for argument in arguments])
    return capsys.readouterr()


def numbers(printed):
    """The rows of the table: name to the two methods' values."""
    pattern = r"^(\S.*?)  +(-?\d\.\d{3}) +(-?\d\.\d{3}) +[+-]\d\.\d{3}$"
    found = re.findall(pattern, printed, flags=re.M)
    return {name: (float(plain), float(focal)) for name, plain, focal in found}


# -- what is printed ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_table_agrees_with_scikit_learn(kind, npz, csv, tmp_path, capsys):
    """Against one uninterrupted fit of each method, scored by scikit-learn."""
    arguments = {
        "npz": ["--data", npz, "--cut", "green:0.06"],
        "csv": ["--data", csv, "--target", "label", "--client", "hospital", "--cut", "1:0.06"],
    }[kind]
    out = tmp_path / "picture.png"
    printed = run(capsys, *arguments, "--rounds", 7, "--out", out).out

    file, target, client = (npz, None, None) if kind == "npz" else (csv, "label", "hospital")
    data = demo.read(str(file), target, client)
    data.cut = "1:0.06"
    data = demo.prepare(data, seed=0)
    X, y, clients = (a[~data.is_test] for a in (data.X, data.y, data.clients))
    X_test, y_test = data.X[data.is_test], data.y[data.is_test]
    expected = {"balanced accuracy": [], "macro-F1": [], "rare": []}
    for parameters in ({"gamma": 0, "class_weight": None, "client_gamma": 0}, {}):
        model = FedFocalClassifier(**parameters, n_rounds=7, learning_rate=0.05, random_state=0)
        pipeline = make_pipeline(StandardScaler(), model)
        predicted = pipeline.fit(X, y, fedfocalclassifier__clients=clients).predict(X_test)
        expected["balanced accuracy"].append(balanced_accuracy_score(y_test, predicted))
        expected["macro-F1"].append(f1_score(y_test, predicted, average="macro"))
        recall = recall_score(y_test, predicted, labels=[1], average=None)
        expected["rare"].append(recall[0])

    found = numbers(printed)
    name = "green" if kind == "npz" else "1"
    n_rare = int(np.sum(y == 1))
    expected[f"recall of {name} ({n_rare} training rows)"] = expected.pop("rare")
    assert found.keys() == expected.keys()
    for row, values in expected.items():
        np.testing.assert_allclose(found[row], values, atol=5.1e-4)
    assert expected["balanced accuracy"][0] < expected["balanced accuracy"][1]
    assert f"{len(y)} training rows of {N_CLIENTS} clients, {len(y_test)} test rows" in printed


def test_npz_and_csv_of_the_same_rows_give_the_same_table(npz, csv, tmp_path, capsys):
    common = ["--rounds", 2, "--cut", "2:0.06", "--out", tmp_path / "picture.png"]
    one = numbers(run(capsys, "--data", npz, *common).out)
    other = ["--data", csv, "--target", "label", "--client", "hospital"]
    two = numbers(run(capsys, *other, *common).out)
    assert len(one) == 3
    assert list(one.values()) == list(two.values())


def test_shipped_data_need_no_argument(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    streams = run(capsys, "--rounds", 2)
    assert streams.out.count("balanced accuracy") == 2
    assert "Digits" in streams.out
    assert "recall of malignant (8 training rows)" in streams.out
    assert streams.err.count("round 2/2") == 4  # two methods on two data sets
    assert imread("demo.png").shape[1] > 1000


def test_picture_is_drawn_for_a_file(npz, tmp_path, capsys):
    out = tmp_path / "own.png"
    run(capsys, "--data", npz, "--rounds", 1, "--out", out)
    picture = imread(out)[..., :3]
    for style in demo.STYLES.values():  # both methods are in it, in their colours
        channels = [int(style["color"][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert (np.abs(picture - channels).max(-1) < 0.01).sum() > 100


# -- how data are prepared ---------------------------------------------------------------------


def cells(data, chosen):
    """Rows by client and class."""
    table = np.zeros((N_CLIENTS, len(data.class_names)), int)
    np.add.at(table, (data.clients[chosen], data.y[chosen]), 1)
    return table


def test_test_rows_are_a_quarter_of_every_client_and_class(npz):
    data = demo.read(str(npz), None, None)
    data.cut = "none"
    data = demo.prepare(data, seed=3)
    test, every = cells(data, data.is_test), cells(data, slice(None))
    assert (np.abs(test - every / 4) <= 1).all()
    assert (np.abs(test.sum(1) - every.sum(1) / 4) <= 1).all()


def test_only_training_rows_of_the_chosen_classes_are_cut(npz):
    whole, cut = (demo.read(str(npz), None, None) for _ in range(2))
    whole.cut, cut.cut = "none", "red,2:0.1"
    whole, cut = demo.prepare(whole, seed=0), demo.prepare(cut, seed=0)
    np.testing.assert_array_equal(whole.X[whole.is_test], cut.X[cut.is_test])
    left = [round(0.1 * n) if c != 1 else n for c, n in enumerate(whole.counts)]
    np.testing.assert_array_equal(cut.counts, left)


@pytest.mark.parametrize("share", [1.0, 0.09])
def test_every_second_class_is_cut_where_none_is_rare(rows, share, tmp_path):
    X, y, clients = rows
    common = y != 2
    keep = common | (np.cumsum(~common) <= share * np.sum(~common))
    np.savez(tmp_path / "some.npz", X=X[keep], y=y[keep], client=clients[keep])
    before = demo.read(str(tmp_path / "some.npz"), None, None)
    data = demo.prepare(before, seed=0)
    if share == 1.0:
        np.testing.assert_array_equal(data.rare, [1])
        assert data.counts[1] == round(0.03 * 105)
        assert "every second one is cut: 1 to 3%" in data.notes[-1]
    else:
        assert len(data.y) == len(before.y)
        np.testing.assert_array_equal(data.rare, [2])


def test_rows_without_clients_are_partitioned(rows, tmp_path):
    X, y, _ = rows
    np.savez(tmp_path / "pooled.npz", X=X, y=y)
    data = demo.prepare(demo.read(str(tmp_path / "pooled.npz"), None, None), seed=0)
    assert len(np.unique(data.clients)) == 20
    assert "Dirichlet partition (alpha 0.5) over 20" in data.notes[0]


def test_split_of_the_file_holds_unless_a_client_would_not_train(rows, tmp_path):
    X, y, clients = rows
    split = np.arange(len(y)) % 3 == 0
    for name, chosen in (("within", split), ("whole", clients == 4)):
        np.savez(tmp_path / f"{name}.npz", X=X, y=y, client=clients, split=chosen.astype(int))
    within = demo.prepare(demo.read(str(tmp_path / "within.npz"), None, None), seed=0)
    np.testing.assert_array_equal(within.X[within.is_test], X[split])
    whole = demo.prepare(demo.read(str(tmp_path / "whole.npz"), None, None), seed=0)
    assert whole.n_training_clients == N_CLIENTS


def test_texts_and_empty_cells_of_a_csv_are_features(rows, tmp_path, capsys):
    table = frame(rows)
    table["colour"] = np.where(table.x0 > 0, "warm", "cold")
    table.loc[::9, "x1"] = np.nan
    table.to_csv(tmp_path / "mixed.csv", index=False)
    data = demo.read(str(tmp_path / "mixed.csv"), "label", "hospital")
    assert data.X.shape[1] == 6 + 2
    common = ["--target", "label", "--client", "hospital", "--out", tmp_path / "picture.png"]
    printed = run(capsys, "--data", tmp_path / "mixed.csv", "--rounds", 1, *common).out
    assert "balanced accuracy" in numbers(printed)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "absent.npz"], r"no file .*absent\.npz"),
        (["--data", "notes.txt"], r"must be a file of the kind \.npz, \.csv"),
        (["--data", "broken.npz"], "cannot be read"),
        (["--data", "three.csv"], r"target must name .*x0, x1, .*label, hospital"),
        (["--data", "three.csv", "--target", "lable"], "no column 'lable'; it has x0"),
        (["--data", "three.csv", "--target", "label", "--client", "site"], "no column 'site'"),
        (["--data", "three.csv", "--target", "x0"], "420 distinct values, which are not classes"),
        (["--data", "three.npz", "--target", "z"], "no array 'z'; it has X, y, client"),
        (["--data", "three.npz", "--cut", "pink:0.1"], "no class 'pink'; there are red, green"),
        (["--data", "three.npz", "--cut", "red"], "must read like 1,3,5:0.03"),
        (["--data", "three.npz", "--cut", "red:2"], "must read like 1,3,5:0.03"),
        (["--data", "three.npz", "--out", "nowhere/demo.png"], "no folder .*nowhere"),
        (["--data", "short.npz"], "differ in length"),
        (["--data", "one.npz"], "at least two classes"),
        (["--data", "named.csv", "--target", "label"], "'name' has 420 distinct texts"),
        (["--data", "gaps.csv", "--target", "label"], "'label' has 2 empty cells"),
    ],
)
def test_refusals_name_what_was_found(
    rows, npz, csv, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    X, y, _ = rows
    Path("notes.txt").write_text("nothing")
    Path("broken.npz").write_text("nothing")
    np.savez("short.npz", X=X, y=y[:-1])
    np.savez("one.npz", X=X, y=np.zeros_like(y))
    frame(rows).assign(name=[f"n{i}" for i in range(len(y))]).to_csv("named.csv", index=False)
    gaps = frame(rows).astype({"label": float})
    gaps.loc[:1, "label"] = np.nan
    gaps.to_csv("gaps.csv", index=False)
    with pytest.raises(SystemExit, match=message):
        demo.main(arguments)
    assert not list(tmp_path.glob("**/*.png"))


def test_rounds_below_one_are_refused(capsys):
    with pytest.raises(SystemExit):
        demo.main(["--rounds", "0"])
    assert "--rounds must be at least 1" in capsys.readouterr().err
