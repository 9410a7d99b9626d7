"""What a notebook shows of a fitted classifier: its federation in a few lines."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
from sklearn.utils import estimator_html_repr


def estimator_html(estimator: Any) -> str:
    """HTML of an estimator as scikit-learn draws it, with the facts of its federation below.

    Parameters
    ----------
    estimator : estimator object
        Fitted or not.

    Returns
    -------
    html : str
        What a notebook shows.

    Examples
    --------
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.display import estimator_html
    >>> "FedFocalClassifier" in estimator_html(FedFocalClassifier())
    True
    """
    return estimator_html_repr(estimator) + federation_html(estimator)


def federation_html(estimator: Any) -> str:
    """Table of what a fitted classifier was trained on, as HTML; nothing before a fit.

    Parameters
    ----------
    estimator : FedFocalClassifier or FederatedClassifier
        The classifier.

    Returns
    -------
    html : str
        A table of clients, training rows (or the sum of their weights), classes, rounds and
        failures, without any id of a client.

    Examples
    --------
    >>> from skfedfocal import FedFocalClassifier
    >>> from skfedfocal.datasets import make_federation
    >>> from skfedfocal.display import federation_html
    >>> X, y, clients = make_federation(200, random_state=0)
    >>> model = FedFocalClassifier(n_rounds=5, random_state=0).fit(X, y, clients=clients)
    >>> "<td>10, of 20 to 20 rows</td>" in federation_html(model)
    True
    """
    if not hasattr(estimator, "history_") or not hasattr(estimator, "client_sizes_"):
        return ""
    sizes, history = np.asarray(estimator.client_sizes_), estimator.history_
    classes = [str(name) for name in estimator.classes_]
    shown = ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")
    facts = {
        "clients": f"{len(sizes):,}, of {sizes.min():,.4g} to {sizes.max():,.4g} rows",
        "training rows": f"{sizes.sum():,.6g}",
        "classes": f"{len(classes)}: {shown}",
        "rounds": f"{estimator.n_iter_:,}, training loss {history['loss'][-1]:.3g} in the last",
    }
    if hasattr(estimator, "epsilon_"):  # what single clients have, and a loss, are not to be told
        unit = {"example": "row", "client": "client"}[estimator.privacy_["unit"]]
        facts |= {
            "clients": f"{len(sizes):,}",
            "training rows": "not told",
            "rounds": f"{estimator.n_iter_:,}",
            "privacy": f"of each {unit}: epsilon {estimator.epsilon_:.3g} at delta "
            f"{estimator.delta_:.3g}",
        }
    failed = int(np.sum(history.get("n_failed", 0)))
    if failed:
        facts["failed"] = f"{failed:,} of {int(np.sum(history['n_selected'])):,} replies"
    rows = "".join(
        f'<tr><th style="text-align:left">{name}</th><td>{escape(text)}</td></tr>'
        for name, text in facts.items()
    )
    return f'<table class="skfedfocal-federation"><caption>Federation</caption>{rows}</table>'
