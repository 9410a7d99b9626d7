"""A federation drawn at random, each way of being uneven with a parameter of its own."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch, check_random_state

from skfedfocal._sklearn import Interval, validate_params
from skfedfocal.partition import iid_partition, quantity_skew_partition
from skfedfocal.partition._draws import split_classes

_POSITIVE = [Interval(Integral, 1, None, closed="left")]
_STRENGTH = [Interval(Real, 0, None, closed="left")]
# What is drawn, each from a stream of its own: a change of one parameter leaves the rest as it was.
_LABELS, _CENTERS, _NOISE, _CLIENTS, _SHIFTS = range(5)


@validate_params(
    {
        "n_samples": _POSITIVE,
        "n_features": _POSITIVE,
        "n_clients": _POSITIVE,
        "n_classes": [Interval(Integral, 2, None, closed="left")],
        "imbalance": [Interval(Real, 1, None, closed="left"), "array-like"],
        "label_skew": _STRENGTH,
        "size_skew": _STRENGTH,
        "class_sep": _STRENGTH,
        "translation": _STRENGTH,
        "scaling": _STRENGTH,
        "rotation": [Interval(Real, 0, np.pi, closed="both")],
        "return_X_y": ["boolean"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_federation(
    n_samples: int = 1000,
    n_features: int = 20,
    n_clients: int = 10,
    n_classes: int = 3,
    *,
    imbalance: float | ArrayLike = 1.0,
    label_skew: float = 0.0,
    size_skew: float = 0.0,
    class_sep: float = 3.0,
    translation: float = 0.0,
    scaling: float = 0.0,
    rotation: float = 0.0,
    return_X_y: bool = True,
    random_state: Any = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]] | Bunch:
    r"""Draw a classification problem whose rows belong to clients.

    A row of class :math:`c` at client :math:`k` is

    .. math:: x = t_k + R_k \left(s_k \odot (\mu_c + \varepsilon)\right), \qquad
        \varepsilon \sim N(0, I),

    with class centres :math:`\mu_c` that lie `class_sep` apart, and the client's own translation
    :math:`t_k \sim N(0, \tau^2 I)`, scales :math:`\log s_{kj} \sim N(0, \sigma^2)` and rotation
    :math:`R_k`, which turns each pair of consecutive features by the angle
    :math:`\theta_k \sim U(-\rho, \rho)`. Every parameter that is left at its default leaves the
    federation even in its respect; with the same `random_state` it changes nothing else that is
    drawn.

    Parameters
    ----------
    n_samples : int, default=1000
        Rows of all clients together, at least `n_clients` and `n_classes`.
    n_features : int, default=20
        Number of features :math:`d`, at least 1.
    n_clients : int, default=10
        Number of clients :math:`K`, at least 1. Every one has a row.
    n_classes : int, default=3
        Number of classes :math:`C`, at least 2. Every one has a row.
    imbalance : float or array-like of shape (n_classes,), default=1.0
        The share of the most frequent class over that of the rarest, :math:`r \geq 1`; those
        between fall geometrically, :math:`\pi_c \propto r^{-c / (C - 1)}` [1]_. Or the shares
        :math:`\pi_c` themselves, which add up to 1.
    label_skew : float, default=0.0
        How unevenly a class lies on the clients, at least 0: the reciprocal of the concentration
        :math:`\alpha` of :func:`~skfedfocal.partition.dirichlet_partition`, and about the squared
        coefficient of variation, over clients, of a class's rows. At 0 all clients have the same
        mix, up to chance.
    size_skew : float, default=0.0
        How uneven the clients' sizes are, at least 0: the reciprocal of the concentration of
        :func:`~skfedfocal.partition.quantity_skew_partition`. At 0 sizes differ by one at most,
        where there is no label skew.
    class_sep : float, default=3.0
        Distance between the centres of any two classes, in standard deviations of a class, at
        least 0. Two equally frequent classes without shift cannot be told apart better than
        with an error of :math:`\Phi(-\text{class_sep} / 2)`.
    translation : float, default=0.0
        :math:`\tau`, in standard deviations of a class, at least 0.
    scaling : float, default=0.0
        :math:`\sigma`, at least 0: at 0.1, units of features differ by about a tenth.
    rotation : float, default=0.0
        :math:`\rho`, in radians, in the range :math:`[0, \pi]`.
    return_X_y : bool, default=True
        Return ``(X, y, clients)``; otherwise a Bunch that has the truth as well.
    random_state : int, RandomState or None, default=None
        Pass an int for the same federation on every call.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
        The rows, in random order.
    y : ndarray of shape (n_samples,)
        Class numbers, 0 the most frequent.
    clients : ndarray of shape (n_samples,)
        Client numbers.
    federation : Bunch
        Instead, with ``return_X_y=False``: `data`, `target`, `clients`, `feature_names`, and of
        what they were drawn from `class_shares` of shape (n_classes,), `centers` of shape
        (n_classes, n_features), `translations` and `scales` of shape (n_clients, n_features) and
        `angles` of shape (n_clients,).

    Raises
    ------
    InvalidParameterError
        If a parameter has the wrong type or is out of range.
    ValueError
        If there are more clients or classes than rows, or `imbalance` is not a share for each
        class.

    See Also
    --------
    load_federation : A federation of your own, from a file.

    Notes
    -----
    *Classes.* The number of rows of a class is :math:`n \pi_c` rounded down or up, and at least 1.

    *Clients.* With sizes :math:`n w_k`, drawn by `size_skew`, the shares of each class that the
    clients get are :math:`\mathrm{Dirichlet}(\alpha K w_1, \ldots, \alpha K w_K)` with
    :math:`\alpha` the reciprocal of `label_skew`: in the mean as the sizes say. With label skew,
    sizes vary with the classes that clients get. Clients without a row are given one by the
    largest.

    *Centres* are the corners of a regular simplex, turned at random. Where there is no room for
    it, with :math:`C > d + 1`, they are points at random on a sphere of the radius
    :math:`\text{class_sep} / \sqrt 2`. With an odd number of features the last is not turned.

    References
    ----------
    .. [1] Cui, Jia, Lin, Song, Belongie. "Class-Balanced Loss Based on Effective Number of
       Samples". CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skfedfocal.datasets import make_federation
    >>> X, y, clients = make_federation(
    ...     1110, n_clients=4, imbalance=100, label_skew=2.0, random_state=0
    ... )
    >>> np.bincount(y)
    array([1000,  100,   10])
    >>> len(np.unique(clients))
    4
    """
    seed = check_random_state(random_state).randint(2**31 - 1)
    shares = _class_shares(imbalance, n_classes)
    for number, what in ((n_clients, "n_clients"), (n_classes, "n_classes")):
        if number > n_samples:
            raise ValueError(
                f"{what}={number} needs as many rows but n_samples={n_samples}; pass more rows."
            )
    counts = _class_counts(n_samples, shares)
    y = _stream(seed, _LABELS).permutation(np.repeat(np.arange(n_classes), counts))
    clients = _owners(y, n_clients, label_skew, size_skew, _stream(seed, _CLIENTS))
    centers = class_sep * _centers(n_classes, n_features, _stream(seed, _CENTERS))
    X = centers[y] + _stream(seed, _NOISE).standard_normal((n_samples, n_features))

    draw = _stream(seed, _SHIFTS)
    translations = translation * draw.standard_normal((n_clients, n_features))
    scales = np.exp(scaling * draw.standard_normal((n_clients, n_features)))
    angles = rotation * draw.uniform(-1, 1, n_clients)
    if scaling:
        X *= scales[clients]
    if rotation:
        _turn(X, angles[clients, np.newaxis])
    if translation:
        X += translations[clients]
    if return_X_y:
        return X, y, clients
    return Bunch(
        data=X,
        target=y,
        clients=clients,
        feature_names=[f"x{j}" for j in range(n_features)],
        class_shares=shares,
        centers=centers,
        translations=translations,
        scales=scales,
        angles=angles,
    )


def _stream(seed: int, part: int) -> np.random.Generator:
    return np.random.default_rng([seed, part])


def _class_shares(imbalance: Any, n_classes: int) -> NDArray[np.float64]:
    if isinstance(imbalance, Real):
        shares = float(imbalance) ** (-np.arange(n_classes) / (n_classes - 1))
        return shares / shares.sum()
    shares = np.asarray(imbalance, float)
    if shares.shape != (n_classes,) or not (shares > 0).all() or not np.isclose(shares.sum(), 1):
        raise ValueError(
            f"imbalance must be a number or {n_classes} positive shares, one for each class, that "
            f"add up to 1; got {imbalance!r}."
        )
    return shares / shares.sum()


def _class_counts(n_samples: int, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Shares of the rows in whole rows: rounded down, the rest to the largest fractions."""
    exact = n_samples * shares
    counts = exact.astype(np.int64)
    by_fraction = np.argsort(counts - exact, kind="stable")
    counts[by_fraction[: n_samples - counts.sum()]] += 1
    for c in np.flatnonzero(counts == 0):
        counts[counts.argmax()] -= 1
        counts[c] += 1
    return counts


