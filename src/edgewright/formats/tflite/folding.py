"""Operators on constants, computed while the file is read: sizes, masks and tables that converters leave in."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.formats.tflite.emitter import Emitter
from edgewright.formats.tflite.layouts import Rule
from edgewright.formats.tflite.reader import TfliteOperator

_MOST = 2**24
"""Elements of a result that is worth computing here."""
_OWN = ("QUANTIZE", "DEQUANTIZE", "SHAPE", "RANK")


def foldable(e: Emitter, op: TfliteOperator) -> bool:
    """Returns whether an operator reads nothing but constants, and its result is stored as it is."""
    plain = op.op not in _OWN and op.outputs and not any(e.tensor(n).scaled for n in op.outputs)
    small = all(math.prod(e.tensor(n).shape) <= _MOST for n in op.outputs)
    return bool(plain and small and op.inputs and all(n < 0 or e.array(n) is not None for n in op.inputs))


def fold(e: Emitter, op: TfliteOperator, rule: Rule) -> None:
    """Lets `rule` write an operator on constants, computes what it wrote and keeps the result."""
    start = len(e.nodes)
    rule(e, op)
    values = [e.last(number) for number in op.outputs]
    nodes = e.nodes[start:]
    made = {id(output) for node in nodes for output in node.outputs}
    read = [value for node in nodes for value in node.inputs if value is not None and id(value) not in made]
    if any(value.const_value is None for value in read):
        return
    for number, array in zip(op.outputs, _computed(nodes, read, values, e.opset), strict=True):
        e.fold(number, array)
    del e.nodes[start:]


def _computed(
    nodes: list[ir.Node], constants: list[ir.Value], outputs: list[ir.Value], opset: int
) -> list[NDArray[np.generic]]:
    """Runs copies of `nodes`; the originals belong to no graph yet."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    arrays = {value.name or "": value.const_value.numpy() for value in constants if value.const_value is not None}
    graph = helper.make_graph(
        [ir.to_proto(node) for node in nodes],
        "constants",
        [],
        [helper.make_tensor_value_info(value.name or "", TensorProto.UNDEFINED, None) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, {})]
