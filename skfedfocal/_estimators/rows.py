"""What `fit` is given, checked: rows, whose they are, and their labels as numbers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data
from torch import nn

from skfedfocal._data.clients import ClientLayout
from skfedfocal._data.differences import look_alikes
from skfedfocal._data.inputs import (
    ACCEPTED,
    check_finite,
    check_labels,
    distinct,
    numbers,
    places_among,
)
from skfedfocal._data.not_numbers import naming_what_is_no_number
from skfedfocal._data.rows import FederatedRows, module_rows
from skfedfocal._indices import row_dtype
from skfedfocal._module import takes_indices
from skfedfocal._module_check import check_module
from skfedfocal._sklearn import InvalidParameterError, _check_sample_weight
from skfedfocal.encodings._encoder import RowEncoder

_SHOWN = 3  # labels, or clients, in a message


def checked_rows(
    estimator: Any, X: Any, y: Any, sample_weight: Any, clients: Any, *, reset: bool
) -> tuple[Any, NDArray[Any], NDArray[np.float64] | None, ClientLayout]:
    """Checked rows, and whose they are: of those of weight 0, nobody's."""
    given = X
    with naming_what_is_no_number(given):
        X, y = validate_data(estimator, X, y, reset=reset, **ACCEPTED)
        X = numbers(X)
        if X.dtype.kind not in "biuf":
            raise TypeError(f"X has type {X.dtype}, which is not a number; convert it first.")
    check_labels(y)
    layout = ClientLayout.from_ids(clients, X.shape[0])
    if sample_weight is None:
        return X, y, None, layout
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    keep = weights > 0
    if not keep.any():
        raise ValueError("sample_weight is zero for every row; nothing is left to train on.")
    # Rows stay where they are, so that their numbers do; those of weight 0 have no client.
    return X, y, weights, layout if keep.all() else layout.restrict(keep).without_empty()


def encoded(
    y: NDArray[Any], layout: ClientLayout, classes: Any, before: NDArray[Any] | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Classes, and the labels as numbers of the smallest type that holds them.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels.
    layout : ClientLayout
        Which rows are whose.
    classes : array-like or None
        All classes there are, where the caller says so.
    before : ndarray or None
        Those of the training to go on with.
    """
    present = distinct(y if layout.offsets[-1] == len(y) else y[layout.order])
    known = before
    if known is not None:
        if classes is not None and not np.array_equal(np.unique(classes), known):
            raise ValueError(f"classes={classes!r} differ from those before: {known!r}.")
    else:
        known = present if classes is None else np.unique(classes)
    unknown = np.setdiff1d(present, known)
    if len(unknown):
        who = "; ".join(_with_owners(label, y, layout) for label in unknown[:_SHOWN].tolist())
        raise ValueError(f"y has classes {unknown!r} that are not among {known!r}: {who}.")
    if len(known) < 2:
        raise ValueError(
            f"y has one class only, {known!r}; a classifier needs at least two classes."
        )
    for group in look_alikes(known):
        who = "; ".join(_with_owners(label, y, layout) for label in group)
        warnings.warn(
            f"There are labels that differ in blanks or capitals alone: {who}. If they are the "
            "same, mend them: each is a class of its own.",
            UserWarning,
            stacklevel=5,
        )
    for ids in look_alikes(layout.ids)[:_SHOWN]:
        warnings.warn(
            "There are ids of clients that differ in blanks or capitals alone: "
            f"{', '.join(map(repr, ids[:_SHOWN]))}. If they are the same, mend them: each is a "
            "client of its own.",
            UserWarning,
            stacklevel=5,
        )
    return known, places_among(known, y)


def rows_for(
    estimator: Any, module: nn.Module, given: FederatedRows, encoder: RowEncoder | None
) -> FederatedRows:
    """Rows as the module takes them, where it computes, once it is known that it does take them."""
    X, n_classes = given.X, given.n_classes
    device = device_of(estimator.device)
    names = getattr(estimator, "feature_names_in_", None)
    warn = not takes_indices(module) and encoder is None
    check_finite(X, next(module.parameters()).dtype, names, warn=warn)
    dtype = row_dtype(module, X, names)
    probe = module_rows(X, slice(0, 2), dtype, torch.device("cpu"), encoder)
    check_module(module, probe, n_classes)
    module.to(device)
    return FederatedRows(
        X, given.y, given.sample_weight, given.layout, n_classes, dtype, device, encoder
    )


def _with_owners(label: Any, y: NDArray[Any], layout: ClientLayout) -> str:
    """A label, and the clients that have it where there are few."""
    found = np.unique(layout.codes(len(y))[y == label])
    owners = layout.ids[found[found >= 0]].tolist()
    if layout.n_clients < 2 or len(owners) > _SHOWN:
        return repr(label)
    return f"{label!r} of {', '.join(f'client {owner!r}' for owner in owners)}"


def device_of(name: str) -> torch.device:
    """The device that a parameter names."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidParameterError(
            f"device={name!r} cannot be used here: {str(error).splitlines()[0]}"
        ) from error
    return device
