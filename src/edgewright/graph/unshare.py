"""Every operator reads int8 constants of its own.

With `session.x64quantprecision` ONNX Runtime turns signed weights into unsigned ones on x86 without VNNI. It makes one
copy for each reader and calls them all the same, so a file in which two operators share weights cannot be loaded (seen
with 1.31).
"""

from __future__ import annotations

import onnx_ir as ir

from edgewright.graph.quantisers import DEQUANTIZE

DYNAMIC = ("MatMulInteger", "ConvInteger")


def unshare(graph: ir.Graph) -> int:
    """Gives each operator that reads an int8 constant a copy of its own, in place.

    Returns:
        How many copies were made; each costs the bytes of the constant.
    """
    taken: set[str] = set()
    copies = 0
    for node in list(graph):
        if node.op_type in DYNAMIC:
            copies += _own(graph, node, taken)
        if node.op_type != DEQUANTIZE or not _int8_constant(node.inputs[0]):
            continue
        copies += _own(graph, node, taken)
        for number, use in enumerate(list(node.outputs[0].uses())[1:], start=1):
            copy = ir.node(DEQUANTIZE, list(node.inputs), dict(node.attributes), name=f"{node.name}/{number}")
            copy.outputs[0].name = f"{node.outputs[0].name}/{number}"
            copy.outputs[0].type, copy.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
            graph.insert_after(node, copy)
            use.node.replace_input_with(use.idx, copy.outputs[0])
            copies += _own(graph, copy, taken)
    return copies


def _own(graph: ir.Graph, node: ir.Node, taken: set[str]) -> int:
    """Replaces the int8 constants of `node` that another node has taken by copies."""
    copies = 0
    for index, value in enumerate(node.inputs):
        if value is None or not _int8_constant(value):
            continue
        own = value
        if value.name in taken:
            own = _copy(graph, value, f"{value.name}/{node.name}")
            node.replace_input_with(index, own)
            copies += 1
        taken.add(own.name or "")
    return copies


def _copy(graph: ir.Graph, value: ir.Value, name: str) -> ir.Value:
    assert value.const_value is not None
    tensor = ir.tensor(value.const_value.numpy(), name=name)
    made = ir.Value(name=name, const_value=tensor, shape=value.shape, type=ir.TensorType(tensor.dtype))
    graph.register_initializer(made)
    return made


def _int8_constant(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and value.const_value.dtype == ir.DataType.INT8
