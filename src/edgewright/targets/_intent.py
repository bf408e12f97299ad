"""Which precision the graph and its plan ask for, node by node, so that placement can be held against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgewright.core.target import Plan
from edgewright.graph.schemes import find, names

INTEGER = frozenset({"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"})
WEIGHTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"}) | INTEGER
QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_NO_ARITHMETIC = frozenset(
    {"Constant", "ConstantOfShape", "Shape", "Cast", "Identity", "Size", "Range", "DynamicQuantizeLinear"}
)


@dataclass(frozen=True, slots=True)
class Intent:
    """The precision one node should run in.

    Attributes:
        precision: `int8`, `float16` or `bfloat16`.
        obstacle: What in the graph itself stands in the way; empty where nothing does.
    """

    precision: str
    obstacle: str = ""


def intents(model: ir.Model, plan: Plan, precision: str) -> Mapping[str, Intent]:
    """Returns what is wanted of each node that should not simply run in float32.

    QuantizeLinear and DequantizeLinear around a node ask for int8; tensors of float16 ask for float16; `precision`
    asks for itself in every node with weights. Nodes that the plan keeps in float ask for nothing.

    Args:
        model: The graph given to the target; its nodes are named.
        plan: The plan beside it.
        precision: The float precision to compute in.
    """
    wanted: dict[str, Intent] = {}
    weights_only = bool(plan.hints.get("weights_only")) or _stores_weights_only(model)
    beyond = _beyond(plan)
    for node in model.graph:
        name = node.name or ""
        if name in plan.kept_float or node.op_type in _NO_ARITHMETIC | QUANTIZERS:
            continue
        found = None if beyond(node.op_type) else _quantized(node, weights_only)
        found = found or _halved(node)
        if found is None and precision != "float32" and node.op_type in WEIGHTED:
            found = Intent(precision)
        if found is not None:
            wanted[name] = found
    return wanted


def _beyond(plan: Plan) -> Callable[[str], bool]:
    """Returns what says whether the scheme leaves an operator in float, whatever stands around it."""
    if plan.scheme not in names():
        return lambda op: False
    scheme = find(plan.scheme)
    return lambda op: op not in (*scheme.quantized, *scheme.shared)


def _quantized(node: ir.Node, weights_only: bool) -> Intent | None:
    if node.op_type in INTEGER:
        return Intent("int8")
    if node.op_type in WEIGHTED:
        return _quantized_weights(node, weights_only)
    activations = [value for value in node.inputs if value is not None and not is_constant(value)]
    if not activations or not all(map(is_dequantized, activations)):
        return None
    return Intent("int8") if all(map(_feeds_quantizer, node.outputs[:1])) else None


def _quantized_weights(node: ir.Node, weights_only: bool) -> Intent | None:
    if len(node.inputs) < 2:
        return None
    sides = [value is not None and is_dequantized(value) for value in node.inputs[:2]]
    if all(sides):
        return Intent("int8", "" if _feeds_quantizer(node.outputs[0]) else "its output is not quantised")
    if sides[1] and not weights_only and _holds_constant(node.inputs[1]):
        return Intent("int8", "only its weights are quantised, its input is not")
    if sides[0] and node.inputs[1] is not None and is_constant(node.inputs[1]):
        return Intent("int8", "its weights are not quantised")
    return None


def _stores_weights_only(model: ir.Model) -> bool:
    """Returns whether no weighted node has both sides quantised: integers are then a way to store weights."""
    pairs = (node.inputs[:2] for node in model.graph if node.op_type in WEIGHTED)
    return not any(all(value is not None and is_dequantized(value) for value in pair) for pair in pairs)


def _halved(node: ir.Node) -> Intent | None:
    if any(value.dtype == ir.DataType.FLOAT16 for value in node.outputs):
        return Intent("float16")
    return None


def is_constant(value: ir.Value) -> bool:
    """Returns whether `value` is known before the model runs: an initialiser or the output of Constant."""
    producer = value.producer()
    return value.is_initializer() or (producer is not None and producer.op_type == "Constant")


def is_dequantized(value: ir.Value) -> bool:
    """Returns whether `value` comes straight from DequantizeLinear."""
    producer = value.producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


def _holds_constant(value: ir.Value | None) -> bool:
    producer = value.producer() if value is not None else None
    return producer is not None and producer.inputs[0] is not None and is_constant(producer.inputs[0])


def _feeds_quantizer(value: ir.Value) -> bool:
    """Looks through one activation function, which runtimes fuse into the quantiser's range."""
    if value.is_graph_output() or not value.uses():
        return False
    return all(
        use.node.op_type == "QuantizeLinear"
        or (use.node.op_type in {"Relu", "Clip"} and all(map(_ends_in_quantizer, use.node.outputs)))
        for use in value.uses()
    )


def _ends_in_quantizer(value: ir.Value) -> bool:
    if value.is_graph_output() or not value.uses():
        return False
    return all(use.node.op_type == "QuantizeLinear" for use in value.uses())
