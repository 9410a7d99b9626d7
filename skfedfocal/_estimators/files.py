"""Fitted models as files that hold no code."""

from __future__ import annotations

import os
import warnings
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from skfedfocal._estimators.base import BaseFederatedClassifier
from skfedfocal._estimators.client_column import ClientColumn
from skfedfocal._plain import ModelFileError, read_plain, write_plain
from skfedfocal.preprocessing._described import describe_step, rebuild_step, tried_step

_GIVEN = "module is given when the model is loaded"


def save_model(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted classifier, or a pipeline of preprocessing and classifier, to a file.

    The file holds numbers and texts only, and a checksum; it is written under another name first,
    so that no reader meets half of it. A `module` of one's own is not in it: see `load_model`.

    Parameters
    ----------
    estimator : FedFocalClassifier, FederatedClassifier or Pipeline
        What to write. A pipeline may hold the transformers of `skfedfocal.preprocessing`,
        scikit-learn's StandardScaler, and a ColumnTransformer of these, which names its columns
        one by one. Of a ClientColumn write `estimator_`.
    path : str or path-like
        The file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skfedfocal import FedFocalClassifier, load_model, save_model
    >>> X, y = load_iris(return_X_y=True)
    >>> model = FedFocalClassifier(n_rounds=2, random_state=0).fit(X, y, clients=y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(model, Path(folder, "model.skf"))
    ...     again = load_model(Path(folder, "model.skf"))
    >>> bool((again.predict(X) == model.predict(X)).all())
    True
    """
    write_plain(path, describe(estimator))


def load_model(path: str | os.PathLike[str], *, module: Any = None) -> Any:
    """Read a file of `save_model`. No code in it is run: there is none.

    Parameters
    ----------
    path : str or path-like
        The file.
    module : callable or torch.nn.Module, default=None
        The `module` parameter that the classifier had, unless that was None.

    Returns
    -------
    estimator : object
        As it was when written.

    Raises
    ------
    ModelFileError
        If the file is damaged, not of this package, or needs a module that was not given.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skfedfocal import ModelFileError, load_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.skf")
    ...     _ = path.write_bytes(b"something else")
    ...     try:
    ...         load_model(path)
    ...     except ModelFileError:
    ...         print("not a model")
    not a model
    """
    described = read_plain(path)
    try:
        return _tried(rebuild(described, module))
    except ModelFileError:
        raise
    except Exception as error:
        raise ModelFileError(
            f"{path} does not hold a model: {type(error).__name__}: {error}"
        ) from error


def describe(estimator: Any) -> dict[str, Any]:
    """Parameters and fitted state of an estimator as values for `to_plain`."""
    if isinstance(estimator, Pipeline):
        return {"steps": [(name, describe(step)) for name, step in estimator.steps]}
    if isinstance(estimator, ClientColumn):
        raise TypeError(
            "ClientColumn cannot be written; write its estimator_, which predicts from the columns "
            "without the ids."
        )
    kind: Any = type(estimator)
    name = kind.__name__
    if kind is not _kinds().get(name):
        try:
            return describe_step(estimator)
        except TypeError as error:
            raise TypeError(f"{error} Or one of {sorted(_kinds())}.") from error
    state = {
        key: value
        for key, value in vars(estimator).items()
        if key.endswith("_") and not key.startswith("_")
    }
    params: dict[str, Any] = estimator.get_params(deep=False)
    if "module" in params:  # of a fitted model the one that it has, whatever is to be fitted next
        made_from = vars(estimator).get("_made_from", params["module"])
        params["module"] = None if made_from is None else _GIVEN
    seed = params.get("random_state")
    if seed is not None and not isinstance(seed, Integral):
        params["random_state"] = state.get("seed_")
    return {"kind": name, "params": params, "state": state}


def rebuild(described: dict[str, Any], module: Any = None) -> Any:
    """The estimator of `describe`."""
    if "steps" in described:
        if not described["steps"]:
            raise ModelFileError("The pipeline in the file has no steps.")
        return Pipeline([(name, rebuild(step, module)) for name, step in described["steps"]])
    if described.get("kind") not in _kinds():
        return rebuild_step(described)
    params = dict(described["params"])
    if params.get("module") == _GIVEN:
        if module is None:
            raise ModelFileError(
                "The model was trained with a module of its own; pass the same as module=."
            )
        params["module"] = module
    estimator = _kinds()[described["kind"]](**params)
    for name, value in described["state"].items():
        if not (name.endswith("_") and not name.startswith("_")):
            raise ModelFileError(f"{name!r} is not a fitted attribute.")
        setattr(estimator, name, value)
    if "theta_" in described["state"]:
        estimator._made_from, estimator._module = params.get("module"), None
    return estimator


def _tried(estimator: Any) -> Any:
    """The estimator, after two rows went through it if it is fitted.

    So that a file that does not hold together fails here, not when somebody needs a prediction.
    """
    steps = (
        [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    )
    steps = [step for step in steps if step not in (None, "passthrough")]
    fitted = [hasattr(step, "theta_") or hasattr(step, "n_features_in_") for step in steps]
    if not any(fitted):
        return estimator
    if not all(fitted):
        raise ModelFileError(
            "Some steps of the pipeline in the file are fitted, and others are not."
        )
    with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
        first = steps[0]
        rows = np.zeros((2, *getattr(first, "row_shape_", (first.n_features_in_,))))
        for step in steps:
            if not hasattr(step, "theta_"):
                rows = tried_step(step, rows)
                continue
            probabilities = step.predict_proba(rows)
            shape = (2, *np.shape(step.classes_))
            if probabilities.shape != shape or not np.isfinite(probabilities).all():
                raise ModelFileError("The model in the file gives no probabilities of its classes.")
            if not np.isin(step.predict(rows), step.classes_).all():
                raise ModelFileError("The model in the file predicts what is none of its classes.")
    return estimator


def _kinds() -> dict[str, type]:
    from skfedfocal._estimators import classifier_cv  # noqa: F401  (whose class is then known)

    kinds: dict[str, type] = {}
    ahead: list[type] = [BaseFederatedClassifier]
    while ahead:
        kind = ahead.pop()
        ahead += kind.__subclasses__()
        if kind.__module__.partition(".")[0] == "skfedfocal":
            kinds[kind.__name__] = kind
    del kinds["BaseFederatedClassifier"]
    return kinds
