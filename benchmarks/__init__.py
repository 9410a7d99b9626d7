"""Measurements of the package; not shipped with it."""
