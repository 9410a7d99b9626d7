"""Torch modules: how one is made, and any module as one flat parameter vector."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from skfedfocal._random import borrowed_generator
from skfedfocal._sklearn import InvalidParameterError

ModuleSpec = nn.Module | Callable[[Any, int], nn.Module] | None


def mlp(n_features: int, n_classes: int, hidden_layer_sizes: Any, seed: int) -> nn.Sequential:
    """Linear layers with ReLU between them, with torch's usual initial values.

    They are drawn as after ``torch.manual_seed(seed)``, though from a generator of their own, so
    that models can be made on several threads.
    """
    all_widths = [n_features, *widths(hidden_layer_sizes), n_classes]
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(all_widths):
        layers += [_linear(n_in, n_out, generator), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer whose values are drawn from a generator.

    Its constructor would draw from the process's; and `torch.nn.utils.skip_init`, which goes around
    that, imports a computer algebra system: a third of a second of the first fit.
    """
    linear = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(linear)
    linear.in_features, linear.out_features = n_in, n_out
    gain = nn.init.calculate_gain("leaky_relu", math.sqrt(5))  # nn.Linear's own
    bounds = math.sqrt(3) * gain / math.sqrt(n_in), 1 / math.sqrt(n_in)
    for name, shape, bound in zip(
        ("weight", "bias"), ((n_out, n_in), (n_out,)), bounds, strict=True
    ):
        values = torch.empty(shape).uniform_(-bound, bound, generator=generator)
        setattr(linear, name, nn.Parameter(values))
    return linear


def widths(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """Widths of the hidden layers; a number is one of them."""
    given = hidden_layer_sizes
    found = [given] if isinstance(given, Integral) else list(given)
    if not all(isinstance(width, Integral) and int(width) >= 1 for width in found):
        raise InvalidParameterError(
            f"hidden_layer_sizes must be integers of at least 1; got {given!r}."
        )
    return tuple(int(width) for width in found)


def build_module(
    spec: ModuleSpec,
    hidden_layer_sizes: Any,
    row_shape: tuple[int, ...],
    n_classes: int,
    seed: int,
) -> nn.Module:
    """Make the module; the same seed gives the same initial parameters.

    It shares nothing with what the caller holds, even where a callable returns one and the same
    module each time. The global generator of torch is left as it was.
    """
    n_features = row_shape[0] if len(row_shape) == 1 else row_shape
    if spec is None:
        if len(row_shape) != 1:
            raise ValueError(
                f"X has rows of shape {row_shape}, which is more than the default MLP takes; "
                "reshape X to two dimensions, or pass a module that takes such rows."
            )
        return mlp(row_shape[0], n_classes, hidden_layer_sizes, seed)
    module = spec
    if not isinstance(spec, nn.Module):
        _check_signature(spec)
        with borrowed_generator(seed):
            module = spec(n_features, n_classes)
    if not isinstance(module, nn.Module):
        raise ValueError(
            "module must be a torch.nn.Module or a callable (n_features, n_classes) that returns "
            f"one; it gave {module!r}."
        )
    lazy = [name for name, p in module.named_parameters() if nn.parameter.is_lazy(p)]
    if lazy:
        raise ValueError(
            f"module {type(module).__name__} has lazy layers, whose parameters ({lazy[0]!r} first) "
            "have no shape yet. Use layers of a given width: a callable module is told n_features; "
            "or pass a row through the module before."
        )
    if not trainable(module):
        raise ValueError(f"module {type(module).__name__} has no parameters to train.")
    return copy.deepcopy(module)


def _check_signature(spec: Callable[..., Any]) -> None:
    """Raise where a callable cannot take what it is given, rather than fail somewhere in it."""
    try:
        signature = inspect.signature(spec)
    except (TypeError, ValueError):  # of some that are not written in Python
        return
    try:
        signature.bind(0, 0)
    except TypeError as error:
        raise ValueError(
            f"module must be callable as module(n_features, n_classes); {module_name(spec)!r} has "
            f"the signature {signature} ({error})."
        ) from error


def takes_indices(module: nn.Module) -> bool:
    """Whether the module looks rows up in an embedding, so that integers must stay integers."""
    return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in module.modules())


@dataclass(frozen=True)
class ParameterShapes:
    """Where each named parameter lies in the flat vector of all of them."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, module: nn.Module) -> ParameterShapes:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        return cls(tuple(name for name, _ in named), tuple(p.shape for _, p in named))

    @property
    def sizes(self) -> list[int]:
        return [shape.numel() for shape in self.shapes]

    @property
    def n_params(self) -> int:
        return sum(self.sizes)

    def split(self, theta: Tensor) -> list[Tensor]:
        """Views of the flat vector(s) (..., p), one (..., *shape) for each parameter."""
        parts = theta.split(self.sizes, dim=-1)
        lead = theta.shape[:-1]
        return [part.view(*lead, *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def stacks(self, flat: Tensor, m: int) -> list[Tensor]:
        """Views of m models' memory (m * p,), one (m, *shape) for each parameter, in one piece."""
        parts = flat.split([m * size for size in self.sizes])
        return [part.view(m, *shape) for part, shape in zip(parts, self.shapes, strict=True)]


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained and exchanged; frozen ones stay as the module came."""
    return [p for p in module.parameters() if p.requires_grad]


def flatten(module: nn.Module) -> Tensor:
    """Copy of the module's trainable parameters as one vector of shape (p,)."""
    return torch.cat([p.detach().reshape(-1) for p in trainable(module)])


def load_flat(module: nn.Module, theta: Tensor) -> None:
    """Write a flat vector of shape (p,) into the module's trainable parameters."""
    shapes = ParameterShapes.of(module)
    if theta.numel() != shapes.n_params:
        raise ValueError(
            f"module has {shapes.n_params} parameters to train, but the model to go on from has "
            f"{theta.numel()}; fit anew, without warm_start."
        )
    with torch.no_grad():
        parts = shapes.split(theta)
        for parameter, part in zip(trainable(module), parts, strict=True):
            parameter.copy_(part)


def module_name(module: Any) -> str | None:
    """How a module parameter is called on the wire and in files; None is the default MLP."""
    if module is None:
        return None
    return str(getattr(module, "__qualname__", type(module).__qualname__))
