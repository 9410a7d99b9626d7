"""Classifiers as nodes: their torch module, exported by torch, and what it decides."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skfedfocal._indices import row_dtype
from skfedfocal.onnx._graph import Graph


class Decision(nn.Module):
    """From rows to the number of the class that `predict` returns, and class probabilities.

    Parameters
    ----------
    classifier : fitted classifier
    """

    def __init__(self, classifier: Any):
        super().__init__()
        self.posterior = classifier.posterior_module()
        # The package's losses decide for their largest probability, which is what can be exported.
        self.is_own = not type(self.posterior.loss).__module__.startswith("skfedfocal.")

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Classes (n,) and probabilities (n, n_classes)."""
        loss, constants = self.posterior.loss, self.posterior.constants
        logits = self.posterior.module(rows)
        # In single precision: onnxruntime has no softplus of doubles.
        single = None if constants is None else constants.float()
        log_posterior = loss.log_posterior(logits.float(), single)
        if loss.keeps_order:
            decided = logits.argmax(1)
        elif self.is_own:
            decided = loss.decide(logits, constants)
        else:
            decided = log_posterior.argmax(1)
        return decided, torch.exp(log_posterior)


def convert_classifier(scope: Any, operator: Any, container: Any) -> None:
    """Labels and probabilities of a fitted classifier."""
    from onnx import compose

    classifier, graph = operator.raw_operator, Graph(scope, operator, container)
    exported, dtype = _exported(classifier, container.target_opset_onnx)
    prefix = scope.get_unique_variable_name("module") + "_"
    inside = compose.add_prefix(exported, prefix).graph
    inputs = [variable.full_name for variable in operator.inputs]
    rows = inputs[0] if len(inputs) == 1 else graph.joined()
    graph.cast(rows, dtype, out=inside.input[0].name)
    container.initializers.extend(inside.initializer)
    container.nodes.extend(inside.node)
    for used in exported.opset_import:
        container.node_domain_version_pair_sets.add((used.domain, used.version))
    decided, probabilities = (one.name for one in inside.output)
    write_labels(graph, classifier.classes_, decided)
    graph.node("Identity", probabilities, out=operator.outputs[1].full_name)


def write_labels(graph: Graph, classes: Any, decided: str) -> None:
    """Class labels for numbers of classes (n,)."""
    kept = classes.astype(np.int64) if classes.dtype.kind in "biu" else classes
    graph.node("Gather", graph.constant(kept), decided, axis=0, out=graph.output)


def _exported(classifier: Any, opset: int) -> tuple[Any, Any]:
    """The module in ONNX, and the type of the rows that it takes."""
    decision = Decision(classifier).eval()
    if classifier.encoder_ is not None:
        dtype = torch.float64
    else:
        few = np.zeros((2, *classifier.row_shape_))
        dtype = row_dtype(decision.posterior.module, few)
    rows = torch.zeros((2, *classifier.row_shape_), dtype=dtype)
    try:
        with _quietly():
            program = torch.onnx.export(
                decision,
                (rows,),
                dynamic_shapes={"rows": {0: torch.export.Dim("n_rows")}},
                opset_version=opset,
                verbose=False,
                dynamo=True,
            )
    except ImportError as error:
        raise ImportError("To ONNX needs more: pip install 'skfedfocal[onnx]'.") from error
    except Exception as error:
        name = type(decision.posterior.module).__name__
        raise TypeError(
            f"torch.onnx.export does not take the module {name} with {classifier.loss_!r}, for any "
            f"number of rows: {error}"
        ) from error
    exported = program.model_proto  # type: ignore[union-attr]
    if exported.functions:
        from onnx import inliner

        exported = inliner.inline_local_functions(exported)
    return exported, rows.numpy().dtype


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch says of itself while it exports."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
