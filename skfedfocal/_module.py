"""Torch modules: the default MLP, and any module as one flat parameter vector."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from skfedfocal._sklearn import InvalidParameterError

ModuleSpec = nn.Module | Callable[[Any, int], nn.Module] | None


def mlp(n_features: int, n_classes: int, hidden_layer_sizes: Sequence[Any]) -> nn.Sequential:
    """Linear layers with ReLU between them."""
    if not all(isinstance(width, Integral) and int(width) >= 1 for width in hidden_layer_sizes):
        raise InvalidParameterError(
            f"hidden_layer_sizes must be integers of at least 1; got {hidden_layer_sizes!r}."
        )
    widths = [n_features, *hidden_layer_sizes]
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], n_classes))


def build_module(
    spec: ModuleSpec,
    hidden_layer_sizes: Sequence[int],
    row_shape: tuple[int, ...],
    n_classes: int,
    seed: int,
) -> nn.Module:
    """Make the module; the same seed gives the same initial parameters.

    The global generator of torch is left as it was.
    """
    n_features = row_shape[0] if len(row_shape) == 1 else row_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if spec is None:
            if len(row_shape) != 1:
                raise ValueError(
                    f"X has rows of shape {row_shape}, which is more than the default MLP takes; "
                    "reshape X to two dimensions, or pass a module that takes such rows."
                )
            return mlp(row_shape[0], n_classes, hidden_layer_sizes)
        module = copy.deepcopy(spec) if isinstance(spec, nn.Module) else spec(n_features, n_classes)
    if not isinstance(module, nn.Module):
        raise ValueError(
            "module must be a torch.nn.Module or a callable (n_features, n_classes) that returns "
            f"one; it gave {module!r}."
        )
    if not trainable(module):
        raise ValueError(f"module {type(module).__name__} has no parameters to train.")
    return module


def check_module(module: nn.Module, rows: Tensor, n_classes: int) -> None:
    """Raise ValueError for a module that cannot be trained federatedly on such rows."""
    for name, part in module.named_modules():
        over_batch = isinstance(part, nn.modules.batchnorm._BatchNorm)
        tracks = isinstance(part, nn.modules.batchnorm._NormBase) and part.track_running_stats
        if over_batch or tracks:
            raise ValueError(
                f"module has batch normalisation ({name or type(part).__name__}), whose statistics "
                "of a batch, running or not, are neither parameters nor meaningful across clients; "
                "use nn.GroupNorm or nn.LayerNorm instead."
            )
    parameters = dict(module.named_parameters())
    kinds = {p.dtype for p in parameters.values()}
    if len(kinds) > 1:
        raise ValueError(f"module mixes parameter types {sorted(map(str, kinds))}; use one.")
    if not kinds <= {torch.float64, torch.float32, torch.float16}:  # which NumPy has, too
        raise ValueError(
            f"module has parameters of type {kinds.pop()}; use torch.float32 or torch.float64."
        )
    for name, parameter in parameters.items():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"module has non-finite initial values in its parameter {name!r}.")
    module.eval()
    try:
        with torch.enable_grad():
            logits = module(rows)
    except Exception as error:
        raise ValueError(
            f"module {type(module).__name__} raised {type(error).__name__} on rows of shape "
            f"{tuple(rows.shape)}: {error}"
        ) from error
    wanted = (len(rows), n_classes)
    if not isinstance(logits, Tensor) or logits.shape != wanted:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"module {type(module).__name__} must map rows of shape {tuple(rows.shape)} to logits "
            f"of shape {wanted}, one column for each of the {n_classes} classes; found {found}."
        )
    if not logits.requires_grad:
        raise ValueError(
            f"module {type(module).__name__} gives logits of type {logits.dtype} through which no "
            "gradient reaches its parameters; does its forward detach or round?"
        )


def takes_indices(module: nn.Module) -> bool:
    """Whether the module looks rows up in an embedding, so that integers must stay integers."""
    return any(isinstance(part, nn.Embedding | nn.EmbeddingBag) for part in module.modules())


@dataclass(frozen=True)
class ParameterLayout:
    """Where each named parameter lies in the flat vector of all of them."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @classmethod
    def of(cls, module: nn.Module) -> ParameterLayout:
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


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained and exchanged; frozen ones stay as the module came."""
    return [p for p in module.parameters() if p.requires_grad]


def flatten(module: nn.Module) -> Tensor:
    """Copy of the module's trainable parameters as one vector of shape (p,)."""
    return torch.cat([p.detach().reshape(-1) for p in trainable(module)])


def load_flat(module: nn.Module, theta: Tensor) -> None:
    """Write a flat vector of shape (p,) into the module's trainable parameters."""
    layout = ParameterLayout.of(module)
    if theta.numel() != layout.n_params:
        raise ValueError(
            f"module has {layout.n_params} parameters to train, but the model to go on from has "
            f"{theta.numel()}; fit anew, without warm_start."
        )
    with torch.no_grad():
        parts = layout.split(theta)
        for parameter, part in zip(trainable(module), parts, strict=True):
            parameter.copy_(part)


def module_name(module: Any) -> str | None:
    """How a module parameter is called on the wire and in files; None is the default MLP."""
    if module is None:
        return None
    return str(getattr(module, "__qualname__", type(module).__qualname__))
