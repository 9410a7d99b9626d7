"""Steps before a classifier as plain data: parameters, and what was learned of the columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skfedfocal.preprocessing._ask import FittedByQuestions
from skfedfocal.preprocessing._columns_of import ColumnsOf
from skfedfocal.preprocessing._imputer import FederatedSimpleImputer
from skfedfocal.preprocessing._min_max_scaler import FederatedMaxAbsScaler, FederatedMinMaxScaler
from skfedfocal.preprocessing._one_hot_encoder import FederatedOneHotEncoder
from skfedfocal.preprocessing._ordinal_encoder import FederatedOrdinalEncoder
from skfedfocal.preprocessing._quantile_transformer import FederatedQuantileTransformer
from skfedfocal.preprocessing._robust_scaler import FederatedRobustScaler
from skfedfocal.preprocessing._scaler import FederatedStandardScaler

STEPS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        FederatedMaxAbsScaler,
        FederatedMinMaxScaler,
        FederatedOneHotEncoder,
        FederatedOrdinalEncoder,
        FederatedQuantileTransformer,
        FederatedRobustScaler,
        FederatedSimpleImputer,
        FederatedStandardScaler,
        StandardScaler,
    )
}


def describe_step(step: Any) -> dict[str, Any]:
    """A transformer, fitted or not, as values for `to_plain`.

    Raises
    ------
    TypeError
        If it is none of `STEPS`, nor made of them.
    """
    if isinstance(step, str) or step is None:
        return {"text": step}
    if isinstance(step, Pipeline):
        return {"steps": [(name, describe_step(part)) for name, part in step.steps]}
    if isinstance(step, ColumnTransformer):
        return _describe_columns(step)
    kind = type(step)
    if STEPS.get(kind.__name__) is not kind:
        raise TypeError(
            f"{kind.__name__} cannot be written; only {sorted(STEPS)}, and Pipeline and "
            "ColumnTransformer of them."
        )
    if isinstance(step, FittedByQuestions):
        state = step._state()
    else:
        state = {name: v for name, v in vars(step).items() if _is_learned(name)}
    return {
        "kind": kind.__name__,
        "params": step.get_params(deep=False),
        "state": state,
        "output": getattr(step, "_sklearn_output_config", {}),
    }


def rebuild_step(described: dict[str, Any]) -> Any:
    """The transformer of `describe_step`."""
    if "text" in described:
        return described["text"]
    if "steps" in described:
        return Pipeline([(name, rebuild_step(part)) for name, part in described["steps"]])
    if "branches" in described:
        return _rebuild_columns(described)
    step = STEPS[described["kind"]](**described["params"])
    state = described["state"]
    if not all(map(_is_learned, state)):
        raise ValueError(f"{sorted(state)} are not all fitted attributes.")
    if isinstance(step, FittedByQuestions):
        if state:
            step._restore(state)
    else:
        vars(step).update(state)
    if described.get("output"):
        step.set_output(**described["output"])
    return step


def tried_step(step: Any, rows: Any) -> Any:
    """Two rows of zeros after a fitted step; of an encoder, after two of its first categories."""
    if isinstance(step, str) or step is None:
        return rows
    if isinstance(step, Pipeline):
        for _, part in step.steps:
            rows = tried_step(part, rows)
        return rows
    if rows.shape[1] != step.n_features_in_:
        raise ValueError(f"{type(step).__name__} is given {rows.shape[1]} columns.")
    if isinstance(step, ColumnTransformer):
        for _, part, columns in step.transformers_:
            if not _is_passed(part):
                tried_step(part, np.zeros((2, np.size(columns))))
        return np.zeros((2, len(step.get_feature_names_out())))
    if isinstance(step, FederatedOneHotEncoder | FederatedOrdinalEncoder):
        rows = np.array([[values[0] for values in step.categories_]] * 2, object)
    return step.transform(rows)


def unfitted(described: dict[str, Any]) -> dict[str, Any]:
    """The same without what was learned."""
    if "steps" in described:
        return {"steps": [(name, unfitted(part)) for name, part in described["steps"]]}
    if "branches" in described:
        return {**described, "fitted": None}
    return {**described, "state": {}} if "state" in described else described


def _is_learned(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_")


# -- columns that go different ways ----------------------------------------------------------------


def _describe_columns(step: ColumnTransformer) -> dict[str, Any]:
    params = step.get_params(deep=False)
    if callable(params["verbose_feature_names_out"]):
        raise TypeError("verbose_feature_names_out is a function, which cannot be written.")
    del params["transformers"]
    remainder = params.pop("remainder")
    found = {
        "branches": [
            (name, unfitted(describe_step(part)), _plain_columns(columns))
            for name, part, columns in step.transformers
        ],
        "remainder": unfitted(describe_step(remainder)),
        "params": params,
        "output": getattr(step, "_sklearn_output_config", {}),
        "fitted": None,
    }
    if hasattr(step, "transformers_"):
        inside = {name: part for name, part, _ in step.transformers_ if not _is_passed(part)}
        names = getattr(step, "feature_names_in_", None)
        found["fitted"] = {
            "steps": {name: describe_step(part) for name, part in inside.items()},
            "columns": {
                name: _plain_columns(columns)
                for name, columns in columns_of(step).items()
                if name != "remainder"
            },
            "widths": {name: _width(step, name) for name in inside},
            "names": None if names is None else names.tolist(),
            "n_features": step.n_features_in_,
            "sparse": bool(step.sparse_output_),
        }
    return found


def _rebuild_columns(described: dict[str, Any]) -> ColumnTransformer:
    branches = [
        (name, rebuild_step(part), _rebuilt(columns))
        for name, part, columns in described["branches"]
    ]
    remainder = rebuild_step(described["remainder"])
    step = ColumnTransformer(branches, remainder=remainder, **described["params"])
    fitted = described["fitted"]
    if fitted is not None:
        steps = {name: rebuild_step(part) for name, part in fitted["steps"].items()}
        names, n_features = fitted["names"], fitted["n_features"]
        finish_columns(
            step, steps, fitted["columns"], fitted["widths"], names, n_features, fitted["sparse"]
        )
    if described.get("output"):
        step.set_output(**described["output"])
    return step


def finish_columns(
    step: ColumnTransformer,
    fitted: dict[str, Any],
    of_branch: dict[str, Any],
    widths: dict[str, int],
    names: list[str] | None,
    n_features: int,
    is_sparse: bool,
) -> None:
    """Make a ColumnTransformer a fitted one, of transformers that are fitted already.

    It is fitted by its own `fit`, with transformers in the place of the fitted ones that give as
    many columns, so that it has all that its version of scikit-learn needs.

    Parameters
    ----------
    step : ColumnTransformer
        Changed.
    fitted : dict of str to transformer
        By name; what is dropped or passed through is not among them.
    of_branch : dict of str to list
        The columns of each branch, by name or number: also of what is a `ColumnsOf` in `step`.
    widths : dict of str to int
        How many columns each gives.
    names : list of str or None
        Of the columns that come in.
    n_features : int
        Their number.
    is_sparse : bool
        Whether a sparse matrix comes out.
    """
    params = step.get_params(deep=False)
    branches = [
        (name, _Width(widths[name]) if name in fitted else part, of_branch[name])
        for name, part, _ in params["transformers"]
    ]
    rest = params["remainder"]
    if not isinstance(rest, str):
        rest = _Width(widths["remainder"]) if "remainder" in fitted else "drop"
    like = ColumnTransformer(**params | {"transformers": branches, "remainder": rest})
    like.fit(one_row(names, n_features))
    vars(step).update({name: v for name, v in vars(like).items() if name not in params})
    step.transformers_ = [
        (name, fitted.get(name, part), columns) for name, part, columns in like.transformers_
    ]
    step.sparse_output_ = is_sparse


class _Width(TransformerMixin, BaseEstimator):
    """Gives zeros of a number of columns."""

    def __init__(self, width: int):
        self.width = width

    def fit(self, X: Any, y: Any = None) -> _Width:
        return self

    def transform(self, X: Any) -> Any:
        return np.zeros((X.shape[0], self.width))

    def __sklearn_is_fitted__(self) -> bool:
        return True


def _width(step: ColumnTransformer, name: str) -> int:
    place = step.output_indices_[name]
    return place.stop - place.start


def one_row(names: list[str] | None, n_features: int) -> Any:
    """A table of a row of zeros; ImportError where it has names and there is no pandas."""
    row = np.zeros((1, n_features))
    if names is None:
        return row
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "A ColumnTransformer of columns with names needs pandas: pip install pandas"
        ) from error
    return pd.DataFrame(row, columns=names)


def _is_passed(part: Any) -> bool:
    """Whether it is scikit-learn's own way to drop or pass on columns."""
    return isinstance(part, str) or type(part).__name__ == "FunctionTransformer"


