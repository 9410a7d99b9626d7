"""Which kernel trains a module."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from skfedfocal._data.rows import FederatedRows
from skfedfocal._module import trainable
from skfedfocal.engines._kernels.kernel import Kernel
from skfedfocal.engines._kernels.mlp import MLPKernel
from skfedfocal.engines._kernels.serial import STOCHASTIC, SerialKernel
from skfedfocal.engines._kernels.stepping import can_step
from skfedfocal.engines._kernels.vmap import VmapKernel

_CACHE_BYTES = 1 << 20  # stacked parameters of a block should stay in a core's own cache


def choose_kernel(module: nn.Module, rows: FederatedRows) -> Kernel:
    """The fastest kernel that computes what the module does."""
    n_bytes = sum(p.numel() * p.element_size() for p in trainable(module))
    if MLPKernel.takes(module):
        return MLPKernel(module, block_size=max(1, _CACHE_BYTES // n_bytes))
    parts = list(module.modules())
    stochastic = any(isinstance(m, STOCHASTIC) for m in parts) or _draws_numbers(module, rows)
    convolves = any(isinstance(m, nn.modules.conv._ConvNd) for m in parts)
    serial = stochastic or (convolves and rows.device.type == "cpu") or _repeats_a_layer(module)
    if serial or not _vmap_takes(module, rows):
        stepping = can_step(module, rows.features(np.zeros(2, np.int64)))
        return SerialKernel(module, stochastic=stochastic, stepping=stepping)
    return VmapKernel(module, block_size=max(1, 16 * _CACHE_BYTES // n_bytes))


def _draws_numbers(module: nn.Module, rows: FederatedRows) -> bool:
    """Try: whether a training pass takes random numbers, as functional dropout does."""
    module.train()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        module(rows.features(np.zeros(2, np.int64)))
        return not torch.equal(before, torch.get_rng_state())


def _repeats_a_layer(module: nn.Module) -> bool:
    """Whether a layer with parameters has two places: functional_call does not put it back."""
    layers = [
        id(part)
        for _, part in module.named_modules(remove_duplicate=False)
        if any(True for _ in part.parameters(recurse=False))
    ]
    return len(set(layers)) < len(layers)


def _vmap_takes(module: nn.Module, rows: FederatedRows) -> bool:
    """Try: torch itself is the only one to know what it can batch."""
    params = {name: p.detach()[None] for name, p in module.named_parameters()}
    x = rows.features(np.zeros(2, np.int64))[None]

    def total(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(module, parameters, (x,)).sum()

    try:
        vmap(grad_and_value(total))(params, x)
    except (RuntimeError, ValueError, NotImplementedError):
        return False
    return True
