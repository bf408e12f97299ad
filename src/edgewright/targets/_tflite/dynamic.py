"""Dynamic quantisation as LiteRT has it: operators that take float activations beside int8 weights.

ONNX says it in five nodes: DynamicQuantizeLinear, MatMulInteger or ConvInteger, Cast, and two Muls that scale. LiteRT's
hybrid operators quantise what they read as they run, per row where ONNX Runtime does it per tensor.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.initializers import add_initializer
from edgewright.graph.quantisers import DEQUANTIZE, numbers

DYNAMIC = "/dynamic_weights"
"""Suffix of the name of a DequantizeLinear whose weights are multiplied in integers."""
_PRODUCTS = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}


def rewrite_dynamic(graph: ir.Graph) -> None:
    """Puts a float product with stored integer weights in the place of each dynamic one, in place."""
    for node in list(graph):
        if node.op_type in _PRODUCTS and node.domain == "":
            _rewrite(graph, node)


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    maker = node.inputs[0].producer() if node.inputs[0] is not None else None
    scaled = _scaled(node.outputs[0])
    if maker is None or maker.op_type != "DynamicQuantizeLinear" or scaled is None:
        return
    scale = _weight_scale(scaled, maker.outputs[1])
    stored = numbers(node.inputs[1])
    zero = numbers(node.inputs[3]) if len(node.inputs) > 3 else None
    if scale is None or stored is None or stored.dtype != np.int8 or (zero is not None and zero.any()):
        return
    axis = stored.ndim - 1 if node.op_type == "MatMulInteger" else 0
    if scale.size not in (1, stored.shape[axis]):
        return
    old = scaled.outputs[0]
    weights = ir.node(
        DEQUANTIZE,
        [node.inputs[1], add_initializer(graph, f"{node.name}/scale", scale.reshape(-1) if scale.size > 1 else scale)],
        {"axis": axis} if scale.size > 1 else {},
        name=f"{node.name}{DYNAMIC}",
    )
    real = weights.outputs[0]
    real.name, real.dtype, real.shape = f"{node.name}/real", ir.DataType.FLOAT, ir.Shape(stored.shape)
    attributes = {attribute.name: attribute for attribute in node.attributes.values()}
    product = ir.node(_PRODUCTS[node.op_type], [maker.inputs[0], real], attributes, name=node.name)
    out, name = product.outputs[0], old.name
    out.type, out.shape = old.type, old.shape
    graph.insert_before(scaled, [weights, product])
    ir.convenience.replace_all_uses_with(old, out, replace_graph_outputs=True)
    old.name, out.name = f"{name}/before", name


def _scaled(product: ir.Value) -> ir.Node | None:
    """Returns the Mul that gives the real product: its other operand is the product of both scales."""
    cast = _only_user(product)
    return _only_user(cast.outputs[0]) if cast is not None and cast.op_type == "Cast" else None


def _only_user(value: ir.Value) -> ir.Node | None:
    users = [use.node for use in value.uses()]
    return users[0] if len(users) == 1 and not value.is_graph_output() else None


def _weight_scale(scaled: ir.Node, data_scale: ir.Value) -> NDArray[np.float32] | None:
    """Returns what the scale of the data is multiplied by before it scales the product."""
    if scaled.op_type != "Mul":
        return None
    for value in scaled.inputs:
        both = value.producer() if value is not None else None
        if both is not None and both.op_type == "Mul" and data_scale in both.inputs:
            other = both.inputs[1] if both.inputs[0] is data_scale else both.inputs[0]
            found = numbers(other)
            return None if found is None else found.astype(np.float32)
    return None
