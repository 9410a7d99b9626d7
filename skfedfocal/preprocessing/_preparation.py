"""Steps before a classifier whose clients are elsewhere.

The server walks along pipelines and into column transformers, and has each step learn from sums.
What a step asks is about rows as the steps before it leave them, so that every question says what
comes before (`Behind`): plain data, which a client applies to its own rows.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from skfedfocal._data.queries import Query
from skfedfocal._disclosure import VALUE_COUNTS
from skfedfocal.preprocessing._ask import About
from skfedfocal.preprocessing._columns_of import ColumnsOf
from skfedfocal.preprocessing._described import (
    as_federated,
    columns_of,
    describe_step,
    finish_columns,
    one_row,
    rebuild_step,
)

Array = NDArray[np.float64]
Node = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """What the server knows of clients' rows.

    Attributes
    ----------
    names : list of str or None
        Of the columns, where they are all strings.
    dtypes : list of numpy.dtype
        Of the columns.
    n_rows : int
        Over all clients.
    is_sparse : bool
    """

    names: list[str] | None
    dtypes: list[Any]
    n_rows: int
    is_sparse: bool = False

    @property
    def dtype(self) -> Any:
        """Of all columns together, as an array."""
        kinds = {dtype.kind for dtype in self.dtypes}
        if not kinds <= set("biuf") and (kinds != {"U"}):
            return np.dtype(object)
        return np.result_type(*self.dtypes)

    def take(self, places: list[int]) -> Table:
        """Some columns."""
        names = None if self.names is None else [self.names[j] for j in places]
        return replace(self, names=names, dtypes=[self.dtypes[j] for j in places])


class Behind(Query):
    """A question about rows as some steps leave them.

    Parameters
    ----------
    query : Query
        The question.
    path : list of dict
        Steps that are fitted, as `applied` takes them.
    step : dict or None
        The step that asks, and sees to the form of the rows.
    """

    def __init__(self, query: Query, path: list[Node], step: Node | None):
        self.query = query
        self.path = path
        self.step = step
        self.discloses = query.discloses  # type: ignore[misc]

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        """That of one client."""
        for node in self.path:
            X = applied(node, X)
        if self.step is None:
            return self.query.answer(X, y, None)
        step = rebuild_step(self.step)
        weight = sample_weight if step._takes_weights else None
        return self.query.answer(step._look(X)[0], y, weight)


class Entries(Query):
    """Of blocks of columns, the entries that are stored and all there are: (2,)."""

    discloses = frozenset({VALUE_COUNTS})

    def answer(self, X: Any, y: Any, sample_weight: Array | None) -> Array:
        """Count one client's."""
        sizes = [block.shape[0] * block.shape[1] for block in X]
        stored = [b.nnz if sparse.issparse(b) else n for b, n in zip(X, sizes, strict=True)]
        return np.array([sum(stored), sum(sizes)], np.float64)


# -- at a client -----------------------------------------------------------------------------------


def applied(node: Node, X: Any) -> Any:
    """Rows after a step: a fitted transformer, a choice of columns, or several side by side."""
    if "take" in node:
        X = X if node["take"] is None else X[:, np.asarray(node["take"], np.int64)]
        return X if sparse.issparse(X) else X.astype(np.dtype(node["dtype"]), copy=False)
    if "blocks" in node:
        blocks = []
        for path in node["blocks"]:
            block = X
            for inner in path:
                block = applied(inner, block)
            blocks.append(block)
        return blocks
    if "stack" in node:
        if node["stack"]:
            return sparse.hstack([sparse.csr_array(block) for block in X]).tocsr()
        return np.hstack([block.toarray() if sparse.issparse(block) else block for block in X])
    return rebuild_step(node).transform(X)


# -- at the server ---------------------------------------------------------------------------------

Found = tuple[Any, list[Node], Table]
Learns = Generator[Query, Array, Found]


def learned(step: Any, table: Table, path: list[Node], *, fitted: bool = False) -> Learns:
    """Ask what a step has to know.

    Parameters
    ----------
    step : transformer, Pipeline, ColumnTransformer or "passthrough"
        Not changed.
    table : Table
        What comes in.
    path : list of dict
        Steps before, which are fitted.
    fitted : bool, default=False
        Whether the step is fitted: then nothing is asked.

    Returns
    -------
    fitted : object
        A copy, fitted.
    nodes : list of dict
        What it does, for `applied`.
    table : Table
        What comes out.

    Raises
    ------
    TypeError
        If there is a step inside that cannot ask.
    """
    if step is None or step == "passthrough":
        return step, [], table
    if isinstance(step, Pipeline):
        return (yield from _chain(step, table, path, fitted))
    if isinstance(step, ColumnTransformer):
        return (yield from _side_by_side(step, table, path, fitted))
    done = as_federated(step)
    done.n_features_in_ = len(table.dtypes)
    if table.names is not None:
        done.feature_names_in_ = np.array(table.names, object)
    if fitted:
        done._restore(describe_step(step)["state"])
    seen = done._seen_as(table.dtypes)
    if not fitted:
        unfitted = _without_names(describe_step(as_federated(step)))
        yield from _behind(done._learn(About(seen, table.n_rows)), path, unfitted)
    names = list(done.get_feature_names_out())
    gives_names = getattr(done, "_sklearn_output_config", {}).get("transform", "default")
    out = replace(
        table,
        names=names if gives_names != "default" else None,
        dtypes=[done._dtype_out(seen)] * len(names),
        is_sparse=done._is_sparse_out(table.is_sparse),
    )
    return done, [_without_names(describe_step(done))], out


