"""Files of public data sets: kept in a folder, downloaded once, and the same ever after."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfileobj
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from sklearn.datasets import get_data_home

_TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class RemoteFile:
    """Name of a file in the folder, and where it is from."""

    name: str
    url: str


def folder_of(data_home: Any) -> Path:
    """Where this package's files are kept: beside those of scikit-learn's fetchers."""
    folder = Path(get_data_home(data_home)) / "skfedfocal"
    folder.mkdir(exist_ok=True)
    return folder


def local_file(remote: RemoteFile, data_home: Any, download_if_missing: bool) -> Path:
    """Path of the file, downloaded if need be, and checked against its first checksum."""
    path = folder_of(data_home) / remote.name
    if path.exists():
        check(path)
        return path
    if not download_if_missing:
        raise missing(path, remote.url, "download_if_missing=False")
    try:
        _download(remote.url, path)
    except OSError as error:  # URLError and timeouts among them
        raise missing(path, remote.url, str(error)) from error
    record(path)
    return path


def missing(path: Path, url: str, reason: str, remedy: str = "") -> OSError:
    """The error that says which file to put where."""
    remedy = remedy or "Download it from there with whatever reaches the address"
    return OSError(
        f"{path.name} is not here and did not come from {url} ({reason}). {remedy}, and put it at "
        f"{path}"
    )


def record(path: Path) -> None:
    """Write the file's checksum beside it, as sha256sum does."""
    _record_of(path).write_text(f"{_sha256(path)}  {path.name}\n")


def check(path: Path) -> None:
    """Compare the file with the checksum of when it was first seen; record it if this is then."""
    if not _record_of(path).exists():
        record(path)
        return
    expected = _record_of(path).read_text().split()[0]
    found = _sha256(path)
    if found != expected:
        raise OSError(
            f"{path} has changed since it was first seen: its SHA256 is {found}, was {expected}. "
            f"Delete it to have it downloaded anew, and {_record_of(path).name} with it."
        )


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(url: str, path: Path) -> None:
    """A file that is not whole never has the name of one that is."""
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.part", delete=False) as part:
        try:
            with urlopen(url, timeout=_TIMEOUT) as response:
                copyfileobj(response, part)
                expected = response.headers.get("Content-Length")
            if expected is not None and int(expected) != part.tell():
                raise OSError(f"{part.tell()} bytes came of {expected}")
            part.close()
            os.replace(part.name, path)
        except BaseException as error:
            if isinstance(error, HTTPError):
                error.close()  # it holds the connection
            os.unlink(part.name)
            raise
