"""What OpenVINO's CPU plugin makes of quantisers: the rules of version 2026.4, found on real networks.

It turns operators with weights into integer kernels where data and weights are quantised, passes integers through data
movement, fuses activations into what they follow, and gathers element-wise operators that are left in subgraphs.
"""

from __future__ import annotations

import onnx_ir as ir

from edgewright.graph.placement import data_inputs
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, behind, is_constant
from edgewright.graph.schemes._flow import (
    CONVERSION,
    FLOAT,
    FOLDED,
    FUSED,
    INTEGER,
    computes_floats,
    is_folded,
    quantize_after,
    sole_user,
    undoes_layout,
)

MOVES = (
    "Reshape",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Concat",
    "Split",
    "Gather",
    "Slice",
    "Expand",
    "Tile",
    "Pad",
    "DepthToSpace",
    "SpaceToDepth",
    "MaxPool",
)
REDUCES = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceSum", "ReduceMax", "Resize")
CARRY = ("Resize", "ReduceMax", "GlobalMaxPool")
"""These leave integers as they are."""
PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu")
UNARY = (
    "Relu",
    "Clip",
    "Sigmoid",
    "Tanh",
    "HardSwish",
    "LeakyRelu",
    "Elu",
    "Gelu",
    "Erf",
    "Exp",
    "Sqrt",
    "Abs",
    "Neg",
    "Softplus",
    "Mish",
)
ELEMENTWISE = (*BINARY, *UNARY, "Cast", "Not")
GATHERS = (*ELEMENTWISE, "LayerNormalization", "Softmax")
"""What takes an element-wise operator before it into its subgraph."""
RESHAPES = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")
REMOVED = ("Identity", "Dropout")
NARROW = ("uint8", "int8")


