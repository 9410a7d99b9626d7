"""Interchangeable parts: parameters like an estimator's, but nothing to fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from sklearn.base import BaseEstimator, clone

from skfedfocal._sklearn import InvalidParameterError

C = TypeVar("C", bound="Component")


class Component(BaseEstimator):
    """Base of losses, strategies, selections and aggregators.

    From scikit-learn it has `get_params`, `set_params` (also nested: ``strategy__mu``), `clone`
    and a readable repr. The constructor stores its parameters and checks nothing; `resolve`
    checks when a fit begins.
    """

    _parameter_constraints: dict[str, list[Any]] = {}

    def check_params(self) -> None:
        """Raise InvalidParameterError if a parameter, here or in a nested part, is wrong."""
        self._validate_params()
        for value in self.get_params(deep=False).values():
            if isinstance(value, Component):
                value.check_params()


def resolve(value: str | C, known: Mapping[str, type[C]], kind: type[C], param: str) -> C:
    """Turn a name or an object into a checked part of its own.

    The object is cloned, so that nothing a fit does reaches the parameter it came from.
    """
    if isinstance(value, str):
        if value not in known:
            raise InvalidParameterError(
                f"{param}={value!r} is not known; use one of {sorted(known)} "
                f"or a {kind.__name__} object."
            )
        part = known[value]()
    elif isinstance(value, kind):
        part = clone(value)
    else:
        raise InvalidParameterError(
            f"{param} must be one of {sorted(known)} or a {kind.__name__} object; got {value!r}."
        )
    part.check_params()
    return part