def _behind(questions: Any, path: list[Node], step: Node) -> Generator[Query, Array, None]:
    try:
        query = next(questions)
        while True:
            answer = yield Behind(query, path, step)
            query = questions.send(answer)
    except StopIteration:
        return


def _chain(pipeline: Pipeline, table: Table, path: list[Node], fitted: bool) -> Learns:
    steps: list[tuple[str, Any]] = []
    nodes: list[Node] = []
    for name, step in pipeline.steps:
        done, more, table = yield from learned(step, table, path + nodes, fitted=fitted)
        steps.append((name, done))
        nodes += more
    return Pipeline(steps), nodes, table


def _side_by_side(step: ColumnTransformer, table: Table, path: list[Node], fitted: bool) -> Learns:
    if step.transformer_weights is not None:
        raise TypeError("transformer_weights of a ColumnTransformer have no form over sites")
    n_columns, taken = len(table.dtypes), set()
    one_row(table.names, n_columns)  # what is missing is found before anyone is asked
    known = {name: part for name, part, _ in step.transformers_} if fitted else {}
    of_branch = columns_of(step) if fitted else {}  # as they were then
    ways, found, blocks, tables = [], {}, [], []
    for name, part, columns in step.transformers:
        places = places_of(of_branch.get(name, columns), table)
        if isinstance(columns, ColumnsOf):
            columns = places if table.names is None else [table.names[j] for j in places]
        of_branch.setdefault(name, columns)
        taken |= set(places)
        ways.append((name, part, places))
    rest = [j for j in range(n_columns) if j not in taken]
    ways.append(("remainder", step.remainder, rest))
    for name, part, places in ways:
        if (isinstance(part, str) and part == "drop") or not places:
            continue
        some = table.take(places)
        chosen: Node = {"take": places, "dtype": some.dtype.str}
        part = part if isinstance(part, str) else known.get(name, part)
        way, nodes, out = yield from learned(part, some, [*path, chosen], fitted=fitted)
        if way not in (None, "passthrough"):
            found[name] = way
        blocks.append([chosen, *nodes])
        tables.append((name, out))
    if not blocks:
        raise TypeError("a ColumnTransformer that drops all columns leaves nothing to train on")
    is_sparse = any(out.is_sparse for _, out in tables)
    nodes = [{"blocks": blocks}]
    if is_sparse and fitted:
        is_sparse = bool(step.sparse_output_)
    elif is_sparse:
        stored, entries = yield Behind(Entries(), path + nodes, None)
        is_sparse = bool(stored / entries < step.sparse_threshold)
    nodes.append({"stack": is_sparse})
    done = clone(step)
    widths = {name: len(out.dtypes) for name, out in tables}
    finish_columns(done, found, of_branch, widths, table.names, n_columns, is_sparse)
    dtypes = [dtype for _, out in tables for dtype in out.dtypes]
    gives_names = getattr(done, "_sklearn_output_config", {}).get("transform", "default")
    names = list(done.get_feature_names_out()) if gives_names != "default" else None
    out = Table(names, dtypes, table.n_rows, is_sparse)
    return done, nodes, replace(out, dtypes=[out.dtype] * len(dtypes))


def places_of(columns: Any, table: Table) -> list[int]:
    """Numbers of the columns that a ColumnTransformer names."""
    n, names = len(table.dtypes), table.names
    if isinstance(columns, ColumnsOf):
        return columns.places(table.dtypes)
    if callable(columns):
        raise TypeError(
            "a ColumnTransformer over sites needs its columns by name, by number, or as ColumnsOf"
        )
    if isinstance(columns, slice):
        if not all(end is None or isinstance(end, int) for end in (columns.start, columns.stop)):
            raise TypeError("a slice of columns over sites needs numbers; list the names instead")
        return list(range(n))[columns]
    wanted = np.atleast_1d(np.asarray(columns)).tolist()
    if wanted and all(isinstance(column, bool) for column in wanted):
        return np.flatnonzero(wanted).tolist()
    places = []
    for column in wanted:
        if isinstance(column, str):
            if names is None or column not in names:
                raise ValueError(f"There is no column {column!r}; there are {names}.")
            places.append(names.index(column))
        elif -n <= column < n:
            places.append(column % n)
        else:
            raise ValueError(f"There is no column {column}; there are {n}.")
    return places


def _without_names(node: Node) -> Node:
    """As clients use it: on arrays."""
    state = {name: v for name, v in node["state"].items() if name != "feature_names_in_"}
    return {**node, "state": state, "output": {}}


def learn_from(step: Any, fitted: Any) -> None:
    """Give a step what its fitted copy has learned."""
    if isinstance(step, Pipeline):
        step.steps = fitted.steps
        return
    params = {*step.get_params(deep=False), *fitted.get_params(deep=False)}
    for name in [name for name in vars(step) if name.endswith("_") and name not in params]:
        delattr(step, name)
    vars(step).update({name: v for name, v in vars(fitted).items() if name not in params})
