"""Normalisations over the last axes, from differences to the mean: the mean of squares less the square loses digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edgewright.targets._tflite.lowering.apply import Lowering, Rule
from edgewright.targets._tflite.lowering.arithmetic import Made, Maths, number
from edgewright.targets._tflite.lowering.reduce import axis_of, reduced


def _epsilon(node: ir.Node) -> float:
    return node.attributes.get_float("epsilon", 1e-5) or 0.0


def _last_axes(lowering: Lowering, node: ir.Node) -> list[int] | None:
    shape = lowering.shape(0)
    return None if shape is None else list(range(axis_of(node, -1) % len(shape), len(shape)))


def _centred(m: Maths, x: ir.Value, axes: Sequence[int]) -> tuple[ir.Value, ir.Value]:
    mean = reduced(m.lowering, "ReduceMean", x, axes)
    return mean, m("Sub", x, mean)


def _inverse_root(m: Maths, x: ir.Value, axes: Sequence[int], epsilon: float) -> ir.Value:
    square = reduced(m.lowering, "ReduceMean", m("Mul", x, x), axes)
    return m("Pow", m("Add", square, number(epsilon)), number(-0.5))


def layer_normalization(lowering: Lowering, node: ir.Node) -> Made:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias; mean and inverse deviation where they are asked for."""
    axes, x = _last_axes(lowering, node), node.inputs[0]
    if axes is None or x is None or x.dtype != ir.DataType.FLOAT:
        return None
    m = Maths(lowering)
    mean, centred = _centred(m, x, axes)
    inverse = _inverse_root(m, centred, axes, _epsilon(node))
    made = _scaled(m, node, m("Mul", centred, inverse))
    return [made, mean, inverse][: len(node.outputs)]


def rms_normalization(lowering: Lowering, node: ir.Node) -> Made:
    """X / sqrt(mean of squares + epsilon) * scale."""
    axes, x = _last_axes(lowering, node), node.inputs[0]
    if axes is None or x is None or x.dtype != ir.DataType.FLOAT:
        return None
    m = Maths(lowering)
    return [_scaled(m, node, m("Mul", x, _inverse_root(m, x, axes, _epsilon(node))))]


def _scaled(m: Maths, node: ir.Node, made: ir.Value) -> ir.Value:
    for op, value in zip(("Mul", "Add"), node.inputs[1:], strict=False):
        made = made if value is None else m(op, made, value)
    return made


def mean_variance_normalization(lowering: Lowering, node: ir.Node) -> Made:
    """(x - mean) / (deviation + 1e-9)."""
    axes, x = list(node.attributes.get_ints("axes") or (0, 2, 3)), node.inputs[0]
    if lowering.shape(0) is None or x is None:
        return None
    m = Maths(lowering)
    _, centred = _centred(m, x, axes)
    variance = reduced(lowering, "ReduceMean", m("Mul", centred, centred), axes)
    return [m("Div", centred, m("Add", m("Sqrt", variance), number(1e-9)))]


RULES: Mapping[str, Rule] = {
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "MeanVarianceNormalization": mean_variance_normalization,
}
