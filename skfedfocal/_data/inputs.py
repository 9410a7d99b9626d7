"""Data at the door: per-client partitions become rows with a client id each."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.multiclass import check_classification_targets
from torch import Tensor

from skfedfocal._data.clients import check_order
from skfedfocal._data.differences import aligned

# What scikit-learn checks of X; `check_finite` does the rest once the module's type is known.
ACCEPTED: dict[str, Any] = {
    "accept_sparse": "csr",
    "allow_nd": True,
    "dtype": "numeric",
    "ensure_all_finite": False,
}

_ROWS_AT_A_TIME = 1 << 20
_HUGE = 1e9  # beside values of order 1, with which training begins


def as_rows(X: Any, y: Any, sample_weight: Any, clients: Any) -> tuple[Any, Any, Any, Any]:
    """Bring the three forms of federated data into one.

    The forms are rows with ``clients=`` one id per row; a dict ``{id: (X, y)}`` or
    ``{id: (X, y, sample_weight)}``; and two lists ``[X_a, X_b], [y_a, y_b]``, whose clients are
    numbered ``0, 1, ...``.
    """
    if isinstance(X, Mapping) and not sparse.issparse(X):
        if not (y is None and sample_weight is None and clients is None):
            raise ValueError(
                "X is a dict of partitions {client: (X, y)}, which says whose rows are whose; "
                "do not pass y, sample_weight or clients beside it."
            )
        return _join(list(X), [_partition(client, part) for client, part in X.items()])
    if _is_list_of_partitions(X, y):
        if clients is not None:
            raise ValueError("X is a list of partitions, one per client; do not pass clients.")
        if len(X) != len(y):
            raise ValueError(f"X has {len(X)} partitions but y has {len(y)}; pass one per client.")
        weights = [None] * len(X) if sample_weight is None else list(sample_weight)
        if len(weights) != len(X):
            raise ValueError(
                f"X has {len(X)} partitions but sample_weight has {len(weights)}; pass one array "
                "per client."
            )
        return _join(list(range(len(X))), list(zip(X, y, weights, strict=True)))
    check_order(X, clients)
    return plain(X, "X"), labels(plain(y, "y")), plain(sample_weight, "sample_weight"), clients


def refuse_partitions(X: Any) -> None:
    """Raise ValueError where a step that takes only rows is given partitions."""
    if isinstance(X, Mapping) and not sparse.issparse(X):
        raise ValueError(
            "X is a dict of partitions, which a step before the classifier cannot take; pass rows "
            "and clients=, or wrap the whole pipeline: "
            "ClientColumn(pipeline, column=None).fit({client: (X, y)})."
        )


def _partition(client: Any, part: Any) -> tuple[Any, Any, Any]:
    if not isinstance(part, tuple | list) or len(part) not in (2, 3):
        raise ValueError(
            f"The partition of client {client!r} must be (X, y) or (X, y, sample_weight); "
            f"found {type(part).__name__}."
        )
    return part[0], part[1], part[2] if len(part) == 3 else None


def _is_list_of_partitions(X: Any, y: Any) -> bool:
    def many(value: Any) -> bool:
        return isinstance(value, list | tuple) and len(value) > 0

    if not (many(X) and many(y)):
        return False
    return all(_ndim(part) >= 2 for part in X) and all(_ndim(part) >= 1 for part in y)


def _ndim(part: Any) -> int:
    if hasattr(part, "shape"):
        return len(part.shape)
    try:
        return np.ndim(part)
    except ValueError:  # ragged
        return 0


def _join(ids: list[Any], parts: list[tuple[Any, Any, Any]]) -> tuple[Any, Any, Any, Any]:
    if not parts:
        raise ValueError("There are no partitions; pass at least one client's (X, y).")
    names = ("X", "y", "sample_weight")
    parts = [
        tuple(plain(v, f"{name} of client {client!r}") for v, name in zip(part, names, strict=True))
        for client, part in zip(ids, parts, strict=True)
    ]
    sizes = []
    for client, (X, y, weight) in zip(ids, parts, strict=True):
        n_rows = _n_rows(X)
        sizes.append(n_rows)
        if n_rows == 0:
            raise ValueError(f"The partition of client {client!r} is empty; leave the client out.")
        lengths = {"y": len(y)} | ({} if weight is None else {"sample_weight": len(weight)})
        for name, length in lengths.items():
            if length != n_rows:
                raise ValueError(
                    f"Client {client!r}: X has {n_rows} rows but {name} has {length} entries."
                )
    weighted = [weight is not None for *_, weight in parts]
    if any(weighted) and not all(weighted):
        raise ValueError("Give sample_weight for every client or for none.")
    return (
        _stack(aligned(ids, [X for X, *_ in parts])),
        _join_labels(ids, [np.asarray(labels(y)) for _, y, _ in parts]),
        np.concatenate([np.asarray(w) for *_, w in parts]) if any(weighted) else None,
        _repeat(ids, sizes),
    )


def _join_labels(ids: list[Any], parts: list[NDArray[Any]]) -> NDArray[Any]:
    texts = [part.dtype.kind in "US" for part in parts]
    numbers = [part.dtype.kind in "biuf" for part in parts]
    if any(texts) and any(numbers):  # which joining would make texts
        raise ValueError(
            f"Client {ids[texts.index(True)]!r} has texts as labels but client "
            f"{ids[numbers.index(True)]!r} has numbers; all clients need the same labels."
        )
    return np.concatenate(parts)


def _n_rows(X: Any) -> int:
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def _stack(parts: Sequence[Any]) -> Any:
    if any(sparse.issparse(part) for part in parts):
        return sparse.vstack(parts, format="csr")
    module = type(parts[0]).__module__.partition(".")[0]
    if module == "pandas":
        import pandas as pd

        return pd.concat(parts, ignore_index=True)
    if module == "polars":
        import polars as pl

        return pl.concat(parts, how="vertical_relaxed")
    return np.concatenate([np.asarray(part) for part in parts])


def _repeat(ids: list[Any], sizes: list[int]) -> Any:
    kinds = {type(i) for i in ids}
    if len(kinds) == 1 and not kinds <= {tuple, bytes}:
        return np.repeat(np.asarray(ids), sizes)
    mixed = np.empty(len(ids), object)
    mixed[:] = ids
    return np.repeat(mixed, sizes)


def plain(values: Any, name: str) -> Any:
    """A tensor leaves its graph, masked entries are refused, everything else stays as it is."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} has {np.ma.count_masked(values)} masked entries; fill them or leave their "
            "rows out."
        )
    return values


