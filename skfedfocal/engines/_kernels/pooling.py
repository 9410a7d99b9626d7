"""Pooling before the ReLU instead of after it: the same numbers from a quarter of the elements."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


def pool_first(module: nn.Module) -> None:
    """Let a ReLU and the max-pooling after it change places, in a chain of plain Sequentials.

    Both keep order, so the largest of the rectified is the rectified largest, to the bit, and the
    derivative goes to the same element or nowhere. Modules with a forward pass of their own are
    left alone, as they may use what lies between the two.
    """
    if type(module) is not nn.Sequential:
        return
    parts = module._modules
    for name, following in pairwise(list(parts)):
        relu, pool = parts[name], parts[following]
        if type(relu) is nn.ReLU and not _hooked(relu) and _is_plain_pool(pool):
            parts[name], parts[following] = pool, relu
    for part in module:
        pool_first(part)


def _is_plain_pool(module: nn.Module | None) -> bool:
    """Whether it pools and does nothing else; with indices, a ReLU could not take its outputs."""
    if not isinstance(module, _POOLS) or type(module) not in _POOLS:
        return False
    return not module.return_indices and not _hooked(module)


def _hooked(module: nn.Module) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in hooks)
