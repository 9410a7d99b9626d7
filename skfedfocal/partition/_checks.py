"""What partitioners take, and what is said where it is wrong."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state, column_or_1d

from skfedfocal._sklearn import Interval

RandomStateLike = int | np.random.RandomState | np.random.Generator | None

COMMON_CONSTRAINTS: dict[str, list] = {
    "y": ["array-like"],
    "n_clients": [Interval(Integral, 1, None, closed="left")],
    "random_state": ["random_state", np.random.Generator],
}
SKEW_CONSTRAINTS: dict[str, list] = {
    "alpha": [Interval(Real, 0, None, closed="neither")],
    "min_rows": [Interval(Integral, 0, None, closed="left")],
}


def check_rng(random_state):
    # RandomState and Generator share the methods used here: permutation, random,
    # standard_gamma.
    if isinstance(random_state, np.random.Generator):
        return random_state
    return check_random_state(random_state)


def check_1d(y):
    y = column_or_1d(y)
    if y.shape[0] == 0:
        raise ValueError("y has 0 rows, so there is nothing to partition; pass one label per row.")
    return y


def encode_classes(y):
    """Codes 0..n_classes-1 of the labels, in sorted order of the classes."""
    from sklearn.preprocessing import LabelEncoder  # slow to import, and only needed here

    y = check_1d(y)
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


def check_min_rows(n_samples, n_clients, min_rows):
    check_enough_rows(
        n_samples,
        int(n_clients) * int(min_rows),
        f"n_clients={n_clients} with min_rows={min_rows}",
        "fewer clients or a smaller min_rows",
    )


def check_enough_rows(n_samples, needed, request, remedy):
    if needed > n_samples:
        raise ValueError(
            f"{request} needs at least {needed} rows but y has {n_samples}; pass {remedy}."
        )
