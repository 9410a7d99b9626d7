"""Encodings of numbers: what columns become before the first layer, from sums over clients."""

from __future__ import annotations

from typing import Any

from skfedfocal._component import resolve
from skfedfocal.encodings._encoding import NumericEncoding
from skfedfocal.encodings._piecewise_linear import PiecewiseLinearEncoding
from skfedfocal.encodings._standard import StandardEncoding, StandardIfUnscaled

__all__ = [
    "ENCODINGS",
    "NumericEncoding",
    "PiecewiseLinearEncoding",
    "StandardEncoding",
    "StandardIfUnscaled",
]

#: The encodings by the names that estimators take.
ENCODINGS: dict[str, type[NumericEncoding]] = {
    "auto": StandardIfUnscaled,
    "standard": StandardEncoding,
    "piecewise_linear": PiecewiseLinearEncoding,
}


def resolve_encoding(numeric_encoding: Any) -> NumericEncoding | None:
    """The encoding that a parameter means, checked; None for none."""
    if numeric_encoding is None:
        return None
    return resolve(numeric_encoding, ENCODINGS, NumericEncoding, "numeric_encoding")
