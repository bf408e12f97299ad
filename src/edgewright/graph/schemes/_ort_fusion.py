"""What ONNX Runtime's CPU provider makes of quantisers: the rules of version 1.31, found by trying each operator.

Its optimiser first moves quantisers past data movement and drops activations that a quantiser makes redundant; then it
replaces an operator between DequantizeLinear and QuantizeLinear by an integer kernel where it has one. On x86 it turns
int8 activations into uint8 before that, but only those that one operator alone reads; where the two types meet, and in
every convolution and product that reads int8, it computes in float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgewright.graph.placement import data_inputs
from edgewright.graph.quantisers import (
    DEQUANTIZE,
    QUANTIZE,
    Numbers,
    Quantiser,
    behind,
    is_constant,
    numbers,
    numbers_of,
    numbers_of_quantize,
)
from edgewright.graph.schemes._flow import (
    CONVERSION,
    FLOAT,
    FOLDED,
    FUSED,
    INTEGER,
    computes_floats,
    is_folded,
    limits,
    sole_user,
    undoes_layout,
)

PROPAGATE = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "MaxPool")
"""Quantisers move past these in both directions, so one on either side is enough."""
PASS_THROUGH = ("Flatten", "Gather", "Tile", "Expand", "Resize", "DepthToSpace", "ReduceMax", "ReduceMin", "Split")
"""These take integers where the same quantiser stands on both sides."""
UNARY = ("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax")
JOINS = ("Add", "Mul", "Concat", "Where")
REMOVED = ("Identity", "Dropout")
AFTER_CONV = ("Relu", "Clip", "Sigmoid", "LeakyRelu", "Tanh", "HardSigmoid", "HardSwish")
"""Activations that the float convolution before them computes along."""
AFTER_GEMM = ("Relu", "Sigmoid", "LeakyRelu", "Tanh", "HardSigmoid", "Elu", "Softplus", "Softsign", "ThresholdedRelu")
NARROW = ("uint8", "int8")
EPSILON = float(np.finfo(np.float32).eps)


class OrtFusion:
    """Goes through a graph once; `kinds` then holds what becomes of each operator.

    Args:
        graph: With quantisers, shapes and types inferred.
        completes: Whether ONNX Runtime may quantise weights and biases that are float: it does unless told not to.
        x86: Whether it runs on x86.
    """

    def __init__(self, graph: ir.Graph, completes: bool, x86: bool) -> None:
        self.kinds: dict[str, str] = {}
        self._completes = completes
        self._x86 = x86
        self._carried: dict[int, Numbers] = {}
        for node in graph:
            if node.op_type not in (QUANTIZE, DEQUANTIZE):
                self.kinds[node.name or ""] = self._kind(node)

    def _kind(self, node: ir.Node) -> str:
        if is_folded(node, self.kinds):
            return FOLDED
        if node.op_type in REMOVED or self._dropped(node) or undoes_layout(node, self.kinds):
            return FUSED
        if node.op_type == "Cast":
            return CONVERSION
        if not computes_floats(node) or self._integer(node):
            return INTEGER
        return FUSED if self._joins_float_kernel(node) else FLOAT

    def _reads(self, value: ir.Value | None) -> Numbers | None:
        if value is None:
            return None
        found = behind(value)
        said = self._carried.get(id(value)) or numbers_of(found)
        if said is None or found is None or found.pair is None:
            return said
        return self._as_run(said, _readers(found.pair))

    def _as_run(self, said: Numbers, readers: int) -> Numbers:
        """Returns the quantiser with the type that it has in the end."""
        if not self._x86 or said.dtype != "int8" or readers != 1:
            return said
        return Numbers("uint8", said.scale, said.zero + 128)

    def _ends(self, value: ir.Value) -> Numbers | None:
        """Returns the quantiser that `value` goes into, if it goes nowhere else; looks past what vanishes or moves."""
        user = sole_user(value)
        if user is None:
            return None
        if user.op_type == QUANTIZE:
            said = numbers_of_quantize(user)
            return self._as_run(said, _readers(user)) if said is not None and user.inputs[0] is value else None
        if user.op_type in PROPAGATE and user.inputs[0] is value:
            moved = self._ends(user.outputs[0])
            return None if moved is None else self._as_run(moved, 1)
        return self._ends(user.outputs[0]) if self._dropped(user) else None

    def _dropped(self, node: ir.Node) -> bool:
        """Says whether the quantiser behind a Relu or a Clip cuts off as much anyway."""
        if node.op_type not in ("Relu", "Clip") or (found := self._ends(node.outputs[0])) is None:
            return False
        (low, high), (least, most) = limits(node), found.span
        return low - least <= EPSILON and most - high <= EPSILON

    def _integer(self, node: ir.Node) -> bool:
        op = node.op_type
        if op in PROPAGATE:
            return self._propagates(node)
        if op in PASS_THROUGH:
            return self._passes(node)
        if op in UNARY or op in JOINS:
            return self._between(node)
        return op in ("Conv", "MatMul", "Gemm") and self._product(node)

    def _propagates(self, node: ir.Node) -> bool:
        source, end = self._reads(node.inputs[0]), self._ends(node.outputs[0])
        if node.op_type == "MaxPool" and any(q is not None and q.dtype not in NARROW for q in (source, end)):
            return False
        if source is None:
            source = None if end is None else self._as_run(end, 1)
        elif end is None:
            end = self._carried[id(node.outputs[0])] = self._as_run(source, len(node.outputs[0].uses()))
        return source is not None and source == end

    def _passes(self, node: ir.Node) -> bool:
        if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") != "nearest":
            return False
        source = self._reads(node.inputs[0])
        return source is not None and all(self._ends(v) == source for v in node.outputs)

    def _between(self, node: ir.Node) -> bool:
        operands = node.inputs[1:] if node.op_type == "Where" else data_inputs(node)
        found = [self._reads(v) for v in operands]
        end = self._ends(node.outputs[0])
        return end is not None and end.dtype in NARROW and all(q is not None and q.dtype == end.dtype for q in found)

    def _product(self, node: ir.Node) -> bool:
        data, weights = self._reads(node.inputs[0]), behind(node.inputs[1])
        end = self._ends(node.outputs[0])
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        stored_bias = behind(bias)
        if data is None or data.dtype not in NARROW or (end is not None and end.dtype != data.dtype):
            return False
        if node.op_type == "Conv" and end is None:
            return False
        if self._x86 and data.dtype == "int8" and node.op_type != "Gemm":
            return False
        completes = self._completes and end is not None and node.op_type != "MatMul"
        whole = self._weights_fit(node, weights) or (completes and is_constant(node.inputs[1]))
        biased = bias is None or (stored_bias is not None and stored_bias.dtype == "int32") or completes
        return whole and biased and (end is not None or not self._takes_bias(node))

    def _weights_fit(self, node: ir.Node, weights: Quantiser | None) -> bool:
        return self._reads(node.inputs[1]) is not None or (weights is not None and weights.dtype in NARROW)

    def _takes_bias(self, node: ir.Node) -> bool:
        """Says whether a MatMul becomes a float Gemm together with the Add behind it, before integers are looked at."""
        add = sole_user(node.outputs[0]) if node.op_type == "MatMul" else None
        return add is not None and add.op_type == "Add" and any(_is_bias(v) for v in add.inputs)

    def _joins_float_kernel(self, node: ir.Node) -> bool:
        before = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        alone = before is not None and sole_user(before.outputs[0]) is node
        if before is not None and alone and self.kinds.get(before.name or "") == FLOAT:
            if before.op_type == "Conv" and node.op_type in AFTER_CONV:
                return True
            if before.op_type == "Gemm" and node.op_type in AFTER_GEMM:
                return True
        if node.op_type == "Add":
            return self._is_gemm_bias(node) or _feeds_norm(node)
        return node.op_type == "Sigmoid" and _is_quick_gelu(node)

    def _is_gemm_bias(self, node: ir.Node) -> bool:
        made = [v.producer() for v in node.inputs if v is not None and not is_constant(v)]
        only = made[0] if len(made) == 1 else None
        floats = only is not None and self.kinds.get(only.name or "") == FLOAT
        return only is not None and floats and only.op_type == "MatMul" and self._takes_bias(only) and _constant_b(only)


def _readers(quantize: ir.Node) -> int:
    """Returns how many operators read what goes through a QuantizeLinear; each gets a DequantizeLinear of its own."""
    pairs = [use.node for use in quantize.outputs[0].uses()]
    return sum(len(p.outputs[0].uses()) + int(p.outputs[0].is_graph_output()) for p in pairs if p.outputs)


def _constant_b(node: ir.Node) -> bool:
    stored = behind(node.inputs[1])
    return is_constant(node.inputs[1]) or (stored is not None and stored.constant)


def _is_bias(value: ir.Value | None) -> bool:
    found = numbers(value)
    return found is not None and found.ndim == 1


def _feeds_norm(node: ir.Node) -> bool:
    """Says whether an Add is taken into the LayerNormalization behind it, directly or through a second Add."""
    user = sole_user(node.outputs[0])
    if user is None:
        return False
    if user.op_type == "LayerNormalization":
        return user.inputs[0] is node.outputs[0] and not any(is_constant(v) for v in node.inputs)
    return user.op_type == "Add" and any(_is_bias(v) for v in node.inputs) and _feeds_norm(user)


def _is_quick_gelu(node: ir.Node) -> bool:
    """Says whether a Sigmoid and the Mul with its own input become one kernel."""
    user = sole_user(node.outputs[0])
    source = node.inputs[0]
    return user is not None and user.op_type == "Mul" and source in user.inputs and behind(source) is None