def _owners(
    y: NDArray[np.int64],
    n_clients: int,
    label_skew: float,
    size_skew: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    if size_skew:
        clients = quantity_skew_partition(y, n_clients, alpha=1 / size_skew, random_state=rng)
    else:
        clients = iid_partition(y, n_clients, random_state=rng)
    if not label_skew:
        return clients
    relative_sizes = n_clients * np.bincount(clients) / len(y)
    return split_classes(y, n_clients, relative_sizes / label_skew, 1, rng)


def _centers(n_classes: int, n_features: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points that are 1 apart, where there is room for as many."""
    if n_classes > n_features + 1:
        directions = rng.standard_normal((n_classes, n_features))
        return directions / np.linalg.norm(directions, axis=1, keepdims=True) / np.sqrt(2)
    # The unit vectors of n_classes dimensions, √2 apart, lie in a hyperplane.
    corners = np.linalg.svd(np.eye(n_classes) - 1 / n_classes)[0][:, : n_classes - 1] / np.sqrt(2)
    frame, _ = np.linalg.qr(rng.standard_normal((n_features, n_classes - 1)))
    return corners @ frame.T


def _turn(X: NDArray[np.float64], angles: NDArray[np.float64]) -> None:
    """Turn each row's pairs of consecutive features by its angle, in place."""
    n_turned = X.shape[1] // 2 * 2
    a, b = X[:, 0:n_turned:2].copy(), X[:, 1:n_turned:2]
    X[:, 0:n_turned:2] = np.cos(angles) * a - np.sin(angles) * b
    X[:, 1:n_turned:2] = np.sin(angles) * a + np.cos(angles) * b
