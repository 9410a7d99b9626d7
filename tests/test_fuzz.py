"""A few of the random cases of `fuzzing`, and whether it would see what it looks for.

`make fuzz` tries as many as there is time for.
"""

import json

import numpy as np
import pytest
from fuzzing import FITTED, REFUSED, Wrong, case, sound, unclear
from fuzzing_files import DAMAGE, Checkpoints, Files

from skfedfocal import FedFocalClassifier


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_random_federations_end_with_a_sound_model_or_in_words(first):
    ended = [case(number) for number in range(first, first + 10)]
    assert all(how == FITTED or how.startswith(REFUSED) for how in ended)
    assert FITTED in ended


def test_damaged_checkpoints_are_refused_or_those_of_another_training(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    ended = {checkpoints.case(number) for number in range(60)}
    assert sum(how.startswith(REFUSED) for how in ended) >= len({d.__name__ for d in DAMAGE}) - 1


def test_damaged_files_are_refused_when_they_are_read(tmp_path):
    files = Files(tmp_path)
    ended = {files.case(number) for number in range(300)}
    harmful = {damage.__name__ for damage in DAMAGE}
    assert {how.removeprefix(f"{REFUSED}: ") for how in ended if how.startswith(REFUSED)} == harmful


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError("bad"), IndexError("a long text here")]
)
def test_errors_that_are_no_answer_are_seen(error):
    assert unclear(error)


def test_errors_of_other_libraries_are_seen():
    with pytest.raises(json.JSONDecodeError) as raised:
        json.loads("[1, 2, 3, 4, 5, 6")
    assert "where nobody speaks to users" in unclear(raised.value)


def test_unsound_models_are_seen():
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    model = FedFocalClassifier((3,), n_rounds=1, random_state=0).fit(X, y)
    sound(model, X)
    model.classes_ = model.classes_[::-1]
    with pytest.raises(Wrong):
        sound(model, X)
