"""Partition the rows of a data set over clients, as one array of client ids.

Every function here reads labels and returns ``clients``, one integer client id
per row: what ``fit(X, y, clients=clients)``, scikit-learn's ``groups`` and the
plots take. All four share the signature ``(y, n_clients, *, ..., random_state)``
and are interchangeable. Rows are never dropped, repeated or reordered.
"""

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state, column_or_1d

from skfedfocal._sklearn import Interval, validate_params

__all__ = [
    "dirichlet_partition",
    "iid_partition",
    "quantity_skew_partition",
    "shard_partition",
]

RandomStateLike = int | np.random.RandomState | np.random.Generator | None

_COMMON_CONSTRAINTS: dict[str, list] = {
    "y": ["array-like"],
    "n_clients": [Interval(Integral, 1, None, closed="left")],
    "random_state": ["random_state", np.random.Generator],
}
_SKEW_CONSTRAINTS: dict[str, list] = {
    "alpha": [Interval(Real, 0, None, closed="neither")],
    "min_rows": [Interval(Integral, 0, None, closed="left")],
}


@validate_params(_COMMON_CONSTRAINTS, prefer_skip_nested_validation=True)
def iid_partition(
    y: ArrayLike, n_clients: int, *, random_state: RandomStateLike = None
) -> NDArray[np.int64]:
    """Deal the rows over clients uniformly at random, in equal numbers.

    The baseline without heterogeneity: every client is a simple random sample of
    the rows, drawn without replacement, and sizes differ by at most one.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels, or any target. Only the number of rows is used.
    n_clients : int
        Number of clients, in the range ``[1, n_samples]``.
    random_state : int, RandomState, Generator or None, default=None
        Pass an int for the same partition on every call.

    Returns
    -------
    clients : ndarray of shape (n_samples,), dtype int64
        Client id of each row, in the range ``[0, n_clients - 1]``. Every id occurs.

    Raises
    ------
    InvalidParameterError
        If a parameter has the wrong type or is out of range.
    ValueError
        If `y` is empty or not one-dimensional, or if ``n_clients > n_samples``.

    See Also
    --------
    quantity_skew_partition : Random rows too, but clients of unequal sizes.

    Notes
    -----
    The rows that remain after an equal deal go to the clients with the lowest ids.
    Classes are not stratified: a client's class counts are hypergeometric.

    Examples
    --------
    >>> from skfedfocal.partition import iid_partition
    >>> y = ["cat", "cat", "dog", "dog", "dog", "owl", "owl"]
    >>> iid_partition(y, 3, random_state=0)
    array([0, 2, 1, 0, 0, 2, 1])
    """
    n_samples = _check_1d(y).shape[0]
    _check_enough_rows(n_samples, n_clients, f"n_clients={n_clients}", "fewer clients")
    dealt = np.arange(n_samples, dtype=np.int64) % int(n_clients)
    return _check_rng(random_state).permutation(dealt)


@validate_params(_COMMON_CONSTRAINTS | _SKEW_CONSTRAINTS, prefer_skip_nested_validation=True)
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

    .. math:: (p_{c,1}, \dots, p_{c,K}) \sim \mathrm{Dirichlet}(\alpha, \dots, \alpha),

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
    codes = _encode_classes(y)
    _check_min_rows(codes.shape[0], n_clients, min_rows)
    return split_classes(codes, n_clients, alpha, min_rows, _check_rng(random_state))


