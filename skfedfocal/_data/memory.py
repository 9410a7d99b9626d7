"""Memory that is written again and again, instead of asked for anew.

Fresh memory is not in the cache: fetching rows into it takes two or three times as long.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Memory:
    """Tensors by name, each valid until the next one of that name is asked for."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device | None = None,
    ) -> Tensor:
        """Memory of that shape with anything in it."""
        size = math.prod(shape)
        known = self._tensors.get(name)
        if known is None or known.dtype != dtype or len(known) < size:
            known = self._tensors[name] = torch.empty(size, dtype=dtype, device=device)
        return known[:size].view(shape)
