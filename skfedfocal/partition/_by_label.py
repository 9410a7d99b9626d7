"""Clients that differ in which classes they have."""

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skfedfocal._sklearn import Interval, validate_params
from skfedfocal.partition._checks import (
    COMMON_CONSTRAINTS,
    SKEW_CONSTRAINTS,
    RandomStateLike,
    check_enough_rows,
    check_min_rows,
    check_rng,
    encode_classes,
)
from skfedfocal.partition._draws import shuffled_argsort, split_classes


@validate_params(COMMON_CONSTRAINTS | SKEW_CONSTRAINTS, prefer_skip_nested_validation=True)
def dirichlet_partition(
    y: ArrayLike,
    n_clients: int,
    *,
    alpha: float = 0.5,
    min_rows: int = 1,
    random_state: RandomStateLike = None,
) -> NDArray[np.int64]:
    r"""Split each class over clients in proportions drawn from a Dirichlet law.

    Independently for each class :math:`c`, the shares of its rows that go to the
    :math:`K` clients are

    .. math:: (p_{c,1}, \ldots, p_{c,K}) \sim \mathrm{Dirichlet}(\alpha, \ldots, \alpha),

    so a share has mean :math:`1/K` and variance
    :math:`\frac{1}{K}\left(1 - \frac{1}{K}\right) / (K\alpha + 1)`. The usual
    benchmark of label skew [1]_: clients differ both in their class mix and in size.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class labels: integers, strings, booleans or integral floats, none missing.
    n_clients : int
        Number of clients, at least 1; ``n_clients * min_rows <= n_samples``.
    alpha : float, default=0.5
        Concentration, in the range ``(0, inf)``. Large: every client receives an
        equal share of every class. Near 0: each class lies on few clients, in the
        limit on one.
    min_rows : int, default=1
        Least number of rows of a client, in the range ``[0, n_samples // n_clients]``.
        With 0 the draw is left as it is, and a client may have no row at all.
    random_state : int, RandomState, Generator or None, default=None
        Pass an int for the same partition on every call.

    Returns
    -------
    clients : ndarray of shape (n_samples,), dtype int64
        Client id of each row, in the range ``[0, n_clients - 1]``. Every id occurs
        at least `min_rows` times.

    Raises
    ------
    InvalidParameterError
        If a parameter has the wrong type or is out of range.
    ValueError
        If `y` is empty, not one-dimensional, continuous or has missing labels, or if
        ``n_clients * min_rows > n_samples``.

    See Also
    --------
    shard_partition : Label skew with clients of (almost) equal size.
    quantity_skew_partition : Skewed sizes without label skew.

    Notes
    -----
    *Rounding.* A client's count of class :math:`c` with :math:`n_c` rows is
    :math:`n_c p_{c,k}` rounded down or up at random, without bias, and the counts
    add up to :math:`n_c` exactly. No class and no client takes the remainder.

    *Minimum.* The draw is never rejected and repeated, which need not end when `alpha`
    is small. Clients short of `min_rows` receive just the rows they lack from the
    largest clients, whose sizes are lowered to a common level: no repair can move
    fewer rows. A receiving client takes its rows from one large client where it can,
    so that it keeps a skewed class mix. Rounding and this repair are all that parts
    the realised shares from the law above; many clients on few rows need much of both.

    *Other forms.* Hsu et al. [2]_ draw a class mix for each client, at equal sizes;
    here, as in [1]_ and [3]_, each class draws its split over clients.

    Time and draws are ``O(n_classes * n_clients + n_samples log n_samples)``.

    References
    ----------
    .. [1] Li, Diao, Chen, He. "Federated Learning on Non-IID Data Silos: An
       Experimental Study". ICDE 2022.
    .. [2] Hsu, Qi, Brown. "Measuring the Effects of Non-Identical Data Distribution
       for Federated Visual Classification". arXiv:1909.06335, 2019.
    .. [3] Yurochkin, Agarwal, Ghosh, Greenewald, Hoang, Khazaeni. "Bayesian
       Nonparametric Federated Learning of Neural Networks". ICML 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal.partition import dirichlet_partition
    >>> y = np.repeat(["common", "rare"], [90, 10])
    >>> clients = dirichlet_partition(y, 4, alpha=0.5, random_state=1)
    >>> np.bincount(clients[y == "common"], minlength=4)
    array([ 5,  0,  4, 81])
    >>> np.bincount(clients[y == "rare"], minlength=4)
    array([1, 4, 0, 5])
    """
    codes = encode_classes(y)
    check_min_rows(codes.shape[0], n_clients, min_rows)
    return split_classes(codes, n_clients, alpha, min_rows, check_rng(random_state))