class OvFusion:
    """Goes through a graph once; `kinds` then holds what becomes of each operator.

    Args:
        graph: With quantisers, shapes and types inferred.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.kinds: dict[str, str] = {}
        self._attention = _attention(graph)
        for node in graph:
            if node.op_type not in (QUANTIZE, DEQUANTIZE):
                self.kinds[node.name or ""] = self._kind(node)

    def _kind(self, node: ir.Node) -> str:
        if is_folded(node, self.kinds):
            return FOLDED
        if node.op_type in REMOVED:
            return FUSED
        if undoes_layout(node, self.kinds):
            return FUSED
        if id(node) in self._attention:
            return FLOAT if self._attention[id(node)] else FUSED
        if node.op_type in ELEMENTWISE:
            return self._elementwise(node)
        return INTEGER if not computes_floats(node) or self._integer(node) else FLOAT

    def _integer(self, node: ir.Node) -> bool:
        if node.op_type in PRODUCTS:
            return self._reads(node.inputs[0]) and self._reads(node.inputs[1])
        if node.op_type in MOVES or node.op_type in REDUCES:
            inputs = [v for v in data_inputs(node) if not is_constant(v)]
            return bool(inputs) and (all(map(self._reads, inputs)) or self._quantised_behind(node))
        return False

    def _quantised_behind(self, node: ir.Node) -> bool:
        """Says whether a quantiser moves from behind `node` to before it."""
        return node.op_type in MOVES and all(quantize_after(v) is not None for v in node.outputs)

    def _reads(self, value: ir.Value | None) -> bool:
        """Says whether `value` arrives as integers of 8 bits."""
        found = behind(value)
        if found is not None:
            return found.dtype in NARROW
        made = value.producer() if value is not None else None
        return made is not None and made.op_type in (*MOVES, *CARRY) and self.kinds.get(made.name or "") == INTEGER

    def _elementwise(self, node: ir.Node) -> str:
        if self._follows_kernel(node):
            return FUSED
        if self._gathered(node):
            return FUSED
        if node.op_type == "Cast":
            return CONVERSION
        first = next((v for v in node.inputs if v is not None and not is_constant(v)), None)
        return INTEGER if self._reads(first) or not computes_floats(node) else FLOAT

    def _gathered(self, node: ir.Node) -> bool:
        """Says whether `node` becomes part of the subgraph of what reads it.

        A normalisation takes a sum that others read too; reshapes in between move to before an operation with a
        constant.
        """
        users = [use.node for use in node.outputs[0].uses()]
        gathering = [u for u in users if u.op_type in GATHERS and id(u) not in self._attention]
        alone = len({id(u) for u in users}) == 1
        if gathering and (alone or node.op_type in ("Cast", "Not")):
            return True
        if any(u.op_type == "LayerNormalization" for u in users):
            return True
        scaled = len([v for v in node.inputs if v is not None and not is_constant(v)]) == 1
        return scaled and any(u.op_type in RESHAPES and _leads_to(u, ELEMENTWISE) for u in users)

    def _follows_kernel(self, node: ir.Node) -> bool:
        """Says whether an activation, or an operation with a constant, is computed by the kernel before it."""
        variable = [v for v in node.inputs if v is not None and not is_constant(v)]
        if _is_gate(node):
            variable = [v for v in variable if v.producer() is None or v.producer() is not _gate_of(node)]
        if len(variable) != 1:
            return False
        made = variable[0].producer()
        if made is None or behind(variable[0]) is not None:
            return False
        users = {id(use.node) for use in variable[0].uses()}
        alone = len(users) == 1 or (len(users) == 2 and _in_gate(node))
        return alone and (made.op_type in PRODUCTS or self._chained(made))

    def _chained(self, made: ir.Node) -> bool:
        return made.op_type in ELEMENTWISE and self.kinds.get(made.name or "") == FUSED and self._follows_kernel(made)


def _leads_to(node: ir.Node, kinds: tuple[str, ...]) -> bool:
    """Says whether reshapes alone stand between `node` and an operator of these kinds."""
    users = [use.node for use in node.outputs[0].uses()]
    return any(u.op_type in kinds or (u.op_type in RESHAPES and _leads_to(u, kinds)) for u in users)


def _gate_of(node: ir.Node) -> ir.Node | None:
    """Returns the Sigmoid or Tanh whose input `node` multiplies with its output."""
    if node.op_type != "Mul" or len(node.inputs) != 2:
        return None
    for value, other in (tuple(node.inputs), tuple(reversed(node.inputs))):
        made = value.producer() if value is not None else None
        if made is not None and made.op_type in ("Sigmoid", "Tanh") and made.inputs[0] is other:
            return made
    return None


def _is_gate(node: ir.Node) -> bool:
    return _gate_of(node) is not None


def _in_gate(node: ir.Node) -> bool:
    if _is_gate(node):
        return True
    user = sole_user(node.outputs[0])
    return user is not None and _gate_of(user) is node


def _attention(graph: ir.Graph) -> dict[int, bool]:
    """Returns the nodes between two products around a Softmax, which become one float kernel; True for the first."""
    found: dict[int, bool] = {}
    for node in graph:
        if node.op_type != "Softmax":
            continue
        before, first = _back_to_product(node)
        after = _next(node)
        if first is not None and after is not None and after.op_type == "MatMul":
            found.update({id(each): False for each in (*before, node, after)})
            found[id(first)] = True
    return found


def _back_to_product(node: ir.Node) -> tuple[list[ir.Node], ir.Node | None]:
    passed: list[ir.Node] = []
    while True:
        made = _before(node)
        if made is None or made.op_type == "MatMul":
            return passed, made
        if made.op_type not in ("Mul", "Add", "Div"):
            return passed, None
        passed.append(made)
        node = made


def _before(node: ir.Node) -> ir.Node | None:
    pair = behind(node.inputs[0])
    value = node.inputs[0] if pair is None else pair.source
    return value.producer() if value is not None else None


def _next(node: ir.Node) -> ir.Node | None:
    user = sole_user(node.outputs[0])
    for _ in range(2):
        if user is not None and user.op_type in (QUANTIZE, DEQUANTIZE):
            user = sole_user(user.outputs[0])
    return user
