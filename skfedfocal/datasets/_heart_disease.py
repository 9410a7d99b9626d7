"""Heart disease: the patients of four hospitals, each a client."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from skfedfocal._sklearn import StrOptions, validate_params
from skfedfocal.datasets._bunch import as_bunch
from skfedfocal.datasets._har import FETCHED
from skfedfocal.datasets._remote import RemoteFile, local_file

_ARCHIVE = RemoteFile(
    "heart_disease.zip", "https://archive.ics.uci.edu/static/public/45/heart+disease.zip"
)
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
_FEATURES = [
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak"),
    *("slope", "ca", "thal"),
]
_NEVER_ZERO = ("trestbps", "chol")  # blood pressure and cholesterol of the living


@validate_params(
    FETCHED | {"target": [StrOptions({"disease", "severity"})]}, prefer_skip_nested_validation=True
)
def fetch_heart_disease(
    *,
    target: str = "disease",
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Bunch | tuple[Any, Any, Any]:
    """Load the UCI heart disease data of four hospitals, downloading them if need be.

    ==============   ================
    Classes                    2 or 5
    Clients          4, the hospitals
    Samples total                 920
    Dimensionality                 13
    Features               real, gaps
    ==============   ================

    Cleveland (303 patients), Budapest (294), Zurich and Basel (123) and the Veterans Affairs of
    Long Beach (200) measured the same thirteen things, not all of them everywhere: `slope`, `ca`
    and `thal` are mostly missing outside Cleveland [1]_. The share of the sick differs from
    hospital to hospital.

    Parameters
    ----------
    target : {"disease", "severity"}, default="disease"
        Whether there is disease, or how severe it is, from 0 to 4; the most severe is rare.
    data_home : str or path-like, default=None
        Folder in which scikit-learn keeps its data; the file is in `skfedfocal` below it. None is
        that of `sklearn.datasets.get_data_home`.
    download_if_missing : bool, default=True
        Whether a file that is not there is downloaded, or refused.
    return_X_y : bool, default=False
        Return ``(data, target, clients)`` instead of a Bunch.
    as_frame : bool, default=False
        Whether data, target and clients come as pandas objects.

    Returns
    -------
    heart : Bunch
        With `data` of shape (920, 13), NaN where a cell is empty, `target` of shape (920,), class
        numbers into `target_names`, `clients` of shape (920,), names of the hospitals,
        `feature_names`, `frame` and `DESCR`.
    (data, target, clients) : tuple
        Instead, with ``return_X_y=True``.

    Raises
    ------
    OSError
        If the file is neither there nor to be had, which the message helps with, or if it has
        changed since it was first seen.

    Notes
    -----
    A cholesterol or blood pressure of 0, as Zurich and Basel write throughout, is taken for an
    empty cell. The source states no checksum. That of the file as it first came is written beside
    it, and compared from then on.

    References
    ----------
    .. [1] Detrano et al. "International application of a new probability algorithm for the
       diagnosis of coronary artery disease". American Journal of Cardiology 64, 1989.
       https://doi.org/10.24432/C52P4X

    Examples
    --------
    Gaps are filled before training::

        X, y, hospitals = fetch_heart_disease(return_X_y=True)
        pipeline = make_pipeline(SimpleImputer(), StandardScaler(), FedFocalClassifier())
        pipeline.fit(X, y, fedfocalclassifier__clients=hospitals)

    Where there is no network, the error says what to put where:

    >>> import tempfile
    >>> from skfedfocal.datasets import fetch_heart_disease
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     heart = fetch_heart_disease(data_home=folder, download_if_missing=False)
    Traceback (most recent call last):
    ...
    OSError: heart_disease.zip is not here and did not come from https://...
    """
    path = local_file(_ARCHIVE, data_home, download_if_missing)
    try:
        with ZipFile(path) as archive:
            tables = [_read(archive, hospital) for hospital in HOSPITALS]
    except (BadZipFile, KeyError, ValueError) as error:
        raise OSError(f"{path} is not the file of {_ARCHIVE.url}: {error}") from error
    rows = np.concatenate(tables)
    X, severity = rows[:, :-1], rows[:, -1].astype(np.int64)
    for name in _NEVER_ZERO:
        column = X[:, _FEATURES.index(name)]
        column[column == 0] = np.nan
    sick = target == "disease"
    return as_bunch(
        X,
        (severity > 0).astype(np.int64) if sick else severity,
        np.repeat(HOSPITALS, [len(table) for table in tables]),
        feature_names=list(_FEATURES),
        as_frame=as_frame,
        return_X_y=return_X_y,
        target_name=target,
        client_name="hospital",
        target_names=["no disease", "disease"] if sick else list("01234"),
        filename=str(path),
        DESCR=f"Heart disease at four hospitals, {_ARCHIVE.url}",
    )


def _read(archive: ZipFile, hospital: str) -> NDArray[np.float64]:
    """A hospital's patients, of shape (n_patients, 14): the features and the severity."""
    name = f"processed.{hospital}.data"
    found = [member for member in archive.namelist() if Path(member).name == name]
    if not found:
        raise KeyError(f"it has no {name}")
    text = archive.read(found[0]).decode().replace("?", "nan")
    table = np.loadtxt(io.StringIO(text), delimiter=",", ndmin=2)
    if table.shape[1] != len(_FEATURES) + 1:
        raise ValueError(f"{name} has {table.shape[1]} columns")
    return table
