"""Aggregators: many clients' updates, an (m, p) matrix, into one, (p,).

A training hands them the updates of a round in an order drawn anew from the seed and the round, so
that what depends on the order (`Bucketing`) depends neither on who came first nor on the engine.
"""

from __future__ import annotations

from skfedfocal.aggregation._aggregator import Aggregator
from skfedfocal.aggregation._bucketing import Bucketing
from skfedfocal.aggregation._krum import Krum
from skfedfocal.aggregation._means import ClippedMean, TrimmedMean, WeightedMean
from skfedfocal.aggregation._medians import CoordinateMedian, GeometricMedian

__all__ = [
    "AGGREGATORS",
    "Aggregator",
    "Bucketing",
    "ClippedMean",
    "CoordinateMedian",
    "GeometricMedian",
    "Krum",
    "TrimmedMean",
    "WeightedMean",
]

#: The aggregators by the names that estimators take.
AGGREGATORS: dict[str, type[Aggregator]] = {
    "mean": WeightedMean,
    "clipped_mean": ClippedMean,
    "median": CoordinateMedian,
    "trimmed_mean": TrimmedMean,
    "geometric_median": GeometricMedian,
    "krum": Krum,
    "bucketing": Bucketing,
}
