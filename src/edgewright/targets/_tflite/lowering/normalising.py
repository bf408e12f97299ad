"""Normalisations over space and channels: means, products and sums, in which any layout is at home.

Means over groups of channels are 1x1 convolutions with constant weights on maps of one element, so that nothing is
reshaped and no axis is moved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgewright.graph.quantisers import numbers
from edgewright.graph.shapes import static_shape
from edgewright.targets._tflite.lowering.apply import Lowering, Rule

_ROOTS = {0.25: ("Sqrt", "Sqrt"), 0.5: ("Sqrt",), 1.0: ()}


def batch_normalization(lowering: Lowering, node: ir.Node) -> Sequence[ir.Value] | None:
    """A factor and a shift per channel, taken into the convolution before where that has constant weights."""
    found = [lowering.number(index) for index in range(1, 5)]
    shape, x = lowering.shape(), node.inputs[0]
    if any(array is None for array in found) or node.attributes.get_int("training_mode") or not shape or x is None:
        return None
    scale, bias, mean, variance = (np.asarray(array, np.float64) for array in found)
    factor = scale / np.sqrt(variance + (_epsilon(node)))
    shift = bias - mean * factor
    joined = _into_convolution(lowering, x, factor, shift)
    if joined is not None:
        return [joined]
    lanes = (-1, *[1] * (len(shape) - 2)) if len(shape) > 1 else (-1,)
    scaled = lowering.add("Mul", [x, factor.reshape(lanes).astype(np.float32)])
    return [lowering.add("Add", [scaled, shift.reshape(lanes).astype(np.float32)])]


def _into_convolution(
    lowering: Lowering, x: ir.Value, factor: NDArray[np.float64], shift: NDArray[np.float64]
) -> ir.Value | None:
    source = x.producer()
    if source is None or source.op_type != "Conv" or len(x.uses()) > 1 or x.is_graph_output():
        return None
    weights, bias = (numbers(source.inputs[i]) if i < len(source.inputs) else None for i in (1, 2))
    if weights is None or (bias is None and len(source.inputs) > 2 and source.inputs[2] is not None):
        return None
    turned = weights.astype(np.float64) * factor.reshape(-1, *[1] * (weights.ndim - 1))
    moved = shift if bias is None else bias.astype(np.float64) * factor + shift
    attributes = {name: attribute.value for name, attribute in source.attributes.items()}
    return lowering.add("Conv", [source.inputs[0], turned.astype(np.float32), moved.astype(np.float32)], **attributes)


def instance_normalization(lowering: Lowering, node: ir.Node) -> Sequence[ir.Value] | None:
    """Over space; groups that a Reshape made channels of, as PyTorch writes GroupNorm, are seen through."""
    shape, x = lowering.shape(), node.inputs[0]
    if shape is None or len(shape) < 3 or x is None:
        return None
    epsilon = _epsilon(node)
    scale, bias = lowering.number(1), lowering.number(2)
    back = _reshaped_back(node)
    source = x.producer()
    if scale is None or bias is None:
        return [_scaled_by(lowering, _normalised(lowering, x, shape[1], epsilon), node.inputs[1:3], len(shape))]
    if back is not None and source is not None and source.inputs[0] is not None and _same(scale) and _same(bias):
        inner = source.inputs[0]
        normal = _normalised(lowering, inner, shape[1], epsilon)
        whole = (
            lowering.add("Add", [lowering.add("Mul", [normal, scale[:1]]), bias[:1]])
            if _matters(scale, bias)
            else normal
        )
        whole.type, whole.shape = back.type, back.shape
        ir.convenience.replace_all_uses_with(back, whole, replace_graph_outputs=True)
        return [lowering.add("Reshape", [whole, np.asarray(shape, np.int64)])]
    return [_scaled(lowering, _normalised(lowering, x, shape[1], epsilon), scale, bias, len(shape))]


def _reshaped_back(node: ir.Node) -> ir.Value | None:
    """Returns what a Reshape after the node makes, if it undoes the one before it."""
    x, out = node.inputs[0], node.outputs[0]
    before = x.producer() if x is not None else None
    users = [use.node for use in out.uses()]
    if before is None or before.op_type != "Reshape" or len(users) != 1 or users[0].op_type != "Reshape":
        return None
    first, last = static_shape(before.inputs[0]), static_shape(users[0].outputs[0])
    groups = static_shape(out)
    if first is None or groups is None or first != last or len(first) < 3 or first[1] % groups[1]:
        return None
    return None if out.is_graph_output() or users[0].outputs[0].is_graph_output() else users[0].outputs[0]


def group_normalization(lowering: Lowering, node: ir.Node) -> Sequence[ir.Value] | None:
    """Over space and groups of channels; scale and bias per channel, or per group before opset 21."""
    shape, x = lowering.shape(), node.inputs[0]
    scale, bias = lowering.number(1), lowering.number(2)
    groups = node.attributes.get_int("num_groups", 1) or 1
    if shape is None or len(shape) < 3 or x is None:
        return None
    if scale is None or bias is None:
        if lowering.shape(1) != (shape[1],) or lowering.shape(2) != (shape[1],):
            return None
        normal = _normalised(lowering, x, groups, _epsilon(node))
        return [_scaled_by(lowering, normal, node.inputs[1:3], len(shape))]
    wide, lift = (np.repeat(a, shape[1] // groups) if a.size == groups else a for a in (scale, bias))
    normal = _normalised(lowering, x, groups, _epsilon(node))
    return [_scaled(lowering, normal, wide, lift, len(shape))]


def _normalised(lowering: Lowering, x: ir.Value, groups: int, epsilon: float) -> ir.Value:
    shape = static_shape(x) or ()
    mean = _group_mean(lowering, x, shape, groups)
    apart = lowering.add("Sub", [x, mean])
    variance = _group_mean(lowering, lowering.add("Mul", [apart, apart]), shape, groups)
    root = lowering.add("Sqrt", [lowering.add("Add", [variance, np.asarray([epsilon], np.float32)])])
    return lowering.add("Mul", [apart, lowering.add("Reciprocal", [root])])


def _group_mean(lowering: Lowering, x: ir.Value, shape: Sequence[int], groups: int) -> ir.Value:
    """Returns the mean of every channel's group, [N, C, 1...]; of one group [N, 1, 1...]."""
    channels = shape[1]
    mean = lowering.add("GlobalAveragePool", [x])
    if groups == channels:
        return mean
    member = np.kron(np.eye(groups), np.ones((1, channels // groups)))
    ones = [1] * (len(shape) - 2)
    gathered = (member * groups / channels).reshape(groups, channels, *ones).astype(np.float32)
    mean = lowering.add("Conv", [mean, gathered])
    if groups == 1:
        return mean
    return lowering.add(
        "Conv", [mean, np.ascontiguousarray(member.T).reshape(channels, groups, *ones).astype(np.float32)]
    )


def _scaled(lowering: Lowering, normal: ir.Value, scale: NDArray[Any], bias: NDArray[Any], rank: int) -> ir.Value:
    if not _matters(scale, bias):
        return normal
    lanes = (-1, *[1] * (rank - 2))
    return lowering.add("Add", [lowering.add("Mul", [normal, scale.reshape(lanes)]), bias.reshape(lanes)])


def _scaled_by(lowering: Lowering, normal: ir.Value, computed: Sequence[ir.Value | None], rank: int) -> ir.Value:
    lanes = np.asarray((-1, *[1] * (rank - 2)), np.int64)
    scale, bias = (lowering.add("Reshape", [value, lanes]) for value in computed)
    return lowering.add("Add", [lowering.add("Mul", [normal, scale]), bias])


def _epsilon(node: ir.Node) -> float:
    said = node.attributes.get_float("epsilon")
    return 1e-5 if said is None else said


def _matters(scale: NDArray[Any], bias: NDArray[Any]) -> bool:
    return bool((scale != 1).any() or (bias != 0).any())


def _same(array: NDArray[Any]) -> bool:
    return bool((array == array.reshape(-1)[0]).all())


def lrn(lowering: Lowering, node: ir.Node) -> Sequence[ir.Value] | None:
    """X / (bias + alpha / size * sum of squares of near channels) ** beta; the sum is a 1x1 convolution with a band."""
    shape, x = lowering.shape(), node.inputs[0]
    if shape is None or len(shape) < 3 or x is None:
        return None
    size = node.attributes.get_int("size", 1) or 1
    alpha, beta, bias = (node.attributes.get_float(n) for n in ("alpha", "beta", "bias"))
    channels = shape[1]
    away = np.arange(channels)[None, :] - np.arange(channels)[:, None]
    near = (away >= -((size - 1) // 2)) & (away <= size // 2)
    band = (near * (1e-4 if alpha is None else alpha) / size).reshape(channels, channels, *[1] * (len(shape) - 2))
    offset = np.full(channels, 1.0 if bias is None else bias, np.float32)
    squares = lowering.add("Mul", [x, x])
    total = lowering.add("Conv", [squares, band.astype(np.float32), offset])
    return [lowering.add("Div", [x, _power(lowering, total, 0.75 if beta is None else beta)])]


def _power(lowering: Lowering, x: ir.Value, exponent: float) -> ir.Value:
    """Square roots where they do: LiteRT's fast kernels have no power."""
    if abs(exponent - 0.75) < 1e-6:
        half = lowering.add("Sqrt", [x])
        return lowering.add("Mul", [half, lowering.add("Sqrt", [half])])
    if exponent not in _ROOTS:
        return lowering.add("Pow", [x, np.asarray([exponent], np.float32)])
    for op in _ROOTS[exponent]:
        x = lowering.add(op, [x])
    return x


RULES: Mapping[str, Rule] = {
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LRN": lrn,
}
