"""Activations that TensorFlow Lite computes inside the operator before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgewright.graph.channels_last import DOMAIN
from edgewright.graph.quantisers import is_constant, numbers

NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3
_LIMITS = {(0.0, np.inf): RELU, (-1.0, 1.0): RELU_N1_TO_1, (0.0, 6.0): RELU6}
_SPATIAL = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool"})
_PLAIN = frozenset({"Add", "Sub", "Mul", "Div", "Gemm", "FullyConnected"})


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """An activation that goes into the operator before it.

    Attributes:
        code: Of the schema's `ActivationFunctionType`.
        node: The activation's node.
    """

    code: int
    node: ir.Node

    @property
    def value(self) -> ir.Value:
        """The value that the operator writes now."""
        return self.node.outputs[0]


def fused_activations(graph: ir.Graph) -> Mapping[ir.Node, Fused]:
    """Returns operator -> the activation it takes in."""
    found: dict[ir.Node, Fused] = {}
    for node in graph:
        code = activation_code(node)
        source = node.inputs[0].producer() if code and node.inputs[0] is not None else None
        if source is not None and _takes_activation(source) and _alone(source.outputs[0]):
            found[source] = Fused(code, node)
    return found


def activation_code(node: ir.Node) -> int:
    """Returns which of the schema's activations a node is; 0 for none of them."""
    if node.op_type == "Relu":
        return RELU
    if node.op_type != "Clip" or node.outputs[0].dtype != ir.DataType.FLOAT:
        return NONE
    return _LIMITS.get(clip_limits(node) or (0.0, 0.0), NONE)


def clip_limits(node: ir.Node) -> tuple[float, float] | None:
    """Returns the constant limits of a Clip; None where one is computed."""
    limits = []
    for index, absent in ((1, -np.inf), (2, np.inf)):
        value = node.inputs[index] if len(node.inputs) > index else None
        array = numbers(value)
        if value is not None and array is None:
            return None
        limits.append(float(absent if array is None else array.reshape(-1)[0]))
    return limits[0], limits[1]


def _takes_activation(node: ir.Node) -> bool:
    if node.domain == DOMAIN:
        return node.op_type in _SPATIAL
    if node.op_type == "MatMul":
        return is_constant(node.inputs[1]) or _dequantised_constant(node.inputs[1])
    return node.op_type in _PLAIN and node.outputs[0].dtype == ir.DataType.FLOAT


def _dequantised_constant(value: ir.Value | None) -> bool:
    node = value.producer() if value is not None else None
    return node is not None and node.op_type == "DequantizeLinear" and is_constant(node.inputs[0])


def _alone(value: ir.Value) -> bool:
    return not value.is_graph_output() and len(value.uses()) == 1
