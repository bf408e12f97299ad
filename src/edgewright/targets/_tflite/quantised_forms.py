"""Operators between quantisers in terms of those that LiteRT computes in integers.

A float lowering would put values between them that the plan knows nothing of. These forms need none: what stands
between has parameters that follow exactly from those of the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgewright.graph.edges import given, insert_behind, wanted
from edgewright.graph.initializers import add_initializer
from edgewright.graph.quantisers import Numbers
from edgewright.targets._tflite.stored import real

_TOLERANCE = 1e-6


def rewrite_quantised(graph: ir.Graph) -> None:
    """Rewrites operators that read integers and give integers, in place."""
    for node in list(graph):
        form = _FORMS.get(node.op_type) if node.domain == "" else None
        if form is None or len(node.outputs) != 1:
            continue
        read, asked = given(node.inputs[0]), wanted(node.outputs[0])
        if read is not None and asked is not None:
            form(graph, node, read, asked)


def _hard_sigmoid(graph: ir.Graph, node: ir.Node, read: Numbers, asked: Numbers) -> None:
    """clip(alpha x + beta, 0, 1): the product has the integers of x under another scale, saturation is the clip."""
    alpha = node.attributes.get_float("alpha", 0.2) or 0.0
    beta = node.attributes.get_float("beta", 0.5) or 0.0
    low, high = asked.span
    if alpha <= 0 or asked.dtype != "int8":
        return
    scaled = _add(graph, node, "Mul", [node.inputs[0], _scalar(graph, node, alpha)], f"{node.name}/scaled")
    product = Numbers(read.dtype, float(np.float32(read.scale * alpha)), read.zero)
    shifted = _replace(graph, node, "Add", [scaled, _scalar(graph, node, beta)])
    insert_behind(graph, scaled, product)
    if low < -_TOLERANCE or high > 1 + _TOLERANCE:
        insert_behind(graph, shifted, Numbers("int8", float(np.float32(1 / 255)), -128))


def _negative(graph: ir.Graph, node: ir.Node, read: Numbers, asked: Numbers) -> None:
    _replace(graph, node, "Mul", [node.inputs[0], _scalar(graph, node, -1.0)])


def _quotient(graph: ir.Graph, node: ir.Node, read: Numbers, asked: Numbers) -> None:
    """Division by one number is multiplication."""
    divisor = _number(node.inputs[1])
    if divisor:
        reciprocal = _scalar(graph, node, 1.0 / divisor)
        _replace(graph, node, "Mul", [node.inputs[0], reciprocal])


def _power(graph: ir.Graph, node: ir.Node, read: Numbers, asked: Numbers) -> None:
    exponent = _number(node.inputs[1])
    if exponent is not None and abs(exponent - 2.0) < _TOLERANCE:
        _replace(graph, node, "Mul", [node.inputs[0], node.inputs[0]])


def _sum(graph: ir.Graph, node: ir.Node, read: Numbers, asked: Numbers) -> None:
    if len(node.inputs) == 2:
        _replace(graph, node, "Add", list(node.inputs))


def _number(value: ir.Value | None) -> float | None:
    """Returns the value of a constant of one element, which other readers may have had quantised."""
    found = None if value is None else real(value)
    return float(found.reshape(-1)[0]) if found is not None and found.size == 1 else None


def _scalar(graph: ir.Graph, node: ir.Node, value: float) -> ir.Value:
    return add_initializer(graph, f"{node.name}/number", np.asarray(value, np.float32))


def _add(graph: ir.Graph, node: ir.Node, op: str, inputs: Sequence[ir.Value | None], name: str) -> ir.Value:
    made = ir.node(op, list(inputs), name=name)
    out, old = made.outputs[0], node.outputs[0]
    out.name, out.type, out.shape = name, old.type, old.shape
    graph.insert_before(node, made)
    return out


def _replace(graph: ir.Graph, node: ir.Node, op: str, inputs: Sequence[ir.Value | None]) -> ir.Value:
    """Puts another operator under the name of `node`."""
    old = node.outputs[0]
    name, value_name = node.name or "", old.name
    old.name = f"{value_name}/before"
    out = _add(graph, node, op, inputs, name)
    out.name = value_name
    old.replace_all_uses_with(out)
    graph.remove(node, safe=True)
    return out


Form = Callable[[ir.Graph, ir.Node, Numbers, Numbers], Any]
_FORMS: Mapping[str, Form] = {
    "HardSigmoid": _hard_sigmoid,
    "Neg": _negative,
    "Div": _quotient,
    "Pow": _power,
    "Sum": _sum,
}