@validate_params(
    COMMON_CONSTRAINTS | {"shards_per_client": [Interval(Integral, 1, None, closed="left")]},
    prefer_skip_nested_validation=True,
)
def shard_partition(
    y: ArrayLike,
    n_clients: int,
    *,
    shards_per_client: int = 2,
    random_state: RandomStateLike = None,
) -> NDArray[np.int64]:
    """Sort the rows by class, cut them into shards and deal those out.

    The "pathological" split of McMahan et al. [1]_: with the rows sorted by class and
    cut into ``n_clients * shards_per_client`` shards, each client receives
    `shards_per_client` of them at random, so most clients see only a few classes.
    Use it for hard label skew at (almost) equal sizes.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Class labels: integers, strings, booleans or integral floats, none missing.
    n_clients : int
        Number of clients, at least 1; ``n_clients * shards_per_client <= n_samples``.
    shards_per_client : int, default=2
        Shards that each client receives, at least 1. Fewer is more skewed.
    random_state : int, RandomState, Generator or None, default=None
        Pass an int for the same partition on every call.

    Returns
    -------
    clients : ndarray of shape (n_samples,), dtype int64
        Client id of each row, in the range ``[0, n_clients - 1]``. Every id occurs at
        least `shards_per_client` times.

    Raises
    ------
    InvalidParameterError
        If a parameter has the wrong type or is out of range.
    ValueError
        If `y` is empty, not one-dimensional, continuous or has missing labels, or if
        ``n_clients * shards_per_client > n_samples``.

    See Also
    --------
    dirichlet_partition : Label skew of adjustable strength.

    Notes
    -----
    Shard sizes differ by at most one, so client sizes differ by at most
    `shards_per_client`. A shard that lies across the border between classes holds more
    than one: summed over all shards, the classes held number at most
    ``n_shards + n_classes - 1``. If each class has at least one shard's rows
    (``ceil(n_samples / n_shards)``), a client sees at most ``2 * shards_per_client``
    classes; if each class fills whole shards exactly, at most `shards_per_client`.

    Rows of a class are shuffled before the cut, which the paper leaves open.

    References
    ----------
    .. [1] McMahan, Moore, Ramage, Hampson, Aguera y Arcas. "Communication-Efficient
       Learning of Deep Networks from Decentralized Data". AISTATS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal.partition import shard_partition
    >>> y = np.repeat([0, 1, 2, 3], 6)
    >>> clients = shard_partition(y, 4, shards_per_client=2, random_state=0)
    >>> [np.unique(y[clients == k]).tolist() for k in range(4)]
    [[1, 2], [0, 2], [3], [0, 1]]
    """
    codes = encode_classes(y)
    n_samples, n_shards = codes.shape[0], int(n_clients) * int(shards_per_client)
    check_enough_rows(
        n_samples,
        n_shards,
        f"n_clients={n_clients} with shards_per_client={shards_per_client}",
        "fewer clients or fewer shards per client",
    )
    rng = check_rng(random_state)
    ids = np.arange(n_clients, dtype=np.int64)
    shard_owners = rng.permutation(np.repeat(ids, shards_per_client))
    # Floor division spreads the larger shards evenly over the sorted rows, so that
    # no class has them all.
    shards = np.arange(n_samples, dtype=np.int64) * n_shards // n_samples
    clients = np.empty_like(ids, shape=codes.shape)
    clients[shuffled_argsort(codes, rng)] = shard_owners[shards]
    return clients
