"""What a training tells the server, in one vocabulary, and which parts cannot go together.

Every part (loss, class weights, selection, aggregation, ...) names what it discloses beyond what
any federated training does; the tables in the documentation are tested against these names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from skfedfocal._sklearn import InvalidParameterError

LABEL_TOTALS = "label counts, summed over the clients"
LABEL_COUNTS = "label counts of each client"
WEIGHTS = "weight of each client"
RECALLS = "recall of each client"
VALIDATION_LOSS = "validation loss, summed over the clients"
SINGLE_UPDATES = "update of each client"
COLUMN_SUMS = "sums of columns, added up over the clients"
COUNTS_BELOW = "rows with values below thresholds, summed over the clients"
VALUE_COUNTS = "rows by value of a column, summed over the clients"
CATEGORIES = "values of columns and rows by value, summed over the clients"
HITS = "hits and rows by class, summed over the clients"
HITS_OF_ONE = "rows by class that one of two models alone gets right, summed over the clients"
PREDICTIONS = "predictions, losses and histograms of scores by class, summed over the clients"
OWN_FIGURES = "predictions, losses and histograms of scores by class of each client that allows it"
OWN_ROWS = "rows, classes and spread of columns of each client that allows it"

FACTS = frozenset(
    {
        LABEL_TOTALS,
        LABEL_COUNTS,
        WEIGHTS,
        RECALLS,
        VALIDATION_LOSS,
        SINGLE_UPDATES,
        COLUMN_SUMS,
        COUNTS_BELOW,
        VALUE_COUNTS,
        CATEGORIES,
        HITS,
        HITS_OF_ONE,
        PREDICTIONS,
        OWN_FIGURES,
        OWN_ROWS,
    }
)
# What is about one client, and so cannot be had from a sum.
SINGLE = frozenset({LABEL_COUNTS, WEIGHTS, RECALLS, SINGLE_UPDATES, OWN_FIGURES, OWN_ROWS})


class Discloses(Protocol):
    """Whatever says what it tells the server."""

    @property
    def discloses(self) -> frozenset[str]: ...


def disclosed(parts: Iterable[Discloses]) -> frozenset[str]:
    """All that some parts tell the server together."""
    return frozenset().union(*(part.discloses for part in parts))


def check_compatible(refused: Mapping[str, Mapping[str, str]]) -> None:
    """Raise InvalidParameterError where two parts cannot go together.

    Parameters
    ----------
    refused : mapping
        For each part, by its parameter and value, the parts it cannot go with and the remedy.
    """
    for one, others in refused.items():
        for other, remedy in others.items():
            raise InvalidParameterError(f"{one} cannot go with {other}: {remedy}.")
