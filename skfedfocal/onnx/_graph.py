"""A graph of ONNX in the making, a line for each node."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING_TEXT = ""  # what stands for a missing value among texts, which ONNX has no NaN for


class Graph:
    """Adds nodes to what skl2onnx makes of a step.

    Parameters
    ----------
    scope, operator, container : objects of skl2onnx
        As a converter is given them.
    """

    def __init__(self, scope: Any, operator: Any, container: Any):
        self.scope = scope
        self.operator = operator
        self.container = container

    def node(
        self, kind: str, *inputs: str, out: str | None = None, domain: str = "", **attributes: Any
    ) -> str:
        """Name of the output of a new node."""
        name = out or self.scope.get_unique_variable_name(kind.lower())
        own = self.scope.get_unique_operator_name(kind)
        version = 2 if domain else None  # of LabelEncoder, the one that needs saying
        self.container.add_node(
            kind, list(inputs), [name], op_domain=domain, op_version=version, name=own, **attributes
        )
        return name

    def constant(self, values: Any) -> str:
        """Name of new numbers or texts."""
        from onnx import TensorProto, numpy_helper

        name = self.scope.get_unique_variable_name("constant")
        values = np.asarray(values)
        if values.dtype.kind in "OU":
            texts = [str(text).encode() for text in values.ravel()]
            self.container.add_initializer(name, TensorProto.STRING, list(values.shape), texts)
        else:
            tensor = numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape))
            self.container.add_initializer(name, tensor.data_type, list(values.shape), tensor)
        return name

    def cast(self, name: str, dtype: Any, out: str | None = None) -> str:
        """Name of the same values in another type."""
        from onnx import helper

        return self.node("Cast", name, out=out, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def take(self, name: str, places: NDArray[np.int64]) -> str:
        """Name of some of the columns."""
        return self.node("Gather", name, self.constant(np.asarray(places, np.int64)), axis=1)

    @property
    def output(self) -> str:
        """Name of what the step gives first."""
        return self.operator.outputs[0].full_name

    def columns(self) -> list[tuple[str, bool]]:
        """Names of the columns that come in, of shape (n, 1), and whether they are texts."""
        found = []
        for variable in self.operator.inputs:
            name, texts, width = variable.full_name, is_text(variable), variable.type.shape[1]
            if not texts:
                name = self.cast(name, np.float64)
            found += [
                (name if width == 1 else self.take(name, np.array([j])), texts)
                for j in range(width)
            ]
        return found

    def joined(self) -> str:
        """Name of all that comes in as one table of numbers."""
        if any(map(is_text, self.operator.inputs)):
            raise TypeError(f"{type(self.operator.raw_operator).__name__} is given texts in ONNX.")
        names = [variable.full_name for variable in self.operator.inputs]
        cast = [self.cast(name, np.float64) for name in names]
        return cast[0] if len(cast) == 1 else self.node("Concat", *cast, axis=1)


def is_text(variable: Any) -> bool:
    """Whether a variable of skl2onnx holds texts."""
    from skl2onnx.common.data_types import StringTensorType

    return isinstance(variable.type, StringTensorType)