def numbers(X: Any) -> Any:
    """Columns of objects as numbers, or ValueError: scikit-learn leaves some of pandas as they are.

    Categories in every release, and before 1.9 the texts of pandas 3.
    """
    return X.astype(np.float64) if X.dtype.kind == "O" else X


def labels(y: Any) -> Any:
    """Nullable integers and booleans of pandas stay so, which scikit-learn would make floats."""
    numpy_dtype = getattr(getattr(y, "dtype", None), "numpy_dtype", None)
    if numpy_dtype is not None and numpy_dtype.kind in "biu" and not y.isna().any():
        return y.to_numpy(numpy_dtype)
    return y


def check_labels(y: NDArray[Any]) -> None:
    """Raise ValueError where these are not labels of classes, or texts and other things."""
    if y.dtype.kind == "O":
        texts = [isinstance(label, str) for label in y]
        if any(texts) and not all(texts):
            raise ValueError(
                f"y has texts and also {y[texts.index(False)]!r} among its labels; use labels of "
                "one kind, and leave out rows without one."
            )
    if y.dtype.kind == "S":  # which scikit-learn refuses from 1.7 on
        raise TypeError("y has bytes for labels, which scikit-learn does not take; decode them.")
    check_classification_targets(y[:_ROWS_AT_A_TIME])
    if y.dtype.kind == "f" and not (y == np.floor(y)).all():
        raise ValueError("y has fractions among its labels; a classifier needs classes.")


