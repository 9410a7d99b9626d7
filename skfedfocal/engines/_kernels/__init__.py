"""Kernels: how a block of clients is trained, and which of them trains a module."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from skfedfocal._data.rows import FederatedRows
from skfedfocal._local import LocalPlan
from skfedfocal.engines._kernels.dual import DualKernel
from skfedfocal.engines._kernels.kernel import Kernel
from skfedfocal.engines._kernels.mlp import MLPKernel
from skfedfocal.engines._kernels.serial import SerialKernel
from skfedfocal.engines._kernels.vmap import VmapKernel

# In order of preference. All give the same numbers; the last takes whatever can be trained.
KERNELS: list[type[Kernel]] = [DualKernel, MLPKernel, VmapKernel, SerialKernel]


def kernels_for(module: nn.Module, rows: FederatedRows) -> list[Kernel]:
    """Kernels that compute what the module does, the best first; the last takes every plan."""
    found: list[Kernel] = []
    for kind in KERNELS:
        if kind.takes(module, rows):
            found.append(kind.make(module, rows))
            if kind.every_plan:
                break
    return found


def choose_kernel(module: nn.Module, rows: FederatedRows) -> Kernel:
    """The best kernel for the module that takes every plan."""
    return kernels_for(module, rows)[-1]


def kernel_of_round(kernels: list[Kernel], plan: LocalPlan, sizes: NDArray[np.int64]) -> Kernel:
    """The best kernel for a plan and clients of these numbers of rows."""
    return next(kernel for kernel in kernels if kernel.prepare(plan, sizes))
