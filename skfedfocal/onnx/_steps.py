"""Transformers of `skfedfocal.preprocessing` as nodes, in double precision.

skl2onnx has converters of their parents, which round doubles to single precision, leave out the
indicator of missing values, and take no missing texts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._data.clients import is_missing
from skfedfocal.onnx._graph import MISSING_TEXT, Graph

Array = NDArray[np.float64]


def convert_scaler(scope: Any, operator: Any, container: Any) -> None:
    """Centre and scale, by mean, median or range."""
    graph, step = Graph(scope, operator, container), operator.raw_operator
    rows = graph.joined()
    if hasattr(step, "data_min_"):
        rows = graph.node("Mul", rows, graph.constant(np.float64(step.scale_)))
        rows = graph.node("Add", rows, graph.constant(np.float64(step.min_)))
        if step.clip:
            ends = [graph.constant(np.float64(end)) for end in step.feature_range]
            rows = graph.node("Clip", rows, *ends)
    else:
        centre = step.center_ if hasattr(step, "center_") else getattr(step, "mean_", None)
        if centre is not None and getattr(step, "with_mean", True):
            rows = graph.node("Sub", rows, graph.constant(np.float64(centre)))
        if step.scale_ is not None:
            rows = graph.node("Div", rows, graph.constant(np.float64(step.scale_)))
    graph.node("Identity", rows, out=graph.output)


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """Fill what is missing, and say where it was."""
    graph, step = Graph(scope, operator, container), operator.raw_operator
    kept = np.array([not is_missing(value) for value in step.statistics_])
    if any(texts for _, texts in graph.columns()):
        _fill_texts(graph, step, kept)
        return
    rows = graph.joined()
    empty = graph.node("IsNaN", rows)
    fill = step.statistics_.astype(np.float64)[kept]
    some, holes = rows, empty
    if not kept.all():
        some, holes = (graph.take(name, np.flatnonzero(kept)) for name in (rows, empty))
    blocks = [graph.node("Where", holes, graph.constant(fill), some)]
    if step.add_indicator and len(step.indicator_.features_):
        blocks.append(graph.cast(graph.take(empty, step.indicator_.features_), np.float64))
    graph.node("Concat", *blocks, axis=1, out=graph.output)


def _fill_texts(graph: Graph, step: Any, kept: NDArray[np.bool_]) -> None:
    columns = graph.columns()
    if step.add_indicator:
        raise TypeError(
            "FederatedSimpleImputer(add_indicator=True) of texts gives texts beside numbers, which "
            "ONNX has no table for; encode missing texts as a category instead."
        )
    if not all(texts for _, texts in columns) or not all(
        isinstance(value, str) for value in step.statistics_[kept]
    ):
        raise TypeError(
            "FederatedSimpleImputer is given columns of texts and of numbers; in ONNX a table has "
            "one type: give each kind a branch of its own in the ColumnTransformer."
        )
    missing = graph.constant(np.array(MISSING_TEXT))
    filled = [
        graph.node("Where", graph.node("Equal", name, missing), graph.constant([value]), name)
        for (name, _), value, keeps in zip(columns, step.statistics_, kept, strict=True)
        if keeps
    ]
    graph.node("Concat", *filled, axis=1, out=graph.output)


def convert_quantiles(scope: Any, operator: Any, container: Any) -> None:
    """The share of rows below a value, between two quantiles in proportion."""
    graph, step = Graph(scope, operator, container), operator.raw_operator
    if step.output_distribution != "uniform":
        raise TypeError(
            "FederatedQuantileTransformer(output_distribution='normal') needs the normal quantile "
            "function, which ONNX does not have; use 'uniform'."
        )
    shares, blocks = step.references_, []
    for (name, _), quantiles in zip(graph.columns(), step.quantiles_.T, strict=True):
        if len(quantiles) == 1:
            blocks.append(graph.node("Mul", name, graph.constant(np.float64(0))))
            continue
        up = _interpolated(graph, name, quantiles, shares, "LessOrEqual")
        down = _interpolated(graph, name, quantiles, shares, "Less")
        half = graph.node("Mul", graph.node("Add", up, down), graph.constant(np.float64(0.5)))
        beyond = (("GreaterOrEqual", quantiles[-1], 1.0), ("LessOrEqual", quantiles[0], 0.0))
        for is_beyond, end, share in beyond:
            there = graph.node(is_beyond, name, graph.constant(np.float64(end)))
            half = graph.node("Where", there, graph.constant(np.float64(share)), half)
        blocks.append(half)
    graph.node("Concat", *blocks, axis=1, out=graph.output)


def _interpolated(graph: Graph, name: str, quantiles: Array, shares: Array, below: str) -> str:
    """Linear interpolation of a column (n, 1); where quantiles are equal, by the last or first."""
    there = graph.node(below, graph.constant(quantiles[None]), name)
    place = graph.node(
        "ReduceSum", graph.cast(there, np.int64), graph.constant(np.array([1])), keepdims=1
    )
    ends = (np.int64(1), np.int64(len(quantiles) - 1))
    right = graph.node("Clip", place, *map(graph.constant, ends))
    width = np.diff(quantiles)
    slope = np.divide(np.diff(shares), width, out=np.zeros(len(width)), where=width > 0)
    left = graph.node("Sub", right, graph.constant(np.int64(1)))
    start, first, rise = (
        graph.node("Gather", graph.constant(values), left, axis=0)
        for values in (quantiles[:-1], shares[:-1], slope)
    )
    into = graph.node("Mul", graph.node("Sub", name, start), rise)
    within = (graph.constant(np.float64(0)), graph.constant(np.float64(1)))
    return graph.node("Clip", graph.node("Add", first, into), *within)
