"""What tells the rows of a training from others."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skfedfocal._data.clients import ClientLayout

_ROWS_AT_A_TIME = 1 << 16


def digest(
    X: Any, codes: NDArray[Any], sample_weight: NDArray[np.float64] | None, layout: ClientLayout
) -> str:
    """What tells these rows from others: a hash over values, labels, weights and owners."""
    found = hashlib.sha256(repr((X.shape, str(X.dtype))).encode())
    arrays = [X.data, X.indices, X.indptr] if sparse.issparse(X) else [X]
    if arrays[0].dtype.kind == "O":  # whose memory is addresses
        arrays = [np.frompyfunc(repr, 1, 1)(X).astype(np.str_)]
    arrays += [codes.astype(np.int64), layout.codes(X.shape[0])]
    arrays += [] if sample_weight is None else [sample_weight]
    for array in arrays:
        for lo in range(0, len(array), _ROWS_AT_A_TIME):  # a mapped file stays on disk
            found.update(np.ascontiguousarray(array[lo : lo + _ROWS_AT_A_TIME]).data)
    return found.hexdigest()
