"""Handing `clients` to the parts of an estimator that take it, by scikit-learn's own routing."""

from __future__ import annotations

from typing import Any

from sklearn import config_context
from sklearn.utils.metadata_routing import get_routing_for_object


def hand_on(
    estimator: Any, method: str, X: Any, y: Any, *, classes: Any = None, **given: Any
) -> Any:
    """Call a method with the metadata that are not None; parts inside get what they take.

    Routing is enabled for this call and this thread alone. It is scikit-learn's only way through a
    ColumnTransformer, and a setting of the whole process otherwise.

    Parameters
    ----------
    estimator : estimator object
        Changed: its parts now request the metadata that they take.
    method : str
        "fit" or "partial_fit".
    X, y : object
        Handed on as they are.
    classes : array-like or None
        Handed on to `estimator` itself, where not None.
    **given : object
        clients and sample_weight, or None.

    Raises
    ------
    ValueError
        If nothing inside takes one of the metadata, or a part inside changes the number of rows.
    """
    metadata = {name: values for name, values in given.items() if values is not None}
    others = {} if classes is None else {"classes": classes}
    if not metadata:
        return getattr(estimator, method)(X, y, **others)
    with config_context(enable_metadata_routing=True):
        parts = _parts(estimator)
        _refuse_samplers(parts)
        for name in metadata:
            for part in parts:
                _request(part, method, name)
            if name not in get_routing_for_object(estimator).consumes(method, [name]):
                raise ValueError(f"Nothing takes {name} in {method} of {estimator!r}.")
        return getattr(estimator, method)(X, y, **others, **metadata)


def _parts(estimator: Any) -> list[Any]:
    """The estimator and all that it is made of."""
    inside = estimator.get_params(deep=True).values()
    return [estimator, *(part for part in inside if hasattr(part, "_get_metadata_request"))]


def _request(part: Any, method: str, name: str) -> None:
    """Have a part be given what it takes, unless its user has said otherwise."""
    for called in {method, "score"}:  # searches score while they fit
        requests = getattr(part._get_metadata_request(), called).requests
        if name in requests and requests[name] is None:
            getattr(part, f"set_{called}_request")(**{name: True})


def _refuse_samplers(parts: list[Any]) -> None:
    for part in parts:
        if hasattr(part, "fit_resample"):
            name = type(part).__name__
            raise ValueError(
                f"{name} inside ClientColumn changes the number of rows, and the clients of the "
                "new ones would be unknown. Resample while the ids are still a column of X: "
                f"imblearn.pipeline.make_pipeline({name}(), ClientColumn(...))."
            )
