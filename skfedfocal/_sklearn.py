"""One door to what scikit-learn offers its own estimators but not, by name, to others.

Each of these is private there, or of a private module, and may move with a release: then this file
is the one to mend.
"""

from importlib.util import find_spec
from typing import Any

from sklearn.base import _fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    RealNotInt,
    StrOptions,
    validate_parameter_constraints,
    validate_params,
)
from sklearn.utils.validation import _check_sample_weight

__all__ = [
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "RealNotInt",
    "StrOptions",
    "_check_sample_weight",
    "_fit_context",
    "callback_support",
    "has_callbacks",
    "validate_parameter_constraints",
    "validate_params",
]


def has_callbacks(estimator: Any = None) -> bool:
    """Whether scikit-learn has callbacks: from 1.9 on."""
    return find_spec("sklearn.callback") is not None


def callback_support() -> tuple[Any, Any]:
    """Its mixin for callbacks, and the context in which they are called.

    Imported when a callback is used: they import another package to draw with.
    """
    from sklearn.callback import CallbackSupportMixin
    from sklearn.callback._callback_support import callback_management_context

    return CallbackSupportMixin, callback_management_context
