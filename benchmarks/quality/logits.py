"""What a federated classifier's module gives, and whether that is numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def finite_logits(model: Any, X: NDArray[np.floating]) -> bool:
    """Whether a federated classifier's module gives numbers for all rows; so do other models."""
    federated = hasattr(getattr(model, "best_estimator_", model), "module_")
    return not federated or bool(torch.isfinite(logits_of(model, X)).all())


def logits_of(model: Any, X: NDArray[np.floating]) -> torch.Tensor:
    """Logits of rows, of shape (n, n_classes)."""
    module = getattr(model, "best_estimator_", model).module_
    with torch.no_grad():
        return module(torch.from_numpy(np.asarray(X, np.float32))).double()