@validate_params(
    _COMMON_CONSTRAINTS | {"shards_per_client": [Interval(Integral, 1, None, closed="left")]},
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
    codes = _encode_classes(y)
    n_samples, n_shards = codes.shape[0], int(n_clients) * int(shards_per_client)
    _check_enough_rows(
        n_samples,
        n_shards,
        f"n_clients={n_clients} with shards_per_client={shards_per_client}",
        "fewer clients or fewer shards per client",
    )
    rng = _check_rng(random_state)
    ids = np.arange(n_clients, dtype=np.int64)
    shard_owners = rng.permutation(np.repeat(ids, shards_per_client))
    # Floor division spreads the larger shards evenly over the sorted rows, so that
    # no class has them all.
    shards = np.arange(n_samples, dtype=np.int64) * n_shards // n_samples
    clients = np.empty_like(ids, shape=codes.shape)
    clients[_shuffled_argsort(codes, rng)] = shard_owners[shards]
    return clients


@validate_params(_COMMON_CONSTRAINTS | _SKEW_CONSTRAINTS, prefer_skip_nested_validation=True)
def quantity_skew_partition(
    y: ArrayLike,
    n_clients: int,
    *,
    alpha: float = 0.5,
    min_rows: int = 1,
    random_state: RandomStateLike = None,
) -> NDArray[np.int64]:
    r"""Deal random rows to clients whose sizes are drawn from a Dirichlet law.

    The clients' shares of the rows are :math:`\mathrm{Dirichlet}(\alpha, \dots, \alpha)`
    and the rows are dealt at random, so clients differ in size but not, beyond chance,
    in class mix [1]_. Use it to tell the effect of size from that of label skew.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels, or any target. Only the number of rows is used.
    n_clients : int
        Number of clients, at least 1; ``n_clients * min_rows <= n_samples``.
    alpha : float, default=0.5
        Concentration, in the range ``(0, inf)``. Large: equal sizes. Near 0: one
        client holds almost all rows.
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
        If `y` is empty or not one-dimensional, or if
        ``n_clients * min_rows > n_samples``.

    See Also
    --------
    iid_partition : The same with equal sizes.
    dirichlet_partition : Skewed sizes and skewed class mixes.

    Notes
    -----
    Sizes are rounded without bias and raised to `min_rows` as in
    :func:`dirichlet_partition`.

    References
    ----------
    .. [1] Li, Diao, Chen, He. "Federated Learning on Non-IID Data Silos: An
       Experimental Study". ICDE 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal.partition import quantity_skew_partition
    >>> y = np.repeat([0, 1], [90, 10])
    >>> clients = quantity_skew_partition(y, 4, alpha=0.5, random_state=0)
    >>> np.bincount(clients)
    array([63, 12, 23,  2])
    """
    n_samples = _check_1d(y).shape[0]
    _check_min_rows(n_samples, n_clients, min_rows)
    rng = _check_rng(random_state)
    sizes = _dirichlet_counts(n_samples, n_clients, alpha, rng)
    clients = rng.permutation(np.repeat(np.arange(n_clients, dtype=np.int64), sizes))
    return _raise_to_min_rows(clients, n_clients, min_rows, rng)


def split_classes(codes, n_clients, alpha, min_rows, rng):
    """Split each class by shares of the law Dirichlet(alpha), with one alpha or one per client."""
    ids = np.arange(n_clients, dtype=np.int64)
    owners = [
        np.repeat(ids, _dirichlet_counts(class_size, n_clients, alpha, rng))
        for class_size in np.bincount(codes)
    ]
    clients = np.empty_like(ids, shape=codes.shape)
    clients[_shuffled_argsort(codes, rng)] = np.concatenate(owners)
    return _raise_to_min_rows(clients, n_clients, min_rows, rng)


def _dirichlet_counts(n_rows, n_clients, alpha, rng):
    """Draw Dirichlet shares and round them, without bias, to counts that add to n_rows."""
    # Below this bound, where the division overflows, one client has everything anyhow.
    alpha = np.maximum(alpha, 1e-300)
    # Gamma(alpha) is Gamma(alpha + 1) * U**(1/alpha). In logarithms, because for a small
    # alpha every draw underflows to 0 and their shares would be 0/0.
    uniforms = 1.0 - rng.random(n_clients)
    log_draws = np.log(rng.standard_gamma(alpha + 1.0, n_clients)) + np.log(uniforms) / alpha
    bounds = np.cumsum(np.exp(log_draws - log_draws.max()))
    # One random offset for all bounds (systematic sampling) rounds each count down or up
    # with the right expectation while the sum stays exact.
    bounds = np.floor(bounds / bounds[-1] * n_rows + rng.random()).astype(np.int64)
    counts = np.diff(np.minimum(bounds, n_rows), prepend=0)
    # Neighbours share the offset; the shuffle makes clients of one alpha exchangeable again.
    return counts if np.ndim(alpha) else rng.permutation(counts)


def _raise_to_min_rows(clients, n_clients, min_rows, rng):
    """Move just the rows that are missing from the largest clients to those below min_rows."""
    sizes = np.bincount(clients, minlength=n_clients)
    missing = np.maximum(min_rows - sizes, 0)
    if not missing.any():
        return clients
    given = _lower_largest(sizes, missing.sum(), rng)
    first_rows = np.cumsum(sizes) - sizes
    ranks = np.arange(clients.shape[0]) - np.repeat(first_rows, sizes)
    # Left grouped by giver: a mix of many givers' rows would make the receivers iid.
    moved = _shuffled_argsort(clients, rng)[ranks < np.repeat(given, sizes)]
    clients[moved] = np.repeat(np.arange(n_clients), missing)
    return clients


def _lower_largest(sizes, n_moved, rng):
    """Rows that each client gives so that n_moved are freed and the largest are level."""
    descending = np.sort(sizes)[::-1]
    # Lowering to a level frees max_j(sum of the j largest - j * level) rows, hence the
    # highest level that frees enough. It is never below min_rows, since rows suffice.
    level = np.max((np.cumsum(descending) - n_moved) // np.arange(1, sizes.shape[0] + 1))
    given = np.maximum(sizes - level, 0)
    # Less than one row per giver too many was freed; random givers keep one.
    keepers = rng.permutation(np.flatnonzero(given))[: given.sum() - n_moved]
    given[keepers] -= 1
    return given


def _shuffled_argsort(codes, rng):
    """Row indices sorted by code, in random order within a code."""
    shuffled = rng.permutation(codes.shape[0])
    return shuffled[np.argsort(codes[shuffled], kind="stable")]


def _check_rng(random_state):
    # RandomState and Generator share the methods used here: permutation, random,
    # standard_gamma.
    if isinstance(random_state, np.random.Generator):
        return random_state
    return check_random_state(random_state)


def _check_1d(y):
    y = column_or_1d(y)
    if y.shape[0] == 0:
        raise ValueError("y has 0 rows, so there is nothing to partition; pass one label per row.")
    return y


def _encode_classes(y):
    """Codes 0..n_classes-1 of the labels, in sorted order of the classes."""
    from sklearn.preprocessing import LabelEncoder  # slow to import, and only needed here

    y = _check_1d(y)
    try:
        encoder = LabelEncoder().fit(y)
    except TypeError as error:
        raise ValueError(
            f"y has labels that cannot be sorted together ({error}); "
            "pass labels of one type, none missing."
        ) from error
    classes = encoder.classes_
    if any(label is None or label != label for label in classes):
        raise ValueError(
            "y has missing labels (NaN or None); drop those rows or give them a label."
        )
    if classes.dtype.kind == "f":
        whole = np.isfinite(classes) & (classes == np.floor(classes))
        if not whole.all():
            raise ValueError(
                f"y has continuous or infinite values such as {classes[~whole][0]} but classes "
                "are needed; bin y first, for example with np.digitize."
            )
    return encoder.transform(y)


def _check_min_rows(n_samples, n_clients, min_rows):
    _check_enough_rows(
        n_samples,
        int(n_clients) * int(min_rows),
        f"n_clients={n_clients} with min_rows={min_rows}",
        "fewer clients or a smaller min_rows",
    )


def _check_enough_rows(n_samples, needed, request, remedy):
    if needed > n_samples:
        raise ValueError(
            f"{request} needs at least {needed} rows but y has {n_samples}; pass {remedy}."
        )
