"""Encoders of categories as tables that are looked up."""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skfedfocal._data.clients import is_missing
from skfedfocal.onnx._graph import MISSING_TEXT, Graph

Array = NDArray[np.float64]


def convert_encoder(scope: Any, operator: Any, container: Any) -> None:
    """Look up what the encoder makes of each category, and of what is none."""
    graph, encoder = Graph(scope, operator, container), operator.raw_operator
    blocks = []
    for (name, texts), categories, table in zip(
        graph.columns(), encoder.categories_, _tables(encoder), strict=True
    ):
        place = _place_of_text if texts else _place_of_number
        blocks.append(
            graph.node("Gather", graph.constant(table), place(graph, name, categories), axis=0)
        )
    graph.node("Concat", *blocks, axis=1, out=graph.output)


def _tables(encoder: Any) -> list[Array]:
    """By column, what the encoder makes of each category, and last of what is none.

    The encoder is asked, so that what it drops and groups is what it does.
    """
    plain = copy(encoder)
    vars(plain).pop("feature_names_in_", None)
    plain._sklearn_output_config = {}
    longest = max(map(len, plain.categories_))
    rows = np.empty((longest, len(plain.categories_)), object)
    for j, categories in enumerate(plain.categories_):
        rows[:, j] = np.resize(categories.astype(object), longest)
    found = plain.transform(rows)
    found = np.asarray(found.toarray() if sparse.issparse(found) else found, np.float64)
    widths = getattr(plain, "_n_features_outs", [1] * len(plain.categories_))
    tables, start = [], 0
    for j, (categories, width) in enumerate(zip(plain.categories_, widths, strict=True)):
        table = found[: len(categories), start : start + width]
        tables.append(np.vstack([table, _of_none(plain, j, table)]))
        start += width
    return tables


def _of_none(encoder: Any, j: int, table: Array) -> Array:
    """The line of what is no category: NaN where the encoder would raise, which ONNX cannot."""
    if encoder.handle_unknown == "error":
        return np.full(table.shape[1], np.nan)
    if encoder.handle_unknown == "use_encoded_value":
        return np.full(table.shape[1], np.float64(encoder.unknown_value))
    infrequent = getattr(encoder, "_infrequent_indices", None)
    if encoder.handle_unknown != "ignore" and infrequent and infrequent[j] is not None:
        return table[infrequent[j][0]]
    return np.zeros(table.shape[1])


def _place_of_text(graph: Graph, name: str, categories: NDArray[Any]) -> str:
    """Number of the category of each row (n,); how many there are for what is none."""
    keys = [MISSING_TEXT if is_missing(value) else value for value in categories]
    if not all(isinstance(key, str) for key in keys):
        raise TypeError(
            f"An encoder of the categories {categories.tolist()} is given texts in ONNX; give "
            "columns of numbers a branch of their own in the ColumnTransformer."
        )
    if sum(key == MISSING_TEXT for key in keys) > any(map(is_missing, categories)):
        raise ValueError(
            "An encoder has two categories that are one in ONNX, where the empty text stands for a "
            f"missing value: {categories.tolist()}."
        )
    place = graph.node(
        "LabelEncoder",
        name,
        domain="ai.onnx.ml",
        keys_strings=keys,
        values_int64s=list(range(len(keys))),
        default_int64=len(keys),
    )
    return graph.node("Reshape", place, graph.constant(np.array([-1])))


def _place_of_number(graph: Graph, name: str, categories: NDArray[Any]) -> str:
    """The same of numbers, of which NaN is one."""
    missing = np.array([is_missing(value) for value in categories])
    if any(isinstance(value, str) for value in categories):
        raise TypeError(
            f"An encoder of the categories {categories.tolist()} is given numbers in ONNX; convert "
            "with rows of the kind that it was fitted on."
        )
    values = np.array([np.nan if m else v for v, m in zip(categories, missing, strict=True)], float)
    same = graph.node("Equal", name, graph.constant(values[None]))
    if missing.any():
        nan = graph.node("And", graph.node("IsNaN", name), graph.constant(missing[None]))
        same = graph.node("Or", same, nan)
    # One of them is the row's, or none: the number of categories, less what it is short of that.
    short = graph.constant(np.arange(len(values)) - len(values))
    found = graph.node("Mul", graph.cast(same, np.int64), short)
    total = graph.node("ReduceSum", found, graph.constant(np.array([1])), keepdims=0)
    return graph.node("Add", total, graph.constant(np.int64(len(values))))
