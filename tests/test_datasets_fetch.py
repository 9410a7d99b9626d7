"""Fetchers, over real HTTP from a server on this machine, with made-up files of the same format."""

import hashlib
import io
import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlparse
from urllib.request import urlopen
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import _openml as sklearn_openml

from skfedfocal import dirichlet_partition
from skfedfocal.datasets import (
    _har,
    _heart_disease,
    fetch_creditcard_fraud,
    fetch_har,
    fetch_heart_disease,
    fetch_mnist,
)
from skfedfocal.datasets._remote import RemoteFile, local_file


class Server:
    """Serves `pages`, by the path of the address, and lists what was asked for."""

    def __init__(self):
        self.pages, self.asked, self.claims = {}, [], {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                body = outer.pages.get(self.path)
                self.send_response(404 if body is None else 200)
                body = body or b""
                self.send_header("Content-Length", str(outer.claims.get(self.path, len(body))))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def zipped(members):
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


# -- files -------------------------------------------------------------------------------------


def test_a_file_is_downloaded_once_and_its_checksum_kept(server, tmp_path):
    server.pages["/f.bin"] = b"contents"
    remote = RemoteFile("f.bin", f"{server.url}/f.bin")
    path = local_file(remote, tmp_path, True)
    assert path == tmp_path / "skfedfocal" / "f.bin"
    assert path.read_bytes() == b"contents"
    digest = hashlib.sha256(b"contents").hexdigest()
    assert (path.parent / "f.bin.sha256").read_text() == f"{digest}  f.bin\n"
    assert local_file(remote, tmp_path, False) == path
    assert server.asked == ["/f.bin"]


def test_a_file_that_changed_is_refused_until_it_is_deleted(server, tmp_path):
    server.pages["/f.bin"] = b"contents"
    remote = RemoteFile("f.bin", f"{server.url}/f.bin")
    path = local_file(remote, tmp_path, True)
    path.write_bytes(b"other")
    with pytest.raises(OSError, match=r"f\.bin has changed since .*Delete it.*f\.bin\.sha256"):
        local_file(remote, tmp_path, True)
    for file in path.parent.iterdir():
        file.unlink()
    assert local_file(remote, tmp_path, True).read_bytes() == b"contents"


def test_a_file_put_there_by_hand_is_taken_and_watched(tmp_path):
    remote = RemoteFile("f.bin", "http://127.0.0.1:9/f.bin")
    (tmp_path / "skfedfocal").mkdir()
    (tmp_path / "skfedfocal" / "f.bin").write_bytes(b"by hand")
    assert local_file(remote, tmp_path, True).read_bytes() == b"by hand"
    (tmp_path / "skfedfocal" / "f.bin").write_bytes(b"altered")
    with pytest.raises(OSError, match="has changed"):
        local_file(remote, tmp_path, True)


@pytest.mark.parametrize("fault", ["absent", "cut", "unreachable", "not wanted"])
def test_the_error_says_which_file_to_put_where(server, tmp_path, fault):
    url = "http://127.0.0.1:9/f.bin" if fault == "unreachable" else f"{server.url}/f.bin"
    if fault == "cut":
        server.pages["/f.bin"], server.claims["/f.bin"] = b"half", 8
    with pytest.raises(OSError, match=r"f\.bin is not here") as error:
        local_file(RemoteFile("f.bin", url), tmp_path, fault != "not wanted")
    assert url in str(error.value)
    assert str(error.value).endswith(str(tmp_path / "skfedfocal" / "f.bin"))
    assert not list((tmp_path / "skfedfocal").iterdir())  # nor half a file


# -- human activities ----------------------------------------------------------------------------


def har_archive(parts):
    """As the authors' archive of old: parts are {name: (X, y, persons)}."""
    members = {
        "__MACOSX/UCI HAR Dataset/train/._X_train.txt": "\0",
        "UCI HAR Dataset/features.txt": "1 mean()-X\n2 mean()-X\n3 energy()-1,8\n",
        "UCI HAR Dataset/activity_labels.txt": "1 WALKING\n2 LAYING\n",
    }
    for part, (X, y, persons) in parts.items():
        folder = f"UCI HAR Dataset/{part}"
        rows = "\n".join("  ".join(f"{value: .7e}" for value in row) for row in X)
        members[f"{folder}/X_{part}.txt"] = rows + "\n"
        members[f"{folder}/y_{part}.txt"] = "".join(f"{c}\n" for c in y)
        members[f"{folder}/subject_{part}.txt"] = "".join(f"{p}\n" for p in persons)
    return zipped(members)


@pytest.fixture
def har(server, monkeypatch):
    rng = np.random.default_rng(0)
    parts = {
        "train": (rng.uniform(-1, 1, (5, 3)), [1, 2, 1, 2, 2], [1, 1, 3, 3, 3]),
        "test": (rng.uniform(-1, 1, (2, 3)), [2, 1], [2, 2]),
    }
    archive = har_archive(parts)
    server.pages["/old.zip"] = archive
    server.pages["/new.zip"] = zipped({"UCI HAR Dataset.zip": archive, "UCI HAR.names": ""})

    def use(name):
        monkeypatch.setattr(_har, "_ARCHIVE", RemoteFile("har.zip", f"{server.url}/{name}"))
        return parts

    return use


@pytest.mark.parametrize("name", ["old.zip", "new.zip"])
def test_har_is_read_from_the_archive_and_the_one_inside_it(har, tmp_path, name):
    parts = har(name)
    bunch = fetch_har(data_home=tmp_path)
    X, y, persons = (np.concatenate(column) for column in zip(*parts.values(), strict=True))
    np.testing.assert_allclose(bunch.data, X, atol=1e-7)
    assert bunch.target.tolist() == [c - 1 for c in y]
    assert bunch.clients.tolist() == persons.tolist()
    assert bunch.is_test.tolist() == [False] * 5 + [True] * 2
    assert bunch.target_names == ["WALKING", "LAYING"]
    assert bunch.feature_names == ["mean()-X", "mean()-X.1", "energy()-1,8"]


def test_the_forms_of_a_fetched_federation_agree(har, tmp_path):
    har("new.zip")
    bunch = fetch_har(data_home=tmp_path)
    for as_frame in (False, True):
        triple = fetch_har(data_home=tmp_path, return_X_y=True, as_frame=as_frame)
        for one, two in zip(triple, (bunch.data, bunch.target, bunch.clients), strict=True):
            np.testing.assert_array_equal(one, two)
    frame = fetch_har(data_home=tmp_path, as_frame=True).frame
    assert isinstance(frame, pd.DataFrame)
    assert list(frame) == [*bunch.feature_names, "target", "person"]


def test_another_file_in_the_place_of_har_is_refused(har, server, tmp_path):
    har("new.zip")
    server.pages["/new.zip"] = b"<html>a page that asks to sign in</html>"
    with pytest.raises(OSError, match=r"har\.zip is not the file of .*not a zip"):
        fetch_har(data_home=tmp_path)
    server.pages["/new.zip"] = zipped({"notes.txt": ""})
    with pytest.raises(OSError, match=r"it has no train/X_train\.txt"):
        fetch_har(data_home=tmp_path / "other")


# -- four hospitals ------------------------------------------------------------------------------

HEART = {
    "cleveland": "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0\n",
    "hungarian": "28,1,2,130,132,0,2,185,0,0,?,?,?,0\n54,0,3,0,?,0,0,170,0,.7,?,?,?,1\n",
    "switzerland": "32,1,1,95,0,?,0,127,0,.7,1,?,?,4\n",
    "va": "63,1,4,140,260,0,1,112,1,3,2,?,?,2\n",
}


@pytest.fixture
def heart(server, monkeypatch):
    def use(members):
        server.pages["/heart.zip"] = zipped(
            {f"processed.{name}.data": text for name, text in members.items()} | {"Index": "-"}
        )
        remote = RemoteFile("heart.zip", f"{server.url}/heart.zip")
        monkeypatch.setattr(_heart_disease, "_ARCHIVE", remote)

    return use


def test_hospitals_are_the_clients_and_gaps_are_gaps(heart, tmp_path):
    heart(HEART)
    sick = fetch_heart_disease(data_home=tmp_path)
    severe = fetch_heart_disease(data_home=tmp_path, target="severity")
    hospitals = ["cleveland", "hungarian", "hungarian", "switzerland", "va"]
    assert sick.clients.tolist() == hospitals
    assert severe.target.tolist() == [0, 0, 1, 4, 2]
    assert sick.target.tolist() == [0, 0, 1, 1, 1]
    table = pd.DataFrame(sick.data, columns=sick.feature_names)
    assert table.age.tolist() == [63, 28, 54, 32, 63]
    assert table.oldpeak.tolist() == [2.3, 0, 0.7, 0.7, 3]
    assert table.trestbps.isna().tolist() == [False, False, True, False, False]  # the 0 of one
    assert table.chol.isna().tolist() == [False, False, True, True, False]  # a ? and a 0
    assert table.thal.isna().tolist() == [False, True, True, True, True]
    assert table.exang.eq(0).tolist() == [True, True, True, True, False]


def test_a_table_that_is_not_that_of_a_hospital_is_refused(heart, tmp_path):
    heart({name: text for name, text in HEART.items() if name != "va"})
    with pytest.raises(OSError, match=r"it has no processed\.va\.data"):
        fetch_heart_disease(data_home=tmp_path)
    heart(HEART | {"va": "1,2,3\n"})
    with pytest.raises(OSError, match=r"processed\.va\.data has 3 columns"):
        fetch_heart_disease(data_home=tmp_path / "other")


# -- OpenML ------------------------------------------------------------------------------------


def serve_openml(server, number, columns, rows):
    """What scikit-learn's fetch_openml asks for; the last column is the target."""
    header = "".join(f"@ATTRIBUTE '{name}' {kind}\n" for name, kind in columns.items())
    lines = "".join(",".join(map(str, row)) + "\n" for row in rows)
    arff = f"@RELATION r\n{header}@DATA\n{lines}".encode()
    description = {
        **{"id": str(number), "name": "made-up", "version": "1", "description": "made up"},
        **{"format": "ARFF", "status": "active", "file_id": "7"},
        "url": "https://www.openml.org/data/v1/download/7/f.arff",
        "md5_checksum": hashlib.md5(arff).hexdigest(),
    }
    names = list(columns)
    features = [
        {
            **{"index": str(i), "name": name, "number_of_missing_values": "0"},
            **{"is_ignore": "false", "is_row_identifier": "false"},
            "data_type": "nominal" if kind.startswith("{") else "numeric",
            "is_target": "true" if name == names[-1] else "false",
            **({"nominal_value": kind.strip("{}").split(",")} if kind.startswith("{") else {}),
        }
        for i, (name, kind) in enumerate(columns.items())
    ]
    qualities = [{"name": "NumberOfInstances", "value": str(len(rows))}]
    server.pages |= {
        f"/api/v1/json/data/{number}": json.dumps({"data_set_description": description}).encode(),
        f"/api/v1/json/data/features/{number}": json.dumps(
            {"data_features": {"feature": features}}
        ).encode(),
        f"/api/v1/json/data/qualities/{number}": json.dumps(
            {"data_qualities": {"quality": qualities}}
        ).encode(),
        "/data/v1/download/7/f.arff": arff,
        "/data/v1/download/7": arff,
    }


@pytest.fixture
def openml(server, monkeypatch):
    """scikit-learn's fetcher, with the name of OpenML's host leading to this machine."""

    def here(request, *arguments, **options):
        return urlopen(server.url + urlparse(request.full_url).path, *arguments, **options)

    monkeypatch.setattr(sklearn_openml, "urlopen", here)
    return partial(serve_openml, server)


def test_fraud_is_fetched_once_and_partitioned(openml, server, tmp_path):
    rng = np.random.default_rng(0)
    rows = [[*rng.normal(size=2).round(6), int(i % 20 == 0)] for i in range(200)]
    quoted = [[*row[:2], f"'{row[2]}'"] for row in rows]  # as that table has them
    openml(1597, {"V1": "REAL", "Amount": "REAL", "Class": "{'0','1'}"}, quoted)
    bunch = fetch_creditcard_fraud(data_home=tmp_path, n_clients=4)
    np.testing.assert_allclose(bunch.data, np.array(rows)[:, :2])
    assert bunch.target.tolist() == [row[2] for row in rows]
    assert bunch.feature_names == ["V1", "Amount"]
    expected = dirichlet_partition(bunch.target, 4, alpha=0.5, random_state=0)
    np.testing.assert_array_equal(bunch.clients, expected)

    n_asked = len(server.asked)
    assert n_asked > 0
    (tmp_path / "openml").rename(tmp_path / "gone")  # the file of arrays does by itself
    _, _, banks = fetch_creditcard_fraud(
        data_home=tmp_path, n_clients=3, partition="time", return_X_y=True
    )
    assert len(server.asked) == n_asked
    assert (np.diff(banks) >= 0).all()
    assert np.ptp(np.bincount(banks)) <= 1


def test_mnist_is_fetched_as_small_integers(openml, tmp_path):
    rows = [[i % 256, 255 - i % 256, i % 10] for i in range(300)]
    digits = "{" + ",".join("0123456789") + "}"
    openml(554, {"pixel1": "INTEGER", "pixel2": "INTEGER", "class": digits}, rows)
    bunch = fetch_mnist(data_home=tmp_path, n_clients=5, alpha=2.0, random_state=1)
    assert bunch.data.dtype == np.uint8
    np.testing.assert_array_equal(bunch.data, np.array(rows)[:, :2])
    assert bunch.target.tolist() == [row[2] for row in rows]
    expected = dirichlet_partition(bunch.target, 5, alpha=2.0, random_state=1)
    np.testing.assert_array_equal(bunch.clients, expected)


def test_arrays_put_there_by_hand_do_instead_of_openml(tmp_path):
    path = tmp_path / "skfedfocal" / "mnist.npz"
    with pytest.raises(OSError, match=r"mnist\.npz is not here .*np\.savez") as error:
        fetch_mnist(data_home=tmp_path, download_if_missing=False)
    assert str(error.value).endswith(str(path))
    X, y = np.zeros((12_000, 2), np.uint8), np.arange(12_000) % 10
    np.savez(path, X=X, y=y, feature_names=["a", "b"])
    mnist = fetch_mnist(data_home=tmp_path)
    np.testing.assert_array_equal(mnist.is_test, np.arange(12_000) >= 2000)
    path.unlink()
    (path.parent / "mnist.npz.sha256").unlink()
    np.savez(path, X=X)
    with pytest.raises(OSError, match="not an npz with X, y and feature_names"):
        fetch_mnist(data_home=tmp_path)


def test_openml_out_of_reach_is_explained(server, openml, tmp_path):
    with (
        pytest.warns(UserWarning, match="network error"),
        pytest.raises(OSError, match=r"creditcard\.npz is not here and did not come from"),
    ):
        fetch_creditcard_fraud(data_home=tmp_path)
    assert server.asked


@pytest.mark.parametrize(
    "fetch", [fetch_har, fetch_heart_disease, fetch_creditcard_fraud, fetch_mnist]
)
def test_wrong_parameters_are_named(fetch):
    with pytest.raises(ValueError, match="'return_X_y' parameter"):
        fetch(return_X_y="yes")
    with pytest.raises(ValueError, match="'data_home' parameter"):
        fetch(data_home=3)
