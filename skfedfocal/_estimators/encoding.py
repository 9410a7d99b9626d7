"""Which encoding rows get before the first layer, and the encoder that it comes to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.queries import Query, settle
from skfedfocal._training.parts import encoding_wanted
from skfedfocal.encodings import NumericEncoding, StandardIfUnscaled, resolve_encoding
from skfedfocal.encodings._encoder import RowEncoder


def encoding_of(
    settings: Any, row_shape: tuple[int, ...], *, dense: bool
) -> NumericEncoding | None:
    """The encoding for such rows; None for rows as they are.

    Parameters
    ----------
    settings : estimator
        Whose parameters say what is wanted.
    row_shape : tuple of int
        Shape of a row.
    dense : bool
        Whether rows are no sparse matrix.

    Raises
    ------
    ValueError
        If an encoding is asked for by name that such rows, or the module, cannot have.
    """
    encoding = encoding_wanted(settings)
    if encoding is None:
        return None
    if settings.module is not None:
        why = "a module of one's own takes rows as they are"
    elif not dense:
        why = "X is sparse, and encoded rows would not be"
    elif len(row_shape) != 1:
        why = f"X has rows of shape {row_shape}, which are no columns of numbers"
    else:
        return encoding if encoding.takes(row_shape[0]) else None
    if type(encoding) is StandardIfUnscaled:
        return None
    raise ValueError(
        f"numeric_encoding={settings.numeric_encoding!r} cannot be: {why}. Use 'auto' or None, or "
        "scale X before."
    )


def encoder_of(
    estimator: Any,
    encoding: NumericEncoding | None,
    n_features: int,
    ask: Callable[[Query], NDArray[np.float64]],
    *,
    go_on: bool,
) -> RowEncoder | None:
    """What an encoding comes to: from clients' sums, or as it was where a training goes on."""
    if go_on:
        return encoder_before(estimator, encoding)
    return None if encoding is None else settle(encoding.questions(n_features), ask)


def encoder_before(estimator: Any, encoding: NumericEncoding | None) -> RowEncoder | None:
    """What rows went through so far, where a training goes on.

    Raises
    ------
    ValueError
        If it was another encoding when the training began.
    """
    before, now = estimator.encoding_, in_words(encoding)
    auto = type(resolve_encoding(estimator.numeric_encoding)) is StandardIfUnscaled
    if before != now and not (auto and None in (before, now)):  # else privacy differs: said later
        raise ValueError(
            f"numeric_encoding came to {before} when the training began, and now comes to {now}; "
            "use the same, or fit anew, without warm_start."
        )
    return cast("RowEncoder | None", estimator.encoder_)


def in_words(encoding: NumericEncoding | None) -> str | None:
    """How an encoding is written, with all of its parameters."""
    return None if encoding is None else f"{type(encoding).__name__}({encoding.get_params()})"
