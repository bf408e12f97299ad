"""Products of dynamically quantised activations and stored integer weights, in place of float products."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.core.target import Plan, TensorPlan
from edgewright.graph.affine import Grid, channel_range, parameters, quantise, weight_grid
from edgewright.graph.initializers import add_initializer
from edgewright.graph.placement import has_weights, kept_float

_FLOAT = ir.DataType.FLOAT


def rewrite(graph: ir.Graph, ops: tuple[str, ...], keep_float: tuple[str, ...], bits: int) -> Plan:
    """Replaces the float products of `graph`, in place, and says what was done."""
    kept = kept_float(graph, keep_float)
    rewriter = _Rewriter(graph, weight_grid("int8", bits))
    chosen = [node for node in graph if node.op_type in ops and node.name not in kept and _fits(node)]
    tensors = tuple(rewriter.replace(node) for node in chosen)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
    hints = {"dynamic_activations": sorted(rewriter.quantised)}
    return Plan("dynamic-int8", tensors, kept, hints)


def _fits(node: ir.Node) -> bool:
    if not has_weights(node) or node.inputs[0] is None or node.inputs[0].dtype != _FLOAT:
        return False
    weights = node.inputs[1]
    assert weights is not None
    rank = len(weights.shape or ())
    if node.op_type == "Conv":
        return rank in (3, 4, 5)
    if node.op_type == "Gemm":
        plain = all(node.attributes.get_float(k, 1.0) == 1.0 for k in ("alpha", "beta"))
        return plain and not node.attributes.get_int("transA", 0)
    return node.op_type == "MatMul" and rank == 2


class _Rewriter:
    """Builds the integer form of one product after another; equal activations are quantised once."""

    def __init__(self, graph: ir.Graph, grid: Grid) -> None:
        self.graph = graph
        self.grid = grid
        self.quantised: dict[str, tuple[ir.Value, ir.Value, ir.Value]] = {}

    def replace(self, node: ir.Node) -> TensorPlan:
        data, weights = node.inputs[0], node.inputs[1]
        assert data is not None
        assert weights is not None
        integers, plan = self._weights(node, weights)
        x, x_scale, x_zero = self._activation(node, data)
        zero = add_initializer(self.graph, f"{node.name}/w_zero_point", np.zeros((), np.int8))
        scale = add_initializer(self.graph, f"{node.name}/w_scale", _shaped(node, np.asarray(plan.scale, np.float32)))
        convolution = node.op_type == "Conv"
        attributes = list(node.attributes.values()) if convolution else []
        op = "ConvInteger" if convolution else "MatMulInteger"
        product = self._add(node, op, [x, integers, x_zero, zero], ir.DataType.INT32, attributes)
        real = self._add(node, "Cast", [product], _FLOAT, [ir.AttrInt64("to", int(_FLOAT))])
        both = self._add(node, "Mul", [x_scale, scale], _FLOAT, suffix="/scales")
        result = self._add(node, "Mul", [real, both], _FLOAT, suffix="/scaled")
        if (bias := self._bias(node)) is not None:
            result = self._add(node, "Add", [result, bias], _FLOAT)
        self._finish(node, result)
        return plan

    def _weights(self, node: ir.Node, value: ir.Value) -> tuple[ir.Value, TensorPlan]:
        assert value.const_value is not None
        numbers = value.const_value.numpy()
        if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 1:
            numbers = np.ascontiguousarray(numbers.T)
        axis = 0 if node.op_type == "Conv" else 1
        scale, zero = parameters(*channel_range(numbers, axis), self.grid, symmetric=True)
        integers = quantise(numbers, scale, zero, self.grid, axis)
        reason = "extremes per channel; activations quantised while running"
        scales = tuple(float(s) for s in scale)
        plan = TensorPlan(value.name or "", "int8", scales, tuple(int(z) for z in zero), axis, reason)
        return add_initializer(self.graph, f"{node.name}/w_quantised", integers), plan

    def _activation(self, node: ir.Node, data: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        name = data.name or ""
        if name not in self.quantised:
            made = ir.node("DynamicQuantizeLinear", [data], num_outputs=3, name=f"{name}/DynamicQuantizeLinear")
            dtypes = (ir.DataType.UINT8, _FLOAT, ir.DataType.UINT8)
            for value, suffix, dtype in zip(made.outputs, ("quantised", "scale", "zero_point"), dtypes, strict=True):
                value.name, value.dtype = f"{name}/{suffix}", dtype
            self.graph.insert_before(node, made)
            self.quantised[name] = (made.outputs[0], made.outputs[1], made.outputs[2])
        return self.quantised[name]

    def _bias(self, node: ir.Node) -> ir.Value | None:
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is None or node.op_type != "Conv" or bias.const_value is None:
            return bias
        return add_initializer(self.graph, f"{node.name}/bias", _shaped(node, bias.const_value.numpy()))

    def _add(
        self,
        node: ir.Node,
        op: str,
        inputs: list[ir.Value],
        dtype: ir.DataType,
        attributes: list[ir.Attr] | None = None,
        suffix: str = "",
    ) -> ir.Value:
        name = f"{node.name}/{op}{suffix}"
        made = ir.node(op, inputs, {a.name: a for a in attributes or []}, name=name)
        made.outputs[0].name, made.outputs[0].dtype = name, dtype
        self.graph.insert_before(node, made)
        return made.outputs[0]

    def _finish(self, node: ir.Node, result: ir.Value) -> None:
        """Puts `result` in the place of the output of `node`, under its name."""
        old = node.outputs[0]
        name, result.shape = old.name, old.shape
        old.name = f"{name}/replaced"
        result.name = name
        ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
        self.graph.remove(node, safe=True)


def _shaped(node: ir.Node, per_channel: NDArray[Any]) -> NDArray[Any]:
    """Returns one value per output channel in the shape that broadcasts over the result of `node`."""
    weights = node.inputs[1]
    if node.op_type != "Conv" or weights is None or weights.shape is None:
        return per_channel
    return per_channel.reshape(-1, *[1] * (len(weights.shape) - 2))
