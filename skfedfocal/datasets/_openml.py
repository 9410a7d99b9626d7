"""Credit card fraud and handwritten digits, from OpenML, partitioned over clients."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import fetch_openml
from sklearn.utils import Bunch

from skfedfocal._sklearn import Interval, StrOptions, validate_params
from skfedfocal.datasets._bunch import as_bunch
from skfedfocal.datasets._har import FETCHED
from skfedfocal.datasets._remote import check, folder_of, missing
from skfedfocal.partition import dirichlet_partition

_PARTITIONED: dict[str, list] = FETCHED | {
    "n_clients": [Interval(Integral, 1, None, closed="left")],
    "alpha": [Interval(Real, 0, None, closed="neither")],
    "random_state": ["random_state"],
}
_FRAUD, _DIGITS = 1597, 554  # numbers of the data sets at OpenML


@validate_params(
    _PARTITIONED | {"partition": [StrOptions({"dirichlet", "time"})]},
    prefer_skip_nested_validation=True,
)
def fetch_creditcard_fraud(
    *,
    n_clients: int = 10,
    partition: str = "dirichlet",
    alpha: float = 0.5,
    random_state: Any = 0,
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Bunch | tuple[Any, Any, Any]:
    """Load credit card transactions with rare frauds, downloading them if need be.

    ==============   ===================
    Classes                            2
    Clients           none; a partition
    Samples total                 284807
    Frauds                           492
    Dimensionality                    29
    Features                        real
    ==============   ===================

    Two days of card payments in Europe, of which 0.17 % are frauds; 28 principal components of
    what is known of each, and its amount [1]_. There are no natural clients: the rows are
    partitioned over made-up banks.

    Parameters
    ----------
    n_clients : int, default=10
        Number of banks, at least 1.
    partition : {"dirichlet", "time"}, default="dirichlet"
        "dirichlet" is :func:`~skfedfocal.partition.dirichlet_partition`: banks differ in size and
        in their share of frauds. "time" gives each bank a stretch of consecutive transactions, in
        equal numbers, as the rows are published in the order of time: banks differ in what was
        usual then.
    alpha : float, default=0.5
        Concentration of the Dirichlet law, in the range ``(0, inf)``.
    random_state : int, RandomState or None, default=0
        Of the Dirichlet partition.
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
    fraud : Bunch
        With `data` of shape (284807, 29), `target` of shape (284807,), 1 for fraud, `clients` of
        shape (284807,), `feature_names`, `target_names`, `frame` and `DESCR`.
    (data, target, clients) : tuple
        Instead, with ``return_X_y=True``.

    Raises
    ------
    OSError
        If the file is neither there nor to be had, which the message helps with, or if it has
        changed since it was first seen.
    ImportError
        If it has to be downloaded, and pandas is not installed.

    Notes
    -----
    `sklearn.datasets.fetch_openml` downloads the table once and checks it with OpenML's own MD5;
    its arrays are then kept as creditcard.npz, whose SHA256 is written beside it and compared from
    then on.

    References
    ----------
    .. [1] Dal Pozzolo, Caelen, Johnson, Bontempi. "Calibrating Probability with Undersampling for
       Unbalanced Classification". IEEE CIDM 2015. https://www.openml.org/d/1597

    Examples
    --------
    Five banks, each of its own hours::

        X, y, banks = fetch_creditcard_fraud(n_clients=5, partition="time", return_X_y=True)

    Where there is no network, the error says what to put where:

    >>> import tempfile
    >>> from skfedfocal.datasets import fetch_creditcard_fraud
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     fraud = fetch_creditcard_fraud(data_home=folder, download_if_missing=False)
    Traceback (most recent call last):
    ...
    OSError: creditcard.npz is not here and did not come from https://www.openml.org/d/1597 ...
    """
    X, y, names = _kept("creditcard.npz", _FRAUD, np.float64, data_home, download_if_missing)
    if partition == "time":
        clients = np.arange(len(y)) * n_clients // len(y)
    else:
        clients = dirichlet_partition(y, n_clients, alpha=alpha, random_state=random_state)
    return as_bunch(
        X,
        y,
        clients,
        feature_names=names,
        as_frame=as_frame,
        return_X_y=return_X_y,
        client_name="bank",
        target_names=["legitimate", "fraud"],
        DESCR=f"Credit card fraud, {_address(_FRAUD)}, over {n_clients} banks by {partition}",
    )


@validate_params(_PARTITIONED, prefer_skip_nested_validation=True)
def fetch_mnist(
    *,
    n_clients: int = 100,
    alpha: float = 0.5,
    random_state: Any = 0,
    data_home: Any = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Bunch | tuple[Any, Any, Any]:
    """Load the MNIST images of handwritten digits, downloading them if need be.

    ==============   ===================
    Classes                           10
    Clients           none; a partition
    Samples total                  70000
    Dimensionality                   784
    Features           integers, 0 to 255
    ==============   ===================

    Images of 28 by 28 pixels [1]_. There are no natural clients: the rows are partitioned by
    :func:`~skfedfocal.partition.dirichlet_partition`. Any other partition is a call away, as of
    :func:`~skfedfocal.partition.shard_partition` on `target`.

    Parameters
    ----------
    n_clients : int, default=100
        Number of clients, at least 1.
    alpha : float, default=0.5
        Concentration of the Dirichlet law, in the range ``(0, inf)``.
    random_state : int, RandomState or None, default=0
        Of the partition.
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
    mnist : Bunch
        With `data` of shape (70000, 784) and type uint8, `target` of shape (70000,), the digits,
        `clients` of shape (70000,), `is_test` of shape (70000,), the last 10000 rows, which are
        the authors' test part, `feature_names`, `target_names`, `frame` and `DESCR`.
    (data, target, clients) : tuple
        Instead, with ``return_X_y=True``.

    Raises
    ------
    OSError
        If the file is neither there nor to be had, which the message helps with, or if it has
        changed since it was first seen.
    ImportError
        If it has to be downloaded, and pandas is not installed.

    Notes
    -----
    `sklearn.datasets.fetch_openml` downloads the table once and checks it with OpenML's own MD5;
    its arrays are then kept as mnist.npz, whose SHA256 is written beside it and compared from then
    on.

    References
    ----------
    .. [1] LeCun, Bottou, Bengio, Haffner. "Gradient-Based Learning Applied to Document
       Recognition". Proceedings of the IEEE 86, 1998. https://www.openml.org/d/554

    Examples
    --------
    Clients of the training part only::

        mnist = fetch_mnist(n_clients=50, alpha=0.1)
        train = ~mnist.is_test
        model.fit(mnist.data[train] / 255, mnist.target[train], clients=mnist.clients[train])

    Where there is no network, the error says what to put where:

    >>> import tempfile
    >>> from skfedfocal.datasets import fetch_mnist
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     mnist = fetch_mnist(data_home=folder, download_if_missing=False)
    Traceback (most recent call last):
    ...
    OSError: mnist.npz is not here and did not come from https://www.openml.org/d/554 ...
    """
    X, y, names = _kept("mnist.npz", _DIGITS, np.uint8, data_home, download_if_missing)
    return as_bunch(
        X,
        y,
        dirichlet_partition(y, n_clients, alpha=alpha, random_state=random_state),
        feature_names=names,
        as_frame=as_frame,
        return_X_y=return_X_y,
        target_names=list("0123456789"),
        is_test=np.arange(len(y)) >= len(y) - 10_000,
        DESCR=f"MNIST, {_address(_DIGITS)}, over {n_clients} clients by Dirichlet({alpha})",
    )


def _kept(
    name: str, number: int, dtype: Any, data_home: Any, download_if_missing: bool
) -> tuple[NDArray[Any], NDArray[np.int64], list[str]]:
    """Arrays of a data set of OpenML, from the file in which they are kept after the first time."""
    path = folder_of(data_home) / name
    remedy = "Load it elsewhere, write it with np.savez(name, X=..., y=..., feature_names=...)"
    if not path.exists():
        if not download_if_missing:
            raise missing(path, _address(number), "download_if_missing=False", remedy)
        try:
            table = fetch_openml(
                data_id=number,
                as_frame=False,
                data_home=data_home,
                # Labels as they come. As categories, which scikit-learn makes of them, pandas from
                # 3.1 on reads numbers, on which scikit-learn (1.9) then stumbles.
                read_csv_kwargs={"dtype": {}},
            )
        except OSError as error:
            raise missing(path, _address(number), str(error), remedy) from error
        X = np.asarray(table.data).astype(dtype)
        y = np.array([int(str(label).strip("'\"")) for label in table.target])
        part = path.with_suffix(f".{os.getpid()}.npz")  # never half a file of the right name
        np.savez_compressed(part, X=X, y=y, feature_names=np.array(table.feature_names))
        os.replace(part, path)
    check(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            X, y, names = file["X"], file["y"], file["feature_names"].tolist()
    except (KeyError, ValueError) as error:
        raise OSError(f"{path} is not an npz with X, y and feature_names: {error}") from error
    return X, y, names


def _address(number: int) -> str:
    return f"https://www.openml.org/d/{number}"
