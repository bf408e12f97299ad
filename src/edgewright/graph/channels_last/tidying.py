"""Small remains: reshapes after reshapes, quantisers that undo each other, nodes that nobody reads."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass

from edgewright.graph.quantisers import numbers
from edgewright.graph.shapes import static_shape


def constants_as_initialisers(model: ir.Model) -> None:
    """Stores the outputs of Constant nodes as initialisers, in place."""
    if any(node.op_type == "Constant" for node in model.graph):
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def tidy(model: ir.Model) -> None:
    """Removes what moves nothing and computes nothing, in place."""
    graph = model.graph
    for node in graph:
        if node.op_type == "Reshape" and node.domain == "":
            _skip_reshapes(node)
        elif node.op_type == "Transpose":
            _join_transposes(node)
        elif node.op_type == "QuantizeLinear":
            _skip_pair(node)
    RemoveUnusedNodesPass()(model)


def _skip_reshapes(node: ir.Node) -> None:
    """Reads past a reshape before this one; a reshape that changes nothing is read past by all."""
    source = node.inputs[0]
    before = source.producer() if source is not None else None
    if before is not None and before.op_type == "Reshape" and before.domain == "" and before.inputs[0] is not None:
        target = numbers(node.inputs[1])
        if target is not None and all(size > 0 for size in target):
            node.replace_input_with(0, before.inputs[0])
            source = before.inputs[0]
    out = node.outputs[0]
    if source is None or out.is_graph_output() or static_shape(source) is None:
        return
    if static_shape(source) == static_shape(out):
        out.replace_all_uses_with(source)


def _join_transposes(node: ir.Node) -> None:
    """Reads past a Transpose before this one."""
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    if before is None or before.op_type != "Transpose" or before.inputs[0] is None:
        return
    first, second = (tuple(n.attributes.get_ints("perm") or ()) for n in (before, node))
    if first and second:
        node.replace_input_with(0, before.inputs[0])
        node.attributes["perm"] = ir.AttrInt64s("perm", [first[axis] for axis in second])


def _skip_pair(node: ir.Node) -> None:
    """A value dequantised and quantised again with the same parameters is the integers there were."""
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    if before is None or before.op_type != "DequantizeLinear" or node.outputs[0].is_graph_output():
        return
    integers = before.inputs[0]
    if integers is None or integers.is_graph_input() or integers.dtype != node.outputs[0].dtype:
        return
    if before.attributes.get_int("axis", 1) == node.attributes.get_int("axis", 1) and _same_parameters(before, node):
        node.outputs[0].replace_all_uses_with(integers)


def _same_parameters(left: ir.Node, right: ir.Node) -> bool:
    if len(left.inputs) != len(right.inputs):
        return False
    return all(a is b or _equal(a, b) for a, b in zip(left.inputs[1:], right.inputs[1:], strict=True))


def _equal(left: ir.Value | None, right: ir.Value | None) -> bool:
    a, b = numbers(left), numbers(right)
    return a is not None and b is not None and a.shape == b.shape and bool((a == b).all())