def columns_of(step: ColumnTransformer) -> dict[str, Any]:
    """The columns of each branch of a fitted one, and of what remains."""
    return {name: columns for name, _, columns in step.transformers_}


def _plain_columns(columns: Any) -> Any:
    """A choice of columns without what plain data cannot hold."""
    if isinstance(columns, ColumnsOf):
        return {"of": columns.kind}
    if callable(columns):
        raise TypeError("A ColumnTransformer whose columns are a function cannot be written.")
    if isinstance(columns, slice):
        raise TypeError("A ColumnTransformer whose columns are a slice cannot be written.")
    return columns.tolist() if hasattr(columns, "tolist") else columns


def _rebuilt(columns: Any) -> Any:
    """A choice of columns, of `_plain_columns`."""
    return ColumnsOf(columns["of"]) if isinstance(columns, dict) else columns


def as_federated(step: Any) -> Any:
    """An unfitted copy that can ask: of scikit-learn's StandardScaler, the package's own.

    Raises
    ------
    TypeError
        If the step is none that can.
    """
    if isinstance(step, FittedByQuestions):
        return clone(step)
    if isinstance(step, StandardScaler):
        return FederatedStandardScaler(with_mean=step.with_mean, with_std=step.with_std)
    name = type(step).__name__
    better = f"Federated{name}"
    remedy = f"use {better}" if better in STEPS else f"there is none of {name} that asks for sums"
    raise TypeError(f"a step of {name} is fitted on rows; {remedy}")


def takes_gaps(step: Any) -> bool:
    """Whether a step, or one inside it, is there for texts or missing values."""
    kinds = FederatedSimpleImputer | FederatedOneHotEncoder | FederatedOrdinalEncoder
    return isinstance(step, kinds) or any(map(takes_gaps, _inside(step) or []))


def check_step(step: Any) -> None:
    """Raise TypeError where a step, or one inside it, is none that can ask."""
    inside = _inside(step)
    if inside is None:
        as_federated(step)
    else:
        for part in inside:
            check_step(part)


def _inside(step: Any) -> list[Any] | None:
    """The steps that a step is made of; None for one that is of one piece."""
    if isinstance(step, str) or step is None:
        return []
    if isinstance(step, Pipeline):
        return [part for _, part in step.steps]
    if isinstance(step, ColumnTransformer):
        return [part for _, part, _ in step.transformers] + [step.remainder]
    return None
