"""What a model costs before anything runs: parameters, multiply-accumulates, activation memory, size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.graph.load import dtype_name, weight_bytes
from edgewright.graph.shapes import static_shape

_QUANTIZED = {
    "QLinearConv": (0, 3),
    "QLinearMatMul": (0, 3),
    "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1),
}
"""Position of the two factors of operators that carry scales among their inputs."""


@dataclass(frozen=True, slots=True)
class NodeCost:
    """One node.

    Attributes:
        node: Its name.
        op: Its operator, with the domain where it is not the standard one.
        macs: Multiply-accumulates of one run.
        parameters: Elements of the weights it reads.
        output_bytes: Bytes of its outputs; 0 where the shape is unknown.
        shapes: Shapes of its outputs, for a reader.
    """

    node: str
    op: str
    macs: int
    parameters: int
    output_bytes: int
    shapes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelCost:
    """A whole model, for one sample (dynamic axes of size 1).

    Attributes:
        nodes: In the graph's order; subgraphs of control flow are not entered.
        parameters: Elements of all weights, each counted once; scales, zero points and shape operands left out.
        macs: Multiply-accumulates of one run.
        weight_bytes: Bytes of all initialisers.
        peak_activation_bytes: Largest sum of activations alive at the same time when nodes run in order and each
            tensor is freed after its last reader; inputs and outputs included.
        peak_node: The node that runs at that moment.
        unknown_shapes: Nodes whose output shape could not be inferred: the figures miss them.
    """

    nodes: tuple[NodeCost, ...]
    parameters: int
    macs: int
    weight_bytes: int
    peak_activation_bytes: int
    peak_node: str
    unknown_shapes: tuple[str, ...]


def model_cost(model: ir.Model) -> ModelCost:
    """Counts what `model` costs.

    Args:
        model: With static shapes, see `shapes.bind_axes`.
    """
    weights = _weights(model.graph)
    nodes = tuple(_node_cost(node, weights) for node in model.graph)
    peak, where = peak_activations(model.graph)
    unknown = tuple(n.name or "" for n in model.graph if any(static_shape(v) is None for v in n.outputs if v.name))
    return ModelCost(
        nodes, sum(weights.values()), sum(n.macs for n in nodes), weight_bytes(model), peak, where, unknown
    )


def node_macs(node: ir.Node) -> int:
    """Returns the multiply-accumulates of one run of `node`; 0 for operators without products, or unknown shapes."""
    left, right = _QUANTIZED.get(node.op_type, (0, 1))
    if node.op_type not in _MACS or len(node.inputs) <= right:
        return 0
    first, second = static_shape(node.inputs[left]), static_shape(node.inputs[right])
    out = static_shape(node.outputs[0])
    if first is None or second is None or out is None:
        return 0
    return _MACS[node.op_type](node, first, second, out)


def peak_activations(graph: ir.Graph) -> tuple[int, str]:
    """Returns the largest number of activation bytes alive at once, and the node that runs then."""
    last_use = _last_uses(graph)
    alive = {v: tensor_bytes(v) for v in graph.inputs if v.name not in graph.initializers}
    peak, where = sum(alive.values()), ""
    total = peak
    for index, node in enumerate(graph):
        for value in node.outputs:
            alive[value] = tensor_bytes(value)
            total += alive[value]
        if total > peak:
            peak, where = total, node.name or ""
        for done in {*node.inputs, *node.outputs}:
            if done is not None and done in alive and last_use.get(done, -1) <= index:
                total -= alive.pop(done)
    return peak, where


def tensor_bytes(value: ir.Value) -> int:
    """Returns the bytes of one tensor, 0 where its shape or type is unknown."""
    shape = static_shape(value)
    if shape is None or value.dtype is None or value.dtype == ir.DataType.STRING:
        return 0
    return math.ceil(math.prod(shape) * value.dtype.bitwidth / 8)


def _last_uses(graph: ir.Graph) -> Mapping[ir.Value, int]:
    found: dict[ir.Value, int] = {}
    for index, node in enumerate(graph):
        for value in _reads(node):
            found[value] = index
    return {**found, **dict.fromkeys(graph.outputs, len(graph))}


def _reads(node: ir.Node) -> list[ir.Value]:
    """Returns what a node reads, from inside its subgraphs too."""
    read = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        graphs = [attribute.value] if attribute.type == ir.AttributeType.GRAPH else []
        graphs = list(attribute.value) if attribute.type == ir.AttributeType.GRAPHS else graphs
        read += [value for graph in graphs for inner in graph for value in _reads(inner)]
    return read


def _weights(graph: ir.Graph) -> dict[ir.Value, int]:
    """Returns the constants that are parameters and how many elements each has."""
    constants = {v for v in graph.initializers.values() if v.const_value is not None}
    constants |= {n.outputs[0] for n in graph if n.op_type == "Constant"}
    return {v: math.prod(static_shape(v) or ()) for v in constants if _is_parameter(v)}


def _is_parameter(value: ir.Value) -> bool:
    uses = [(use.node, use.idx) for use in value.uses()]
    if value.dtype is not None and value.dtype.is_floating_point():
        return any(not _is_scale(node, index) for node, index in uses)
    return any(
        (node.op_type == "DequantizeLinear" and index == 0) or index in _QUANTIZED.get(node.op_type, ())
        for node, index in uses
    )


def _is_scale(node: ir.Node, index: int) -> bool:
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return index > 0
    if node.op_type.startswith("QLinear"):
        return True
    return node.op_type in ("Resize", "Upsample", "Clip", "Pad") and index > 0


_Shape = tuple[int, ...]


def _conv(node: ir.Node, first: _Shape, weights: _Shape, out: _Shape) -> int:
    return math.prod(out) * math.prod(weights[1:])


def _transposed_conv(node: ir.Node, first: _Shape, weights: _Shape, out: _Shape) -> int:
    return math.prod(first) * math.prod(weights[1:])


def _gemm(node: ir.Node, first: _Shape, second: _Shape, out: _Shape) -> int:
    return math.prod(out) * first[0 if node.attributes.get_int("transA", 0) else 1]


def _matmul(node: ir.Node, first: _Shape, second: _Shape, out: _Shape) -> int:
    return math.prod(out) * first[-1] if first else 0


def _recurrent(node: ir.Node, first: _Shape, weights: _Shape, out: _Shape) -> int:
    """Input [length, batch, in], weights [directions, gates x hidden, in], then the recurrent weights."""
    again = static_shape(node.inputs[2]) if len(node.inputs) > 2 else None
    return math.prod(first[:2]) * (math.prod(weights) + math.prod(again or (0,)))


_MACS: Mapping[str, Callable[[ir.Node, _Shape, _Shape, _Shape], int]] = {
    "Conv": _conv,
    "QLinearConv": _conv,
    "ConvInteger": _conv,
    "ConvTranspose": _transposed_conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "QLinearMatMul": _matmul,
    "MatMulInteger": _matmul,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}


def _node_cost(node: ir.Node, weights: Mapping[ir.Value, int]) -> NodeCost:
    op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    read = {value for value in node.inputs if value is not None}
    return NodeCost(
        node.name or "",
        op,
        node_macs(node),
        sum(weights.get(value, 0) for value in read),
        sum(tensor_bytes(value) for value in node.outputs),
        tuple(f"{dtype_name(v.dtype)}{_shown(static_shape(v))}" for v in node.outputs),
    )


def _shown(shape: _Shape | None) -> str:
    return "[?]" if shape is None else str(list(shape))
