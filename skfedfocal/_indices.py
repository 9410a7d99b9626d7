"""Rows that a module looks up in an embedding: whole numbers, within its tables."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from skfedfocal._module import takes_indices

_TRIED_TOGETHER = 256  # rows


def row_dtype(module: nn.Module, X: Any, names: NDArray[Any] | None = None) -> torch.dtype:
    """The type in which the module takes rows: that of its parameters, or whole numbers.

    Whole numbers are those of X, and those that are written as floats where the module refuses
    floats. A module that takes floats, and finds its indices among them by itself, gets floats.

    Parameters
    ----------
    module : torch.nn.Module
        What is to be trained, or was.
    X : ndarray of shape (n_samples, ...) or CSR matrix
        Its rows.
    names : ndarray of shape (n_features,) or None, default=None
        Names of the columns.

    Raises
    ------
    ValueError
        If the module looks rows up and they are no indices into its tables.
    """
    dtype = next(module.parameters()).dtype
    if not takes_indices(module):
        return dtype
    if X.dtype.kind == "f":
        few = X[:2].toarray() if sparse.issparse(X) else np.asarray(X[:2])
        if not _refuses_floats(module, torch.tensor(few).to(dtype)):
            return dtype
        values = X.data if sparse.issparse(X) else X
        fractions = values != np.floor(values)
        if fractions.any():
            column = _column_of(X, fractions)
            raise ValueError(
                f"module {type(module).__name__} looks rows up in an embedding, by whole numbers; "
                f"column {_named(column, names)} has {values[fractions][0]:g}."
            )
    elif X.dtype.kind not in "iu":
        return dtype
    _check_range(module, X, names)
    return torch.int64


def _check_range(module: nn.Module, X: Any, names: NDArray[Any] | None) -> None:
    """Try the least and the greatest value of each column, where some table may be too small."""
    tables = (nn.Embedding, nn.EmbeddingBag)
    least = min(part.num_embeddings for part in module.modules() if isinstance(part, tables))
    low, high = X.min(axis=0), X.max(axis=0)
    if sparse.issparse(low):
        low, high = low.toarray()[0], high.toarray()[0]
    extremes = np.stack([np.asarray(low), np.asarray(high)]).reshape(2, -1).astype(np.int64)
    if extremes.min() >= 0 and extremes.max() < least:
        return
    which, columns = np.nonzero((extremes < 0) | (extremes >= least))
    for lo in range(0, len(columns), _TRIED_TOGETHER):
        here = slice(lo, lo + _TRIED_TOGETHER)
        values = extremes[which[here], columns[here]]
        rows = torch.zeros((len(values), extremes.shape[1]), dtype=torch.int64)
        rows[torch.arange(len(values)), torch.as_tensor(columns[here])] = torch.as_tensor(values)
        rows = rows.reshape(len(values), *X.shape[1:])
        if not _raises_index_error(module, rows):
            continue
        wrong = next(i for i in range(len(rows)) if _raises_index_error(module, rows[[i]]))
        place = np.unravel_index(int(columns[here][wrong]), X.shape[1:])
        column = int(place[0]) if len(place) == 1 else tuple(map(int, place))
        raise ValueError(
            f"module {type(module).__name__} has no row of number {values[wrong]} in the embedding "
            f"that column {_named(column, names)} is looked up in; make the embedding larger, or "
            "give such values a number that it has."
        )


def _refuses_floats(module: nn.Module, rows: Tensor) -> bool:
    """Whether a table is asked for a row by a float; any other trouble is found elsewhere."""
    with contextlib.suppress(Exception):
        try:
            _run(module, rows)
        except RuntimeError as error:
            return "'indices'" in str(error)
    return False


def _raises_index_error(module: nn.Module, rows: Tensor) -> bool:
    """Whether rows are out of a table's range; whatever else they may be is found elsewhere."""
    with contextlib.suppress(Exception):
        try:
            _run(module, rows)
        except IndexError:
            return True
    return False


def _run(module: nn.Module, rows: Tensor) -> None:
    """A pass on the CPU, where an index out of range is an exception and no crash."""
    training, device = module.training, next(module.parameters()).device
    try:
        with torch.no_grad():
            module.cpu().eval()(rows)
    finally:
        module.to(device).train(training)


def _column_of(X: Any, wrong: NDArray[np.bool_]) -> Any:
    if sparse.issparse(X):
        return int(X.indices[wrong].min())
    place = np.argwhere(wrong)[0][1:].tolist()
    return place[0] if len(place) == 1 else tuple(place)


def _named(column: Any, names: NDArray[Any] | None) -> str:
    return f"{column}" if names is None else f"{column} ({names[column]!r})"
