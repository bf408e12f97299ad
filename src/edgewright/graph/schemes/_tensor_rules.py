"""Rules about the numbers and types of single quantisers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgewright.graph.affine import weight_grid
from edgewright.graph.quantisers import DEQUANTIZE, QUANTIZE, Quantiser, behind, numbers, zero_type
from edgewright.graph.schemes._scene import BIAS, DATA, WEIGHTS, Scene
from edgewright.graph.weights import weight_axis

Broken = tuple[str, str]
"""Name of a node or tensor, and what is wrong there."""


def pairs(scene: Scene) -> Iterator[Broken]:
    """Every QuantizeLinear is read by DequantizeLinear only, with the same numbers."""
    for node in scene.graph:
        if node.op_type == QUANTIZE:
            others = [use.node for v in node.outputs for use in v.uses() if use.node.op_type != DEQUANTIZE]
            for other in others:
                yield node.name or "", f'{other.op_type} "{other.name}" reads its integers without DequantizeLinear'
            if not any(v.uses() or v.is_graph_output() for v in node.outputs):
                yield node.name or "", "nothing reads its integers"
    for found in scene.quantisers:
        if found.pair is None:
            made = found.source.producer()
            if made is not None and not found.constant:
                yield found.node.name or "", f'dequantises what {made.op_type} "{made.name}" makes'
        elif _differ(found):
            yield found.node.name or "", "its scale or zero point differs from those of its QuantizeLinear"


def _differ(found: Quantiser) -> bool:
    assert found.pair is not None
    scale = numbers(found.pair.inputs[1])
    zero = numbers(found.pair.inputs[2]) if len(found.pair.inputs) > 2 else None
    if scale is None or found.scale is None:
        return found.pair.inputs[1] is not found.node.inputs[1]
    zeros = np.zeros(scale.shape) if zero is None else zero
    return not np.array_equal(scale, found.scale) or not np.array_equal(zeros, found.zero_point)


def zero_point_types(scene: Scene) -> Iterator[Broken]:
    """The zero point has the type of the integers, on both sides of a pair."""
    for node in scene.graph:
        found = behind(node.outputs[0]) if node.op_type == DEQUANTIZE else None
        zero = zero_type(node) if found is not None else ""
        if found is not None and zero and zero != found.dtype:
            yield node.name or "", f"the integers are {found.dtype}, its zero point is {zero}"


def types(scene: Scene) -> Iterator[Broken]:
    """Activations and weights have the types of the scheme; a bias is int32 or stays float."""
    wanted = {DATA: scene.scheme.activation, WEIGHTS: scene.scheme.weight, BIAS: "int32"}
    for found in scene.quantisers:
        role = scene.role(found)
        if role == BIAS and scene.scheme.bias == "float32":
            yield found.tensor, f"the bias is {found.dtype}, the scheme leaves biases in float32"
        elif found.dtype != wanted[role]:
            yield found.tensor, f"{role} in {found.dtype}, the scheme takes {wanted[role]}"


def symmetry(scene: Scene) -> Iterator[Broken]:
    """Zero points are in the middle of the type where the scheme is symmetric; a bias has none."""
    symmetric = {DATA: scene.scheme.activation_symmetric, WEIGHTS: scene.scheme.weight_symmetric, BIAS: True}
    for found in scene.quantisers:
        info = np.iinfo(found.dtype)
        middle = 0 if info.min < 0 else (info.max + 1) // 2
        role = scene.role(found)
        if symmetric[role] and np.any(found.zero_point != middle):
            worst = found.zero_point.reshape(-1)[int(np.argmax(found.zero_point.reshape(-1) != middle))]
            yield found.tensor, f"{role} with zero point {worst}, the scheme is symmetric: {middle}"


def scales(scene: Scene) -> Iterator[Broken]:
    """Scales are known, finite and positive."""
    for found in scene.quantisers:
        if found.scale is None:
            yield found.tensor, "its scale is not a constant"
        elif not np.all(np.isfinite(found.scale) & (found.scale > 0)):
            yield found.tensor, f"scale {found.scale.reshape(-1).tolist()[:4]}, expected finite and above 0"


def axes(scene: Scene) -> Iterator[Broken]:
    """Activations have one scale; weights one per output channel, where the scheme and the operator allow it."""
    for found in scene.quantisers:
        size = 1 if found.scale is None else found.scale.size
        if scene.role(found) == DATA and size > 1:
            yield found.tensor, f"an activation with {size} scales, the scheme takes one"
    for node, _, weights in scene.quantised():
        if weights.constant and weights.axis is not None and weights.scale is not None:
            yield from ((weights.tensor, why) for why in [_wrong_axis(scene, node, weights)] if why)


def _wrong_axis(scene: Scene, node: ir.Node, weights: Quantiser) -> str:
    value, axis = weights.node.outputs[0], weights.axis
    size = 1 if weights.scale is None else weights.scale.size
    rank = len(weights.source.shape) if weights.source.shape is not None else 2
    allowed = scene.scheme.weight_per_channel and node.op_type not in scene.scheme.per_tensor_ops
    wanted = weight_axis(node, rank) if allowed else None
    if axis is None or axis != wanted:
        expected = "one scale" if wanted is None else f"axis {wanted}"
        return f'scales along axis {axis}, {node.op_type} "{node.name}" takes {expected}'
    if value.shape is not None and value.shape[axis] != size:
        return f"{size} scales for {value.shape[axis]} channels"
    return ""


def weight_bits(scene: Scene) -> Iterator[Broken]:
    """Stored weights keep within the bits of the scheme."""
    scheme = scene.scheme
    for node, data, weights in scene.quantised():
        integers = weights.integers()
        if integers is None or weights.dtype != scheme.weight:
            continue
        first = scheme.input_weight_bits and data.source.is_graph_input()
        bits = scheme.input_weight_bits if first else scheme.weight_bits
        grid = weight_grid(scheme.weight, bits, scheme.weight_symmetric)
        if integers.size and (integers.min() < grid.low or integers.max() > grid.high):
            span = f"{integers.min()} to {integers.max()}"
            yield node.name or "", f"weights from {span}, the scheme takes {grid.low} to {grid.high} ({bits} bits)"
