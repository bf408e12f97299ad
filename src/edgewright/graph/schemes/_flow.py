"""How integers flow through a quantised graph, read for predicting what a runtime fuses."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from edgewright.graph.quantisers import QUANTIZE, behind, is_constant, numbers

INTEGER, FLOAT, FUSED, FOLDED, CONVERSION = "integer", "float", "fused", "folded", "conversion"


def sole_user(value: ir.Value) -> ir.Node | None:
    """Returns the one node that reads `value`; None if several do, or if the model returns it."""
    users = {id(use.node): use.node for use in value.uses()}
    return next(iter(users.values())) if len(users) == 1 and not value.is_graph_output() else None


def is_folded(node: ir.Node, kinds: dict[str, str]) -> bool:
    """Says whether the result of `node` is known before the model runs."""
    if node.op_type == "Shape" and node.inputs[0] is not None and node.inputs[0].shape is not None:
        return all(isinstance(d, int) for d in node.inputs[0].shape)
    inputs = [v for v in node.inputs if v is not None]
    return node.op_type == "Constant" or (bool(inputs) and all(_known(v, kinds) for v in inputs))


def _known(value: ir.Value, kinds: dict[str, str]) -> bool:
    made = value.producer()
    if is_constant(value):
        return True
    return made is not None and kinds.get(made.name or "") == FOLDED


def computes_floats(node: ir.Node) -> bool:
    """Says whether the first operand or a result of `node` is real-valued."""
    values: Iterable[ir.Value | None] = (*node.inputs[:1], *node.outputs, *node.inputs[1:])
    kinds = [v.dtype for v in values if v is not None and v.dtype is not None]
    return any(k in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE) for k in kinds)


def quantize_after(value: ir.Value) -> ir.Node | None:
    """Returns the QuantizeLinear that alone reads `value`."""
    user = sole_user(value)
    return user if user is not None and user.op_type == QUANTIZE else None


def limits(node: ir.Node) -> tuple[float, float]:
    """Returns what a Relu or a Clip lets through."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    low, high = (numbers(node.inputs[i]) if len(node.inputs) > i else None for i in (1, 2))
    return -np.inf if low is None else float(low), np.inf if high is None else float(high)


_KEEPS_LAYOUT = ("Concat", "Add", "Mul", "Relu", "Clip", "Sigmoid")


def undoes_layout(node: ir.Node, kinds: dict[str, str]) -> bool:
    """Says whether a Transpose to channels-last only undoes what integer convolutions, channels-last inside, add."""
    if node.op_type != "Transpose" or tuple(node.attributes.get_ints("perm", ())) != (0, 2, 3, 1):
        return False
    return node.inputs[0] is not None and sole_user(node.inputs[0]) is node and _channels_last(node.inputs[0], kinds)


def _channels_last(value: ir.Value, kinds: dict[str, str]) -> bool:
    pair = behind(value)
    made = (value if pair is None else pair.source).producer()
    if made is None:
        return False
    if made.op_type == "Conv":
        return kinds.get(made.name or "") == INTEGER
    if made.op_type in _KEEPS_LAYOUT:
        return all(_channels_last(v, kinds) for v in made.inputs if v is not None and not is_constant(v))
    return False
