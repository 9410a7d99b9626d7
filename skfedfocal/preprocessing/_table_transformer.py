"""The usual preparation of a table of numbers and texts, in one call."""

from __future__ import annotations

from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline

from skfedfocal.preprocessing._columns_of import ColumnsOf
from skfedfocal.preprocessing._imputer import FederatedSimpleImputer
from skfedfocal.preprocessing._one_hot_encoder import FederatedOneHotEncoder
from skfedfocal.preprocessing._scaler import FederatedStandardScaler


def make_table_transformer(*, numbers: Any = None, texts: Any = None) -> ColumnTransformer:
    """Make the usual preparation of a table with gaps: numbers one way, texts another.

    What is missing among numbers becomes the column's mean, and a column beside it says where;
    then all are brought to mean 0 and variance 1. Texts become a column for each value, and one for
    gaps; a value that was not there in fit is 0 in all of them. Which columns are which is seen in
    fit, by their types.

    Parameters
    ----------
    numbers : transformer, "passthrough" or "drop", default=None
        For the columns of numbers. None is `FederatedSimpleImputer` with ``add_indicator=True``
        before `FederatedStandardScaler`.
    texts : transformer, "passthrough" or "drop", default=None
        For the columns of texts. None is `FederatedOneHotEncoder` with
        ``handle_unknown="ignore"``.

    Returns
    -------
    transformer : ColumnTransformer
        Not fitted, with the branches ``"numbers"`` and ``"texts"``.

    See Also
    --------
    ColumnsOf : Which columns are of numbers, and which of texts.
    sklearn.compose.make_column_transformer : For columns by name.

    Notes
    -----
    Over sites discloses what the steps do: sums of columns, numbers of their values, and values of
    texts with their numbers of rows. Of texts that few rows have, names of patients say, it is
    better to disclose nothing: leave the column out, or set ``texts__min_rows``.

    Examples
    --------
    >>> import pandas as pd
    >>> from skfedfocal.preprocessing import make_table_transformer
    >>> table = pd.DataFrame({"age": [61, None, 47], "pain": ["dull", "none", "dull"]})
    >>> make_table_transformer().fit(table).get_feature_names_out().tolist()
    ['numbers__age', 'numbers__missingindicator_age', 'texts__pain_dull', 'texts__pain_none']
    """
    if numbers is None:
        imputer = FederatedSimpleImputer(add_indicator=True)
        numbers = make_pipeline(imputer, FederatedStandardScaler())
    if texts is None:
        texts = FederatedOneHotEncoder(handle_unknown="ignore")
    branches = {"numbers": numbers, "texts": texts}
    return ColumnTransformer([(kind, step, ColumnsOf(kind)) for kind, step in branches.items()])
