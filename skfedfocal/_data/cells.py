"""What the cells of a file say: gaps, dates, and texts in one spelling."""

from __future__ import annotations

import re

# What stands for an empty cell of a feature. In labels and ids only an empty cell does: "NA" can be
# a country and "None" a class.
EMPTY = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "<NA>")
# Also of dates whose day and month cannot be told apart.
DATE = re.compile(r"(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})([T ].*)?")


def spelled(text: str, fold_case: bool = True) -> str:
    """The text with single blanks, and in small letters."""
    text = " ".join(text.split())
    return text.casefold() if fold_case else text
