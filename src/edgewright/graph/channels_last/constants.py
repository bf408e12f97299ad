"""What is known before the model runs, stored integers behind their DequantizeLinear included; it moves at no cost."""

from __future__ import annotations

import onnx_ir as ir


def is_constant(value: ir.Value) -> bool:
    """Says whether `value` is stored: an initialiser, or one through constant quantisers."""
    if value.is_initializer():
        return value.const_value is not None and not value.is_graph_input()
    node = value.producer()
    if node is None:
        return False
    if node.op_type == "Constant":
        return ir.convenience.get_const_tensor(value) is not None
    if node.op_type not in ("DequantizeLinear", "QuantizeLinear") or node.attributes.get_int("block_size"):
        return False  # blocks of weights share a scale in the order they have
    return all(given is None or is_constant(given) for given in node.inputs)


def dequantised(value: ir.Value) -> ir.Node | None:
    """Returns the DequantizeLinear that an activation comes from, through nodes that only move it."""
    node = value.producer()
    while node is not None and node.op_type in ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        source = node.inputs[0]
        node = None if source is None else source.producer()
    return node if node is not None and node.op_type == "DequantizeLinear" else None