def distinct(y: NDArray[Any]) -> NDArray[Any]:
    """Distinct labels, sorted, without sorting all rows at once."""
    parts = [np.unique(part) for part in _in_parts(y)]
    return parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))


def places_among(known: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Place of each label among the known ones, in the smallest type that holds them.

    Labels that are such places are given back as they are: a copy grows with all rows.
    """
    numbers = y.dtype.kind in "iu" and np.can_cast(y.dtype, np.int64)
    if numbers and np.array_equal(known, np.arange(len(known))):
        return y
    places = np.empty(len(y), np.min_scalar_type(len(known)))
    for part, out in zip(_in_parts(y), _in_parts(places), strict=True):
        out[:] = np.searchsorted(known, part)
    return places


def codes_and_known(
    classes: NDArray[Any], y: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Labels as numbers of the classes, which are sorted; and which labels are among them."""
    codes = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    return codes, classes[codes] == y


def _in_parts(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Views of so many rows at a time, that no temporary grows with all of them."""
    return [values[i : i + _ROWS_AT_A_TIME] for i in range(0, len(values), _ROWS_AT_A_TIME)]


def check_finite(
    X: Any, dtype: torch.dtype, names: NDArray[Any] | None, *, warn: bool = False
) -> None:
    """Raise ValueError where X has values that are NaN, infinite, or too large for the type.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...) or CSR matrix
        Checked without a copy.
    dtype : torch.dtype
        What X will be computed with.
    names : ndarray of shape (n_features,) or None
        Names of the columns.
    warn : bool, default=False
        Whether to warn of a value so large that nothing will be learned beside it.
    """
    values = X.data if sparse.issparse(X) else X
    limit = (torch.finfo if dtype.is_floating_point else torch.iinfo)(dtype).max
    if values.dtype.kind == "f":
        limit = min(limit, float(np.finfo(values.dtype).max))
    elif values.dtype.kind == "b" or np.iinfo(values.dtype).max <= min(limit, _HUGE):
        return
    if not values.size:
        return
    low, high = values.min().item(), values.max().item()
    if -limit <= low and high <= limit:  # false where either is NaN
        if warn and max(-low, high) > _HUGE:
            _warn_of_huge(X, values, low if -low > high else high, names)
        return
    wrong = ~((values >= -limit) & (values <= limit))
    counts = {
        "NaN": np.isnan(values).sum(),
        "infinity": np.isinf(values).sum(),
        f"too large for {dtype} (beyond {limit:.4g})": (wrong & np.isfinite(values)).sum(),
    }
    found = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    raise ValueError(
        f"X contains values that cannot be computed with: {found}; first in column "
        f"{_first_column(X, wrong, names)}. Impute or scale them, or leave their rows out."
    )


def _warn_of_huge(X: Any, values: Any, value: float, names: NDArray[Any] | None) -> None:
    column = _first_column(X, values == value, names)
    warnings.warn(
        f"X has the value {value:g} in column {column}; no step length suits both it and "
        "the numbers beside it. If it is a mistake, mend it or leave its row out; else scale the "
        "column (StandardScaler, RobustScaler, a logarithm).",
        UserWarning,
        stacklevel=2,
    )


def _first_column(X: Any, wrong: NDArray[np.bool_], names: NDArray[Any] | None) -> Any:
    """The first column with a value so marked, by number and name."""
    column: Any
    if sparse.issparse(X):
        column = int(X.indices[wrong].min())
    else:
        by_column = wrong.any(0)
        column = tuple(map(int, np.unravel_index(by_column.argmax(), by_column.shape)))
        column = column[0] if len(column) == 1 else column
    return column if names is None else f"{column} ({names[column]!r})"


@contextmanager
def as_before_on_error(estimator: Any) -> Iterator[None]:
    """Undo what a failed fit did to its estimator, unless a round ended and its model was kept."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        if vars(estimator).get("history_") is before.get("history_"):
            vars(estimator).clear()
            vars(estimator).update(before)
        raise
