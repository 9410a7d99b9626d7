"""Clients that differ in how many rows they have, or in nothing."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skfedfocal._sklearn import validate_params
from skfedfocal.partition._checks import (
    COMMON_CONSTRAINTS,
    SKEW_CONSTRAINTS,
    RandomStateLike,
    check_1d,
    check_enough_rows,
    check_min_rows,
    check_rng,
)
from skfedfocal.partition._draws import dirichlet_counts, raise_to_min_rows


@validate_params(COMMON_CONSTRAINTS, prefer_skip_nested_validation=True)
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
    n_samples = check_1d(y).shape[0]
    check_enough_rows(n_samples, n_clients, f"n_clients={n_clients}", "fewer clients")
    dealt = np.arange(n_samples, dtype=np.int64) % int(n_clients)
    return check_rng(random_state).permutation(dealt)


@validate_params(COMMON_CONSTRAINTS | SKEW_CONSTRAINTS, prefer_skip_nested_validation=True)
def quantity_skew_partition(
    y: ArrayLike,
    n_clients: int,
    *,
    alpha: float = 0.5,
    min_rows: int = 1,
    random_state: RandomStateLike = None,
) -> NDArray[np.int64]:
    r"""Deal random rows to clients whose sizes are drawn from a Dirichlet law.

    The clients' shares of the rows are :math:`\mathrm{Dirichlet}(\alpha, \ldots, \alpha)`
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
    n_samples = check_1d(y).shape[0]
    check_min_rows(n_samples, n_clients, min_rows)
    rng = check_rng(random_state)
    sizes = dirichlet_counts(n_samples, n_clients, alpha, rng)
    clients = rng.permutation(np.repeat(np.arange(n_clients, dtype=np.int64), sizes))
    return raise_to_min_rows(clients, n_clients, min_rows, rng)
