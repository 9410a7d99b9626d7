"""Human activity recognition with smartphones: thirty people, each a client."""

from __future__ import annotations

import io
from collections import Counter
from os import PathLike
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
from sklearn.utils import Bunch

from skfedfocal._sklearn import validate_params
from skfedfocal.datasets._bunch import as_bunch
from skfedfocal.datasets._remote import RemoteFile, local_file

FETCHED: dict[str, list] = {
    "data_home": [str, PathLike, None],
    "download_if_missing": ["boolean"],
    "return_X_y": ["boolean"],
    "as_frame": ["boolean"],
}
_ARCHIVE = RemoteFile(
    "human_activity_recognition.zip",
    "https://archive.ics.uci.edu/static/public/240/"
    "human+activity+recognition+using+smartphones.zip",
)
_INNER = "UCI HAR Dataset.zip"


@validate_params(FETCHED, prefer_skip_nested_validation=True)
def fetch_har(
    *,
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Bunch | tuple[Any, Any, Any]:
    """Load the UCI data set of human activities (classification), downloading it if need be.

    ==============   ===============
    Classes                        6
    Clients          30, the persons
    Samples total              10299
    Dimensionality               561
    Features           real, -1 to 1
    ==============   ===============

    Thirty people walked, climbed, sat, stood and lay with a smartphone at the waist; a row
    describes 2.56 seconds of its acceleration and turning [1]_. Each person's way of moving is a
    shift of the features, and classes are nearly even.

    Parameters
    ----------
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
    har : Bunch
        With `data` of shape (10299, 561), `target` of shape (10299,), class numbers into
        `target_names`, `clients` of shape (10299,), numbers of the persons from 1, `is_test` of
        shape (10299,), the rows of the nine persons of the authors' test part, `feature_names`,
        `frame` and `DESCR`.
    (data, target, clients) : tuple
        Instead, with ``return_X_y=True``.

    Raises
    ------
    OSError
        If the file is neither there nor to be had, which the message helps with, or if it has
        changed since it was first seen.

    Notes
    -----
    The source states no checksum. That of the file as it first came is written beside it, and
    compared from then on. Repeated names of features have a number appended.

    References
    ----------
    .. [1] Anguita, Ghio, Oneto, Parra, Reyes-Ortiz. "A Public Domain Dataset for Human Activity
       Recognition Using Smartphones". ESANN 2013. https://doi.org/10.24432/C54S4K

    Examples
    --------
    Train on 21 persons and test on nine others::

        har = fetch_har()
        train, test = ~har.is_test, har.is_test
        model.fit(har.data[train], har.target[train], clients=har.clients[train])
        model.score(har.data[test], har.target[test])

    Where there is no network, the error says what to put where:

    >>> import tempfile
    >>> from skfedfocal.datasets import fetch_har
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     har = fetch_har(data_home=folder, download_if_missing=False)
    Traceback (most recent call last):
    ...
    OSError: human_activity_recognition.zip is not here and did not come from https://...
    """
    path = local_file(_ARCHIVE, data_home, download_if_missing)
    try:
        with ZipFile(path) as archive:
            names, classes, parts = _read(archive)
    except (BadZipFile, KeyError, ValueError) as error:
        raise OSError(f"{path} is not the file of {_ARCHIVE.url}: {error}") from error
    X, y, persons = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return as_bunch(
        X,
        y - 1,
        persons,
        feature_names=names,
        as_frame=as_frame,
        return_X_y=return_X_y,
        client_name="person",
        target_names=classes,
        is_test=np.repeat([False, True], [len(part[1]) for part in parts]),
        filename=str(path),
        DESCR=f"Human activity recognition with smartphones, {_ARCHIVE.url}",
    )


def _read(archive: ZipFile) -> tuple[list[str], list[str], list[tuple[Any, ...]]]:
    """Names of features and classes; and of both parts rows, class numbers and persons."""
    inner = [name for name in archive.namelist() if Path(name).name == _INNER]
    if inner:  # the archive of today holds that of old
        with ZipFile(io.BytesIO(archive.read(inner[0]))) as old:
            return _read(old)

    def member(name: str) -> io.BytesIO:
        found = [n for n in archive.namelist() if n.endswith("/" + name) or n == name]
        if not found:
            raise KeyError(f"it has no {name}")
        return io.BytesIO(archive.read(found[0]))

    def second_words(name: str) -> list[str]:
        return [line.split()[1] for line in member(name).read().decode().splitlines() if line]

    parts = []
    for part in ("train", "test"):
        X = np.loadtxt(member(f"{part}/X_{part}.txt"), ndmin=2)
        y = np.loadtxt(member(f"{part}/y_{part}.txt"), dtype=np.int64, ndmin=1)
        persons = np.loadtxt(member(f"{part}/subject_{part}.txt"), dtype=np.int64, ndmin=1)
        if not len(X) == len(y) == len(persons):
            raise ValueError(f"its {part} part has {len(X)} rows and {len(y)} labels")
        parts.append((X, y, persons))
    return _distinct(second_words("features.txt")), second_words("activity_labels.txt"), parts


def _distinct(names: list[str]) -> list[str]:
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        distinct.append(f"{name}.{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return distinct
