"""Private trainings over sites: what cannot be had, said before anyone is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skfedfocal._disclosure import check_compatible


def is_hidden(privacy: Any) -> bool:
    """Whether a training is to protect from the server as well."""
    return privacy is not None and privacy.trust != "server"


def check_private(classifier: Any, before: Any, classes: Any) -> None:
    """Raise InvalidParameterError where a private training cannot be had over sites.

    Parameters
    ----------
    classifier : classifier of skfedfocal
        Whose parameters are checked as well.
    before : sequence
        Steps before it.
    classes : array-like or None
        Labels that there may be.
    """
    mechanism = classifier.privacy
    if mechanism is None:
        return
    classifier.check()
    refused = {}
    if before:
        names = ", ".join(type(step).__name__ for _, step in before)
        refused[f"steps before the classifier ({names})"] = (
            "they are fitted from sums of columns, which have no noise; have the sites scale "
            "their columns by what is known of them without the rows"
        )
    if mechanism.trust == "distributed" and classifier.secure_aggregation is False:
        refused["secure_aggregation=False over sites"] = (
            "each site's share of the noise does not protect what the server sees of it; set "
            "secure_aggregation=True, or trust='local', with all of the noise at each site"
        )
    if is_hidden(mechanism) and classes is None:
        refused["classes=None over sites"] = (
            "which labels occur at a site would be told as it is; give federate all labels that "
            "there may be as classes"
        )
    check_compatible({f"privacy={type(mechanism).__name__}(...)": refused})


def private_request(privacy: Any, classes: NDArray[Any] | None) -> dict[str, Any] | None:
    """What sites are told in round 0 of a training that protects from the server; else None."""
    if not is_hidden(privacy):
        return None
    delta = None if privacy.delta is None else float(privacy.delta)
    return {"unit": privacy.unit, "delta": delta, "classes": np.asarray(classes)}
