"""Labels that a model does not know, and ids that look alike, do not pass without a word."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from skfedfocal import ClientColumn, FedFocalClassifier, FedFocalClassifierCV
from skfedfocal.metrics import client_report, evaluate

X = np.arange(12.0).reshape(6, 2) / 6
WORDS = np.array(["no", "yes", "no", "yes", "no", "yes"])
ALIKE = ["oslo", "oslo ", "voss", "Oslo", "bergen", "voss"]
SAID = "ids of clients that differ in blanks or capitals alone: 'oslo', 'oslo ', 'Oslo'"


def fitted(y):
    return FedFocalClassifier(n_rounds=1, random_state=0).fit(X, y, clients=[0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("kind", [str, object])
@pytest.mark.parametrize(
    ("other", "named"),
    [
        (np.array([0, 1, 0, 1, 0, 1]), r"\[0, 1\]"),
        (np.array(["no", "yes", 1, "yes", "no", "yes"], object), r"\[1\]"),
        (np.array(["No", "yes", "no", "Yes", "no", "yes"]), r"\['No', 'Yes'\]"),
    ],
)
def test_evaluate_names_labels_of_another_kind(kind, other, named):
    with pytest.raises(ValueError, match=rf"labels {named} that are none .* \['no', 'yes'\]"):
        evaluate(fitted(WORDS.astype(kind)), X, other)


def test_evaluate_names_texts_where_the_model_has_numbers():
    with pytest.raises(ValueError, match=r"labels \['no', 'yes'\] that are none .* \[0, 1\]"):
        evaluate(fitted([0, 1] * 3), X, WORDS)


def test_report_warns_of_labels_that_the_model_cannot_say():
    model, clients = fitted(WORDS), [0, 0, 0, 1, 1, 1]
    other = np.where(np.arange(6) == 1, "Yes", WORDS)
    with pytest.warns(UserWarning, match=r"labels \['Yes'\] that are none") as caught:
        report = client_report(model, X, other, clients, output_dict=True)
    assert caught[0].filename == __file__
    assert report["all"]["recall"]["Yes"] == 0
    client_report(model, X, WORDS, clients)  # warnings are errors


def test_a_report_that_cannot_be_pooled_is_refused_before_anything_is_fitted():
    class Counts(ClassifierMixin, BaseEstimator):
        n_fits = 0

        def fit(self, X, y, clients=None):
            self.classes_ = np.unique(y)
            Counts.n_fits += 1
            return self

        def predict(self, X):
            return np.full(len(X), self.classes_[0])

    table = pd.DataFrame(X, columns=["a", "b"]).assign(client=[0, 0, 0, 1, 1, 1])
    model = ClientColumn(Counts()).fit(table, WORDS)
    with pytest.raises(ValueError, match="never pooled"):
        client_report(
            model, table, WORDS, train=(table, WORDS, None), local_alone=True, pooled=True
        )
    assert Counts.n_fits == 1


@pytest.mark.parametrize(
    "model",
    [
        FedFocalClassifier(n_rounds=1, random_state=0),
        FedFocalClassifierCV(gammas=(0, 1), class_weights=(None,), cv=2, n_rounds=1),
    ],
)
def test_ids_that_look_alike_are_said(model):
    with pytest.warns(UserWarning, match=SAID):
        model.fit(np.repeat(X, 4, axis=0), np.repeat(WORDS, 4), clients=np.repeat(ALIKE, 4))
    ids = [" ".join(one.split()).lower() for one in ALIKE]
    model.fit(np.repeat(X, 4, axis=0), np.repeat(WORDS, 4), clients=np.repeat(ids, 4))
