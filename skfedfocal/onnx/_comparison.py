"""Whether a file says what the estimator says that it was made of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skfedfocal.onnx._convert import without_ids
from skfedfocal.onnx._inputs import onnx_inputs


class Comparison(NamedTuple):
    """How far an ONNX model and an estimator agree.

    Attributes
    ----------
    n_rows : int
        Of how many rows.
    other_labels : int
        Rows of which the model gives another label.
    largest_difference : float
        Of a probability.

    Examples
    --------
    >>> from skfedfocal.onnx import Comparison
    >>> Comparison(n_rows=50, other_labels=0, largest_difference=6e-8).other_labels
    0
    """

    n_rows: int
    other_labels: int
    largest_difference: float


def compare_onnx(model: Any, estimator: Any, X: Any) -> Comparison:
    """Run an ONNX model by onnxruntime, and compare it with the estimator that it was made of.

    Parameters
    ----------
    model : onnx.ModelProto, str or path-like
        Of `to_onnx`; or the file that it was written to.
    estimator : estimator
        The fitted one.
    X : array-like, frame or sparse matrix of shape (n_samples, ...)
        Rows, as they are given to `predict`.

    Returns
    -------
    comparison : Comparison
        Over all rows. A probability that differs by rounding gives another label only where it is
        within that of a threshold, or of another class's.

    Raises
    ------
    ImportError
        Without onnxruntime.

    See Also
    --------
    to_onnx : Makes the model.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.onnx import compare_onnx, to_onnx
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = FedFocalClassifier(n_rounds=2, random_state=0).fit(X, y)
    >>> found = compare_onnx(to_onnx(classifier, X), classifier, X)
    >>> found.n_rows, found.other_labels, found.largest_difference < 1e-5
    (150, 0, True)
    """
    try:
        from onnx import load_model
        from onnxruntime import InferenceSession
    except ImportError as error:
        raise ImportError("To run ONNX needs more: pip install 'skfedfocal[onnx]'.") from error
    if isinstance(model, str | os.PathLike):
        model = load_model(Path(model))
    inputs = onnx_inputs(model, without_ids(estimator, X))
    session = InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(None, inputs)
    decided = np.asarray(estimator.predict(X))
    differences = np.abs(probabilities - estimator.predict_proba(X))
    others = int((labels != decided).sum())
    return Comparison(len(decided), others, float(differences.max(initial=0.0)))
