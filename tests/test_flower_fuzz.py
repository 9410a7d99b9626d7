"""A few of the random cases of `fuzzing_sites`; `make fuzz` tries as many as there is time for."""

import numpy as np
import pytest

pytest.importorskip("flwr")
pytest.importorskip("pandas")

from fuzzing import REFUSED
from fuzzing_sites import Messages, Tables

from skfedfocal._plain import from_plain
from skfedfocal.flower import load_table
from skfedfocal.flower._messages import BadReply, check_statistics


def test_damaged_tables_are_refused_by_name_or_read(tmp_path):
    tables = Tables(tmp_path)
    ended = {tables.case(number) for number in range(300)}
    assert ended >= {f"{REFUSED}: {kind}" for kind in tables.sound}


def test_damaged_messages_end_a_training_in_words_or_leave_it_sound():
    messages = Messages()
    ended = {messages.case(number) for number in range(60)}
    assert ended == {
        f"{how}: {way} a site" for how in (REFUSED, "trained") for way in ("to", "from")
    }


def test_a_file_that_is_not_there_is_no_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_table({"data-path": tmp_path / "none.csv"})


def test_a_few_characters_cannot_ask_for_gigabytes():
    with pytest.raises(ValueError, match="too many"):
        from_plain({"array": ["x"] * 9, "dtype": "<U200000000"})


@pytest.mark.parametrize("types", [["x"], [""], ["<f8"], ["i4,i4"], "<f8", [None]])
def test_types_of_columns_that_are_none_are_another_form(types):
    """Else their reader's error, which names no site, would end the round for all."""
    facts = {"size": 3.0, "n_rows": 3, "classes": np.array(["a"]), "columns": None}
    facts |= {"is_sparse": False, "row_shape": (1,), "types": types}
    if types in ([""], ["<f8"]):
        check_statistics(facts)
    else:
        with pytest.raises(BadReply, match="types"):
            check_statistics(facts)
