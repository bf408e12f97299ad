"""Expand before operators that broadcast by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgewright.graph.shapes import static_shape
from edgewright.targets._tflite.lowering.apply import Lowering, Rule

_BROADCAST = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Equal", "Greater", "Less"})


def expand(lowering: Lowering, node: ir.Node) -> Sequence[ir.Value] | None:
    """Lets readers take the small tensor, where their other operands give the size; the Expand is dead then."""
    value, small = node.outputs[0], node.inputs[0]
    users = [use.node for use in value.uses()]
    if (
        small is None
        or value.is_graph_output()
        or not users
        or not all(_broadcasts(user, value, small) for user in users)
    ):
        return None
    ir.convenience.replace_all_uses_with(value, small)
    return None


def _broadcasts(user: ir.Node, value: ir.Value, small: ir.Value) -> bool:
    if user.op_type not in _BROADCAST or user.domain:
        return False
    shapes = [static_shape(small if given is value else given) for given in user.inputs]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return False
    return np.broadcast_shapes(*known) == static_shape(user.outputs[0])


RULES: Mapping[str, Rule] = {"Expand": expand}
