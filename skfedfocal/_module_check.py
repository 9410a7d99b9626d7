"""Whether a module can be trained federatedly, found by trying it on a few rows before training."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from skfedfocal._random import borrowed_generator

_N_PROBES = 3


def check_module(module: nn.Module, rows: Tensor, n_classes: int) -> None:
    """Raise ValueError for a module that cannot be trained federatedly on such rows.

    Parameters
    ----------
    module : torch.nn.Module
        What is to be trained; left in evaluation mode.
    rows : Tensor of shape (n, ...)
        A few rows, which may all be the same: others are made from them.
    n_classes : int
        Columns that its logits must have.

    Warns
    -----
    UserWarning
        If it ends in a softmax.
    """
    _check_parts(module)
    module.eval()
    with borrowed_generator(0):  # for layers that draw
        with torch.enable_grad():
            logits = _logits(module, rows, n_classes)
        if not logits.requires_grad:
            raise ValueError(
                f"module {_name(module)} gives logits of type {logits.dtype} through which no "
                "gradient reaches its parameters; does its forward detach or round?"
            )
        with torch.no_grad():
            probes = _probes(module, rows, n_classes)
            given, rows = rows, torch.cat([rows, probes])
            before = _logits(module, rows, n_classes)
            _check_buffers(module, [given, -3 * probes if probes.is_floating_point() else probes])
            module.eval()
            state = torch.get_rng_state()
            logits = _logits(module, rows, n_classes)
            if not torch.equal(state, torch.get_rng_state()):
                return  # draws even now, so that nothing can be compared
            _check_state(module, before, logits)
            _check_independence(module, rows, logits)
    _warn_of_softmax(module, rows, logits)


def _check_parts(module: nn.Module) -> None:
    """What can be seen without a forward pass."""
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


def _logits(module: nn.Module, rows: Tensor, n_classes: int) -> Tensor:
    try:
        logits = module(rows)
    except Exception as error:
        raise ValueError(
            f"module {_name(module)} raised {type(error).__name__} on rows of shape "
            f"{tuple(rows.shape)}: {error}"
        ) from error
    wanted = (len(rows), n_classes)
    if not isinstance(logits, Tensor) or logits.shape != wanted:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"module {_name(module)} must map rows of shape {tuple(rows.shape)} to logits "
            f"of shape {wanted}, one column for each of the {n_classes} classes; found {found}."
        )
    return logits


def _probes(module: nn.Module, rows: Tensor, n_classes: int) -> Tensor:
    """Rows like the given ones, but all different; none where the module takes no such rows."""
    shape, generator = (_N_PROBES, *rows.shape[1:]), torch.Generator().manual_seed(0)
    if rows.dtype.is_floating_point:
        noise = torch.randn(shape, generator=generator).to(rows)
        probes = noise * (1 + rows.abs().amax(0))
    else:  # indices, valid in every embedding
        tables = (nn.Embedding, nn.EmbeddingBag)
        n = [part.num_embeddings for part in module.modules() if isinstance(part, tables)]
        probes = torch.randint(min(n, default=1), shape, generator=generator).to(rows)
    try:
        _logits(module, probes, n_classes)
    except ValueError:
        return rows[:0]
    return probes


def _check_buffers(module: nn.Module, batches: list[Tensor]) -> None:
    """Training passes must leave the buffers as they were; those made anew are left alone."""
    module.train()
    before = _buffers(module)
    for batch in batches:
        if len(batch):
            module(batch)
        for name, value in _buffers(module).items():
            kept = before.setdefault(name, value)
            if kept.shape == value.shape and not torch.equal(kept.nan_to_num(), value.nan_to_num()):
                for other, buffer in module.named_buffers():
                    if other in before and before[other].shape == buffer.shape:
                        buffer.copy_(before[other])
                raise ValueError(
                    f"module has a buffer that a training pass changes ({name!r}), as a running "
                    "statistic does. It is neither a parameter nor meaningful across clients, who "
                    "train apart; make it an nn.Parameter, a constant, or leave it out."
                )


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: b.detach().clone() for name, b in module.named_buffers()}


def _check_state(module: nn.Module, before: Tensor, after: Tensor) -> None:
    if _differ(before, after):
        raise ValueError(
            f"module {_name(module)} gives other logits for the same rows after a forward pass: it "
            "keeps something between calls which is no parameter. Clients train apart, from "
            "parameters alone; leave such state out."
        )


def _check_independence(module: nn.Module, rows: Tensor, together: Tensor) -> None:
    n_classes = together.shape[1]
    alone = torch.cat([_logits(module, row, n_classes) for row in rows.split(1)])
    if _differ(together, alone):
        raise ValueError(
            f"module {_name(module)} gives a row other logits alone than in a batch, so that rows "
            "influence one another. The first dimension must be that of rows: recurrent and "
            "attention layers need batch_first=True, and statistics must be over the others."
        )


def _differ(one: Tensor, other: Tensor) -> bool:
    """By more than rounding; what is not finite is left to training."""
    largest = torch.stack([one.abs().amax(), other.abs().amax()]).amax()
    return bool(((one - other).abs() > torch.finfo(one.dtype).eps ** 0.5 * largest).any())


def _warn_of_softmax(module: nn.Module, rows: Tensor, logits: Tensor) -> None:
    within = ((logits >= 0) & (logits <= 1)).all()
    if within and ((logits.sum(1) - 1).abs() < 1e-3).all() and (rows != rows[0]).any():
        warnings.warn(
            f"module {_name(module)} gives probabilities: its outputs are between 0 and 1 and sum "
            "to 1. Losses take logits, and of probabilities learn little; leave out the last "
            "softmax.",
            UserWarning,
            stacklevel=3,
        )


def _name(module: nn.Module) -> str:
    return type(module).__name__
