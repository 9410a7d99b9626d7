"""The package's classes by name, for readers of files that load only what they are told to."""

from __future__ import annotations

from importlib import import_module

from sklearn.base import BaseEstimator

from skfedfocal.encodings._encoder import RowEncoder

_ROOMS = (
    "",
    ".aggregation",
    ".encodings",
    ".losses",
    ".preprocessing",
    ".privacy",
    ".selection",
    ".strategies",
)


def trusted_types() -> list[str]:
    """Names of the package's own classes that an estimator may hold, fitted or not.

    They are what `skops.io.load` and MLflow must be told to trust, and all that they need to be
    told for estimators, pipelines and searches of this package and scikit-learn. A `module` or
    parts of one's own are code of one's own, which is for its author to name.

    Returns
    -------
    names : list of str
        With the modules that they are defined in, which may move from release to release: a file
        is for the version that wrote it.

    Examples
    --------
    >>> from skfedfocal import trusted_types
    >>> "skfedfocal.losses._focal.FocalLoss" in trusted_types()
    True

    A file is read, or a model logged, with::

        skops.io.load("model.skops", trusted=trusted_types())
        mlflow.sklearn.log_model(model, name="model", skops_trusted_types=trusted_types())
    """
    classes: set[type] = {RowEncoder}
    for room in _ROOMS:
        public = import_module(f"skfedfocal{room}")
        found = [getattr(public, name) for name in public.__all__]
        classes |= {
            one for one in found if isinstance(one, type) and issubclass(one, BaseEstimator)
        }
    names = {f"{one.__module__}.{one.__qualname__}" for one in classes}
    return sorted({*names, "numpy.dtype"})  # which imputers keep, scikit-learn's too
