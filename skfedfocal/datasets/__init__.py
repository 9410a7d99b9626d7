"""Federations: drawn at random, from a file of yours, or well-known ones fetched."""

from skfedfocal.datasets._files import load_federation
from skfedfocal.datasets._generator import make_federation

__all__ = ["load_federation", "make_federation"]
