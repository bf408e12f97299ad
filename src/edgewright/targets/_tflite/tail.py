"""Operators that TensorFlow Lite has as one, found in the solved graph just before it is emitted.

What is made here stands in the domain `edgewright.tflite`; nothing but the rules of emission sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgewright.graph.initializers import add_initializer
from edgewright.graph.quantisers import numbers
from edgewright.graph.shapes import static_shape
from edgewright.targets._tflite.kernels import constant_data

DOMAIN = "edgewright.tflite"


def join(graph: ir.Graph) -> None:
    """Joins GELU, HARD_SWISH, biases of products and transposed matrices, in place."""
    for node in list(graph):
        finder = _FINDERS.get(node.op_type)
        if finder is not None and node.graph is graph and node.domain == "":
            finder(node)
    ir.passes.common.RemoveUnusedNodesPass()(ir.Model(graph, ir_version=10))


def _replace(
    node: ir.Node, op: str, inputs: Sequence[ir.Value | None], *, domain: str = DOMAIN, **attributes: int
) -> None:
    """Puts one node in the place of `node` and of what only it reads."""
    old = node.outputs[0]
    out = ir.Value(name=old.name, shape=old.shape, type=old.type, metadata_props=dict(old.metadata_props))
    made = ir.node(op, list(inputs), dict(attributes), domain=domain, outputs=[out], name=node.name)
    assert node.graph is not None
    node.graph.insert_before(node, made)
    ir.convenience.replace_all_uses_with(old, out, replace_graph_outputs=True)
    old.name = f"{old.name}/joined"
    node.graph.remove(node, safe=True)


def _bias(node: ir.Node) -> None:
    """MatMul with a constant matrix, then Add of a vector."""
    for one, other in ((0, 1), (1, 0)):
        product, bias = _made_by(node.inputs[one], "MatMul"), numbers(node.inputs[other])
        if product is None or bias is None or not constant_data(product.inputs[1]):
            continue
        shape = static_shape(product.inputs[1])
        if shape is None or len(shape) != 2 or bias.size != shape[1] or bias.shape[-1:] != (shape[1],):
            continue
        if static_shape(product.outputs[0]) == static_shape(node.outputs[0]):
            _replace(node, "FullyConnected", [*product.inputs, _vector(node, node.inputs[other])])
            return


def _vector(node: ir.Node, bias: ir.Value | None) -> ir.Value | None:
    array = numbers(bias)
    if bias is None or array is None or array.ndim == 1 or node.graph is None:
        return bias
    return add_initializer(node.graph, f"{bias.name}/{node.name}/vector", array.reshape(-1))


def _adjoint(node: ir.Node) -> None:
    """MatMul whose right matrix is turned only for it."""
    turn = _made_by(node.inputs[1], "Transpose")
    if turn is None or numbers(turn.inputs[0]) is not None:
        return
    perm = list(turn.attributes.get_ints("perm") or ())
    rank = len(perm)
    if rank > 1 and perm == [*range(rank - 2), rank - 1, rank - 2]:
        _replace(node, "BatchMatMul", [node.inputs[0], turn.inputs[0]], adjoint=1)


def _products(node: ir.Node) -> None:
    _gelu(node)
    if node.graph is not None:
        _hard_swish(node)


def _gelu(node: ir.Node) -> None:
    """The product of x, 0.5 and 1 + erf(x / sqrt 2), in any order."""
    factors = _factors(node)
    scale = np.prod([f for f in factors if isinstance(f, float)])
    values = [f for f in factors if isinstance(f, ir.Value)]
    if len(values) != 2 or abs(scale - 0.5) > 1e-6:
        return
    for x, other in (values, values[::-1]):
        total = _made_by(other, "Add")
        if total is None:
            continue
        for index in (0, 1):
            error, one = _made_by(total.inputs[index], "Erf"), _single(total.inputs[1 - index])
            if error is not None and one == 1.0 and _is_scaled(error.inputs[0], x):
                _replace(node, "Gelu", [x], domain="")
                return


def _is_scaled(value: ir.Value | None, x: ir.Value) -> bool:
    """Whether `value` is x / sqrt 2."""
    for op, wanted in (("Div", np.sqrt(2)), ("Mul", np.sqrt(0.5))):
        node = _made_by(value, op, alone=False)
        if node is None:
            continue
        for index in (0,) if op == "Div" else (0, 1):
            by = _single(node.inputs[1 - index])
            if node.inputs[index] is x and by is not None and abs(by - wanted) < 1e-5:
                return True
    return False


def _factors(node: ir.Node) -> list[ir.Value | float]:
    """Returns what a tree of Mul (and Div by constants) multiplies."""
    found: list[ir.Value | float] = []
    for index, value in enumerate(node.inputs):
        single, inner = _single(value), _made_by(value, "Mul")
        if single is not None:
            found.append(1 / single if node.op_type == "Div" and index == 1 and single else single)
        elif inner is not None and node.op_type == "Mul" and len(found) < 3:
            found.extend(_factors(inner))
        elif value is not None:
            found.append(value)
    return found


def _hard_swish(node: ir.Node) -> None:
    """X times clip(x + 3, 0, 6) / 6."""
    factors = _factors(node) if node.op_type == "Mul" else []
    if node.op_type == "Div" and (inner := _made_by(node.inputs[0], "Mul")) is not None:
        by = _single(node.inputs[1])
        factors = [*_factors(inner), 1 / by] if by else []
    scale = float(np.prod([f for f in factors if isinstance(f, float)]))
    values = [f for f in factors if isinstance(f, ir.Value)]
    if len(values) != 2:
        return
    for x, other in (values, values[::-1]):
        if _is_gate(other, x, scale):
            _replace(node, "HardSwish", [x], domain="")
            return


def _is_gate(value: ir.Value, x: ir.Value, scale: float) -> bool:
    """Whether `value` times `scale` is clip(x / 6 + 0.5, 0, 1)."""
    divided = _made_by(value, "Div")
    if divided is not None and (by := _single(divided.inputs[1])):
        return divided.inputs[0] is not None and _is_gate(divided.inputs[0], x, scale / by)
    clip = _made_by(value, "Clip")
    limits = [_single(clip.inputs[i]) for i in (1, 2)] if clip is not None and len(clip.inputs) > 2 else []
    total = _made_by(clip.inputs[0], "Add") if clip is not None else None
    if total is None or limits[:1] != [0.0] or limits[1] is None:
        return False
    for index in (0, 1):
        shift, slope, source = _single(total.inputs[1 - index]), 1.0, total.inputs[index]
        product = _made_by(source, "Mul")
        if product is not None and source is not x:
            slope, source = _single(product.inputs[1]) or 0.0, product.inputs[0]
        if source is x and shift is not None:
            wanted = (slope * scale, shift * scale, limits[1] * scale)
            return bool(np.allclose(wanted, (1 / 6, 0.5, 1.0), rtol=1e-5))
    return False


def _made_by(value: ir.Value | None, op: str, *, alone: bool = True) -> ir.Node | None:
    node = value.producer() if value is not None else None
    if node is None or value is None or node.op_type != op or node.domain != "":
        return None
    if alone and (len(value.uses()) != 1 or value.is_graph_output()):
        return None
    return node


def _single(value: ir.Value | None) -> float | None:
    array = numbers(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


_FINDERS: Mapping[str, Callable[[ir.Node], None]] = {
    "Add": _bias,
    "MatMul": _adjoint,
    "Mul": _products,
    "Div": _hard_swish,
}
