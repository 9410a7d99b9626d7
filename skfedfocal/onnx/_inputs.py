"""Rows as an ONNX file takes them: one table of numbers, or a column for each of a frame's."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skfedfocal._data.clients import is_missing
from skfedfocal.onnx._graph import MISSING_TEXT

_TABLE = "X"


def onnx_inputs(model: Any, X: Any) -> dict[str, NDArray[Any]]:
    """Bring rows into the form that a file of `to_onnx` takes.

    A frame becomes a dict of columns, found by name, in which a missing text is the empty text; an
    array stays one.

    Parameters
    ----------
    model : onnx.ModelProto
        Of `to_onnx`.
    X : array-like, frame or sparse matrix of shape (n_samples, ...)
        Rows, as `predict` takes them.

    Returns
    -------
    inputs : dict of str to ndarray
        For ``onnxruntime.InferenceSession.run(None, inputs)``.

    Raises
    ------
    ValueError
        If a column is not there, or has the empty text as a value.
    TypeError
        If a column has what the model does not take there, or `model` is no ONNX model.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.onnx import onnx_inputs, to_onnx
    >>> X = np.array([[0.0], [1.0]] * 9)
    >>> model = to_onnx(FedFocalClassifier(n_rounds=1).fit(X, X.ravel() > 0), X)
    >>> onnx_inputs(model, [[2]])
    {'X': array([[2.]])}
    """
    if not hasattr(model, "graph"):
        raise TypeError(
            f"model is of type {type(model).__name__}; pass what `to_onnx` returned, or what "
            "`onnx.load` reads of its file."
        )
    wanted = {one.name: one.type.tensor_type.elem_type for one in model.graph.input}
    if not hasattr(X, "columns"):
        if set(wanted) != {_TABLE}:
            raise TypeError(f"The model takes a frame with the columns {', '.join(wanted)}.")
        texts = wanted[_TABLE] == 8
        rows = X.toarray() if sparse.issparse(X) else np.asarray(X)
        return {_TABLE: _texts(rows, _TABLE) if texts else rows.astype(_numpy(wanted[_TABLE]))}
    lacking = [name for name in wanted if name not in X.columns]
    if lacking:
        raise ValueError(f"X has no column {', '.join(map(repr, lacking))}.")
    found = {}
    for name, kind in wanted.items():
        values = np.asarray(X[name], None if kind != 8 else object)
        column = _texts(values, name) if kind == 8 else _numbers(values, name).astype(_numpy(kind))
        found[name] = column[:, None]
    return found


def input_types(X: Any) -> list[tuple[str, Any]]:
    """Names and types of a model's inputs; TypeError for a column that is of neither kind."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    if hasattr(X, "columns"):
        kinds = {True: StringTensorType, False: DoubleTensorType}
        names = [str(name) for name in X.columns]
        return [(n, kinds[_has_texts(np.asarray(X[n]), n)]([None, 1])) for n in names]
    rows = X if sparse.issparse(X) else np.asarray(X)
    shape = [None, *rows.shape[1:]]
    if rows.dtype == np.float32:
        return [(_TABLE, FloatTensorType(shape))]
    if rows.dtype.kind in "biuf":
        return [(_TABLE, DoubleTensorType(shape))]
    kinds = {True: StringTensorType, False: DoubleTensorType}
    return [(_TABLE, kinds[_has_texts(rows, _TABLE)](shape))]


def _has_texts(values: NDArray[Any], name: str) -> bool:
    """Whether values are texts, where the others are numbers."""
    if values.dtype.kind in "biuf":
        return False
    there = {type(value) for value in values.ravel() if not is_missing(value)}
    if all(issubclass(kind, str) for kind in there):
        return bool(there)
    if all(issubclass(kind, Real | np.bool_) for kind in there):
        return False
    kinds = ", ".join(sorted(kind.__name__ for kind in there))
    raise TypeError(
        f"{name!r} has values of the types {kinds}; a column of an ONNX model is of numbers or of "
        "texts: pass a frame with columns that are."
    )


def _texts(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Texts, with the empty one for what is missing."""
    found = np.empty(values.shape, object)
    for place, value in np.ndenumerate(values):
        if is_missing(value):
            found[place] = MISSING_TEXT
        elif not isinstance(value, str):
            raise TypeError(f"Column {name!r} has {value!r}, where the model takes texts.")
        elif value == MISSING_TEXT:
            raise ValueError(
                f"Column {name!r} has the empty text, which in ONNX stands for a missing value."
            )
        else:
            found[place] = value
    return found


def _numbers(values: NDArray[Any], name: str) -> NDArray[Any]:
    if values.dtype.kind in "biuf":
        return values
    if _has_texts(values, name):
        raise TypeError(f"Column {name!r} has texts, where the model takes numbers.")
    return np.array([np.nan if is_missing(value) else float(value) for value in values])


def _numpy(kind: int) -> Any:
    return np.float32 if kind == 1 else np.float64
