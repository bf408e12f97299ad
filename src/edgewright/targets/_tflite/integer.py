"""Which nodes run in integers: those between quantisers that TensorFlow Lite has kernels for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgewright.errors import StepFailed
from edgewright.graph.quantisers import QUANTIZE, behind, numbers
from edgewright.targets._tflite.file import Quantisation
from edgewright.targets._tflite.fusion import Fused

_INTEGER = """
    Conv ConvTranspose Gemm MatMul FullyConnected Add Sub Mul Sigmoid Tanh Softmax LeakyRelu PRelu Relu Clip MaxPool
    AveragePool GlobalAveragePool ReduceMean Concat Reshape Transpose Squeeze Unsqueeze Flatten Pad Resize Slice Split
    Gather
"""
INTEGER = frozenset(_INTEGER.split())


def integer_nodes(graph: ir.Graph, fused: Mapping[ir.Node, Fused]) -> frozenset[ir.Node]:
    """Returns the nodes whose data inputs come from integers and whose results go to integers only."""
    return frozenset(node for node in graph if node.op_type in INTEGER and _surrounded(node, fused))


def parameters(node: ir.Node) -> Quantisation:
    """Returns the parameters of a QuantizeLinear or DequantizeLinear."""
    scale = numbers(node.inputs[1])
    if scale is None:
        raise StepFailed(
            f"{node.op_type} {node.name}: its scale is computed, TensorFlow Lite needs a constant",
            hint="quantise statically: calibrate, then the pass static-int8",
        )
    scale = scale.reshape(-1)
    stored = numbers(node.inputs[2]) if len(node.inputs) > 2 else None
    zero = np.zeros(scale.size, np.int64) if stored is None else stored.reshape(-1)
    axis = node.attributes.get_int("axis", 1) if scale.size > 1 else None
    return Quantisation(tuple(map(float, scale)), tuple(map(int, zero)), axis)


def _surrounded(node: ir.Node, fused: Mapping[ir.Node, Fused]) -> bool:
    floats = [value for value in node.inputs if value is not None and value.dtype == ir.DataType.FLOAT]
    if not floats or any(behind(value) is None for value in floats):
        return False
    last = fused[node].value if node in fused else node.outputs[0]
    users = [use.node for use in last.uses()]
    if last.is_graph_output() or not users or any(user.op_type != QUANTIZE for user in users):
        return False
    return len({parameters(user) for user in users}) == 1
