"""The form in which every federation comes: rows, labels and whose row each is."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import Bunch


def as_bunch(
    data: Any,
    target: Any,
    clients: Any,
    *,
    feature_names: list[str],
    as_frame: bool,
    return_X_y: bool,
    target_name: str | None = "target",
    client_name: str = "client",
    **facts: Any,
) -> Bunch | tuple[Any, Any, Any]:
    """A Bunch, or its first three; as pandas objects of the same rows where those are wanted."""
    frame = None
    if as_frame:
        pd = require_pandas("as_frame=True")
        if not isinstance(data, pd.DataFrame):
            data = pd.DataFrame(data, columns=feature_names, copy=False)
        target = pd.Series(target, name=target_name)
        columns = [data, target]
        if clients is not None:
            clients = pd.Series(clients, name=client_name)
            columns.append(clients)
        frame = pd.concat(columns, axis=1)
    if return_X_y:
        return data, target, clients
    return Bunch(
        data=data,
        target=target,
        clients=clients,
        feature_names=feature_names,
        frame=frame,
        **facts,
    )


def require_pandas(what: str, also: str = "") -> Any:
    """The module pandas, which only some calls need."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(f"{what} needs pandas: pip install pandas{also}") from error
    return pd


def feature_texts(names: Any, n_features: int) -> list[str]:
    """Names of features as texts, made up where there are none."""
    if names is None:
        return [f"x{j}" for j in range(n_features)]
    return [str(name) for name in np.ravel(names)]
