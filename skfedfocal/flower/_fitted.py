"""A fitted estimator as sites take it: the steps before the classifier, and what predicts."""

from __future__ import annotations

import warnings
from typing import Any, NoReturn

from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skfedfocal._data.queries import Query, settle
from skfedfocal._estimators.client_column import ClientColumn
from skfedfocal._estimators.prediction import FederatedPredictor
from skfedfocal._module import module_name
from skfedfocal.flower._sites import Site, SiteError, table_of
from skfedfocal.preprocessing._described import takes_gaps
from skfedfocal.preprocessing._preparation import Table, learned


def fitted_parts(estimator: Any) -> tuple[list[tuple[str, Any]], FederatedPredictor]:
    """The steps before the classifier, by name, and the classifier, which must be fitted."""
    steps = estimator.steps if isinstance(estimator, Pipeline) else [("", estimator)]
    *before, (_, model) = [one for one in steps if one[1] not in (None, "passthrough")]
    if not isinstance(model, FederatedPredictor):
        inside = "; pass its estimator_" if isinstance(model, ClientColumn) else ""
        raise TypeError(
            "What is evaluated over sites must be a classifier of skfedfocal with one model for "
            f"all, or a Pipeline that ends in one; got {type(model).__name__}{inside}."
        )
    check_is_fitted(model)
    return before, model


def fills(before: list[tuple[str, Any]]) -> bool:
    """Whether there are steps that take texts or missing values."""
    return any(takes_gaps(step) for _, step in before)


def task_of(
    before: list[tuple[str, Any]], model: FederatedPredictor, sites: list[Site]
) -> dict[str, Any]:
    """What sites are told so that they can predict."""
    table = _table(before, model, sites)
    steps = []
    if before:
        whole = {"take": None, "dtype": table.dtype.str}
        nodes = settle(learned(Pipeline(before), table, [whole], fitted=True), _nothing)[1]
        steps = [whole, *nodes]
    return {
        "classes": model.classes_,
        "module": module_name(model._made_from),
        "columns": table.names,
        "steps": steps,
        "predictor": model._described(),
        "seed": model.seed_,
        "validation_fraction": None,
    }


def _nothing(query: Query) -> NoReturn:
    raise AssertionError(f"A fitted step asks {query!r}.")


def _table(before: list[tuple[str, Any]], model: FederatedPredictor, sites: list[Site]) -> Table:
    """What rows are like, in the model's columns; SiteError where the sites' do not go with it."""
    first = before[0][1] if before else model
    wanted, width = getattr(first, "feature_names_in_", None), first.n_features_in_
    names, dtypes = table_of(sites)
    if wanted is None and names is not None:
        warnings.warn(
            "The sites' columns have names and the model's have none: they are taken in the order "
            f"of {sites[0].name!r}, {names}.",
            UserWarning,
            stacklevel=4,
        )
    if wanted is not None:
        if names is None:
            raise SiteError(f"The sites' columns have no names; the model's are {list(wanted)}.")
        lacking = [name for name in wanted if name not in names]
        besides = [name for name in names if name not in wanted]
        if lacking or besides:
            raise SiteError(
                "The sites' tables do not go with the model: they lack the columns "
                f"{lacking} and have {besides} besides."
            )
        dtypes = [dtypes[names.index(name)] for name in wanted]
        names = [str(name) for name in wanted]
    shape = sites[0].facts["row_shape"]
    if shape[0] != width:
        raise SiteError(f"The sites' rows have shape {shape}; the model takes {width} columns.")
    n_rows = sum(int(site.facts["n_rows"]) for site in sites)
    return Table(names, dtypes, n_rows, all(site.facts["is_sparse"] for site in sites))


def fraction_held_out(model: Any, sites: list[Site]) -> float:
    """The share that was held out, by which sites find the rows again."""
    names = [site.name for site in sites]
    if not getattr(model, "early_stopping", False):
        raise ValueError("rows='held_out' is for a fit with early_stopping=True.")
    if list(map(str, model.clients_)) != names:  # a site's random streams follow its number
        raise SiteError(f"Rows were held out at {list(model.clients_)}; the sites are {names}.")
    return float(model.validation_fraction)
